//! The decision what to do about a certificate, from the desired state, the observed state and the
//! time.
//!
//! [`plan`] takes values and returns a value. It runs the checks of [`checks`] in their order; the
//! first with a result wins. Nothing else in the project decides. Renewal, forced renewal, back-off
//! and a changed issuer are checks there, not code paths of their own.

pub mod backoff;
mod checks;
mod decision;
mod have;
pub mod limits;
pub mod quota;
pub mod reissue_loop;
pub mod renewal;
pub mod renewal_window;
mod spread;
mod stored;
mod suggested;
mod want;

use jiff::{SignedDuration, Timestamp};

pub use self::{
    decision::{Action, Plan},
    have::{
        Admission, Have, IssuerState, Ordered, Quota, RateLimit, Running, SecretState, Shared, Slot,
    },
    stored::{Record, Stored},
    want::{Policy, Want},
};

/// Longest time until the next plan: a missed event is noticed after a day at most.
const MAX_LOOK: SignedDuration = SignedDuration::from_hours(24);

/// Decides what to do about a certificate.
#[must_use]
pub fn plan(want: &Want, have: &Have, policy: &Policy, now: Timestamp) -> Plan {
    let snapshot = checks::Snapshot::new(want, have, policy, now);
    let verdict = checks::first(&snapshot);
    let needs_record = checks::needs_record(&snapshot, &verdict);
    let wants_new = verdict.action == Action::Start && !want.renew;
    let verdict = match (verdict.action, checks::share(&snapshot, &verdict)) {
        (Action::Start, Some(shared)) => shared,
        (Action::Start, None) => checks::admit(&snapshot, verdict),
        _ => verdict,
    };
    // Sharing a certificate does not depend on the record of the replaced one.
    let needs_record = needs_record && verdict.action != Action::Share;
    let latest = now.saturating_add(MAX_LOOK).unwrap_or(now);
    let look_again = verdict.look_again.unwrap_or(latest).min(latest);
    Plan {
        gives_up: checks::gives_up(&snapshot, &verdict),
        replaces: checks::replaces(&snapshot, &verdict),
        urgent: checks::is_urgent(&snapshot, &verdict),
        needs_record,
        action: verdict.action,
        reason: verdict.reason,
        message: verdict.message,
        wants_new,
        ready: snapshot.serves(),
        look_again,
    }
}

/// Whether the certificate of another owner for the same request can be shared.
#[must_use]
pub fn can_take(want: &Want, have: &Have, policy: &Policy, now: Timestamp, other: &Stored) -> bool {
    checks::Snapshot::new(want, have, policy, now).can_take(other)
}

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
