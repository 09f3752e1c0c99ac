//! After how long a pass is repeated.

use std::time::Duration;

use jiff::Timestamp;

/// When a cluster cannot be reached, a pass is repeated after this; when it refuses, too: one that has
/// just started refuses everything until it knows its roles.
pub const UNREACHABLE: Duration = Duration::from_secs(5);
/// What a cluster refuses is tried again after this where that is told, or costs somebody else.
pub const REFUSED: Duration = Duration::from_secs(60);
/// Somebody else has written meanwhile: most likely the watch tells sooner.
const CONFLICT: Duration = Duration::from_secs(1);
/// Longest sleep: a suspended machine or a moved clock is noticed within it.
const LONGEST: Duration = Duration::from_secs(3_600);

/// Longest wait after refusals: by then a right that was granted meanwhile is noticed.
const LONGEST_REFUSED: Duration = Duration::from_secs(1_800);

/// After so many refusals in a row, of which the first is worth this wait.
#[must_use]
pub fn refused(first: Duration, times: u32) -> Duration {
    (first * (1 << times.saturating_sub(1).min(10))).min(LONGEST_REFUSED)
}

/// After a pass that wants to look again at `time`.
#[must_use]
pub fn until(time: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(time.duration_since(now)).unwrap_or_default().min(LONGEST)
}

/// After a pass that ended with this error.
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
    fn a_conflict_is_settled_sooner_than_an_outage() {
        for (code, seconds) in [(409, 1), (403, 5), (404, 5), (503, 5)] {
            let status = kube::core::Status { code, ..kube::core::Status::failure("no", "Reason") };
            assert_eq!(after(&kube::Error::Api(Box::new(status))).as_secs(), seconds, "{code}");
        }
    }

    #[test]
    fn what_is_refused_again_and_again_is_tried_ever_more_rarely() {
        let waits = [0, 1, 2, 3, 5, 6, 99].map(|times| refused(REFUSED, times).as_secs());
        assert_eq!(waits, [60, 60, 120, 240, 960, 1_800, 1_800]);
        assert_eq!(refused(UNREACHABLE, 1), UNREACHABLE);
    }

    #[test]
    fn nobody_sleeps_for_more_than_an_hour_or_for_less_than_no_time() {
        let at = |second| Timestamp::from_second(second).unwrap();
        for (time, seconds) in [(1_000, 0), (999, 0), (1_010, 10), (99_999, 3_600)] {
            assert_eq!(until(at(time), at(1_000)).as_secs(), seconds, "{time}");
        }
    }
}
