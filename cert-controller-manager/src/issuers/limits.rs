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
    issue::{Disposition, IssueError},
    model::name::DnsName,
    plan::{
        RateLimit,
        limits::{Key, LETS_ENCRYPT, LimitSource, Limits, Order, OrderKind, Rate, Wait},
    },
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
/// Duration of a limit for which the CA gives no time.
const UNTIMED_LIMIT_RETRY: SignedDuration = SignedDuration::from_mins(1);
/// A limit that ends at most this much later than the known one is the same limit.
const SAME_LIMIT: SignedDuration = SignedDuration::from_secs(30);

/// The CA of an issuer and its account there.
#[derive(Clone, Debug)]
pub struct CaAccount {
    /// The rate limits of the CA.
    pub ca: Arc<Ca>,
    /// Identifies the account in limits.
    pub account: String,
    /// Owner of the cluster that stores the limits.
    pub origin: Origin,
}

/// An order of a namespace, as its CA counts it.
#[derive(Debug)]
pub struct CaOrder {
    ca: Arc<Ca>,
    account: String,
    tenant: Tenant,
    names: Vec<DnsName>,
    kind: OrderKind,
}

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
            let state = State { limits: Limits::new(numbers), queues: HashMap::new() };
            Arc::new(Ca { server: server.to_owned(), state: Mutex::new(state) })
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

impl CaOrder {
    /// An order that counts as the kind that it is `claimed` to be, within the share of its namespace.
    #[must_use]
    pub fn new(
        CaAccount { ca, account, .. }: CaAccount,
        tenant: Tenant,
        (names, claimed): (Vec<DnsName>, OrderKind),
        now: Timestamp,
    ) -> Self {
        let mut order = Self { ca, account, tenant, names, kind: claimed };
        let is_over = {
            let (state, order) = (order.ca.state.lock(), &order);
            let is_over = |(key, Rate { burst, .. }): (Key, Rate)| {
                let used = |it: &SharedQueue<Tenant>| {
                    it.with(|it| it.has_used_share(&order.tenant, burst.into(), now))
                };
                state.queues.get(&key).is_some_and(used)
            };
            state.limits.shared(&order.counted()).into_iter().any(is_over)
        };
        if is_over {
            order.kind = OrderKind::New;
        }
        order
    }

    /// Returns the limit that delays the order at this position of the queue.
    #[must_use]
    pub fn rate_limit(&self, position: Option<&Position<Tenant>>, now: Timestamp) -> RateLimit {
        if let Some(wait) = self.server_limit(now) {
            return RateLimit::Imposed { time: wait.until, why: wait.to_string() };
        }
        let estimated = |it: Wait| RateLimit::Estimated { time: it.until, why: it.to_string() };
        self.estimated_wait(position, now).map_or(RateLimit::Off, estimated)
    }

    fn server_limit(&self, now: Timestamp) -> Option<Wait> {
        self.ca.state.lock().limits.server_limit(&self.counted(), now).map(round_up)
    }

    fn estimated_wait(&self, at: Option<&Position<Tenant>>, now: Timestamp) -> Option<Wait> {
        let state = self.ca.state.lock();
        let queue = |key: &Key| state.queues.get(key);
        let before = |key: &Key| queue(key).map_or(0, |it| it.before(&self.tenant, at, now));
        state.limits.estimated_wait(&self.counted(), before, now).map(round_up)
    }

    /// Joins the queue of the estimated limit that delays the order, or keeps the `previous` position if
    /// it is one in this queue. Returns `None` if no limit delays it.
    #[must_use]
    pub fn wait(
        &self,
        previous: Option<Position<Tenant>>,
        now: Timestamp,
    ) -> Option<Position<Tenant>> {
        let wait = self.estimated_wait(previous.as_ref(), now)?;
        let LimitSource::Estimate(rate) = wait.source else { return None };
        Some(self.ca.state.lock().queue(wait.key, rate).join(&self.tenant, previous))
    }

    /// Counts the order, which the CA has placed.
    pub fn placed(&self, now: Timestamp) {
        let (mut state, order) = (self.ca.state.lock(), self.counted());
        state.limits.ordered(&order, now);
        state.queues.retain(|_, queue| !queue.with(|queue| queue.is_idle(now)));
        for (key, rate) in state.limits.shared(&order) {
            state.queue(key, rate).with(|queue| queue.record(&self.tenant, now));
        }
    }

    /// Counts the issued certificate of the order.
    pub fn issued(&self, now: Timestamp) {
        self.ca.state.lock().limits.issued(&self.counted(), now);
    }

    /// Counts failed validations, and records a limit that the CA imposed. If it is a published one, it
    /// corrects the estimate. Returns the limit and its end, if it was not known.
    pub fn failed(&self, error: &IssueError, now: Timestamp) -> Option<(Key, Timestamp)> {
        let limits = &mut self.ca.state.lock().limits;
        error.unproved().iter().for_each(|name| limits.failed(&self.account, name, now));
        let scope = error.limit()?;
        let until = match error.disposition() {
            Disposition::Until(time) => time.min(now.saturating_add(LONGEST).unwrap_or(now)),
            Disposition::Retry(_) | Disposition::FixIssuer | Disposition::FixRequest => {
                now.saturating_add(UNTIMED_LIMIT_RETRY).unwrap_or(now)
            }
        };
        let before = limits.server_limits(now);
        let key = limits.record_limit(&self.counted(), scope, until);
        if error.is_published_limit() {
            limits.correct(&key, until);
        }
        let is_same = |known: &Timestamp| until.duration_since(*known) <= SAME_LIMIT;
        let is_known = before.iter().any(|(other, known)| *other == key && is_same(known));
        (!is_known).then_some((key, until))
    }

    fn counted(&self) -> Order<'_> {
        Order { account: &self.account, names: &self.names, kind: self.kind }
    }
}

impl State {
    fn queue(&mut self, key: Key, rate: Rate) -> &SharedQueue<Tenant> {
        self.queues.entry(key).or_insert_with(|| SharedQueue::new(rate.per))
    }
}

/// Rounds up to the second of a requeue, so that the wait is over at the next check.
fn round_up(wait: Wait) -> Wait {
    Wait { until: whole_up(wait.until), ..wait }
}

#[cfg(test)]
mod tests;
