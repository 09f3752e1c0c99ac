//! Who comes next where an issuer's quota is short: namespaces take turns, so that one with ten
//! thousand Certificates does not spend the quota of one with a single one. Pure.
//!
//! What a namespace has had is remembered for a day and by this process only: after a restart all
//! begin anew.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use jiff::{SignedDuration, Timestamp};

use crate::api::{CertificateKey, Tenant};

const HOUR: i64 = 3_600;
const HOURS: i64 = 24;
/// Whoever does not look for this long after its time does not wait any more.
const PATIENCE: SignedDuration = SignedDuration::from_mins(2);

/// See the [module](self).
#[derive(Debug, Default)]
pub struct FairQueue {
    waiting: BTreeMap<Tenant, VecDeque<Waiter>>,
    had: HashMap<Tenant, Usage>,
}

#[derive(Debug)]
struct Waiter {
    certificate: CertificateKey,
    looks_again: Timestamp,
}

/// How many requests, by the hour.
#[derive(Debug, Default)]
struct Usage(VecDeque<(i64, i64)>);

impl Usage {
    fn note(&mut self, now: Timestamp) {
        let hour = now.as_second() / HOUR;
        match self.0.back_mut() {
            Some((last, count)) if *last == hour => *count += 1,
            _ => self.0.push_back((hour, 1)),
        }
        while self.0.front().is_some_and(|(first, _)| *first <= hour - HOURS) {
            self.0.pop_front();
        }
    }

    fn forget_one(&mut self) {
        if let Some((_, count)) = self.0.back_mut() {
            *count = (*count - 1).max(0);
        }
    }

    fn count(&self, now: Timestamp) -> i64 {
        let hour = now.as_second() / HOUR;
        self.0.iter().filter(|(at, _)| *at > hour - HOURS).map(|(_, count)| count).sum()
    }
}

impl FairQueue {
    /// `whose` waits and will look again at `time`. Its place in line stays if it has one.
    pub fn wait(&mut self, whose: &CertificateKey, time: Timestamp) {
        let line = self.waiting.entry(whose.tenant()).or_default();
        match line.iter_mut().find(|it| it.certificate == *whose) {
            Some(known) => known.looks_again = time,
            None => line.push_back(Waiter { certificate: whose.clone(), looks_again: time }),
        }
    }

    /// `whose` does not wait any more. *Idempotent*.
    pub fn leave(&mut self, whose: &CertificateKey) {
        let tenant = whose.tenant();
        if let Some(line) = self.waiting.get_mut(&tenant) {
            line.retain(|it| it.certificate != *whose);
            if line.is_empty() {
                self.waiting.remove(&tenant);
            }
        }
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// `whose` has had a request.
    pub fn note(&mut self, whose: &CertificateKey, now: Timestamp) {
        self.had.retain(|_, had| had.count(now) > 0);
        self.had.entry(whose.tenant()).or_default().note(now);
    }

    /// The last request that the namespace had was none.
    pub fn forget_one(&mut self, tenant: &Tenant) {
        if let Some(had) = self.had.get_mut(tenant) {
            had.forget_one();
        }
    }

    /// How many come before `whose`: those before it in its own namespace, and of each other
    /// namespace as many, and one more where it has had less.
    #[must_use]
    pub fn before(&self, whose: &CertificateKey, now: Timestamp) -> i64 {
        if self.waiting.is_empty() {
            return 0;
        }
        let alive = |it: &&Waiter| it.looks_again.saturating_add(PATIENCE).is_ok_and(|it| it > now);
        let tenant = whose.tenant();
        let own = self.waiting.get(&tenant);
        let own = own.into_iter().flatten().take_while(|it| it.certificate != *whose);
        let own = own.filter(alive).count();
        let own_rank = (self.had(&tenant, now), &tenant);
        let others = self.waiting.iter().filter(|(other, _)| **other != tenant);
        let others = others.map(|(other, line)| {
            let most = own + usize::from((self.had(other, now), other) < own_rank);
            line.iter().filter(alive).take(most).count()
        });
        i64::try_from(own + others.sum::<usize>()).unwrap_or(i64::MAX)
    }

    /// Whether the namespace has had its share of `per_day`: as much as there is for each that has
    /// had or wants something.
    #[must_use]
    pub fn has_its_share(&self, whose: &CertificateKey, per_day: i64, now: Timestamp) -> bool {
        let alive = |it: &Waiter| it.looks_again.saturating_add(PATIENCE).is_ok_and(|it| it > now);
        let had = self.had.iter().filter(|(_, had)| had.count(now) > 0).map(|(tenant, _)| tenant);
        let waiting = self.waiting.iter().filter(|(_, line)| line.iter().any(alive));
        let active = had.chain(waiting.map(|(tenant, _)| tenant));
        let tenant = whose.tenant();
        let active: HashSet<&Tenant> = active.chain([&tenant]).collect();
        let share = per_day / i64::try_from(active.len()).unwrap_or(i64::MAX);
        self.had(&tenant, now) >= share
    }

    fn had(&self, tenant: &Tenant, now: Timestamp) -> i64 {
        self.had.get(tenant).map_or(0, |had| had.count(now))
    }
}
