//! The daily request quota of an issuer: a bucket that holds the requests of a day and fills
//! evenly. Pure; the caller provides the time and stores the state that must survive a crash.
//!
//! The caller [records](QuotaBucket::record) used requests, stores [`QuotaBucket::stored`], and sends
//! the requests afterwards. It may record some requests ahead, so that not each one needs a write. A
//! crash loses the unused ones of these and gains none.

use jiff::{SignedDuration, Timestamp};

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// A token bucket; see the [module](self).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct QuotaBucket {
    per_day: i64,
    /// The instant at which the bucket was empty if nothing was recorded since.
    empty_at: Timestamp,
    /// Number of recorded requests that are not used yet. Negative: of used ones that are not recorded.
    recorded_ahead: i64,
}

/// The stored content of a bucket at an instant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StoredQuota {
    /// Whole requests.
    pub available: i64,
    /// The instant, in whole seconds, rounded up.
    pub at: Timestamp,
}

impl QuotaBucket {
    /// A full bucket. Less than one request per day counts as one.
    #[must_use]
    pub fn full(per_day: i64, now: Timestamp) -> Self {
        Self::restored(per_day, StoredQuota { available: i64::MAX, at: now }, now)
    }

    /// The bucket with this `stored` content. A clock that was set back delays requests no longer than
    /// an empty bucket does.
    #[must_use]
    pub fn restored(per_day: i64, stored: StoredQuota, now: Timestamp) -> Self {
        let per_day = per_day.clamp(1, i64::from(i32::MAX));
        let mut bucket = Self { per_day, empty_at: now, recorded_ahead: 0 };
        let available = stored.available.clamp(0, per_day);
        let at = stored.at.min(now);
        bucket.empty_at = at.saturating_sub(bucket.fill_time(available)).unwrap_or(at);
        bucket
    }

    /// Requests per day: at once after a long idle time, and evenly afterwards.
    #[must_use]
    pub fn per_day(&self) -> i64 {
        self.per_day
    }

    /// Changes the number per day. The content stays, up to the new number.
    pub fn set_per_day(&mut self, per_day: i64, now: Timestamp) {
        let per_day = per_day.clamp(1, i64::from(i32::MAX));
        if per_day != self.per_day {
            let content = StoredQuota { available: self.content(now), at: now };
            let recorded_ahead = self.recorded_ahead;
            *self = Self { recorded_ahead, ..Self::restored(per_day, content, now) };
        }
    }

    /// Number of requests that are available now.
    #[must_use]
    pub fn available(&self, now: Timestamp) -> i64 {
        self.content(now) + self.recorded_ahead
    }

    /// The earliest instant at which `count` requests are available, `now` included.
    #[must_use]
    pub fn available_at(&self, count: i64, now: Timestamp) -> Timestamp {
        let missing = count - self.recorded_ahead;
        if self.content(now) >= missing {
            return now;
        }
        let due = self.start(now).saturating_add(self.fill_time(missing)).unwrap_or(Timestamp::MAX);
        due.max(now)
    }

    /// Uses one request. Returns whether one was available.
    pub fn use_one(&mut self, now: Timestamp) -> bool {
        let has_one = self.available(now) > 0;
        self.recorded_ahead -= i64::from(has_one);
        has_one
    }

    /// Returns a request that was [used](Self::use_one) but not needed.
    pub fn return_one(&mut self) {
        self.recorded_ahead = (self.recorded_ahead + 1).min(self.per_day);
    }

    /// Number of requests that are recorded and not used. Negative: of used ones to record.
    #[must_use]
    pub fn recorded_ahead(&self) -> i64 {
        self.recorded_ahead
    }

    /// Records used requests and up to `ahead` more, and returns those that were recorded ahead and are
    /// more than that. Returns the number of newly recorded requests; if it is not zero, the caller
    /// stores the content.
    pub fn record(&mut self, ahead: i64, now: Timestamp) -> i64 {
        let used = (-self.recorded_ahead).max(0);
        if (0..=ahead).contains(&self.recorded_ahead) {
            return 0;
        }
        let count = (ahead - self.recorded_ahead).min(self.content(now).max(used));
        self.empty_at = self.start(now);
        self.add_recorded(count);
        count
    }

    /// Reverts a [record](Self::record) that could not be stored.
    pub fn unrecord(&mut self, count: i64) {
        self.add_recorded(-count);
    }

    /// The content without the recorded requests.
    #[must_use]
    pub fn stored(&self, now: Timestamp) -> StoredQuota {
        let available = self.content(now);
        let exact = self.start(now).saturating_add(self.fill_time(available)).unwrap_or(now);
        let seconds = exact.as_second() + i64::from(exact.subsec_nanosecond() > 0);
        StoredQuota { available, at: Timestamp::from_second(seconds).unwrap_or(exact) }
    }

    fn add_recorded(&mut self, count: i64) {
        self.recorded_ahead += count;
        let time = self.fill_time(count.abs());
        let time = if count < 0 { -time } else { time };
        self.empty_at = self.empty_at.saturating_add(time).unwrap_or(self.empty_at);
    }

    fn content(&self, now: Timestamp) -> i64 {
        let passed = now.duration_since(self.empty_at).as_nanos().max(0);
        let filled = passed * i128::from(self.per_day) / DAY.as_nanos();
        i64::try_from(filled).unwrap_or(i64::MAX).min(self.capacity())
    }

    /// Requests that are recorded ahead take up space.
    fn capacity(&self) -> i64 {
        (self.per_day - self.recorded_ahead.max(0)).max(0)
    }

    /// The start of the filling that leads to the current content.
    fn start(&self, now: Timestamp) -> Timestamp {
        let longest = self.fill_time(self.capacity());
        self.empty_at.max(now.saturating_sub(longest).unwrap_or(now))
    }

    /// The time in which `count` requests are added, rounded up.
    fn fill_time(&self, count: i64) -> SignedDuration {
        let per_day = i128::from(self.per_day);
        let nanos = (i128::from(count) * DAY.as_nanos() + per_day - 1) / per_day;
        SignedDuration::from_nanos_i128(nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    /// Uses all available requests.
    fn drain(bucket: &mut QuotaBucket, now: Timestamp) -> i64 {
        let used = std::iter::from_fn(|| bucket.use_one(now).then_some(1)).sum();
        bucket.record(7, now);
        used
    }

    #[test]
    fn the_quota_of_a_day_may_be_used_at_once_and_refills_evenly() {
        for (per_day, burst, interval) in [
            (10_000, 10_000, 9),
            (60, 60, 1_440),
            (4, 4, 21_600),
            (1, 1, 86_400),
            (0, 1, 86_400),
            (8, 8, 10_800),
        ] {
            let mut bucket = QuotaBucket::full(per_day, at(0));
            assert_eq!(bucket.available(at(0)), burst, "{per_day}");
            assert_eq!(drain(&mut bucket, at(0)), burst, "{per_day}");
            assert_eq!(bucket.available(at(0)), 0, "{per_day}");
            assert_eq!(bucket.available(at(interval)), 1, "{per_day}");
            assert_eq!(bucket.available(at(interval - 1)), 0, "{per_day}");
            let wait = bucket.available_at(1, at(0)).duration_since(at(0)).as_secs_f64();
            assert!(wait <= interval as f64 && wait > (interval - 1) as f64, "{per_day}: {wait}");
            assert_eq!(bucket.available(at(10 * 86_400)), burst, "{per_day}");
        }
    }

    #[test]
    fn the_stored_content_is_never_more_than_the_real_one() {
        for per_day in [1, 3, 7, 10_000] {
            let mut bucket = QuotaBucket::full(per_day, at(0));
            for step in 0..200 {
                let now = at(step * 97);
                bucket.use_one(now);
                bucket.record(step % 3, now);
                let again = QuotaBucket::restored(per_day, bucket.stored(now), now);
                assert!(again.available(now) <= bucket.available(now), "{per_day} {step}");
                // Nothing is lost except for the rounding to a second.
                let later = now + SignedDuration::from_secs(2);
                let stored = bucket.stored(now).available;
                assert!(again.available(later) >= stored, "{per_day} {step}");
            }
        }
    }

    #[test]
    fn a_crash_loses_unused_requests_and_gains_none() {
        let mut bucket = QuotaBucket::full(10_000, at(0));
        assert!(bucket.use_one(at(0)));
        assert_eq!(bucket.record(124, at(0)), 125);
        let stored = bucket.stored(at(0));
        assert_eq!(bucket.available(at(0)), 9_999);
        let after_crash = QuotaBucket::restored(10_000, stored, at(1));
        assert_eq!(after_crash.available(at(1)), 9_875);
    }

    #[test]
    fn unused_requests_are_returned_except_those_to_keep() {
        for (keep, returned, stored) in [(0, 4, 9_999), (3, 1, 9_996), (4, 0, 9_995), (9, 0, 9_995)]
        {
            let mut bucket = QuotaBucket::full(10_000, at(0));
            assert!(bucket.use_one(at(0)));
            assert_eq!(bucket.record(4, at(0)), 5);
            assert_eq!(bucket.record(keep, at(0)), -returned, "{keep}");
            assert_eq!(bucket.stored(at(0)).available, stored, "{keep}");
            assert_eq!(bucket.available(at(0)), 9_999, "{keep}");
        }
    }

    #[test]
    fn requests_are_available_again_if_storing_fails() {
        let mut bucket = QuotaBucket::full(1, at(0));
        assert!(bucket.use_one(at(0)) && !bucket.use_one(at(0)));
        let count = bucket.record(0, at(0));
        bucket.unrecord(count);
        bucket.return_one();
        assert_eq!((bucket.available(at(0)), bucket.stored(at(0)).available), (1, 1));
    }

    #[test]
    fn all_used_requests_are_recorded_when_the_quota_is_lowered() {
        let mut bucket = QuotaBucket::full(8, at(0));
        assert!((0..4).all(|_| bucket.use_one(at(0))));
        bucket.set_per_day(2, at(0));
        assert_eq!(bucket.record(0, at(0)), 4);
        assert_eq!(bucket.stored(at(0)).available, 0);
    }

    #[test]
    fn a_returned_request_can_be_used_again_and_the_bucket_does_not_overflow() {
        let mut bucket = QuotaBucket::full(2, at(0));
        assert_eq!(drain(&mut bucket, at(0)), 2);
        bucket.return_one();
        assert_eq!(bucket.available(at(0)), 1);
        assert!(bucket.use_one(at(0)) && !bucket.use_one(at(0)));
        bucket.return_one();
        assert_eq!(bucket.available(at(10 * 86_400)), 2, "it is full");
        (0..3).for_each(|_| bucket.return_one());
        assert_eq!(bucket.available(at(10 * 86_400)), 2, "no more than full");
    }

    #[test]
    fn a_changed_quota_keeps_the_content() {
        let mut bucket = QuotaBucket::full(8, at(0));
        bucket.set_per_day(4_000, at(0));
        assert_eq!(bucket.available(at(0)), 8);
        bucket.set_per_day(1, at(0));
        assert_eq!(bucket.available(at(0)), 1);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_block_the_bucket() {
        let stored = StoredQuota { available: 0, at: at(10 * 86_400) };
        let bucket = QuotaBucket::restored(2, stored, at(0));
        assert_eq!(bucket.available(at(43_200)), 1);
    }
}
