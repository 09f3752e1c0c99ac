//! When and why a certificate is renewed, and what may delay it.
//!
//! Pure. Random choices are derived from the certificate itself. So they are the same after a crash
//! and in every replica, and only change with the renewal window of the CA.

use aws_lc_rs::digest;
use jiff::{SignedDuration, Timestamp};

use super::{Policy, Want, backoff::Backoff, renewal_window};
use crate::model::{bundle::Leaf, cert_id::CertId};

/// Renewal information of a CA (RFC 9773).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Suggested {
    /// The certificate that it is about. It does not count for another one.
    pub certificate: CertId,
    /// First instant of the window.
    pub start: Timestamp,
    /// Last instant of the window.
    pub end: Timestamp,
    /// URL with an explanation, which the CA sends in special cases.
    pub explanation_url: Option<String>,
    /// The selected instant in the window.
    selected: Timestamp,
}

impl Suggested {
    /// Renewal information about `certificate`. Selects an instant in the window (RFC 9773 section
    /// 4.2): uniform over all certificates, and deterministic for this certificate and window.
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

    /// The selected instant of the renewal.
    #[must_use]
    pub fn selected(&self) -> Timestamp {
        self.selected
    }

    /// Whether it is plausible for `leaf`: a window after the end of the certificate is ignored.
    fn fits(&self, leaf: &Leaf) -> bool {
        leaf.id.as_ref() == Some(&self.certificate)
            && self.start < self.end
            && self.end <= leaf.not_after
    }

    /// Whether the CA requests a much earlier renewal than usual: it will revoke the certificate.
    fn is_urgent(&self, leaf: &Leaf) -> bool {
        // Usual windows are around two thirds of the lifetime, or half of a short one.
        let early = if lifetime(leaf) < SHORT_LIVED { 2 } else { 3 };
        let early = leaf.not_before.saturating_add(lifetime(leaf) * early / 5);
        self.explanation_url.is_some() || early.is_ok_and(|early| self.end < early)
    }
}

/// A certificate in use.
#[derive(Clone, Copy, Debug)]
pub struct ServingCertificate<'a> {
    /// Its content.
    pub leaf: &'a Leaf,
    /// When it was requested.
    pub requested_at: Timestamp,
    /// Renewal information of its CA.
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

/// What determines the time of a renewal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Cause {
    /// Its age.
    Age,
    /// Its CA; with the URL of an explanation, if any.
    Ca(Option<String>),
    /// It is about to end.
    LastResort,
}

/// When `certificate` is renewed, if nothing delays it.
///
/// The instant selected from the CA's window or, without renewal information, by its age. The
/// settings of the Certificate count where they are earlier. It is moved to the next weekly window,
/// unless the CA requests an early renewal. It is never later than the last twentieth of the
/// lifetime.
///
/// `now` only determines which weekly windows were missed: between the starts and ends of windows
/// the instant does not move.
#[must_use]
pub fn due(
    certificate: &ServingCertificate<'_>,
    want: &Want,
    policy: &Policy,
    now: Timestamp,
) -> Due {
    let leaf = certificate.leaf;
    let suggested = certificate.suggested.filter(|suggested| suggested.fits(leaf));
    let configured = configured(leaf, want);
    let age = || by_age(certificate, configured.unwrap_or_else(|| default_before(leaf, policy)));
    let (at, why) = match suggested {
        // The operator's default only applies to CAs without renewal information.
        Some(ca) if configured.is_none() || ca.selected < age() => {
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
    // A Certificate may explicitly ask for a later renewal.
    let last = last.max(age());
    if last < at { Due { at: last, why: Cause::LastResort } } else { Due { at, why } }
}

/// When `leaf` is renewed regardless of other settings: at the last twentieth of the time that it
/// is in use.
#[must_use]
pub fn emergency_start(leaf: &Leaf, requested_at: Timestamp) -> Timestamp {
    let reserve = leaf.not_after.duration_since(begin(leaf, requested_at)) / 20;
    leaf.not_after.saturating_sub(reserve).unwrap_or(leaf.not_after)
}

/// Whether a certificate is near its end, or expired recently. A certificate that expired long ago
/// is no emergency: most likely it is unused, and CAs ask clients not to retry those.
#[must_use]
pub(super) fn is_emergency(leaf: &Leaf, requested_at: Timestamp, now: Timestamp) -> bool {
    let last = emergency_start(leaf, requested_at);
    let reserve = leaf.not_after.duration_since(last);
    last <= now && now.duration_since(leaf.not_after) <= reserve
}

/// The end of the back-off in an emergency: an hour after a failed validation at most. A time from
/// the CA stays, and so does the wait for a user's change.
#[must_use]
pub(super) fn cap_for_emergency(backoff: &Backoff) -> Timestamp {
    let ours = backoff.is_validation_schedule();
    let failed_at = backoff.until.saturating_sub(backoff.interval);
    let soon = failed_at.and_then(|time| time.saturating_add(MAX_EMERGENCY_WAIT));
    if ours { soon.map_or(backoff.until, |soon| soon.min(backoff.until)) } else { backoff.until }
}

/// `before` its end, but not in the first tenth of the lifetime. The lifetime counts from the
/// request, because a CA backdates. A renewal window as long as the lifetime would otherwise renew
/// again and again.
fn by_age(certificate: &ServingCertificate<'_>, before: SignedDuration) -> Timestamp {
    let leaf = certificate.leaf;
    let begin = begin(leaf, certificate.requested_at);
    let earliest = begin.saturating_add(leaf.not_after.duration_since(begin) / 10);
    let due = leaf.not_after.saturating_sub(before).unwrap_or(leaf.not_after);
    due.max(earliest.unwrap_or(leaf.not_after))
}

/// How long before its end the Certificate is to be renewed. A value as long as the lifetime is
/// ignored: the CA may have shortened the lifetime, and renewal must not stop then.
fn configured(leaf: &Leaf, want: &Want) -> Option<SignedDuration> {
    let lifetime = lifetime(leaf);
    let percentage = want.renew_before_percentage;
    let before = want.renew_before.or_else(|| percentage.map(|it| percent(lifetime, it)))?;
    (before <= lifetime - MIN_AGE).then_some(before)
}

/// The default time before its end at which a certificate is renewed: a third of the lifetime, half
/// of a short one. The operator's fixed window is for certificates of 90 days and more. It is
/// reduced by up to a tenth, so that certificates issued together are not renewed together.
fn default_before(leaf: &Leaf, policy: &Policy) -> SignedDuration {
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

/// The last second belongs to the validity (RFC 5280 section 4.1.2.5), and CAs count so.
fn lifetime(leaf: &Leaf) -> SignedDuration {
    leaf.not_after.duration_since(leaf.not_before) + SignedDuration::from_secs(1)
}

fn begin(leaf: &Leaf, requested_at: Timestamp) -> Timestamp {
    requested_at.max(leaf.not_before)
}

fn percent(duration: SignedDuration, percentage: u8) -> SignedDuration {
    SignedDuration::from_nanos_i128(duration.as_nanos() * i128::from(percentage) / 100)
}

/// The part of a duration that a hash selects, from nothing to all of it.
pub(super) fn part(duration: SignedDuration, hash: u32) -> SignedDuration {
    SignedDuration::from_nanos_i128((duration.as_nanos() * i128::from(hash)) >> 32)
}

/// A hash as a number, the same for the same input.
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

/// Longest back-off in an emergency.
const MAX_EMERGENCY_WAIT: SignedDuration = SignedDuration::from_hours(1);
/// Minimum time before a certificate is renewed.
const MIN_AGE: SignedDuration = SignedDuration::from_mins(5);
/// Below this lifetime, half of it is left at the renewal.
const SHORT_LIVED: SignedDuration = SignedDuration::from_hours(10 * 24);
/// From this lifetime on, the operator's window is used unchanged.
const LONG_LIVED: SignedDuration = SignedDuration::from_hours(90 * 24);

#[cfg(test)]
mod tests;
