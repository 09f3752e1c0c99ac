//! What holds back a new order: back-off, quota, limits, reissue loops and order slots.

use jiff::Timestamp;

use super::{SLOT_RECHECK, Snapshot, Verdict, hold, is_urgent};
use crate::{
    model::reason::Reason,
    plan::{
        decision::Action,
        have::{Quota, RateLimit, Slot},
        reissue_loop::{self, ReissueLoop},
        renewal,
        stored::Stored,
    },
};

/// Runs before every new order: back-off, then the issuer's quota, limits imposed by the CA,
/// suspected loops, estimated limits of the CA, and order slots.
///
/// Near the end of a certificate, the back-off is an hour at most. The issuer's quota and our
/// estimates of the CA's limits do not apply then: the CA itself decides.
pub(in crate::plan) fn admit(snapshot: &Snapshot<'_>, start: Verdict) -> Verdict {
    let emergency = is_urgent(snapshot, &start);
    if let Some(backoff) = &snapshot.have.backoff {
        let until = if emergency { renewal::cap_for_emergency(backoff) } else { backoff.until };
        if snapshot.now < until {
            return Verdict {
                action: Action::Hold,
                reason: Reason::BackingOff,
                message: String::new(),
                look_again: Some(snapshot.or_emergency(until)),
            };
        }
    }
    if let Quota::Until { time, per_day } = snapshot.have.admission.quota
        && snapshot.now < time
        && !emergency
    {
        return Verdict {
            look_again: Some(snapshot.or_emergency(time)),
            ..hold(Reason::QuotaExhausted, quota_message(time, per_day))
        };
    }
    let suspected = || suspected(snapshot, &start);
    if let Some(verdict) = imposed_limit(snapshot).or_else(suspected) {
        return verdict;
    }
    if let Some(verdict) = estimated_limit(snapshot).filter(|_| !emergency) {
        return verdict;
    }
    if snapshot.have.admission.slot == Slot::Taken {
        // Without the position: each change of it would be a write.
        let message = "waiting for an order slot: the issuer has as many running orders as it may have at once";
        let look_again = snapshot.now.saturating_add(SLOT_RECHECK).ok();
        return Verdict { look_again, ..hold(Reason::Queued, message.to_owned()) };
    }
    start
}

fn imposed_limit(snapshot: &Snapshot<'_>) -> Option<Verdict> {
    match &snapshot.have.admission.rate_limit {
        RateLimit::Imposed { time, why } => limited(snapshot, *time, *time, why),
        RateLimit::Estimated { .. } | RateLimit::Off => None,
    }
}

fn estimated_limit(snapshot: &Snapshot<'_>) -> Option<Verdict> {
    match &snapshot.have.admission.rate_limit {
        RateLimit::Estimated { time, why } => {
            limited(snapshot, *time, snapshot.or_emergency(*time), why)
        }
        RateLimit::Imposed { .. } | RateLimit::Off => None,
    }
}

fn limited(
    snapshot: &Snapshot<'_>,
    until: Timestamp,
    look_again: Timestamp,
    why: &str,
) -> Option<Verdict> {
    (snapshot.now < until).then(|| Verdict {
        look_again: Some(look_again),
        ..hold(Reason::RateLimited, why.to_owned())
    })
}

/// Holds orders when another client repeatedly removes the result or requests a renewal. Each time
/// that a user restores an old Secret, a renewal is due. The same holds for a CA, or its
/// impersonator, that returns a renewal window in the past each time.
fn suspected(snapshot: &Snapshot<'_>, start: &Verdict) -> Option<Verdict> {
    let ReissueLoop { times, until } = reissue_loop::suspected(&snapshot.have.reissued)?;
    let holds_older_certificate = snapshot.have.holds_older_certificate();
    let until = match (start.reason, snapshot.stored()) {
        // A revoked certificate is useless, so this does not wait.
        (_, Some(stored)) if stored.revoked => return None,
        (Reason::RenewalDemanded, Some(stored)) if is_new_date(snapshot, stored, times) => {
            return None;
        }
        (Reason::RenewalDue | Reason::RenewalDemanded, Some(stored))
            if !holds_older_certificate =>
        {
            until.min(reissue_loop::young_until(stored))
        }
        _ => until,
    };
    let second = Timestamp::from_second(until.as_second()).unwrap_or(until);
    (snapshot.now < until).then(|| Verdict {
        look_again: Some(until),
        ..hold(
            Reason::LoopSuspected,
            format!(
                "the certificate was issued again {times} times in two days, as its Secret was missing \
                 or different each time, or a renewal was due at once: another client deletes or \
                 overwrites the Secret, changes the Certificate back and forth, or repeatedly sets \
                 renew or ensureRenewedAfter; it is not requested again before {second}"
            ),
        )
    })
}

/// Whether a renewal is requested by a new date, which is fulfilled once, or by a revocation, which
/// never waits. A tool that sets a new date with each sync is a loop.
fn is_new_date(snapshot: &Snapshot<'_>, stored: &Stored, times: usize) -> bool {
    let want = snapshot.want;
    let is_condemned =
        want.new_key_after.is_some_and(|after| after <= snapshot.now) && want.gives_up_key(stored);
    !snapshot.have.holds_older_certificate()
        && (is_condemned || !want.renew && times < reissue_loop::MAX_NEW_DATES)
}

/// Upstream's message, extended by the time of the next request.
fn quota_message(time: Timestamp, per_day: i64) -> String {
    let second = Timestamp::from_second(time.as_second()).unwrap_or(time);
    format!(
        "request quota exhausted. The next request is possible at {second}. Up to {per_day} requests per day are \
         allowed. To change the quota, set requestsPerDayQuota in the issuer"
    )
}
