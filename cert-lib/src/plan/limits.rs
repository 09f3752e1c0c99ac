//! An estimate of the rate limits of a CA, and the limits that the CA imposed. Pure: values and the
//! time in, values out.
//!
//! The estimate is advisory: it avoids requests that the CA would refuse, and distributes the
//! limits fairly. It may be wrong in both directions, as other clients may use the same domain and
//! a restart loses counts. So the CA decides in the end, and only [imposed
//! limits](Limits::server_limit) are certain.

use std::{collections::HashMap, fmt};

use jiff::{SignedDuration, Timestamp};

use crate::model::{limit_scope::LimitScope, name::DnsName};

/// A token bucket: a burst, and one more after each interval.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rate {
    /// Most at once after a long idle time.
    pub burst: i32,
    /// The time in which the CA allows this number.
    pub per: SignedDuration,
}

/// The rate limits of a CA.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LimitValues {
    /// New orders of an account.
    pub orders: Rate,
    /// Certificates for names below a registered domain, of all accounts.
    pub domain: Rate,
    /// Certificates for exactly the same names, of all accounts.
    pub set: Rate,
    /// Failed validations of a name by one account.
    pub failures: Rate,
}

/// <https://letsencrypt.org/docs/rate-limits/> as of August 2026: `#new-orders-per-account`,
/// `#new-certificates-per-registered-domain`, `#new-certificates-per-exact-set-of-identifiers` and
/// `#authorization-failures-per-identifier-per-account`.
pub const LETS_ENCRYPT: LimitValues = LimitValues {
    orders: Rate { burst: 300, per: SignedDuration::from_hours(3) },
    domain: Rate { burst: 50, per: SignedDuration::from_hours(7 * 24) },
    set: Rate { burst: 5, per: SignedDuration::from_hours(7 * 24) },
    failures: Rate { burst: 5, per: SignedDuration::from_hours(1) },
};

/// A limited resource. Its text form is stored.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Key {
    /// An account.
    Account(String),
    /// A registered domain.
    Domain(String),
    /// A set of names, by its hash.
    Set(String),
    /// A name, for an account.
    Name {
        /// The account.
        account: String,
        /// The name.
        name: String,
    },
}

/// Kinds of orders with different costs (`#limit-exemptions-for-renewals`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OrderKind {
    /// Names that were not certified together before.
    New,
    /// The same names as before: only counts for their set.
    Renewal,
    /// Names the certificate that it replaces (RFC 9773 section 5): counts for nothing.
    Replacement,
}

/// A new order.
#[derive(Clone, Debug)]
pub struct Order<'a> {
    /// The account.
    pub account: &'a str,
    /// The names.
    pub names: &'a [DnsName],
    /// Its kind.
    pub kind: OrderKind,
}

/// A limit that delays an order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Wait {
    /// End of the wait.
    pub until: Timestamp,
    /// The limited resource.
    pub key: Key,
    /// Whether the CA imposed it.
    pub source: LimitSource,
}

/// Where the knowledge of a limit comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LimitSource {
    /// The CA imposed it.
    Server,
    /// Our estimate.
    Estimate(Rate),
}

/// The known limits of one CA.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    numbers: Option<LimitValues>,
    /// When each bucket is full again. Full buckets are not stored.
    full_at: HashMap<Key, Timestamp>,
    /// Limits that the CA imposed, until when.
    imposed: HashMap<Key, Timestamp>,
}

impl Limits {
    /// Estimates with these numbers; without numbers, only imposed limits count.
    #[must_use]
    pub fn new(numbers: Option<LimitValues>) -> Self {
        Self { numbers, ..Self::default() }
    }

    /// The limits that an order of another tenant may exhaust, too: of its account and of its domains.
    /// Empty without estimates.
    #[must_use]
    pub fn shared(&self, order: &Order<'_>) -> Vec<(Key, Rate)> {
        let Some(numbers) = self.numbers else { return Vec::new() };
        let account = (Key::Account(order.account.to_owned()), numbers.orders);
        let domains = domains_of(order).into_iter().map(|key| (key, numbers.domain));
        std::iter::once(account).chain(domains).collect()
    }

    /// The imposed limit that delays the order longest.
    #[must_use]
    pub fn server_limit(&self, order: &Order<'_>, now: Timestamp) -> Option<Wait> {
        if self.imposed.is_empty() {
            return None;
        }
        let keys = concerned_keys(order).into_iter();
        let waits = keys.filter_map(|key| Some((*self.imposed.get(&key)?, key)));
        let (until, key) = waits.filter(|(until, _)| *until > now).max()?;
        Some(Wait { until, key, source: LimitSource::Server })
    }

    /// The estimated limit that delays the order longest. `before` returns the number of orders
    /// that are served earlier for a key.
    #[must_use]
    pub fn estimated_wait(
        &self,
        order: &Order<'_>,
        before: impl Fn(&Key) -> i64,
        now: Timestamp,
    ) -> Option<Wait> {
        let numbers = self.numbers?;
        let charged = charged_keys(order, numbers).into_iter().map(|(key, rate)| {
            let until = self.when(&key, rate, before(&key), now);
            Wait { until, key, source: LimitSource::Estimate(rate) }
        });
        // A failure is not counted in advance, but the limit must allow one.
        let failing = names_of(order).map(|key| {
            let until = self.when(&key, numbers.failures, 0, now);
            Wait { until, key, source: LimitSource::Estimate(numbers.failures) }
        });
        let exempt = order.kind == OrderKind::Replacement;
        let failing = failing.filter(|_| !exempt);
        charged.chain(failing).filter(|wait| wait.until > now).max_by_key(|wait| wait.until)
    }

    /// Counts a placed order. A refused one costs nothing.
    pub fn ordered(&mut self, order: &Order<'_>, at: Timestamp) {
        self.imposed.retain(|_, until| *until > at);
        self.full_at.retain(|_, full_at| *full_at > at);
        if let (Some(numbers), OrderKind::New) = (self.numbers, order.kind) {
            self.take(Key::Account(order.account.to_owned()), numbers.orders, at);
        }
    }

    /// Counts an issued certificate: a CA counts certificates, not attempts.
    pub fn issued(&mut self, order: &Order<'_>, at: Timestamp) {
        let Some(numbers) = self.numbers else { return };
        let charged = charged_keys(order, numbers).into_iter();
        for (key, rate) in charged.filter(|(key, _)| !matches!(key, Key::Account(_))) {
            self.take(key, rate, at);
        }
    }

    /// Counts a failed validation of `name`.
    pub fn failed(&mut self, account: &str, name: &DnsName, at: Timestamp) {
        if let Some(numbers) = self.numbers {
            self.take(name_key(account, name), numbers.failures, at);
        }
    }

    /// Records a limit that the CA imposed on an order. Returns the limited resource.
    pub fn record_limit(&mut self, order: &Order<'_>, about: &LimitScope, until: Timestamp) -> Key {
        let key = match about {
            LimitScope::Account => Key::Account(order.account.to_owned()),
            LimitScope::Domain(name) => Key::Domain(registered_domain(name)),
            LimitScope::Set => set_key(order.names),
            LimitScope::Name(name) => name_key(order.account, name),
        };
        self.restore(key.clone(), until);
        key
    }

    /// Records an imposed limit, from this or an earlier process.
    pub fn restore(&mut self, key: Key, until: Timestamp) {
        let known = self.imposed.entry(key).or_insert(until);
        *known = until.max(*known);
    }

    /// Corrects the estimate: the CA has shown that it allows the next order at `until`, and the others
    /// one by one.
    pub fn correct(&mut self, key: &Key, until: Timestamp) {
        if let Some(numbers) = self.numbers {
            let full_at = numbers.of(key).full_after(until);
            let known = self.full_at.entry(key.clone()).or_insert(full_at);
            *known = full_at.max(*known);
        }
    }

    /// The imposed limits that are in force, the last to end first.
    #[must_use]
    pub fn server_limits(&self, now: Timestamp) -> Vec<(Key, Timestamp)> {
        let mut imposed: Vec<_> = self.imposed.iter().filter(|(_, until)| **until > now).collect();
        imposed.sort_by(|a, b| (b.1, a.0).cmp(&(a.1, b.0)));
        imposed.into_iter().map(|(key, until)| (key.clone(), *until)).collect()
    }

    fn when(&self, key: &Key, rate: Rate, before: i64, now: Timestamp) -> Timestamp {
        let full_at = self.full_at.get(key).copied().unwrap_or(now).max(now);
        // One more fits when the missing part of the bucket is not more than the rest.
        let ahead = i32::try_from(before).unwrap_or(i32::MAX);
        let rest = rate.burst.saturating_sub(1).saturating_sub(ahead);
        let wait = full_at.duration_since(now) - rate.interval().saturating_mul(rest);
        now.saturating_add(wait.max(SignedDuration::ZERO)).unwrap_or(Timestamp::MAX)
    }

    fn take(&mut self, key: Key, rate: Rate, at: Timestamp) {
        let full_at = self.full_at.entry(key).or_insert(at);
        let from = (*full_at).max(at);
        // A bucket is empty at worst: whatever was counted beyond that did not happen at this CA.
        let latest = at.saturating_add(rate.per).unwrap_or(from);
        *full_at = from.saturating_add(rate.interval()).unwrap_or(from).min(latest);
    }
}

impl LimitValues {
    fn of(self, key: &Key) -> Rate {
        match key {
            Key::Account(_) => self.orders,
            Key::Domain(_) => self.domain,
            Key::Set(_) => self.set,
            Key::Name { .. } => self.failures,
        }
    }
}

impl Rate {
    fn interval(self) -> SignedDuration {
        self.per / self.burst.max(1)
    }

    /// The instant at which a bucket is full that has one token at `until`.
    fn full_after(self, until: Timestamp) -> Timestamp {
        until.saturating_add(self.per - self.interval()).unwrap_or(until)
    }
}

/// The registered domain of a name (the public suffix and one more label); the name itself without
/// one.
#[must_use]
pub fn registered_domain(name: &DnsName) -> String {
    let base = name.base();
    psl::domain_str(base.as_str()).unwrap_or(base.as_str()).to_owned()
}

fn set_key(names: &[DnsName]) -> Key {
    let mut names: Vec<&str> = names.iter().map(DnsName::as_str).collect();
    names.sort_unstable();
    names.dedup();
    Key::Set(crate::model::request::digest(names.join(" ").as_bytes()))
}

fn name_key(account: &str, name: &DnsName) -> Key {
    Key::Name { account: account.to_owned(), name: name.base().to_string() }
}

fn names_of(order: &Order<'_>) -> impl Iterator<Item = Key> {
    order.names.iter().map(|name| name_key(order.account, name))
}

fn domains_of(order: &Order<'_>) -> Vec<Key> {
    let mut domains: Vec<Key> =
        order.names.iter().map(|name| Key::Domain(registered_domain(name))).collect();
    domains.sort_unstable();
    domains.dedup();
    domains
}

/// The buckets that an order takes from.
fn charged_keys(order: &Order<'_>, numbers: LimitValues) -> Vec<(Key, Rate)> {
    let mut keys = Vec::new();
    if order.kind == OrderKind::New {
        keys.push((Key::Account(order.account.to_owned()), numbers.orders));
        keys.extend(domains_of(order).into_iter().map(|key| (key, numbers.domain)));
    }
    if order.kind != OrderKind::Replacement {
        keys.push((set_key(order.names), numbers.set));
    }
    keys
}

/// The imposed limits that apply to an order. The CA knows its exemptions better than we do, but a
/// limit for new names of a domain does not delay a renewal.
fn concerned_keys(order: &Order<'_>) -> Vec<Key> {
    let mut keys = vec![Key::Account(order.account.to_owned())];
    if order.kind == OrderKind::New {
        keys.extend(domains_of(order));
    }
    if order.kind != OrderKind::Replacement {
        keys.push(set_key(order.names));
    }
    keys.extend(names_of(order));
    keys
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let until = Timestamp::from_second(self.until.as_second()).unwrap_or(self.until);
        match self.source {
            LimitSource::Server => {
                write!(f, "the CA refuses new orders for {} until {until}", self.key)
            }
            LimitSource::Estimate(Rate { burst, per }) => write!(
                f,
                "the CA allows {burst} {} in {}; by our estimate they are used up for {} until {until}",
                self.key.what(),
                span(per),
                self.key
            ),
        }
    }
}

fn span(per: SignedDuration) -> String {
    match per.as_hours() {
        1 => "an hour".to_owned(),
        hours if hours % 24 == 0 && hours > 24 => format!("{} days", hours / 24),
        hours => format!("{hours} hours"),
    }
}

impl Key {
    fn what(&self) -> &'static str {
        match self {
            Self::Account(_) => "new orders",
            Self::Domain(_) => "new certificates",
            Self::Set(_) => "certificates for the same names",
            Self::Name { .. } => "failed validations",
        }
    }

    /// The text form without the account, which the place of storage implies.
    #[must_use]
    pub fn encode(&self) -> String {
        match self {
            Self::Account(_) => "account".to_owned(),
            Self::Domain(domain) => format!("domain {domain}"),
            Self::Set(hash) => format!("set {hash}"),
            Self::Name { name, .. } => format!("name {name}"),
        }
    }

    /// Parses [`encode`](Self::encode), for `account`.
    #[must_use]
    pub fn decode(text: &str, account: &str) -> Option<Self> {
        let account = account.to_owned();
        Some(match text.split_once(' ') {
            None if text == "account" => Self::Account(account),
            Some(("domain", domain)) => Self::Domain(domain.to_owned()),
            Some(("set", hash)) => Self::Set(hash.to_owned()),
            Some(("name", name)) => Self::Name { account, name: name.to_owned() },
            None | Some(_) => return None,
        })
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account(_) => f.write_str("the account"),
            Self::Domain(domain) => write!(f, "{domain}"),
            Self::Set(_) => f.write_str("this set of names"),
            Self::Name { name, .. } => write!(f, "{name}"),
        }
    }
}

#[cfg(test)]
mod tests;
