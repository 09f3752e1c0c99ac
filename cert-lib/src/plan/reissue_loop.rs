//! Detects a loop: another client deletes or overwrites a Secret repeatedly, or a renewal is
//! requested repeatedly. Each time a new certificate is requested, and after five in a week Let's
//! Encrypt refuses the same names.

use jiff::{SignedDuration, Timestamp};

use super::stored::Stored;

/// Issuances in a row without a pause: an accident, or a user who tries something.
const FREE_REISSUES: usize = 3;
/// Repetitions further apart than this are unrelated.
const HISTORY: SignedDuration = SignedDuration::from_hours(48);
const PAUSES: [SignedDuration; 3] =
    [SignedDuration::from_hours(1), SignedDuration::from_hours(6), SignedDuration::from_hours(24)];
/// Most instants that are kept: the longest pause needs no more.
const MAX_INSTANTS: usize = FREE_REISSUES + PAUSES.len();
/// After this number in two days, for any reason, a new date is not a user's any more.
pub const MAX_NEW_DATES: usize = MAX_INSTANTS;

/// A suspected loop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReissueLoop {
    /// Recent repetitions.
    pub times: usize,
    /// End of the pause.
    pub until: Timestamp,
}

/// Whether certificates issued at these instants, oldest first, look like a loop.
#[must_use]
pub fn suspected(times: &[Timestamp]) -> Option<ReissueLoop> {
    let last = *times.last()?;
    let lately = times.iter().filter(|time| last.duration_since(**time) < HISTORY).count();
    let step = lately.checked_sub(FREE_REISSUES)?;
    let [.., longest] = PAUSES;
    let pause = PAUSES.get(step).copied().unwrap_or(longest);
    let until = last.saturating_add(pause).unwrap_or(last);
    Some(ReissueLoop { times: lately, until })
}

/// Whether a certificate that is requested now may be related to one that was requested before.
#[must_use]
pub fn is_soon_after(requested_at: Timestamp, now: Timestamp) -> bool {
    now.duration_since(requested_at) < HISTORY
}

/// Until this instant a certificate is younger than any that is renewed for its age. A renewal that
/// is due by then is related to the previous one: the renewal information asks for it each time,
/// and would do so forever.
#[must_use]
pub fn young_until(stored: &Stored) -> Timestamp {
    let Stored { leaf, requested_at, .. } = stored;
    let begin = leaf.not_before.max(*requested_at);
    let tenth = leaf.not_after.duration_since(begin) / 10;
    begin.saturating_add(tenth.min(HISTORY)).unwrap_or(begin)
}

/// The instants, oldest first, that stay when a user requests a retry: one more issuance is no
/// loop, and the next one is.
#[must_use]
pub fn without_loop<T>(times: &[T]) -> &[T] {
    times.get(times.len().saturating_sub(FREE_REISSUES - 1)..).unwrap_or_default()
}

/// The instants that are worth storing, from instants in any order.
#[must_use]
pub fn kept(times: impl IntoIterator<Item = Timestamp>, now: Timestamp) -> Vec<Timestamp> {
    let recent = |time: &Timestamp| *time <= now && now.duration_since(*time) < HISTORY;
    let mut times: Vec<Timestamp> = times.into_iter().filter(recent).collect();
    times.sort_unstable();
    times.dedup();
    let surplus = times.len().saturating_sub(MAX_INSTANTS);
    times.split_off(surplus)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + 60 * minutes).unwrap()
    }

    /// faults.md 55
    #[test]
    fn a_secret_that_is_deleted_repeatedly_is_reissued_at_growing_intervals() {
        let mut times = Vec::new();
        let mut issued = Vec::new();
        for minute in 0..3 * 24 * 60 {
            let now = at(minute);
            times = kept(times, now);
            if suspected(&times).is_none_or(|it| it.until <= now) {
                issued.push(minute);
                times.push(now);
            }
        }
        assert_eq!(issued[..6], [0, 1, 2, 62, 422, 1_862]);
        assert!(issued.len() <= 10, "{issued:?}");
        assert!(times.len() <= MAX_INSTANTS);
    }

    #[test]
    fn deleting_a_secret_once_a_day_is_no_loop() {
        let mut times = Vec::new();
        for day in 0..30 {
            let now = at(day * 24 * 60);
            times = kept(times, now);
            assert_eq!(suspected(&times), None, "{day}");
            times.push(now);
        }
    }

    #[test]
    fn a_requested_retry_is_allowed() {
        let mut times: Vec<Timestamp> = (0..5).map(at).collect();
        times = without_loop(&times).to_vec();
        assert_eq!((times.as_slice(), suspected(&times)), ([at(3), at(4)].as_slice(), None));
        times.push(at(5));
        assert_eq!(suspected(&times).map(|it| it.until), Some(at(65)));
        assert_eq!(without_loop(&[at(0)]), [at(0)]);
        assert_eq!(without_loop::<Timestamp>(&[]), []);
    }

    #[test]
    fn future_and_duplicate_instants_are_dropped() {
        assert_eq!(kept([at(5), at(1), at(1), at(-5_000)], at(1)), [at(1)]);
    }
}
