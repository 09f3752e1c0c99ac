//! How long to wait after a failure. What is needed for it is kept with the certificate, so that a
//! restart does not forget it.

use jiff::{SignedDuration, Timestamp};

use crate::issue::{Disposition, RetrySchedule};

/// What is left of the last failure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Backoff {
    /// No new order before this instant.
    pub until: Timestamp,
    /// How long the wait was when it was set.
    pub interval: SignedDuration,
    /// How many validations failed in a row: the rung of their ladder. Hiccups and limits in between
    /// neither count nor end the row.
    pub failures: u32,
}

impl Backoff {
    /// Whether it is a rung of the ladder of failed validations, and nobody else's time.
    #[must_use]
    pub fn is_of_validations(&self) -> bool {
        let [.., last] = VALIDATION;
        let below = usize::try_from(self.failures).ok().and_then(|it| it.checked_sub(1));
        below.is_some_and(|index| *VALIDATION.get(index).unwrap_or(&last) == self.interval)
    }
}

/// 1 min, 10 min, 100 min, then daily: Let's Encrypt's own recommendation, and below its limit of
/// five failures per name and hour.
const VALIDATION: [SignedDuration; 4] = [
    SignedDuration::from_mins(1),
    SignedDuration::from_mins(10),
    SignedDuration::from_mins(100),
    SignedDuration::from_hours(24),
];
const TRANSPORT_FIRST: SignedDuration = SignedDuration::from_secs(2);
const TRANSPORT_LAST: SignedDuration = SignedDuration::from_mins(5);
/// Whoever fails at an issuer that is in order goes on failing.
const ISSUER_LAST: SignedDuration = SignedDuration::from_hours(1);
/// Only a change mends it, and a change starts anew; this is for a change that we cannot see. A second
/// more than a day, so that nobody takes it for a rung of the ladder of validations.
const FIX: SignedDuration = SignedDuration::from_secs(24 * 3_600 + 1);

/// The wait after a failure, given how long the wait was after the failure before it.
#[must_use]
pub fn after(failure: Disposition, previous: Option<SignedDuration>, now: Timestamp) -> Backoff {
    let known = |interval| Backoff { until: now, interval, failures: step(interval) };
    next(failure, previous.map(known), now)
}

/// The wait after a failure, given what is left of the failure before it.
#[must_use]
pub fn next(failure: Disposition, previous: Option<Backoff>, now: Timestamp) -> Backoff {
    let before = previous.map(|previous| previous.interval);
    let failures = previous.map_or(0, |previous| previous.failures);
    let (interval, failures) = match failure {
        Disposition::Retry(RetrySchedule::Transport) => (doubled(before, TRANSPORT_LAST), failures),
        Disposition::FixIssuer => (doubled(before, ISSUER_LAST), failures),
        Disposition::Retry(RetrySchedule::Validation) => {
            let [.., last] = VALIDATION;
            let index = usize::try_from(failures).ok();
            let wait = index.and_then(|index| VALIDATION.get(index)).copied().unwrap_or(last);
            (wait, failures.saturating_add(1))
        }
        // A time that is over is none: whoever names such a one again and again is not asked at once
        // again and again.
        Disposition::Until(time) if time <= now => (doubled(before, TRANSPORT_LAST), failures),
        Disposition::Until(time) => (time.duration_since(now), failures),
        Disposition::FixRequest | Disposition::Retry(RetrySchedule::Daily) => (FIX, failures),
    };
    Backoff { until: now.saturating_add(interval).unwrap_or(now), interval, failures }
}

/// How many validations failed in a row before a wait of `interval`, where nobody has counted.
#[must_use]
pub fn step(interval: SignedDuration) -> u32 {
    let below = VALIDATION.into_iter().filter(|step| *step <= interval).count();
    u32::try_from(below).unwrap_or_default()
}

/// An issuer that must be mended is looked at by its own controller, which stops new orders until it
/// is. Where that finds nothing wrong, the CA has something against this very order.
fn doubled(previous: Option<SignedDuration>, last: SignedDuration) -> SignedDuration {
    match previous {
        Some(previous) if previous < last => (previous * 2).clamp(TRANSPORT_FIRST, last),
        Some(_) => last,
        None => TRANSPORT_FIRST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ladder(failure: Disposition, steps: usize) -> Vec<i64> {
        let mut previous = None;
        let mut waits = Vec::new();
        for _ in 0..steps {
            let backoff = after(failure, previous, Timestamp::UNIX_EPOCH);
            waits.push(backoff.interval.as_secs());
            previous = Some(backoff.interval);
        }
        waits
    }

    #[test]
    fn failed_validations_are_tried_again_after_1_10_and_100_minutes_and_then_daily() {
        let failure = Disposition::Retry(RetrySchedule::Validation);
        assert_eq!(ladder(failure, 6), [60, 600, 6_000, 86_400, 86_400, 86_400]);
    }

    #[test]
    fn a_hiccup_is_tried_again_after_seconds_and_never_waits_over_five_minutes() {
        let failure = Disposition::Retry(RetrySchedule::Transport);
        assert_eq!(ladder(failure, 10), [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    }

    /// Its own controller stops an issuer that is at fault. Where it does not, an order is at fault.
    #[test]
    fn an_issuer_that_is_in_order_is_asked_ever_less_by_whom_it_refuses() {
        let waits = ladder(Disposition::FixIssuer, 14);
        assert_eq!(waits[..4], [2, 4, 8, 16]);
        assert_eq!(waits[10..], [2_048, 3_600, 3_600, 3_600]);
    }

    #[test]
    fn a_wait_for_somebody_is_no_rung_of_the_ladder_of_validations() {
        let known = Backoff { until: Timestamp::UNIX_EPOCH, interval: VALIDATION[3], failures: 4 };
        assert!(known.is_of_validations());
        for failure in [Disposition::FixRequest, Disposition::Retry(RetrySchedule::Daily)] {
            let backoff = next(failure, Some(known), Timestamp::UNIX_EPOCH);
            assert!(!backoff.is_of_validations(), "{backoff:?}");
        }
    }

    #[test]
    fn a_time_that_the_ca_named_is_kept_to_the_second() {
        let time = Timestamp::from_second(4_711).unwrap();
        let backoff = after(Disposition::Until(time), None, Timestamp::UNIX_EPOCH);
        let interval = SignedDuration::from_secs(4_711);
        assert_eq!(backoff, Backoff { until: time, interval, failures: 0 });
    }

    /// faults.md 9
    #[test]
    fn a_time_in_the_past_is_no_invitation_to_hurry() {
        let past = Disposition::Until(Timestamp::UNIX_EPOCH);
        assert_eq!(ladder(past, 4), [2, 4, 8, 16]);
    }

    #[test]
    fn neither_a_limit_nor_a_hiccup_is_a_step_of_the_ladder_of_validations() {
        let now = Timestamp::UNIX_EPOCH;
        let (validation, transport) = (RetrySchedule::Validation, RetrySchedule::Transport);
        let week = now + SignedDuration::from_hours(168);
        let mut backoff = None;
        let mut waits = Vec::new();
        for failure in [
            Disposition::Until(week),
            Disposition::Retry(validation),
            Disposition::Retry(transport),
            Disposition::Retry(validation),
            Disposition::Until(week),
            Disposition::Retry(RetrySchedule::Daily),
            Disposition::Retry(validation),
        ] {
            let next = next(failure, backoff, now);
            waits.push(next.interval.as_secs());
            backoff = Some(next);
        }
        assert_eq!(waits, [604_800, 60, 120, 600, 604_800, 86_401, 6_000]);
    }
}
