//! The wait after a failure. Its state is stored with the certificate and survives a restart.

use jiff::{SignedDuration, Timestamp};

use crate::model::disposition::{Disposition, RetrySchedule};

/// State of the last failure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Backoff {
    /// No new order before this instant.
    pub until: Timestamp,
    /// Length of the wait.
    pub interval: SignedDuration,
    /// Number of failed validations in a row: the step in their retry schedule. Transient errors
    /// and limits in between do not count and do not end the row.
    pub failures: u32,
}

impl Backoff {
    /// Whether the wait comes from the retry schedule of failed validations.
    #[must_use]
    pub fn is_validation_schedule(&self) -> bool {
        let [.., last] = VALIDATION_WAITS;
        let below = usize::try_from(self.failures).ok().and_then(|it| it.checked_sub(1));
        below.is_some_and(|index| *VALIDATION_WAITS.get(index).unwrap_or(&last) == self.interval)
    }
}

/// 1 min, 10 min, 100 min, then daily: Let's Encrypt's own recommendation, and below its limit of
/// five failures per name and hour.
const VALIDATION_WAITS: [SignedDuration; 4] = [
    SignedDuration::from_mins(1),
    SignedDuration::from_mins(10),
    SignedDuration::from_mins(100),
    SignedDuration::from_hours(24),
];
const TRANSPORT_FIRST: SignedDuration = SignedDuration::from_secs(2);
const TRANSPORT_LAST: SignedDuration = SignedDuration::from_mins(5);
/// Longest wait after an error of an issuer that is ready.
const ISSUER_LAST: SignedDuration = SignedDuration::from_hours(1);
/// Only a change of the request helps, and a change resets the back-off; this covers changes that
/// we cannot observe. One second more than a day, to differ from the last step of the validation
/// schedule.
const FIX_RECHECK: SignedDuration = SignedDuration::from_secs(24 * 3_600 + 1);

/// The wait after a failure, from the length of the previous wait.
#[must_use]
pub fn after(failure: Disposition, previous: Option<SignedDuration>, now: Timestamp) -> Backoff {
    let known = |interval| Backoff { until: now, interval, failures: step(interval) };
    next(failure, previous.map(known), now)
}

/// The wait after a failure, from the previous back-off.
#[must_use]
pub fn next(failure: Disposition, previous: Option<Backoff>, now: Timestamp) -> Backoff {
    let before = previous.map(|previous| previous.interval);
    let failures = previous.map_or(0, |previous| previous.failures);
    let (interval, failures) = match failure {
        Disposition::Retry(RetrySchedule::Transport) => (doubled(before, TRANSPORT_LAST), failures),
        Disposition::FixIssuer => (doubled(before, ISSUER_LAST), failures),
        Disposition::Retry(RetrySchedule::Validation) => {
            let [.., last] = VALIDATION_WAITS;
            let index = usize::try_from(failures).ok();
            let wait = index.and_then(|index| VALIDATION_WAITS.get(index)).copied().unwrap_or(last);
            (wait, failures.saturating_add(1))
        }
        // A time in the past is ignored: a CA that returns such times repeatedly must not be polled
        // in a tight loop.
        Disposition::Until(time) if time <= now => (doubled(before, TRANSPORT_LAST), failures),
        Disposition::Until(time) => (time.duration_since(now), failures),
        Disposition::FixRequest | Disposition::Retry(RetrySchedule::Daily) => {
            (FIX_RECHECK, failures)
        }
    };
    Backoff { until: now.saturating_add(interval).unwrap_or(now), interval, failures }
}

/// The number of failed validations in a row that leads to a wait of `interval`, where it is not
/// stored.
#[must_use]
pub fn step(interval: SignedDuration) -> u32 {
    let below = VALIDATION_WAITS.into_iter().filter(|step| *step <= interval).count();
    u32::try_from(below).unwrap_or_default()
}

/// The controller of an issuer checks it after an error and stops new orders until it is ready. If
/// it stays ready, the CA refuses this one order, so the waits double.
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

    fn waits_after(failure: Disposition, steps: usize) -> Vec<i64> {
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
    fn failed_validations_are_retried_after_1_10_and_100_minutes_and_then_daily() {
        let failure = Disposition::Retry(RetrySchedule::Validation);
        assert_eq!(waits_after(failure, 6), [60, 600, 6_000, 86_400, 86_400, 86_400]);
    }

    #[test]
    fn a_transient_error_is_retried_after_seconds_and_waits_five_minutes_at_most() {
        let failure = Disposition::Retry(RetrySchedule::Transport);
        assert_eq!(waits_after(failure, 10), [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    }

    /// The issuer controller stops an issuer with a wrong configuration. Otherwise the order is at
    /// fault.
    #[test]
    fn retries_at_a_ready_issuer_that_refuses_slow_down() {
        let waits = waits_after(Disposition::FixIssuer, 14);
        assert_eq!(waits[..4], [2, 4, 8, 16]);
        assert_eq!(waits[10..], [2_048, 3_600, 3_600, 3_600]);
    }

    #[test]
    fn a_wait_for_a_user_is_not_a_step_of_the_validation_schedule() {
        let known =
            Backoff { until: Timestamp::UNIX_EPOCH, interval: VALIDATION_WAITS[3], failures: 4 };
        assert!(known.is_validation_schedule());
        for failure in [Disposition::FixRequest, Disposition::Retry(RetrySchedule::Daily)] {
            let backoff = next(failure, Some(known), Timestamp::UNIX_EPOCH);
            assert!(!backoff.is_validation_schedule(), "{backoff:?}");
        }
    }

    #[test]
    fn a_time_from_the_ca_is_kept_to_the_second() {
        let time = Timestamp::from_second(4_711).unwrap();
        let backoff = after(Disposition::Until(time), None, Timestamp::UNIX_EPOCH);
        let interval = SignedDuration::from_secs(4_711);
        assert_eq!(backoff, Backoff { until: time, interval, failures: 0 });
    }

    /// faults.md 9
    #[test]
    fn a_time_in_the_past_is_ignored() {
        let past = Disposition::Until(Timestamp::UNIX_EPOCH);
        assert_eq!(waits_after(past, 4), [2, 4, 8, 16]);
    }

    #[test]
    fn limits_and_transient_errors_are_not_steps_of_the_validation_schedule() {
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
