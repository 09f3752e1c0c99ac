//! Notices that a Secret is deleted or overwritten by somebody else again and again, or that a renewal
//! is demanded again and again: each time a certificate is requested anew, and after five of them in a
//! week Let's Encrypt gives no more for the same names.

use jiff::{SignedDuration, Timestamp};

use super::Stored;

/// So many in a row may be bad luck, or a person who tries something.
const FREE: usize = 3;
/// Instants further apart than this have nothing to do with each other.
const MEMORY: SignedDuration = SignedDuration::from_hours(48);
const PAUSES: [SignedDuration; 3] =
    [SignedDuration::from_hours(1), SignedDuration::from_hours(6), SignedDuration::from_hours(24)];
/// Most instants that are kept: no more are needed for the longest pause.
const MOST: usize = FREE + PAUSES.len();
/// After so many in two days, whatever their reasons, another date is no person's any more.
pub const MANY: usize = MOST;

/// Why no certificate is requested now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReissueLoop {
    /// How many were requested again lately.
    pub times: usize,
    /// When the next one is.
    pub until: Timestamp,
}

/// Whether what happened at these instants, the latest last, looks like a loop.
#[must_use]
pub fn suspected(times: &[Timestamp]) -> Option<ReissueLoop> {
    let last = *times.last()?;
    let lately = times.iter().filter(|time| last.duration_since(**time) < MEMORY).count();
    let step = lately.checked_sub(FREE)?;
    let [.., longest] = PAUSES;
    let pause = PAUSES.get(step).copied().unwrap_or(longest);
    let until = last.saturating_add(pause).unwrap_or(last);
    Some(ReissueLoop { times: lately, until })
}

/// Whether a certificate that is requested now has to do with one that was requested before.
#[must_use]
pub fn is_soon_after(requested_at: Timestamp, now: Timestamp) -> bool {
    now.duration_since(requested_at) < MEMORY
}

/// Until when a certificate is younger than any that is renewed for its age: a renewal that is due by
/// then has to do with the one before, and a CA that wants it each time, or whoever speaks for it, wants
/// it for ever.
#[must_use]
pub fn is_settled(stored: &Stored) -> Timestamp {
    let Stored { leaf, requested_at, .. } = stored;
    let begin = leaf.not_before.max(*requested_at);
    let tenth = leaf.not_after.duration_since(begin) / 10;
    begin.saturating_add(tenth.min(MEMORY)).unwrap_or(begin)
}

/// What is left of these instants, the latest last, when a person asks for another try: one more is no
/// loop, whatever there was, and the next one is.
#[must_use]
pub fn without_loop<T>(times: &[T]) -> &[T] {
    times.get(times.len().saturating_sub(FREE - 1)..).unwrap_or_default()
}

/// What is worth keeping of these instants, in any order.
#[must_use]
pub fn kept(times: impl IntoIterator<Item = Timestamp>, now: Timestamp) -> Vec<Timestamp> {
    let recent = |time: &Timestamp| *time <= now && now.duration_since(*time) < MEMORY;
    let mut times: Vec<Timestamp> = times.into_iter().filter(recent).collect();
    times.sort_unstable();
    times.dedup();
    let surplus = times.len().saturating_sub(MOST);
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
    fn a_secret_that_is_deleted_at_once_each_time_is_issued_thrice_and_then_ever_more_rarely() {
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
        assert!(times.len() <= MOST);
    }

    #[test]
    fn whoever_deletes_a_secret_once_a_day_is_no_loop() {
        let mut times = Vec::new();
        for day in 0..30 {
            let now = at(day * 24 * 60);
            times = kept(times, now);
            assert_eq!(suspected(&times), None, "{day}");
            times.push(now);
        }
    }

    #[test]
    fn who_asks_for_another_try_gets_one() {
        let mut times: Vec<Timestamp> = (0..5).map(at).collect();
        times = without_loop(&times).to_vec();
        assert_eq!((times.as_slice(), suspected(&times)), ([at(3), at(4)].as_slice(), None));
        times.push(at(5));
        assert_eq!(suspected(&times).map(|it| it.until), Some(at(65)));
        assert_eq!(without_loop(&[at(0)]), [at(0)]);
        assert_eq!(without_loop::<Timestamp>(&[]), []);
    }

    #[test]
    fn instants_in_the_future_and_doubles_do_not_count() {
        assert_eq!(kept([at(5), at(1), at(1), at(-5_000)], at(1)), [at(1)]);
    }
}
