//! How many orders of an issuer run at once, and who is next: namespaces take turns, so that one
//! with ten thousand Certificates does not hold up one with a single one.
//!
//! An order for a name that nobody can prove holds its slot until the proof has taken too long. So no
//! namespace has all slots, while others wait none has more than half of them, and those whose last
//! try failed share half of them and come after the others: whoever comes with a good name finds a
//! slot free or waits for a turn of a good one.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    ops::Bound,
    sync::{Mutex, MutexGuard, PoisonError},
};

use cert_lib::plan::Slot;

use crate::api::{CertificateKey, Tenant};

/// See the [module](self).
#[derive(Debug)]
pub struct OrderScheduler {
    at_once: usize,
    issuers: Mutex<HashMap<String, IssuerQueue>>,
}

/// What speaks for or against a Certificate in line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Priority {
    /// It is tried for the first time, or it is a renewal.
    Normal,
    /// Its last try failed, and there is nothing to renew.
    Retry,
}

#[derive(Debug, Default)]
struct IssuerQueue {
    running: HashMap<CertificateKey, Priority>,
    /// Admitted by a leaver, not yet running.
    called: HashMap<CertificateKey, Priority>,
    waiting: BTreeMap<Tenant, Waiting>,
    /// The namespace that had the last turn.
    last: Option<Tenant>,
    /// Turns since the last of those that failed.
    hopeful_turns: u32,
}

/// Those of one namespace, first come, first served.
#[derive(Debug, Default)]
struct Waiting {
    hopeful: VecDeque<CertificateKey>,
    failed: VecDeque<CertificateKey>,
    known: HashSet<CertificateKey>,
}

/// Every so many turns one is for those that failed, so that they are not forgotten.
const HOPEFUL_TURNS: u32 = 3;

impl OrderScheduler {
    /// A gate that lets `at_once` orders of each issuer run.
    #[must_use]
    pub fn new(at_once: usize) -> Self {
        Self { at_once, issuers: Mutex::default() }
    }

    /// Whether `key` may place an order now. Changes nothing.
    #[must_use]
    pub fn look(&self, issuer: &str, key: &CertificateKey, standing: Priority) -> Slot {
        let issuers = self.lock();
        let Some(line) = issuers.get(issuer) else { return Slot::Free };
        line.look(self.at_once, key, standing)
    }

    /// Puts `key` in the line: [`leave`](Self::leave) will name it when its turn has come. Where
    /// somebody has left since `key` [looked](Self::look), it may come at once instead.
    pub fn wait(&self, issuer: &str, key: &CertificateKey, standing: Priority) -> Slot {
        let mut issuers = self.lock();
        let line = issuers.entry(issuer.to_owned()).or_default();
        if line.look(self.at_once, key, standing) == Slot::Free {
            line.forget(key);
            line.called.insert(key.clone(), standing);
            return Slot::Free;
        }
        let own = line.waiting.entry(key.tenant()).or_default();
        if own.known.insert(key.clone()) {
            own.queue(standing).push_back(key.clone());
        }
        Slot::Taken
    }

    /// Takes a slot for `key`, and only then waits for `permit`: many have seen the same slot free, and
    /// it would be gone by the time that the permit comes. `None` where there is no slot, or no permit.
    /// Without a permit the slot is given back, and so is one of another issuer in any case, as what it
    /// was for is not wanted any more; `call` is told who may come instead.
    ///
    /// # Errors
    /// Those of `permit`; the slot is given back.
    pub async fn claim<P, E>(
        &self,
        issuer: &str,
        key: &CertificateKey,
        standing: Priority,
        permit: impl Future<Output = Result<Option<P>, E>>,
        call: impl Fn(CertificateKey),
    ) -> Result<Option<P>, E> {
        self.turn_to(issuer, key).into_iter().for_each(&call);
        if self.wait(issuer, key, standing) == Slot::Taken {
            return Ok(None);
        }
        let permitted = permit.await;
        if !matches!(permitted, Ok(Some(_))) {
            self.leave(key).into_iter().for_each(call);
        }
        permitted
    }

    /// `key` wants nothing of other issuers any more: slots and places there are given back. Returns who
    /// may come instead.
    pub fn turn_to(&self, issuer: &str, key: &CertificateKey) -> Vec<CertificateKey> {
        self.change(|other, line| {
            if other != issuer {
                line.forget(key);
            }
        })
    }

    /// How many orders of the issuer run, or are about to.
    #[must_use]
    pub fn running(&self, issuer: &str) -> usize {
        self.lock().get(issuer).map_or(0, IssuerQueue::taken)
    }

    /// `key` has an order running.
    pub fn enter(&self, issuer: &str, key: &CertificateKey, standing: Priority) {
        let mut issuers = self.lock();
        let line = issuers.entry(issuer.to_owned()).or_default();
        line.drop_out(key);
        line.running.insert(key.clone(), standing);
    }

    /// `key` needs no slot any more. Returns who may come now.
    pub fn leave(&self, key: &CertificateKey) -> Vec<CertificateKey> {
        self.change(|_, line| line.forget(key))
    }

    /// `key` cannot use its slot now; a place in line stays. Returns who may come instead.
    pub fn pass_on(&self, key: &CertificateKey) -> Vec<CertificateKey> {
        self.change(|_, line| {
            line.running.remove(key);
            line.called.remove(key);
        })
    }

    /// Changes the lines of all issuers. Returns who may come now.
    fn change(&self, change: impl Fn(&str, &mut IssuerQueue)) -> Vec<CertificateKey> {
        let mut issuers = self.lock();
        let mut called = Vec::new();
        for (issuer, line) in issuers.iter_mut() {
            change(issuer, line);
            while let Some((next, standing)) = line.next(self.at_once) {
                line.called.insert(next.clone(), standing);
                called.push(next);
            }
        }
        issuers.retain(|_, line| !line.is_idle());
        called
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, IssuerQueue>> {
        self.issuers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IssuerQueue {
    /// Whoever waits does so because there is no slot for it, so nobody is passed over by a look.
    fn look(&self, at_once: usize, key: &CertificateKey, standing: Priority) -> Slot {
        let is_in = self.running.contains_key(key) || self.called.contains_key(key);
        match is_in || self.has_room(at_once, &key.tenant(), standing) {
            true => Slot::Free,
            false => Slot::Taken,
        }
    }

    fn has_room(&self, at_once: usize, tenant: &Tenant, standing: Priority) -> bool {
        let others_wait = self.waiting.keys().any(|other| other != tenant);
        let most = match others_wait {
            true => at_once / 2,
            false => at_once.saturating_sub((at_once / 4).max(1)),
        };
        let failed = match standing {
            Priority::Normal => 0,
            Priority::Retry => self.count(|_, standing| standing == Priority::Retry),
        };
        self.taken() < at_once
            && self.count(|key, _| tenant.has(key)) < most.max(1)
            && (failed == 0 || failed < at_once / 2)
    }

    fn taken(&self) -> usize {
        self.running.len() + self.called.len()
    }

    fn count(&self, counts: impl Fn(&CertificateKey, Priority) -> bool) -> usize {
        let taken = self.running.iter().chain(&self.called);
        taken.filter(|(key, standing)| counts(key, **standing)).count()
    }

    fn forget(&mut self, key: &CertificateKey) {
        self.running.remove(key);
        self.drop_out(key);
    }

    fn drop_out(&mut self, key: &CertificateKey) {
        self.called.remove(key);
        let tenant = key.tenant();
        let Some(own) = self.waiting.get_mut(&tenant) else { return };
        if own.known.remove(key) {
            own.hopeful.retain(|other| other != key);
            own.failed.retain(|other| other != key);
        }
        if own.known.is_empty() {
            self.waiting.remove(&tenant);
        }
    }

    /// The next who may come: of those that have not failed first, but not always.
    fn next(&mut self, at_once: usize) -> Option<(CertificateKey, Priority)> {
        if self.taken() >= at_once {
            return None;
        }
        let order = match self.hopeful_turns < HOPEFUL_TURNS {
            true => [Priority::Normal, Priority::Retry],
            false => [Priority::Retry, Priority::Normal],
        };
        order.into_iter().find_map(|standing| self.next_of(at_once, standing))
    }

    /// The first of the namespace whose turn it is.
    fn next_of(
        &mut self,
        at_once: usize,
        standing: Priority,
    ) -> Option<(CertificateKey, Priority)> {
        let after = self.last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let after = self.waiting.range((after, Bound::Unbounded));
        let turn = after.chain(self.waiting.iter()).find(|(tenant, own)| {
            !own.of(standing).is_empty() && self.has_room(at_once, tenant, standing)
        });
        let turn = turn?.0.clone();
        let own = self.waiting.get_mut(&turn)?;
        let next = own.queue(standing).pop_front()?;
        own.known.remove(&next);
        if own.known.is_empty() {
            self.waiting.remove(&turn);
        }
        self.last = Some(turn);
        self.hopeful_turns = match standing {
            Priority::Normal => self.hopeful_turns.saturating_add(1),
            Priority::Retry => 0,
        };
        Some((next, standing))
    }

    fn is_idle(&self) -> bool {
        self.running.is_empty() && self.called.is_empty() && self.waiting.is_empty()
    }
}

impl Waiting {
    fn of(&self, standing: Priority) -> &VecDeque<CertificateKey> {
        match standing {
            Priority::Normal => &self.hopeful,
            Priority::Retry => &self.failed,
        }
    }

    fn queue(&mut self, standing: Priority) -> &mut VecDeque<CertificateKey> {
        match standing {
            Priority::Normal => &mut self.hopeful,
            Priority::Retry => &mut self.failed,
        }
    }
}

#[cfg(test)]
mod tests;
