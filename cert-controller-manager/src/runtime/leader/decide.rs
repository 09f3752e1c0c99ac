//! Decides the next action of a candidate. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};

/// The last observed Lease, and the time of its last change. All times are of our own clock.
#[derive(Clone, Debug, Default)]
pub(super) struct Observed {
    /// The Lease; `None` if it does not exist.
    pub(super) lease: Option<Lease>,
    /// Its last specification. It stays after a deletion, because the holder continues until it notices.
    spec: Option<LeaseSpec>,
    since: Duration,
}

/// The next action.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Act {
    /// The Lease does not exist, and no process can assume to hold it.
    Create,
    /// The Lease was released or has expired.
    Take,
    /// We hold the Lease.
    Renew,
    /// Another process holds the Lease for this time, unless it changes.
    Wait(Duration),
}

impl Observed {
    /// Records the Lease that was read at `now`. Only a change of its specification shows that the holder
    /// is alive.
    pub(super) fn see(&mut self, lease: Option<Lease>, now: Duration) {
        let spec = lease.as_ref().map(|lease| lease.spec.clone().unwrap_or_default());
        if let Some(spec) = spec
            && self.spec.as_ref() != Some(&spec)
        {
            self.spec = Some(spec);
            self.since = now;
        }
        self.lease = lease;
    }

    /// The holder in the Lease, even if it has expired.
    pub(super) fn holder(&self) -> Option<&str> {
        let holder = self.spec.as_ref()?.holder_identity.as_deref()?;
        (!holder.is_empty()).then_some(holder)
    }

    pub(super) fn ours(&self, identity: &str) -> bool {
        self.holder() == Some(identity)
    }
}

/// The action of the candidate `identity`. `duration` is the default for a Lease without one.
pub(super) fn decide(
    observed: &Observed,
    identity: &str,
    duration: Duration,
    now: Duration,
) -> Act {
    let free = if observed.lease.is_some() { Act::Take } else { Act::Create };
    let Some(holder) = observed.holder() else { return free };
    if holder == identity {
        return if observed.lease.is_some() { Act::Renew } else { Act::Create };
    }
    let seconds = observed.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
    let duration = match seconds.map(u64::try_from) {
        Some(Ok(seconds)) => Duration::from_secs(seconds),
        Some(Err(_)) | None => duration,
    };
    match (observed.since + duration).checked_sub(now) {
        None | Some(Duration::ZERO) => free,
        Some(left) => Act::Wait(left),
    }
}

/// The specification for `identity` to take or renew the Lease.
pub(super) fn claim(
    previous: Option<&LeaseSpec>,
    identity: &str,
    duration: Duration,
    now: Timestamp,
) -> LeaseSpec {
    let ours = previous.is_some_and(|spec| spec.holder_identity.as_deref() == Some(identity));
    let previous = previous.cloned();
    let transitions = previous.as_ref().map(|spec| spec.lease_transitions.unwrap_or_default());
    LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: Some(whole_seconds(duration)),
        acquire_time: previous
            .as_ref()
            .and_then(|spec| spec.acquire_time.clone().filter(|_| ours))
            .or(Some(MicroTime(now))),
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(match transitions {
            Some(transitions) if !ours => transitions.saturating_add(1),
            Some(transitions) => transitions,
            None => 0,
        }),
        ..previous.unwrap_or_default()
    }
}

/// The specification to release the Lease.
pub(super) fn release_spec(previous: Option<&LeaseSpec>, now: Timestamp) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(String::new()),
        lease_duration_seconds: Some(1),
        acquire_time: Some(MicroTime(now)),
        renew_time: Some(MicroTime(now)),
        ..previous.cloned().unwrap_or_default()
    }
}

/// Rounds up to at least one second, which the API server requires.
fn whole_seconds(duration: Duration) -> i32 {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    i32::try_from(seconds.max(1)).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DURATION: Duration = Duration::from_secs(15);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn time(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn lease(holder: &str, seconds: Option<i32>, renewed: i64) -> Lease {
        let spec = LeaseSpec {
            holder_identity: Some(holder.into()),
            lease_duration_seconds: seconds,
            renew_time: Some(MicroTime(time(renewed))),
            ..Default::default()
        };
        Lease { spec: Some(spec), ..Default::default() }
    }

    /// A second of our clock, and the Lease at that time.
    type Observation = (u64, Option<Lease>);

    fn seen(observations: &[Observation]) -> Observed {
        let mut observed = Observed::default();
        for (second, lease) in observations {
            observed.see(lease.clone(), at(*second));
        }
        observed
    }

    #[test]
    fn a_candidate_takes_a_free_lease_and_waits_for_a_held_one() {
        let other = |renewed| Some(lease("other", Some(15), renewed));
        let ours = || Some(lease("me", Some(15), 1));
        let rows: &[(&str, Vec<Observation>, u64, Act)] = &[
            ("nothing was ever there", vec![(100, None)], 100, Act::Create),
            ("an empty Lease", vec![(100, Some(Lease::default()))], 100, Act::Take),
            ("it was given back", vec![(100, Some(lease("", Some(1), 1)))], 100, Act::Take),
            ("another process holds it", vec![(100, other(1))], 100, Act::Wait(DURATION)),
            ("and did not renew it", vec![(100, other(1)), (110, other(1))], 110, Act::Wait(at(5))),
            ("for the whole duration", vec![(100, other(1)), (110, other(1))], 115, Act::Take),
            ("but did renew it", vec![(100, other(1)), (110, other(2))], 115, Act::Wait(at(10))),
            ("the holder's clock is years ahead", vec![(100, other(9_999_999))], 115, Act::Take),
            ("it is ours", vec![(100, ours())], 100, Act::Renew),
            ("and was for an hour", vec![(100, ours())], 3700, Act::Renew),
            ("ours was deleted", vec![(100, ours()), (101, None)], 101, Act::Create),
            ("a rival's was deleted", vec![(100, other(1)), (105, None)], 105, Act::Wait(at(10))),
            ("and its time is over", vec![(100, other(1)), (105, None)], 115, Act::Create),
            (
                "it says its own duration",
                vec![(100, Some(lease("other", Some(60), 1)))],
                115,
                Act::Wait(at(45)),
            ),
            ("it says none", vec![(100, Some(lease("other", None, 1)))], 110, Act::Wait(at(5))),
            (
                "it says nonsense",
                vec![(100, Some(lease("other", Some(-5), 1)))],
                110,
                Act::Wait(at(5)),
            ),
        ];
        for (what, observations, now, act) in rows {
            assert_eq!(decide(&seen(observations), "me", DURATION, at(*now)), *act, "{what}");
        }
    }

    #[test]
    fn only_a_change_of_the_holder_counts_as_transition() {
        let first = claim(None, "a", DURATION, time(1));
        assert_eq!(first.lease_transitions, Some(0));
        let renewed = claim(Some(&first), "a", DURATION, time(2));
        let same = LeaseSpec { renew_time: Some(MicroTime(time(2))), ..first.clone() };
        assert_eq!(renewed, same);
        let taken = claim(Some(&renewed), "b", DURATION, time(3));
        assert_eq!(
            (taken.lease_transitions, taken.acquire_time),
            (Some(1), Some(MicroTime(time(3))))
        );
        let free = release_spec(Some(&renewed), time(4));
        assert_eq!((free.lease_transitions, free.lease_duration_seconds), (Some(0), Some(1)));
        assert_eq!(claim(Some(&free), "a", DURATION, time(5)).lease_transitions, Some(1));
    }

    #[test]
    fn the_duration_is_rounded_up_to_whole_seconds() {
        for (millis, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (15_000, 15)] {
            assert_eq!(whole_seconds(Duration::from_millis(millis)), seconds);
        }
    }
}
