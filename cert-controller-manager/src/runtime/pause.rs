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
    fn nobody_sleeps_for_more_than_an_hour_or_for_less_than_no_time() {
        let at = |second| Timestamp::from_second(second).unwrap();
        for (time, seconds) in [(1_000, 0), (999, 0), (1_010, 10), (99_999, 3_600)] {
            assert_eq!(until(at(time), at(1_000)).as_secs(), seconds, "{time}");
        }
    }
}
