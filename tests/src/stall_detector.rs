//! Measures how long this machine was stalled, for example by a paused hypervisor. Tests subtract
//! that time from their measurements.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

const TICK: Duration = Duration::from_millis(100);

/// Measures until it is dropped.
#[derive(Debug, Default)]
pub struct StallDetector {
    millis: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
}

impl StallDetector {
    /// Starts to measure, on a thread of its own.
    #[must_use]
    pub fn watch() -> Self {
        let watch = Self::default();
        let (millis, ended) = (watch.millis.clone(), watch.ended.clone());
        thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                let began = Instant::now();
                // Not a wait for a condition: a sleep that takes longer than requested shows a
                // stall.
                thread::sleep(TICK);
                let late = began.elapsed().saturating_sub(TICK);
                if late > TICK {
                    let late = u64::try_from(late.as_millis()).unwrap_or(u64::MAX);
                    millis.fetch_add(late, Ordering::Relaxed);
                }
            }
        });
        watch
    }

    /// The total time of the stalls so far.
    #[must_use]
    pub fn total(&self) -> Duration {
        Duration::from_millis(self.millis.load(Ordering::Relaxed))
    }
}

impl Drop for StallDetector {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}
