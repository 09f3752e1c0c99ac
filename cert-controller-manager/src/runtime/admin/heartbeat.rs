//! Whether the controllers are at work. Each has a heart that must beat; one that has stood still
//! for too long makes the process unhealthy, so that it is restarted.
//!
//! A heart beats as long as the task that it lives in is polled: what is busy for ever, or waits
//! for a lock for ever, is noticed. A cluster that is away is not: that is no reason to restart.

use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval};

/// All hearts of the process. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct HeartbeatState(Arc<Mutex<Vec<Heart>>>);

#[derive(Debug)]
struct Heart {
    name: &'static str,
    max_age: Duration,
    last: Arc<Mutex<Instant>>,
}

/// One heart.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    period: Duration,
    last: Arc<Mutex<Instant>>,
}

/// How all hearts are doing at one instant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Health(Vec<HeartbeatAge>);

/// How one heart is doing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HeartbeatAge {
    /// Whose it is.
    pub name: &'static str,
    /// How long ago it beat.
    pub age: Duration,
    /// How old that may be.
    pub max_age: Duration,
}

impl HeartbeatState {
    /// A heart that must beat within every `max_age`. It beats now for the first time.
    #[must_use]
    pub fn register(&self, name: &'static str, max_age: Duration) -> Heartbeat {
        let last = Arc::new(Mutex::new(Instant::now()));
        self.lock().push(Heart { name, max_age, last: last.clone() });
        // Three tries within the time allowed, as upstream has it.
        Heartbeat { period: (max_age / 3).max(Duration::from_millis(1)), last }
    }

    /// How all hearts are doing now.
    #[must_use]
    pub fn examine(&self) -> Health {
        self.examine_at(Instant::now())
    }

    fn examine_at(&self, now: Instant) -> Health {
        let pulse = |heart: &Heart| HeartbeatAge {
            name: heart.name,
            age: now.saturating_duration_since(*lock(&heart.last)),
            max_age: heart.max_age,
        };
        Health(self.lock().iter().map(pulse).collect())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Heart>> {
        lock(&self.0)
    }
}

impl Heartbeat {
    /// Beats once.
    pub fn beat(&self) {
        *lock(&self.last) = Instant::now();
    }

    /// Runs `work` and beats meanwhile, in the same task: when `work` holds the task up, no beat
    /// comes either.
    pub async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        let mut ticks = interval(self.period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                result = &mut work => return result,
                _ = ticks.tick() => self.beat(),
            }
        }
    }
}

impl Health {
    /// Whether every heart beat in time.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.0.iter().all(HeartbeatAge::is_in_time)
    }
}

impl HeartbeatAge {
    fn is_in_time(&self) -> bool {
        self.age <= self.max_age
    }
}

/// One line about all, then one for each.
impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let late: Vec<_> = self.0.iter().filter(|pulse| !pulse.is_in_time()).collect();
        if late.is_empty() {
            writeln!(f, "ok")?;
        } else {
            let names: Vec<_> = late.iter().map(|pulse| pulse.name).collect();
            writeln!(f, "not working: {}", names.join(", "))?;
        }
        for pulse in &self.0 {
            let (age, limit) = (pulse.age.as_secs(), pulse.max_age.as_secs());
            writeln!(f, "{}: {age} s ago (at most {limit} s)", pulse.name)?;
        }
        Ok(())
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{advance, sleep};

    const LIMIT: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_heart_that_stands_still_is_told_by_name_and_recovers() {
        let heartbeats = HeartbeatState::default();
        let certificates = heartbeats.register("certificates", LIMIT);
        let issuers = heartbeats.register("issuers", LIMIT);
        advance(LIMIT).await;
        assert!(heartbeats.examine().is_alive(), "as old as it may be");
        issuers.beat();
        advance(Duration::from_secs(1)).await;
        let health = heartbeats.examine();
        assert!(!health.is_alive());
        assert_eq!(
            health.to_string(),
            "not working: certificates\n\
             certificates: 31 s ago (at most 30 s)\n\
             issuers: 1 s ago (at most 30 s)\n"
        );
        certificates.beat();
        assert!(heartbeats.examine().to_string().starts_with("ok\n"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_heart_beats_while_its_work_waits_and_not_afterwards() {
        let heartbeats = HeartbeatState::default();
        let beat = heartbeats.register("certificates", LIMIT);
        let done = beat.during(async {
            for _ in 0..10 {
                sleep(LIMIT).await;
                assert!(heartbeats.examine().is_alive());
            }
            "done"
        });
        assert_eq!(done.await, "done");
        advance(LIMIT * 2).await;
        assert!(!heartbeats.examine().is_alive());
    }

    #[test]
    fn a_process_without_controllers_is_alive() {
        let health = HeartbeatState::default().examine();
        assert!(health.is_alive());
        assert_eq!(health.to_string(), "ok\n");
    }
}
