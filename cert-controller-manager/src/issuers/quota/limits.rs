//! Rate limits of each CA, shared by all issuers that use it: limits that the CA imposed, and estimates
//! of its published limits. Namespaces take turns for the remaining orders of an estimated limit.
//!
//! Imposed limits are stored in `status.limits` of the Issuer, so accounts do not exceed them again
//! after a restart. Estimates are in memory and rebuilt from the statuses of Certificates.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
};

use cert_lib::{
    issue::LimitScope,
    model::name::DnsName,
    plan::limits::{Key, LETS_ENCRYPT, Limits, Order, OrderKind, Wait},
};
use jiff::{SignedDuration, Timestamp};

use super::fair_queue::FairQueue;
use crate::{
    api::{
        CertificateKey, IssuerKey, Tenant,
        issuer::Limit,
        time::{seconds_up, whole_up},
    },
    config::AcmeLimits,
    issuers::{lock::lock, server_url::authority},
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
    queues: HashMap<Key, FairQueue>,
    /// Issuers whose earlier certificates are part of the estimates.
    restored_issuers: HashSet<IssuerKey>,
    /// Namespaces whose orders do not count as renewals, because the CA denied one.
    denied_claims: HashMap<Tenant, DeniedClaim>,
}

#[derive(Clone, Copy, Debug)]
struct DeniedClaim {
    until: Timestamp,
    /// Whether orders that name the certificate they replace are affected, too. A Certificate that
    /// moves from another CA with the same names is denied as a renewal once. Its later replacements
    /// are accepted.
    covers_replacements: bool,
}

impl DeniedClaim {
    fn covers(self, claimed: OrderKind) -> bool {
        claimed == OrderKind::Renewal || self.covers_replacements
    }
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
        let mut known = lock(&self.known);
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
        let state = State {
            limits,
            queues: HashMap::new(),
            restored_issuers: HashSet::new(),
            denied_claims: HashMap::new(),
        };
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
        lock(&self.state).limits.server_limit(order, now).map(round_up)
    }

    /// Returns the estimated limit that delays the order. Certificates that are served before
    /// `certificate` count, too.
    #[must_use]
    pub fn estimated_wait(
        &self,
        order: &Order<'_>,
        certificate: &CertificateKey,
        now: Timestamp,
    ) -> Option<Wait> {
        lock(&self.state).estimated_wait(order, certificate, now)
    }

    /// Adds `certificate` to the queue of the estimated limit. Returns `None` if no limit delays the
    /// order.
    pub fn wait(
        &self,
        order: &Order<'_>,
        certificate: &CertificateKey,
        now: Timestamp,
    ) -> Option<Wait> {
        let mut state = lock(&self.state);
        let wait = state.estimated_wait(order, certificate, now)?;
        state.queues.entry(wait.key.clone()).or_default().wait(certificate, wait.until);
        Some(wait)
    }

    /// Removes `certificate` from all queues. *Idempotent*.
    pub fn leave(&self, certificate: &CertificateKey) {
        let mut state = lock(&self.state);
        state.queues.values_mut().for_each(|queue| queue.leave(certificate));
        state.queues.retain(|_, queue| !queue.is_empty());
    }

    /// Counts a placed order.
    pub fn ordered(&self, order: &Order<'_>, certificate: &CertificateKey, now: Timestamp) {
        let mut state = lock(&self.state);
        state.limits.ordered(order, now);
        for queue in state.queues.values_mut() {
            queue.leave(certificate);
            queue.record(certificate, now);
        }
    }

    /// Counts the issued certificate of an order.
    pub fn issued(&self, order: &Order<'_>, now: Timestamp) {
        lock(&self.state).limits.issued(order, now);
    }

    /// Returns the kind as which an order counts. The owner of the namespace can forge the `claimed`
    /// kind, so it is accepted only until the CA denies it.
    #[must_use]
    pub fn accepted_kind(
        &self,
        claimed: OrderKind,
        certificate: &CertificateKey,
        now: Timestamp,
    ) -> OrderKind {
        match lock(&self.state).denied_claims.get(&certificate.tenant()) {
            Some(denied) if denied.until > now && denied.covers(claimed) => OrderKind::New,
            Some(_) | None => claimed,
        }
    }

    /// Records that the CA denied that an order of this `kind` is a renewal.
    pub fn renewal_denied(&self, kind: OrderKind, certificate: &CertificateKey, now: Timestamp) {
        if kind == OrderKind::New {
            return;
        }
        let mut state = lock(&self.state);
        state.denied_claims.retain(|_, denied| denied.until > now);
        let until = now.saturating_add(LONGEST).unwrap_or(now);
        let known = state.denied_claims.get(&certificate.tenant());
        let covers_replacements =
            kind == OrderKind::Replacement || known.is_some_and(|it| it.covers_replacements);
        state
            .denied_claims
            .insert(certificate.tenant(), DeniedClaim { until, covers_replacements });
    }

    /// Counts failed validations of these names.
    pub fn failed(&self, account: &str, names: &[DnsName], now: Timestamp) {
        let mut state = lock(&self.state);
        names.iter().for_each(|name| state.limits.failed(account, name, now));
    }

    /// Records a limit that the CA imposed on an order. Returns the limited key, or `None` if the limit
    /// is already known.
    pub fn record(
        &self,
        order: &Order<'_>,
        about: &LimitScope,
        until: Timestamp,
        now: Timestamp,
    ) -> Option<Key> {
        let mut state = lock(&self.state);
        let before = state.limits.server_limits(now);
        let key = state.limits.record_limit(order, about, until);
        let known = before.iter().find(|(known, _)| *known == key);
        known
            .is_none_or(|(_, known)| until > known.saturating_add(SAME_LIMIT).unwrap_or(*known))
            .then_some(key)
    }

    /// Restores limits from the status of an issuer. A tenant can only restore limits of its own
    /// account, because limits of domains affect other accounts.
    pub fn restore(&self, account: &str, stored: &[Limit], origin: Origin, now: Timestamp) {
        let mut state = lock(&self.state);
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
        let mut limits = lock(&self.state).limits.server_limits(now);
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

    /// Returns whether [`restore_estimates`](Self::restore_estimates) is still to be called for `issuer`.
    #[must_use]
    pub fn needs_estimates(&self, issuer: &IssuerKey) -> bool {
        let state = lock(&self.state);
        state.limits.counts() && !state.restored_issuers.contains(issuer)
    }

    /// Counts the earlier certificates of `issuer`, oldest first. *Idempotent*.
    pub fn restore_estimates<'a>(
        &self,
        issuer: &IssuerKey,
        issued: impl IntoIterator<Item = (Order<'a>, Timestamp)>,
        now: Timestamp,
    ) {
        let mut state = lock(&self.state);
        if state.restored_issuers.insert(issuer.clone()) {
            state.limits.restore_issued(issued, now);
        }
    }
}

impl State {
    fn estimated_wait(
        &self,
        order: &Order<'_>,
        certificate: &CertificateKey,
        now: Timestamp,
    ) -> Option<Wait> {
        let before = |key: &Key| {
            self.queues.get(key).map_or(0, |queue| queue.count_before(certificate, now))
        };
        self.limits.estimated_wait(order, before, now).map(round_up)
    }
}

/// Rounds up to the second of a requeue, so that the wait is over at the next check.
fn round_up(wait: Wait) -> Wait {
    Wait { until: whole_up(wait.until), ..wait }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{CertificateCluster, ObjectKey};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn certificate(namespace: &str) -> CertificateKey {
        named(namespace, "x")
    }

    fn named(namespace: &str, name: &str) -> CertificateKey {
        CertificateKey::new(CertificateCluster::Source, ObjectKey::new(namespace, name))
    }

    #[test]
    fn only_lets_encrypt_production_has_known_limits_by_default() {
        let production = "https://acme-v02.api.letsencrypt.org/directory";
        let staging = "https://acme-staging-v02.api.letsencrypt.org/directory";
        let other = "https://ca.example.org/api.letsencrypt.org";
        for (policy, server, known) in [
            (AcmeLimits::Auto, production, true),
            (AcmeLimits::Auto, staging, false),
            (AcmeLimits::Auto, other, false),
            (AcmeLimits::Off, production, false),
            (AcmeLimits::LetsEncrypt, other, true),
        ] {
            assert_eq!(has_known_limits(policy, server), known, "{policy:?} {server}");
        }
    }

    /// faults.md 69
    #[test]
    fn namespaces_take_turns_for_the_limit_of_an_account() {
        let cas = CaRegistry::new(AcmeLimits::LetsEncrypt);
        let ca = cas.at("https://ca/dir");
        for number in 0..300 {
            let names = [format!("www.d{number}.example").parse().unwrap()];
            let order = Order { account: "le", names: &names, kind: OrderKind::New };
            assert_eq!(ca.estimated_wait(&order, &certificate("greedy"), at(0)), None);
            ca.ordered(&order, &certificate("greedy"), at(0));
        }
        let waits: Vec<i64> = (0..20)
            .map(|number| {
                let name = format!("more-{number}");
                let names = [format!("www.m{number}.example").parse().unwrap()];
                let order = Order { account: "le", names: &names, kind: OrderKind::New };
                ca.wait(&order, &named("greedy", &name), at(0))
                    .unwrap()
                    .until
                    .duration_since(at(0))
                    .as_secs()
            })
            .collect();
        assert_eq!(waits[..3], [36, 72, 108]);
        let names = ["www.modest.example".parse().unwrap()];
        let order = Order { account: "le", names: &names, kind: OrderKind::New };
        let wait = ca.wait(&order, &certificate("modest"), at(0)).unwrap();
        assert!(wait.until <= at(72), "{wait:?}");
    }

    #[test]
    fn renewals_of_a_namespace_count_as_new_after_the_ca_denied_one() {
        let ca = CaRegistry::default().at("https://ca/dir");
        let end = LONGEST.as_secs();
        ca.renewal_denied(OrderKind::New, &certificate("honest"), at(0));
        ca.renewal_denied(OrderKind::Replacement, &certificate("forger"), at(0));
        ca.renewal_denied(OrderKind::Renewal, &certificate("forger"), at(0));
        ca.renewal_denied(OrderKind::Renewal, &certificate("newcomer"), at(0));
        let newcomer = |claimed| ca.accepted_kind(claimed, &certificate("newcomer"), at(0));
        assert_eq!(newcomer(OrderKind::Renewal), OrderKind::New);
        assert_eq!(newcomer(OrderKind::Replacement), OrderKind::Replacement);
        for claimed in [OrderKind::Renewal, OrderKind::Replacement] {
            for (namespace, seconds, counts_as) in [
                ("honest", 0, claimed),
                ("forger", 0, OrderKind::New),
                ("forger", end - 1, OrderKind::New),
                ("forger", end, claimed),
            ] {
                let accepted = ca.accepted_kind(claimed, &certificate(namespace), at(seconds));
                assert_eq!(accepted, counts_as, "{namespace} {seconds}");
            }
        }
    }

    /// Orders before the denial are missing in the estimates; later ones count.
    #[test]
    fn forged_renewals_wait_for_limits_after_the_ca_denied_one() {
        let ca = CaRegistry::new(AcmeLimits::LetsEncrypt).at("https://ca/dir");
        let place = |number: u32| {
            let names = [format!("www.d{number}.example").parse().unwrap()];
            let kind = ca.accepted_kind(OrderKind::Replacement, &certificate("forger"), at(0));
            let order = Order { account: "le", names: &names, kind };
            let has_room = ca.estimated_wait(&order, &certificate("forger"), at(0)).is_none();
            if has_room {
                ca.ordered(&order, &certificate("forger"), at(0));
            }
            has_room
        };
        assert!((0..400).all(place), "forged replacements are not counted");
        ca.renewal_denied(OrderKind::Replacement, &certificate("forger"), at(0));
        assert_eq!((400..800).filter(|number| place(*number)).count(), 300);
    }

    #[test]
    fn imposed_limits_survive_a_restart_and_those_of_domains_affect_all_accounts() {
        let names: [DnsName; 1] = ["www.example.org".parse().unwrap()];
        let order = |account| Order { account, names: &names, kind: OrderKind::New };
        let ca = CaRegistry::default().at("https://ca/dir");
        let domain = LimitScope::Domain(names[0].clone());
        assert!(ca.record(&order("one"), &domain, at(600), at(0)).is_some());
        assert!(ca.record(&order("one"), &domain, at(600), at(1)).is_none(), "already known");
        assert!(ca.record(&order("one"), &LimitScope::Account, at(300), at(0)).is_some());
        let stored = ca.server_limits("one", Origin::Ours, at(10));
        let texts: Vec<&str> = stored.iter().map(|limit| limit.of.as_str()).collect();
        assert_eq!(texts, ["account", "domain example.org"]);
        let for_tenant = ca.server_limits("one", Origin::Tenant, at(10));
        assert_eq!(for_tenant.iter().map(|limit| &limit.of).collect::<Vec<_>>(), ["account"]);

        let restarted = CaRegistry::default().at("https://ca/dir");
        restarted.restore("one", &stored, Origin::Ours, at(10));
        assert_eq!(restarted.server_limit(&order("one"), at(20)).unwrap().until, at(600));
        assert_eq!(restarted.server_limit(&order("two"), at(20)).unwrap().until, at(600));
        let tenant = CaRegistry::default().at("https://ca/dir");
        tenant.restore("one", &stored, Origin::Tenant, at(10));
        assert_eq!(
            tenant.server_limit(&order("one"), at(20)).unwrap().until,
            at(300),
            "the limit of the account"
        );
        assert_eq!(
            tenant.server_limit(&order("two"), at(20)),
            None,
            "a tenant cannot limit other accounts"
        );
        let elsewhere = CaRegistry::default().at("https://other/dir");
        elsewhere.restore("one", &stored, Origin::Ours, at(10));
        assert_eq!(elsewhere.server_limit(&order("one"), at(20)), None, "another CA");
        let foreign =
            Limit { of: "?".into(), until: "soon".into(), server: "https://ca/dir".into() };
        restarted.restore("one", &[foreign], Origin::Ours, at(10));
    }
}
