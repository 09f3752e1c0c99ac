//! Whether an issuer that did not work for somebody is looked at again, and how often. A look asks the
//! CA, so a thousand Certificates that fail at an account which is in order must not be a thousand
//! looks; and an account that had to be made anew, which did not help, is not made again and again.

use std::collections::HashMap;

use cert_lib::{
    issue::{Disposition, RetrySchedule},
    plan::backoff,
};
use jiff::{SignedDuration, Timestamp};

use crate::api::IssuerKey;

/// See the [module](self).
#[derive(Default)]
pub(super) struct IssuerRechecks {
    /// What was said of issuers, and is to be looked at.
    said: HashMap<IssuerKey, String>,
    looks: HashMap<IssuerKey, Recheck>,
    /// When accounts that were deactivated were replaced.
    replaced: HashMap<IssuerKey, Recheck>,
}

struct Recheck {
    at: Timestamp,
    /// No other before it is over.
    pause: SignedDuration,
}

impl Recheck {
    fn after(before: Option<&Self>, now: Timestamp, ladder: RetrySchedule) -> Self {
        let recent = |look: &&Self| now.duration_since(look.at) < look.pause + FORGET;
        let before = before.filter(recent).map(|look| look.pause);
        let pause = backoff::after(Disposition::Retry(ladder), before, now).interval;
        Self { at: now, pause: pause.max(before.unwrap_or_default()) }
    }
}

/// After so much time without a look, it is a new matter.
const FORGET: SignedDuration = SignedDuration::from_mins(15);

impl IssuerRechecks {
    /// Somebody failed by an issuer.
    pub(super) fn add(&mut self, key: &IssuerKey, why: String) {
        self.said.insert(key.clone(), why);
    }

    /// Why the issuer is to be looked at, once. What comes too soon after a look is dropped: whoever
    /// still fails comes again.
    pub(super) fn take(&mut self, key: &IssuerKey, now: Timestamp) -> Option<String> {
        let why = self.said.remove(key)?;
        let before = self.looks.get(key);
        if before.is_some_and(|look| now.duration_since(look.at) < look.pause) {
            return None;
        }
        self.note(key, now, RetrySchedule::Transport);
        Some(why)
    }

    /// The account was made anew.
    pub(super) fn account_created(&mut self, key: &IssuerKey, now: Timestamp) {
        self.note(key, now, RetrySchedule::Validation);
    }

    /// Whether an account that was deactivated may be replaced now. Somebody may put the key of the closed
    /// account back each time.
    pub(super) fn may_replace(&self, key: &IssuerKey, now: Timestamp) -> bool {
        let before = self.replaced.get(key);
        before.is_none_or(|look| now.duration_since(look.at) >= look.pause)
    }

    /// An account that was deactivated was replaced.
    pub(super) fn replaced(&mut self, key: &IssuerKey, now: Timestamp) {
        let look = Recheck::after(self.replaced.get(key), now, RetrySchedule::Validation);
        self.replaced.insert(key.clone(), look);
    }

    /// There is no such issuer any more.
    pub(super) fn forget(&mut self, key: &IssuerKey) {
        self.said.remove(key);
        self.looks.remove(key);
        self.replaced.remove(key);
    }

    fn note(&mut self, key: &IssuerKey, now: Timestamp, ladder: RetrySchedule) {
        let look = Recheck::after(self.looks.get(key), now, ladder);
        self.looks.insert(key.clone(), look);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// The seconds at which an issuer that is always doubted is looked at.
    fn looks(until: i64, made_anew: bool) -> Vec<i64> {
        let (mut rechecks, key) =
            (IssuerRechecks::default(), IssuerKey::Default("acme".to_owned()));
        let mut looks = Vec::new();
        for second in 0..until {
            rechecks.add(&key, "unauthorized".to_owned());
            if rechecks.take(&key, at(second)).is_some() {
                looks.push(second);
                if made_anew {
                    rechecks.account_created(&key, at(second));
                }
            }
        }
        looks
    }

    #[test]
    fn an_issuer_that_is_always_doubted_is_looked_at_less_and_less_often() {
        assert_eq!(looks(1_000, false), [0, 2, 6, 14, 30, 62, 126, 254, 510, 810]);
    }

    /// faults.md 26
    #[test]
    fn an_account_that_was_made_anew_in_vain_is_left_alone() {
        assert_eq!(looks(7_000, true), [0, 60, 660, 6_660]);
    }

    #[test]
    fn an_account_whose_old_key_is_put_back_each_time_is_replaced_ever_more_rarely() {
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
    fn a_doubt_after_a_quiet_time_is_a_new_matter() {
        let (mut rechecks, key) =
            (IssuerRechecks::default(), IssuerKey::Default("acme".to_owned()));
        for (second, looked) in [(0, true), (1, false), (3_600, true), (3_603, true)] {
            rechecks.add(&key, "x".to_owned());
            assert_eq!(rechecks.take(&key, at(second)).is_some(), looked, "{second}");
            assert_eq!(rechecks.take(&key, at(second)), None);
        }
    }
}
