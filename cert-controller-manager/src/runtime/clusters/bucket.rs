//! A token bucket that limits the rate of calls.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Bucket {
    /// Time to refill one token; `None` for no limit.
    interval: Option<Duration>,
    burst: u32,
    /// When the bucket is full again. Each call postpones this by one interval.
    full: Mutex<Option<Instant>>,
}

impl Bucket {
    /// A limit of `qps` calls per second with a `burst` of at least 1, because no call passes without
    /// one.
    pub(super) fn new(qps: u32, burst: u32) -> Self {
        let interval = (qps > 0).then(|| Duration::from_secs(1) / qps);
        Self { interval, burst: burst.max(1), full: Mutex::default() }
    }

    /// Waits for a token. Callers are served first come, first served.
    pub(super) async fn acquire(&self) {
        if let Some(available) = self.take(Instant::now()) {
            sleep_until(available).await;
        }
    }

    /// Takes one token. Returns when it becomes available, unless it is available now.
    fn take(&self, now: Instant) -> Option<Instant> {
        let interval = self.interval?;
        let mut known = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        let full = known.map_or(now, |full| full.max(now)) + interval;
        *known = Some(full);
        let available = full.checked_sub(interval * self.burst)?;
        (available > now).then_some(available)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_beyond_the_burst_are_spread() {
        let waits = |qps, burst, calls: u32| -> Vec<u128> {
            let (bucket, now) = (Bucket::new(qps, burst), Instant::now() + Duration::from_secs(60));
            let wait = |available: Option<Instant>| {
                available.map_or(0, |available| (available - now).as_millis())
            };
            (0..calls).map(|_| wait(bucket.take(now))).collect()
        };
        assert_eq!(waits(10, 3, 6), [0, 0, 0, 100, 200, 300]);
        assert_eq!(waits(10, 0, 3), [0, 100, 200]);
        assert_eq!(waits(0, 0, 3), [0, 0, 0]);
    }

    #[test]
    fn a_pause_refills_at_most_one_burst() {
        let (bucket, now) = (Bucket::new(10, 2), Instant::now() + Duration::from_secs(60));
        let _ = [bucket.take(now), bucket.take(now)];
        let later = now + Duration::from_secs(3600);
        assert_eq!([bucket.take(later), bucket.take(later)], [None, None]);
        assert_eq!(bucket.take(later), Some(later + Duration::from_millis(100)));
    }
}
