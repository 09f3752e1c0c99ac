//! When a certificate is renewed, for what reason, and what may hold that up.
//!
//! Pure. What looks random here is drawn from the certificate itself, so that it comes out the same
//! after a crash and in every manager, and is drawn anew only where the CA's window changes.

use aws_lc_rs::digest;
use jiff::{SignedDuration, Timestamp};

use super::{Policy, Want, backoff::Backoff, renewal_window};
use crate::model::{bundle::Leaf, cert_id::CertId};

/// When a CA wants a certificate to be renewed (RFC 9773).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Suggested {
    /// The certificate that it is about. What is said of another one does not count.
    pub certificate: CertId,
    /// First instant of the window.
    pub start: Timestamp,
    /// Last instant of the window.
    pub end: Timestamp,
    /// Where the CA explains itself, which it does when something is the matter.
    pub explanation_url: Option<String>,
    /// The instant in the window that was drawn.
    selected: Timestamp,
}

impl Suggested {
    /// What the CA says about `certificate`. Draws an instant in the window (RFC 9773 section 4.2):
    /// uniform over all certificates, always the same for this one and this window.
    #[must_use]
    pub fn new(
        certificate: CertId,
        (start, end): (Timestamp, Timestamp),
        explanation_url: Option<String>,
    ) -> Self {
        let window = end.duration_since(start).max(SignedDuration::ZERO);
        let bytes = |time: Timestamp| time.as_nanosecond().to_be_bytes();
        let hash =
            deterministic_hash(&[certificate.as_str().as_bytes(), &bytes(start), &bytes(end)]);
        let selected = start.saturating_add(part(window, hash)).unwrap_or(end);
        Self { certificate, start, end, explanation_url, selected }
    }

    /// When the certificate is renewed because of this.
    #[must_use]
    pub fn selected(&self) -> Timestamp {
        self.selected
    }

    /// Whether it can be meant for `leaf`: a CA that wants a renewal after the end is not believed.
    fn fits(&self, leaf: &Leaf) -> bool {
        leaf.id.as_ref() == Some(&self.certificate)
            && self.start < self.end
            && self.end <= leaf.not_after
    }

    /// Whether the CA wants the certificate to go well before it would have to: it will be revoked.
    fn is_urgent(&self, leaf: &Leaf) -> bool {
        // CAs draw their usual windows around two thirds of a life, and half of a short one.
        let early = if lifetime(leaf) < SHORT_LIVED { 2 } else { 3 };
        let early = leaf.not_before.saturating_add(lifetime(leaf) * early / 5);
        self.explanation_url.is_some() || early.is_ok_and(|early| self.end < early)
    }
}

/// A certificate that serves.
#[derive(Clone, Copy, Debug)]
pub struct ServingCertificate<'a> {
    /// What it says.
    pub leaf: &'a Leaf,
    /// When it was requested.
    pub requested_at: Timestamp,
    /// What its CA says about it.
    pub suggested: Option<&'a Suggested>,
}

/// When and why a certificate is renewed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Due {
    /// When.
    pub at: Timestamp,
    /// Why then.
    pub why: Cause,
}

/// What decides when a certificate is renewed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Cause {
    /// Its age.
    Age,
    /// Its CA; with the URL where that explains itself.
    Ca(Option<String>),
    /// It is about to end.
    LastResort,
}

/// When `certificate` is renewed, everything else being well.
///
/// The instant that was drawn from the CA's window or, where the CA says nothing, by its age; what the
/// Certificate itself asks for where that is earlier; then in the next weekly window, unless the CA is
/// in a hurry; and in any case before the last twentieth of its life.
///
/// `now` tells only which weekly windows were missed: between the begins and ends of windows the instant
/// does not move.
#[must_use]
pub fn due(
    certificate: &ServingCertificate<'_>,
    want: &Want,
    policy: &Policy,
    now: Timestamp,
) -> Due {
    let leaf = certificate.leaf;
    let suggested = certificate.suggested.filter(|suggested| suggested.fits(leaf));
    let asked = asked(leaf, want);
    let age = || by_age(certificate, asked.unwrap_or_else(|| usual(leaf, policy)));
    let (at, why) = match suggested {
        // What the operator finds usual is for CAs that say nothing.
        Some(ca) if asked.is_none() || ca.selected < age() => {
            (ca.selected, Cause::Ca(ca.explanation_url.clone()))
        }
        Some(_) | None => (age(), Cause::Age),
    };
    let in_hurry = why != Cause::Age && suggested.is_some_and(|it| it.is_urgent(leaf));
    let at = if in_hurry || want.renewal_windows.is_empty() {
        at
    } else {
        let hash = deterministic_hash(&[leaf.serial.as_bytes(), b"window"]);
        renewal_window::next(&want.renewal_windows, at, now, hash)
    };
    let last = emergency_start(leaf, certificate.requested_at);
    if last >= at {
        return Due { at, why };
    }
    // Who asks for a later renewal than that has it.
    let last = last.max(age());
    if last < at { Due { at: last, why: Cause::LastResort } } else { Due { at, why } }
}

/// When `leaf` is renewed whatever else was said: a twentieth of the time that it serves is left.
#[must_use]
pub fn emergency_start(leaf: &Leaf, requested_at: Timestamp) -> Timestamp {
    let reserve = leaf.not_after.duration_since(begin(leaf, requested_at)) / 20;
    leaf.not_after.saturating_sub(reserve).unwrap_or(leaf.not_after)
}

/// Whether a certificate is about to end, or ended just now. One that ended long ago is no emergency
/// any more: most likely nobody needs it, and a CA asks to be spared such tries.
#[must_use]
pub(super) fn is_emergency(leaf: &Leaf, requested_at: Timestamp, now: Timestamp) -> bool {
    let last = emergency_start(leaf, requested_at);
    let reserve = leaf.not_after.duration_since(last);
    last <= now && now.duration_since(leaf.not_after) <= reserve
}

/// When a try may follow a failure in an emergency: after an hour at most where validations failed. A
/// time that the CA named stays, and so does the wait for somebody who must change something.
#[must_use]
pub(super) fn cap_for_emergency(backoff: &Backoff) -> Timestamp {
    let ours = backoff.is_of_validations();
    let failed_at = backoff.until.saturating_sub(backoff.interval);
    let soon = failed_at.and_then(|time| time.saturating_add(PATIENCE));
    if ours { soon.map_or(backoff.until, |soon| soon.min(backoff.until)) } else { backoff.until }
}

/// `before` its end, and no sooner than a tenth of its life, counted from the request because a CA
/// dates back, has passed: a window nearly as long as the life would issue again and again.
fn by_age(certificate: &ServingCertificate<'_>, before: SignedDuration) -> Timestamp {
    let leaf = certificate.leaf;
    let begin = begin(leaf, certificate.requested_at);
    let earliest = begin.saturating_add(leaf.not_after.duration_since(begin) / 10);
    let due = leaf.not_after.saturating_sub(before).unwrap_or(leaf.not_after);
    due.max(earliest.unwrap_or(leaf.not_after))
}

/// How long before its end the Certificate itself wants to be renewed. As long as the certificate
/// lives cannot be meant; and a CA that issues for a shorter time than it used to is no reason to
/// stop renewing.
fn asked(leaf: &Leaf, want: &Want) -> Option<SignedDuration> {
    let lifetime = lifetime(leaf);
    let percentage = want.renew_before_percentage;
    let before = want.renew_before.or_else(|| percentage.map(|it| percent(lifetime, it)))?;
    (before <= lifetime - SHORTEST).then_some(before)
}

/// How long before its end a certificate is renewed where nobody says anything: a third of its life,
/// half of a short one; a fixed window of the operator's is for certificates of 90 days and more. Up
/// to a tenth of it less, so that those that were issued together are not renewed together.
fn usual(leaf: &Leaf, policy: &Policy) -> SignedDuration {
    let lifetime = lifetime(leaf);
    let share = if lifetime < SHORT_LIVED { lifetime / 2 } else { lifetime / 3 };
    let window = policy.renewal_window;
    let before = match policy.renew_before_percentage {
        Some(percentage) => percent(lifetime, percentage),
        None if lifetime >= LONG_LIVED && window < lifetime => window,
        None => window.min(share),
    };
    before - part(before / 10, deterministic_hash(&[leaf.serial.as_bytes(), b"age"]))
}

/// The last instant of the validity belongs to it (RFC 5280 section 4.1.2.5), and CAs count so.
fn lifetime(leaf: &Leaf) -> SignedDuration {
    leaf.not_after.duration_since(leaf.not_before) + SignedDuration::from_secs(1)
}

fn begin(leaf: &Leaf, requested_at: Timestamp) -> Timestamp {
    requested_at.max(leaf.not_before)
}

fn percent(duration: SignedDuration, percentage: u8) -> SignedDuration {
    SignedDuration::from_nanos_i128(duration.as_nanos() * i128::from(percentage) / 100)
}

/// The part of a duration that a hash selects: between nothing and all of it.
pub(super) fn part(duration: SignedDuration, hash: u32) -> SignedDuration {
    SignedDuration::from_nanos_i128((duration.as_nanos() * i128::from(hash)) >> 32)
}

/// A number that looks random and is the same whenever the same is asked.
#[must_use]
pub fn deterministic_hash(of: &[&[u8]]) -> u32 {
    let mut context = digest::Context::new(&digest::SHA256);
    for bytes in of {
        context.update(bytes);
        context.update(&[0]);
    }
    let hash = context.finish();
    hash.as_ref().iter().take(4).fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// Longest wait between two tries in an emergency.
const PATIENCE: SignedDuration = SignedDuration::from_hours(1);
/// A certificate serves for so long at least before it is renewed.
const SHORTEST: SignedDuration = SignedDuration::from_mins(5);
/// Below, half of the life is left for the renewal.
const SHORT_LIVED: SignedDuration = SignedDuration::from_hours(10 * 24);
/// From here on the operator's window counts as it is.
const LONG_LIVED: SignedDuration = SignedDuration::from_hours(90 * 24);

#[cfg(test)]
mod tests;
