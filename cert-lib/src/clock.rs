//! The only reader of the current time. Functions that decide take `now` as an argument; code that
//! needs the time holds a [`Clock`].

use std::sync::Mutex;

use jiff::{SignedDuration, Timestamp};

/// Reads the wall clock. Deadlines in certificates and at the CA are wall-clock times. A monotonic
/// clock would miss the time for which a machine was suspended.
pub trait Clock: Send + Sync {
    /// The current instant.
    fn now(&self) -> Timestamp;
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Clock for System {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A clock that only advances when it is set, for tests and simulations.
#[derive(Debug)]
pub struct Manual(Mutex<Timestamp>);

impl Manual {
    /// A clock that shows `start`.
    #[must_use]
    pub fn at(start: Timestamp) -> Self {
        Self(Mutex::new(start))
    }

    /// Moves the clock by `step`, which may be negative. Saturates at the ends of time.
    pub fn step(&self, step: SignedDuration) {
        let mut shown = self.lock();
        *shown = shown.saturating_add(step).unwrap_or(*shown);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Timestamp> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Clock for Manual {
    fn now(&self) -> Timestamp {
        *self.lock()
    }
}
