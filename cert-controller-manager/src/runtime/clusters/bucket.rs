//! A token bucket: how fast calls may begin.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Bucket {
    /// Between two calls in the long run; `None` for no limit.
    interval: Option<Duration>,
    burst: u32,
    /// When the bucket is full again. Each call moves it by one interval.
    full: Mutex<Option<Instant>>,
}

impl Bucket {
    /// `qps` calls a second, of which `burst` may begin at once. A limit without burst has one of 1,
    /// or nothing would ever pass.
    pub(super) fn new(qps: u32, burst: u32) -> Self {
        let interval = (qps > 0).then(|| Duration::from_secs(1) / qps);
        Self { interval, burst: burst.max(1), full: Mutex::default() }
    }

    /// Waits for the turn of a call. Turns are given in the order in which they were asked for.
    pub(super) async fn acquire(&self) {
        if let Some(turn) = self.take(Instant::now()) {
            sleep_until(turn).await;
        }
    }

    /// Takes one token; says when it is there, where it is not yet.
    fn take(&self, now: Instant) -> Option<Instant> {
        let interval = self.interval?;
        let mut known = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        let full = known.map_or(now, |full| full.max(now)) + interval;
        *known = Some(full);
        let turn = full.checked_sub(interval * self.burst)?;
        (turn > now).then_some(turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_the_rest_is_spread() {
        let waits = |qps, burst, calls: u32| -> Vec<u128> {
            let (bucket, now) = (Bucket::new(qps, burst), Instant::now() + Duration::from_secs(60));
            let wait = |turn: Option<Instant>| turn.map_or(0, |turn| (turn - now).as_millis());
            (0..calls).map(|_| wait(bucket.take(now))).collect()
        };
        assert_eq!(waits(10, 3, 6), [0, 0, 0, 100, 200, 300]);
        assert_eq!(waits(10, 0, 3), [0, 100, 200]);
        assert_eq!(waits(0, 0, 3), [0, 0, 0]);
    }

    #[test]
    fn a_pause_fills_the_bucket_but_not_beyond_its_brim() {
        let (bucket, now) = (Bucket::new(10, 2), Instant::now() + Duration::from_secs(60));
        let _ = [bucket.take(now), bucket.take(now)];
        let later = now + Duration::from_secs(3600);
        assert_eq!([bucket.take(later), bucket.take(later)], [None, None]);
        assert_eq!(bucket.take(later), Some(later + Duration::from_millis(100)));
    }
}
