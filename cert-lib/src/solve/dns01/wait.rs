//! How long owners wait for their records: growing intervals between checks, and the additional
//! wait. The state is an optimization: after a restart, a wait starts again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};

use super::{propagation::Propagation, view::Visibility};
use crate::{
    clock::Clock,
    net::Resolver,
    solve::{Owner, Proof, Readiness},
};

/// The waits of a solver, by owner. An owner has one order at a time.
pub struct PropagationWaits {
    clock: Arc<dyn Clock>,
    waits: Mutex<HashMap<Owner, Wait>>,
}

#[derive(Clone, Copy, Default)]
struct Wait {
    /// The first check.
    first_check: Option<Timestamp>,
    /// The first check of published records.
    published: Option<Timestamp>,
    /// When all values were visible first.
    first_visible: Option<Timestamp>,
}

/// The result of one check of all proofs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum WaitState {
    /// The challenges can be triggered.
    Ready,
    /// A delay has not passed yet.
    Waiting {
        /// A message for users.
        why: String,
        /// Time until the next check.
        look_again: SignedDuration,
    },
    /// At least one value is not visible.
    NotVisible {
        /// A message for users that names the server.
        why: String,
        /// Time until the next check.
        look_again: SignedDuration,
    },
}

impl From<WaitState> for Readiness {
    fn from(state: WaitState) -> Self {
        match state {
            WaitState::Ready => Self::Ready,
            WaitState::Waiting { why, look_again } | WaitState::NotVisible { why, look_again } => {
                Self::NotYet { why, look_again }
            }
        }
    }
}

impl PropagationWaits {
    /// No waits.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, waits: Mutex::default() }
    }

    /// Checks once whether all DNS-01 `proofs` of `owner` are visible and the delays have passed.
    /// `additional_wait` is the setting of the manager.
    pub async fn check(
        &self,
        owner: &Owner,
        proofs: &[Proof],
        propagation: &Propagation,
        resolver: &dyn Resolver,
        additional_wait: Option<SignedDuration>,
    ) -> WaitState {
        let now = self.clock.now();
        let published = self.access(owner, |wait| {
            wait.first_check.get_or_insert(now);
            *wait.published.get_or_insert(now)
        });
        let age = now.duration_since(published);
        let checks: Vec<_> = proofs
            .iter()
            .filter_map(Proof::txt)
            .map(|(fqdn, values)| propagation.check_after(resolver, fqdn, values, age))
            .collect();
        let mut checks = stream::iter(checks).buffer_unordered(PARALLEL);
        let (mut all_authoritative, mut waiting) = (true, None);
        while let Some(visibility) = checks.next().await {
            match visibility {
                Visibility::Seen { authoritative } => all_authoritative &= authoritative,
                Visibility::Waiting { why, left } => waiting = Some((why, left)),
                Visibility::NotSeen { why } => {
                    self.access(owner, |wait| wait.first_visible = None);
                    return WaitState::NotVisible { why, look_again: self.interval(owner) };
                }
            }
        }
        if let Some((why, look_again)) = waiting {
            return WaitState::Waiting { why, look_again };
        }
        self.wait_more(owner, propagation.additional_wait(additional_wait, all_authoritative))
    }

    /// The state of an owner whose records are not published yet, with the delay until the next
    /// check.
    #[must_use]
    pub fn not_published(&self, owner: &Owner, why: String) -> WaitState {
        self.access(owner, |wait| wait.published = None);
        WaitState::NotVisible { why, look_again: self.interval(owner) }
    }

    /// Starts the wait of `owner` again, because other values were published.
    pub fn restart(&self, owner: &Owner) {
        self.access(owner, |wait| *wait = Wait::default());
    }

    /// Forgets `owner`.
    pub fn remove(&self, owner: &Owner) {
        self.lock(|waits| waits.remove(owner));
    }

    /// The additional wait, for values that are visible now.
    fn wait_more(&self, owner: &Owner, wait: SignedDuration) -> WaitState {
        let now = self.clock.now();
        let first = self.access(owner, |wait| *wait.first_visible.get_or_insert(now));
        let left = wait.saturating_sub(now.duration_since(first));
        if left <= SignedDuration::ZERO {
            return WaitState::Ready;
        }
        let why = format!("the values are visible; waiting {} s more", left.as_secs().max(1));
        WaitState::Waiting { why, look_again: left }
    }

    /// The delay until the next check, which grows with time.
    fn interval(&self, owner: &Owner) -> SignedDuration {
        let now = self.clock.now();
        let first = self.access(owner, |wait| *wait.first_check.get_or_insert(now));
        (now.duration_since(first) / 4).clamp(MIN_INTERVAL, MAX_INTERVAL)
    }

    fn access<T>(&self, owner: &Owner, access: impl FnOnce(&mut Wait) -> T) -> T {
        self.lock(|waits| access(waits.entry(owner.clone()).or_default()))
    }

    fn lock<T>(&self, access: impl FnOnce(&mut HashMap<Owner, Wait>) -> T) -> T {
        access(&mut self.waits.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Names that are checked at once: a certificate may have a hundred.
const PARALLEL: usize = 8;
const MIN_INTERVAL: SignedDuration = SignedDuration::from_secs(1);
const MAX_INTERVAL: SignedDuration = SignedDuration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Manual,
        solve::dns01::{Check, PropagationOptions, tests::Script},
    };

    #[tokio::test]
    async fn a_wait_starts_when_the_records_are_published_and_ends_with_the_owner() {
        let clock = Arc::new(Manual::at(Timestamp::UNIX_EPOCH));
        let waits = PropagationWaits::new(clock.clone());
        let options = PropagationOptions { check: Check::Wait, ..PropagationOptions::default() };
        let propagation = Propagation::with_options(options, clock.clone());
        let owner = Owner("ns/web".to_owned());
        let fqdn = "_acme-challenge.example.org".parse().unwrap();
        let proofs = [Proof::at_challenge(fqdn, vec!["v".to_owned()])];
        let script = Script::default();
        let check = async |seconds| {
            clock.step(SignedDuration::from_secs(seconds));
            waits.check(&owner, &proofs, &propagation, &script, None).await
        };
        let left = |state| match state {
            WaitState::Waiting { look_again, .. } => look_again.as_secs(),
            other => panic!("{other:?}"),
        };
        let pending = waits.not_published(&owner, "pending".to_owned());
        let look_again = SignedDuration::from_secs(1);
        assert_eq!(pending, WaitState::NotVisible { why: "pending".to_owned(), look_again });
        assert_eq!(left(check(50).await), 60);
        assert_eq!(left(check(50).await), 10);
        let pending = waits.not_published(&owner, "pending again".to_owned());
        assert!(matches!(pending, WaitState::NotVisible { look_again, .. }
            if look_again == MAX_INTERVAL));
        assert_eq!(left(check(0).await), 60);
        assert_eq!(check(60).await, WaitState::Ready);
        waits.restart(&owner);
        assert_eq!(left(check(0).await), 60);
        waits.remove(&owner);
        assert!(waits.waits.lock().unwrap().is_empty());
    }
}
