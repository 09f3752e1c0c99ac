//! Rate limits of each CA, shared by all issuers that use it: limits that the CA imposed, and estimates
//! of its published limits. Namespaces take turns for the remaining orders of an estimated limit.
//!
//! Imposed limits are stored in `status.limits` of the Issuer, so accounts do not exceed them again
//! after a restart. Estimates are in memory: after a restart, the first refusal of the CA corrects them.
//!
//! Each order counts for the share of its namespace, also one that the CA exempts from its limits as a
//! renewal. A namespace can claim that its orders are renewals, so beyond its share they count as new.

use std::{collections::HashMap, sync::Arc};

use cert_lib::{
    issue::LimitScope,
    model::name::DnsName,
    plan::limits::{Key, LETS_ENCRYPT, LimitSource, Limits, Order, OrderKind, Wait},
};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use crate::{
    api::{
        Tenant,
        issuer::Limit,
        time::{seconds_up, whole_up},
    },
    config::AcmeLimits,
    issuers::server_url::authority,
    runtime::fair_queue::{Position, SharedQueue},
};

/// The CAs of all issuers, by the URL of their directory.
#[derive(Debug, Default)]
pub struct CaRegistry {
    policy: AcmeLimits,
    known: Mutex<HashMap<String, Arc<Ca>>>,
}

/// The rate limits of one CA.
#[derive(Debug)]
pub struct Ca {
    server: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    limits: Limits,
    /// Namespaces that wait for a limit or have used it.
    queues: HashMap<Key, SharedQueue<Tenant>>,
}

/// Longest duration of an imposed limit. No CA has a longer window, so a longer limit is checked with a
/// new order.
pub const LONGEST: SignedDuration = SignedDuration::from_hours(8 * 24);
/// Maximum number of entries in `status.limits`: the limit of the account, and those that end last.
const MAX_STORED: usize = 20;
/// A limit that ends at most this much later than the known one is the same limit.
const SAME_LIMIT: SignedDuration = SignedDuration::from_secs(30);

/// Owner of the cluster that stores the limits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Origin {
    /// The operator of this controller.
    Ours,
    /// A tenant who can read and write the status of the issuer.
    Tenant,
}

impl CaRegistry {
    /// An empty registry. `policy` selects the CAs with estimated limits.
    #[must_use]
    pub fn new(policy: AcmeLimits) -> Self {
        Self { policy, known: Mutex::default() }
    }

    /// Returns the CA with this directory URL.
    #[must_use]
    pub fn at(&self, server: &str) -> Arc<Ca> {
        let mut known = self.known.lock();
        let ca = known.entry(server.to_owned()).or_insert_with(|| {
            let numbers = has_known_limits(self.policy, server).then_some(LETS_ENCRYPT);
            Arc::new(Ca::new(server, Limits::new(numbers)))
        });
        ca.clone()
    }
}

/// The numbers are those of Let's Encrypt production. They are far too low for its staging environment.
fn has_known_limits(policy: AcmeLimits, server: &str) -> bool {
    match policy {
        AcmeLimits::Off => false,
        AcmeLimits::LetsEncrypt => true,
        AcmeLimits::Auto => authority(server).is_some_and(|host| {
            host.ends_with(".api.letsencrypt.org") && !host.contains("staging")
        }),
    }
}

impl Ca {
    fn new(server: &str, limits: Limits) -> Self {
        let state = State { limits, queues: HashMap::new() };
        Self { server: server.to_owned(), state: Mutex::new(state) }
    }

    /// The URL of the directory of the CA.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Returns the imposed limit that delays the order.
    #[must_use]
    pub fn server_limit(&self, order: &Order<'_>, now: Timestamp) -> Option<Wait> {
        self.state.lock().limits.server_limit(order, now).map(round_up)
    }

    /// Returns the estimated limit that delays the order at this position of the queue.
    #[must_use]
    pub fn estimated_wait(
        &self,
        order: &Order<'_>,
        tenant: &Tenant,
        position: Option<&Position<Tenant>>,
        now: Timestamp,
    ) -> Option<Wait> {
        self.state.lock().estimated_wait(order, tenant, position, now)
    }

    /// Joins the queue of the estimated limit that delays the order, or keeps the `previous` position if
    /// it is one in this queue. Returns `None` if no limit delays it.
    #[must_use]
    pub fn wait(
        &self,
        order: &Order<'_>,
        tenant: &Tenant,
        previous: Option<Position<Tenant>>,
        now: Timestamp,
    ) -> Option<Position<Tenant>> {
        let mut state = self.state.lock();
        let wait = state.estimated_wait(order, tenant, previous.as_ref(), now)?;
        let LimitSource::Estimate(rate) = wait.source else { return None };
        let queue = state.queues.entry(wait.key).or_insert_with(|| SharedQueue::new(rate.per));
        Some(queue.join(tenant, previous))
    }

    /// Returns the kind as which an order of `tenant` counts: what it is `claimed` to be, within the
    /// share of the tenant.
    #[must_use]
    pub fn counted_kind(
        &self,
        order: &Order<'_>,
        tenant: &Tenant,
        claimed: OrderKind,
        now: Timestamp,
    ) -> OrderKind {
        let state = self.state.lock();
        let has_used_share = state.limits.shared(order).into_iter().any(|(key, rate)| {
            let used = |queue: &SharedQueue<Tenant>| {
                queue.with(|queue| queue.has_used_share(tenant, rate.burst.into(), now))
            };
            state.queues.get(&key).is_some_and(used)
        });
        if has_used_share { OrderKind::New } else { claimed }
    }

    /// Counts a placed order of `tenant`.
    pub fn ordered(&self, order: &Order<'_>, tenant: &Tenant, now: Timestamp) {
        let mut state = self.state.lock();
        state.limits.ordered(order, now);
        state.queues.retain(|_, queue| !queue.with(|queue| queue.is_idle(now)));
        for (key, rate) in state.limits.shared(order) {
            let queue = state.queues.entry(key).or_insert_with(|| SharedQueue::new(rate.per));
            queue.with(|queue| queue.record(tenant, now));
        }
    }

    /// Counts the issued certificate of an order.
    pub fn issued(&self, order: &Order<'_>, now: Timestamp) {
        self.state.lock().limits.issued(order, now);
    }

    /// Counts failed validations of these names.
    pub fn failed(&self, account: &str, names: &[DnsName], now: Timestamp) {
        let mut state = self.state.lock();
        names.iter().for_each(|name| state.limits.failed(account, name, now));
    }

    /// Records a limit that the CA imposed on an order. If it is a published one, it corrects the
    /// estimate. Returns the limited key, or `None` if the limit is already known.
    pub fn record(
        &self,
        order: &Order<'_>,
        (about, is_published): (&LimitScope, bool),
        until: Timestamp,
        now: Timestamp,
    ) -> Option<Key> {
        let mut state = self.state.lock();
        let before = state.limits.server_limits(now);
        let key = state.limits.record_limit(order, about, until);
        if is_published {
            state.limits.correct(&key, until);
        }
        let known = before.iter().find(|(known, _)| *known == key);
        known
            .is_none_or(|(_, known)| until > known.saturating_add(SAME_LIMIT).unwrap_or(*known))
            .then_some(key)
    }

    /// Restores limits from the status of an issuer. A tenant can only restore limits of its own
    /// account, because limits of domains affect other accounts.
    pub fn restore(&self, account: &str, stored: &[Limit], origin: Origin, now: Timestamp) {
        let mut state = self.state.lock();
        let latest = now.saturating_add(LONGEST).unwrap_or(now);
        let ours = stored.iter().filter(|limit| limit.server == self.server);
        for limit in ours.take(MAX_STORED) {
            let until = limit.until.parse::<Timestamp>().map(|until| until.min(latest));
            match (Key::decode(&limit.of, account), until) {
                (Some(Key::Domain(_) | Key::Set(_)), _) if origin == Origin::Tenant => {}
                (Some(key), Ok(until)) => state.limits.restore(key, until),
                (None, _) | (_, Err(_)) => {}
            }
        }
    }

    /// Returns the imposed limits to store for `account`, that of the account first. A tenant does not
    /// see limits of domains, because they reveal orders of other accounts.
    #[must_use]
    pub fn server_limits(&self, account: &str, origin: Origin, now: Timestamp) -> Vec<Limit> {
        let mut limits = self.state.lock().limits.server_limits(now);
        limits.retain(|(key, _)| match key {
            Key::Account(of) | Key::Name { account: of, .. } => of == account,
            Key::Domain(_) | Key::Set(_) => origin == Origin::Ours,
        });
        limits.sort_by_key(|(key, _)| !matches!(key, Key::Account(_)));
        let stored = limits.into_iter().take(MAX_STORED).map(|(key, until)| Limit {
            server: self.server.clone(),
            of: key.encode(),
            until: seconds_up(until),
        });
        stored.collect()
    }
}

impl State {
    fn estimated_wait(
        &self,
        order: &Order<'_>,
        tenant: &Tenant,
        position: Option<&Position<Tenant>>,
        now: Timestamp,
    ) -> Option<Wait> {
        let before =
            |key: &Key| self.queues.get(key).map_or(0, |queue| queue.before(tenant, position, now));
        self.limits.estimated_wait(order, before, now).map(round_up)
    }
}

/// Rounds up to the second of a requeue, so that the wait is over at the next check.
fn round_up(wait: Wait) -> Wait {
    Wait { until: whole_up(wait.until), ..wait }
}

#[cfg(test)]
mod tests;
