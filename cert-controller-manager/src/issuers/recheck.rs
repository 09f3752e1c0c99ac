//! Limits how often issuers are checked after failed orders. Each check asks the CA, so a thousand
//! failing Certificates must not cause a thousand checks. It also limits how often accounts are
//! registered or replaced.

use std::collections::HashMap;

use cert_lib::{
    issue::{Disposition, RetrySchedule},
    plan::backoff,
};
use jiff::{SignedDuration, Timestamp};

use crate::api::IssuerKey;

/// Requested and previous checks of all issuers. See the [module](self).
#[derive(Default)]
pub(super) struct IssuerRechecks {
    /// Reasons for requested checks.
    reasons: HashMap<IssuerKey, String>,
    rechecks: HashMap<IssuerKey, Recheck>,
    /// Replacements of deactivated accounts.
    replaced: HashMap<IssuerKey, Recheck>,
}

struct Recheck {
    at: Timestamp,
    /// Minimum time until the next one.
    pause: SignedDuration,
}

impl Recheck {
    fn after(before: Option<&Self>, now: Timestamp, schedule: RetrySchedule) -> Self {
        let recent = |recheck: &&Self| now.duration_since(recheck.at) < recheck.pause + RESET_AFTER;
        let before = before.filter(recent).map(|recheck| recheck.pause);
        let pause = backoff::after(Disposition::Retry(schedule), before, now).interval;
        Self { at: now, pause: pause.max(before.unwrap_or_default()) }
    }
}

/// After this time without a check, the delay starts again at its minimum.
const RESET_AFTER: SignedDuration = SignedDuration::from_mins(15);

impl IssuerRechecks {
    /// Requests a check after a failed order.
    pub(super) fn add(&mut self, key: &IssuerKey, why: String) {
        self.reasons.insert(key.clone(), why);
    }

    /// Takes the reason for a check. A request too soon after a check is dropped; the next failed
    /// order repeats it.
    pub(super) fn take(&mut self, key: &IssuerKey, now: Timestamp) -> Option<String> {
        let why = self.reasons.remove(key)?;
        let before = self.rechecks.get(key);
        if before.is_some_and(|recheck| now.duration_since(recheck.at) < recheck.pause) {
            return None;
        }
        self.note(key, now, RetrySchedule::Transport);
        Some(why)
    }

    /// Delays the next check, as a new account did not help before.
    pub(super) fn account_created(&mut self, key: &IssuerKey, now: Timestamp) {
        self.note(key, now, RetrySchedule::Validation);
    }

    /// Whether a deactivated account may be replaced now. Another client may restore the old key
    /// each time.
    pub(super) fn may_replace(&self, key: &IssuerKey, now: Timestamp) -> bool {
        let before = self.replaced.get(key);
        before.is_none_or(|recheck| now.duration_since(recheck.at) >= recheck.pause)
    }

    /// Stores the time of a replacement.
    pub(super) fn replaced(&mut self, key: &IssuerKey, now: Timestamp) {
        let recheck = Recheck::after(self.replaced.get(key), now, RetrySchedule::Validation);
        self.replaced.insert(key.clone(), recheck);
    }

    /// Removes the state of a deleted issuer.
    pub(super) fn forget(&mut self, key: &IssuerKey) {
        self.reasons.remove(key);
        self.rechecks.remove(key);
        self.replaced.remove(key);
    }

    fn note(&mut self, key: &IssuerKey, now: Timestamp, schedule: RetrySchedule) {
        let recheck = Recheck::after(self.rechecks.get(key), now, schedule);
        self.rechecks.insert(key.clone(), recheck);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// The seconds at which an issuer that always fails is checked.
    fn recheck_times(until: i64, account_is_created: bool) -> Vec<i64> {
        let (mut rechecks, key) =
            (IssuerRechecks::default(), IssuerKey::Default("acme".to_owned()));
        let mut times = Vec::new();
        for second in 0..until {
            rechecks.add(&key, "unauthorized".to_owned());
            if rechecks.take(&key, at(second)).is_some() {
                times.push(second);
                if account_is_created {
                    rechecks.account_created(&key, at(second));
                }
            }
        }
        times
    }

    #[test]
    fn an_issuer_that_always_fails_is_rechecked_at_growing_intervals() {
        assert_eq!(recheck_times(1_000, false), [0, 2, 6, 14, 30, 62, 126, 254, 510, 810]);
    }

    /// faults.md 26
    #[test]
    fn an_issuer_that_fails_with_a_new_account_is_rechecked_rarely() {
        assert_eq!(recheck_times(7_000, true), [0, 60, 660, 6_660]);
    }

    #[test]
    fn an_account_whose_old_key_is_restored_is_replaced_at_growing_intervals() {
        let (mut rechecks, key) =
            (IssuerRechecks::default(), IssuerKey::Default("acme".to_owned()));
        let mut replaced = Vec::new();
        for second in 0..7_000 {
            if rechecks.may_replace(&key, at(second)) {
                replaced.push(second);
                rechecks.replaced(&key, at(second));
            }
        }
        assert_eq!(replaced, [0, 60, 660, 6_660]);
    }

    #[test]
    fn the_interval_is_reset_after_a_time_without_rechecks() {
        let (mut rechecks, key) =
            (IssuerRechecks::default(), IssuerKey::Default("acme".to_owned()));
        for (second, rechecked) in [(0, true), (1, false), (3_600, true), (3_603, true)] {
            rechecks.add(&key, "x".to_owned());
            assert_eq!(rechecks.take(&key, at(second)).is_some(), rechecked, "{second}");
            assert_eq!(rechecks.take(&key, at(second)), None);
        }
    }
}
