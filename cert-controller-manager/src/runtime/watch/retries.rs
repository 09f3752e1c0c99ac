//! The delays between failed watches. Pure, except for the jitter.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use tokio::time::Instant;

use super::Availability;

/// Delay after the first failure.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// Maximum interval between two probes of a missing kind.
const MAX_PROBE_INTERVAL: Duration = Duration::from_secs(30);
/// A refusal counts only after this time.
const ROLES_LOADED_AFTER: Duration = Duration::from_secs(2);

/// The progress of a watch before it failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Progress {
    None,
    Listed,
}

/// The failures of a watch.
#[derive(Debug)]
pub(super) struct Retries {
    pause: Duration,
    /// Since when the kind is absent or denied.
    missing_since: Option<Instant>,
}

impl Default for Retries {
    fn default() -> Self {
        Self { pause: FIRST_PAUSE, missing_since: None }
    }
}

impl Retries {
    /// Notes a failure. `found` is the availability that it showed. Returns the delay before the
    /// next attempt.
    pub(super) fn record(
        &mut self,
        progress: Progress,
        found: Option<Availability>,
        now: Instant,
    ) -> Duration {
        if progress == Progress::Listed {
            self.missing_since = None;
        }
        self.pause = match (found, progress) {
            (Some(_), _) => retry_after(now - *self.missing_since.get_or_insert(now)),
            (None, Progress::Listed) => FIRST_PAUSE,
            (None, Progress::None) => longer(self.pause),
        };
        self.pause
    }

    /// Whether it is too early to rely on `found`, because an API server accepts requests shortly
    /// before it has loaded the roles.
    pub(super) fn is_early(&self, found: Availability, known: Availability, now: Instant) -> bool {
        found == Availability::Denied
            && known == Availability::Unknown
            && self.missing_since.is_some_and(|since| now - since < ROLES_LOADED_AFTER)
    }
}

/// The delay after another failure.
pub(super) fn longer(pause: Duration) -> Duration {
    (pause * 2).min(MAX_PAUSE)
}

/// The delay before the next probe of a kind that has been missing for this time.
fn retry_after(missing: Duration) -> Duration {
    (missing / 4).clamp(MAX_PAUSE, MAX_PROBE_INTERVAL)
}

/// Adds jitter: a delay between half of `pause` and `pause`. So watches do not list at the same time
/// when a server comes back.
pub(super) fn with_jitter(pause: Duration) -> Duration {
    let random = u32::try_from(RandomState::new().hash_one(()) % 1024).unwrap_or_default();
    pause / 2 + pause / 2 * random / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_probes_grows_with_the_absence() {
        let after = |seconds| retry_after(Duration::from_secs(seconds)).as_secs();
        assert_eq!([0, 20, 60, 120, 86_400].map(after), [5, 5, 15, 30, 30]);
    }
}
