//! The daily request quota of an issuer: a bucket that holds the requests of a day and fills
//! evenly. Pure; the caller provides the time and stores the state that must survive a crash.
//!
//! The caller takes requests out of the bucket, stores [`QuotaBucket::left`] and uses them
//! afterwards. A crash loses the unused requests and gains none. The caller controls the loss: by
//! how many it takes ahead, and by how many it [returns](QuotaBucket::return_unused).

use jiff::{SignedDuration, Timestamp};

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// A token bucket; see the [module](self).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct QuotaBucket {
    per_day: i64,
    /// The instant at which the bucket was empty if nothing was taken since.
    empty_at: Timestamp,
    /// Taken out and not used yet.
    in_hand: i64,
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

    /// The bucket with the stored content `left`. A clock that was set back delays requests no
    /// longer than an empty bucket does.
    #[must_use]
    pub fn restored(per_day: i64, left: StoredQuota, now: Timestamp) -> Self {
        let per_day = per_day.clamp(1, i64::from(i32::MAX));
        let mut bucket = Self { per_day, empty_at: now, in_hand: 0 };
        let available = left.available.clamp(0, per_day);
        let at = left.at.min(now);
        bucket.empty_at = at.saturating_sub(bucket.takes(available)).unwrap_or(at);
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
            let left = StoredQuota { available: self.level(now), at: now };
            *self = Self { in_hand: self.in_hand, ..Self::restored(per_day, left, now) };
        }
    }

    /// Requests that are available now.
    #[must_use]
    pub fn available(&self, now: Timestamp) -> i64 {
        self.level(now) + self.in_hand
    }

    /// The earliest instant at which `count` requests are available, `now` included.
    #[must_use]
    pub fn when(&self, count: i64, now: Timestamp) -> Timestamp {
        let missing = count - self.in_hand;
        if self.level(now) >= missing {
            return now;
        }
        let due = self.start(now).saturating_add(self.takes(missing)).unwrap_or(Timestamp::MAX);
        due.max(now)
    }

    /// Uses one request of those taken out.
    pub fn use_one(&mut self) -> bool {
        let has_one = self.in_hand > 0;
        self.in_hand -= i64::from(has_one);
        has_one
    }

    /// Returns a request that was [used](Self::use_one) but not needed.
    pub fn return_one(&mut self) {
        self.in_hand = (self.in_hand + 1).min(self.per_day);
    }

    /// Number of requests that are taken out and not used.
    #[must_use]
    pub fn in_hand(&self) -> i64 {
        self.in_hand
    }

    /// Returns the unused requests beyond `keep` to the bucket, and their number.
    pub fn return_unused(&mut self, keep: i64) -> i64 {
        let unused = (self.in_hand - keep.max(0)).max(0);
        self.in_hand -= unused;
        self.put_back(unused);
        unused
    }

    /// Takes up to `count` requests out; none where the bucket is empty. They can be used after
    /// [`give`](Self::give).
    pub fn take_out(&mut self, count: i64, now: Timestamp) -> i64 {
        let portion = self.level(now).min(count.max(0));
        self.empty_at = self.start(now).saturating_add(self.takes(portion)).unwrap_or(now);
        portion
    }

    /// Returns requests whose removal could not be stored.
    pub fn put_back(&mut self, portion: i64) {
        let time = self.takes(portion);
        self.empty_at = self.empty_at.saturating_sub(time).unwrap_or(self.empty_at);
    }

    /// Makes requests usable whose removal was stored.
    pub fn give(&mut self, portion: i64) {
        self.in_hand += portion;
    }

    /// The content of the bucket, without the requests taken out.
    #[must_use]
    pub fn left(&self, now: Timestamp) -> StoredQuota {
        let available = self.level(now);
        let exact = self.start(now).saturating_add(self.takes(available)).unwrap_or(now);
        let seconds = exact.as_second() + i64::from(exact.subsec_nanosecond() > 0);
        StoredQuota { available, at: Timestamp::from_second(seconds).unwrap_or(exact) }
    }

    /// The requests taken out count towards the capacity.
    fn level(&self, now: Timestamp) -> i64 {
        let passed = now.duration_since(self.empty_at).as_nanos().max(0);
        let filled = passed * i128::from(self.per_day) / DAY.as_nanos();
        let most = (self.per_day - self.in_hand).max(0);
        i64::try_from(filled).unwrap_or(i64::MAX).min(most)
    }

    /// The start of the filling that leads to the current level.
    fn start(&self, now: Timestamp) -> Timestamp {
        let most = self.takes((self.per_day - self.in_hand).max(0));
        self.empty_at.max(now.saturating_sub(most).unwrap_or(now))
    }

    /// The time in which `count` requests are added, rounded up.
    fn takes(&self, count: i64) -> SignedDuration {
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

    /// Uses all available requests, seven at a time.
    fn drain(bucket: &mut QuotaBucket, now: Timestamp) -> i64 {
        let mut used = 0;
        loop {
            let portion = bucket.take_out(7, now);
            if portion == 0 {
                return used;
            }
            bucket.give(portion);
            while bucket.use_one() {
                used += 1;
            }
        }
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
            let wait = bucket.when(1, at(0)).duration_since(at(0)).as_secs_f64();
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
                let portion = bucket.take_out(3, now);
                let again = QuotaBucket::restored(per_day, bucket.left(now), now);
                assert!(again.available(now) <= bucket.available(now), "{per_day} {step}");
                // Nothing is lost except for the rounding to a second.
                let later = now + SignedDuration::from_secs(2);
                let left = bucket.left(now).available;
                assert!(again.available(later) >= left, "{per_day} {step}");
                bucket.give(portion);
                bucket.use_one();
            }
        }
    }

    #[test]
    fn a_crash_loses_unused_requests_and_gains_none() {
        let mut bucket = QuotaBucket::full(10_000, at(0));
        let portion = bucket.take_out(125, at(0));
        assert_eq!(portion, 125);
        let stored = bucket.left(at(0));
        bucket.give(portion);
        assert!(bucket.use_one());
        assert_eq!(bucket.available(at(0)), 9_999);
        let after_crash = QuotaBucket::restored(10_000, stored, at(1));
        assert_eq!(after_crash.available(at(1)), 9_875);
    }

    #[test]
    fn unused_requests_are_returned_except_those_to_keep() {
        for (keep, goes_back, stored) in
            [(0, 4, 9_999), (3, 1, 9_996), (4, 0, 9_995), (9, 0, 9_995)]
        {
            let mut bucket = QuotaBucket::full(10_000, at(0));
            let portion = bucket.take_out(5, at(0));
            bucket.give(portion);
            assert!(bucket.use_one());
            assert_eq!(bucket.return_unused(keep), goes_back, "{keep}");
            assert_eq!(bucket.left(at(0)).available, stored, "{keep}");
            assert_eq!(bucket.available(at(0)), 9_999, "{keep}");
        }
    }

    #[test]
    fn requests_are_returned_if_storing_fails() {
        let mut bucket = QuotaBucket::full(1, at(0));
        let portion = bucket.take_out(1, at(0));
        bucket.put_back(portion);
        assert_eq!(bucket.available(at(0)), 1);
    }

    #[test]
    fn a_returned_request_can_be_used_again_and_the_bucket_does_not_overflow() {
        let mut bucket = QuotaBucket::full(2, at(0));
        assert_eq!(drain(&mut bucket, at(0)), 2);
        bucket.return_one();
        assert_eq!(bucket.available(at(0)), 1);
        assert!(bucket.use_one() && !bucket.use_one());
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
