//! Delays until the next reconciliation.

use std::time::Duration;

use jiff::Timestamp;

/// Delay if a cluster is not reachable, and after a first refusal: an API server refuses everything
/// until it has loaded the roles.
pub const UNREACHABLE: Duration = Duration::from_secs(5);
/// Delay after a refusal that is reported in the status, or whose retry affects other tenants.
pub const REFUSED: Duration = Duration::from_secs(60);
/// Delay after a conflict. The watch usually delivers the change earlier.
const CONFLICT: Duration = Duration::from_secs(1);
/// Maximum delay, so that a suspended machine or a changed clock is noticed.
const MAX_DELAY: Duration = Duration::from_secs(3_600);

/// Maximum delay after refusals, so that a new right is noticed.
const MAX_REFUSED: Duration = Duration::from_secs(1_800);

/// The delay after this number of consecutive refusals; `first` is the delay after the first one.
#[must_use]
pub fn refused(first: Duration, times: u32) -> Duration {
    (first * (1 << times.saturating_sub(1).min(10))).min(MAX_REFUSED)
}

/// The delay after this number of consecutive refusals that the status reports. The first is short,
/// because an API server that has just started refuses everything for a moment.
#[must_use]
pub fn reported(times: u32) -> Duration {
    match times {
        0 | 1 => UNREACHABLE,
        2.. => refused(REFUSED, times - 1),
    }
}

/// The delay until `time`.
#[must_use]
pub fn until(time: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(time.duration_since(now)).unwrap_or_default().min(MAX_DELAY)
}

/// The delay after this error.
#[must_use]
pub fn after(error: &kube::Error) -> Duration {
    match error {
        kube::Error::Api(status) if status.code == 409 => CONFLICT,
        _ => UNREACHABLE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conflict_is_retried_sooner_than_an_outage() {
        for (code, seconds) in [(409, 1), (403, 5), (404, 5), (503, 5)] {
            let status = kube::core::Status { code, ..kube::core::Status::failure("no", "Reason") };
            assert_eq!(after(&kube::Error::Api(Box::new(status))).as_secs(), seconds, "{code}");
        }
    }

    #[test]
    fn the_delay_grows_with_each_refusal() {
        let waits = [0, 1, 2, 3, 5, 6, 99].map(|times| refused(REFUSED, times).as_secs());
        assert_eq!(waits, [60, 60, 120, 240, 960, 1_800, 1_800]);
        assert_eq!(refused(UNREACHABLE, 1), UNREACHABLE);
        let waits = [0, 1, 2, 3, 4, 99].map(|times| reported(times).as_secs());
        assert_eq!(waits, [5, 5, 60, 120, 240, 1_800]);
    }

    #[test]
    fn the_delay_is_between_zero_and_an_hour() {
        let at = |second| Timestamp::from_second(second).unwrap();
        for (time, seconds) in [(1_000, 0), (999, 0), (1_010, 10), (99_999, 3_600)] {
            assert_eq!(until(at(time), at(1_000)).as_secs(), seconds, "{time}");
        }
    }
}
