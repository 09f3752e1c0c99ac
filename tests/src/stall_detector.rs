//! For how long this machine did nothing at all: nobody is to blame for that time.

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
    /// Begins to measure, on a thread of its own.
    #[must_use]
    pub fn watch() -> Self {
        let watch = Self::default();
        let (millis, ended) = (watch.millis.clone(), watch.ended.clone());
        thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                let began = Instant::now();
                // Not a wait for anything: whoever sleeps for longer than he wanted was not woken.
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

    /// How long it was until now.
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
