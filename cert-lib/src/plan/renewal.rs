//! When and why a certificate is renewed, and what may delay it.
//!
//! Pure. Random choices are derived from the certificate itself. So they are the same after a crash
//! and in every replica, and only change with the renewal window of the CA.

use jiff::{SignedDuration, Timestamp};

use super::{
    backoff::Backoff,
    renewal_window,
    spread::part,
    suggested::{SHORT_LIVED, lifetime},
    want::{Policy, Want},
};
pub use super::{
    spread::deterministic_hash,
    suggested::{ServingCertificate, Suggested},
};
use crate::model::bundle::Leaf;

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

fn begin(leaf: &Leaf, requested_at: Timestamp) -> Timestamp {
    requested_at.max(leaf.not_before)
}

fn percent(duration: SignedDuration, percentage: u8) -> SignedDuration {
    SignedDuration::from_nanos_i128(duration.as_nanos() * i128::from(percentage) / 100)
}

/// Longest back-off in an emergency.
const MAX_EMERGENCY_WAIT: SignedDuration = SignedDuration::from_hours(1);
/// Minimum time before a certificate is renewed.
const MIN_AGE: SignedDuration = SignedDuration::from_mins(5);
/// From this lifetime on, the operator's window is used unchanged.
const LONG_LIVED: SignedDuration = SignedDuration::from_hours(90 * 24);

#[cfg(test)]
mod tests;
