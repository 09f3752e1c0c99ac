//! What is known of the limits of each CA, shared by all issuers that ask it, and whose turn it is
//! where our picture of them leaves little room. What a CA said itself is kept in `status.limits` of
//! the Issuer that heard it, so that a restart does not make everybody ask again.

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
    issuers::{account::authority, reconcile::lock},
};

/// The CAs that issuers ask, by the URL of their directory.
#[derive(Debug, Default)]
pub struct Cas {
    policy: AcmeLimits,
    known: Mutex<HashMap<String, Arc<Ca>>>,
}

/// One CA.
#[derive(Debug)]
pub struct Ca {
    server: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    limits: Limits,
    turns: HashMap<Key, FairQueue>,
    /// Issuers whose earlier certificates are in the picture.
    recalled: HashSet<IssuerKey>,
    /// The namespaces that are not believed that they renew.
    doubted: HashMap<Tenant, DeniedClaim>,
}

#[derive(Clone, Copy, Debug)]
struct DeniedClaim {
    until: Timestamp,
    /// Whether it goes for orders that say which certificate they replace, too. Whoever comes from
    /// another CA with the same names is refused as no renewal once, and replaces its certificates
    /// later like everybody else.
    of_replacements: bool,
}

impl DeniedClaim {
    fn covers(self, claimed: OrderKind) -> bool {
        claimed == OrderKind::Renewal || self.of_replacements
    }
}

/// No CA has a limit that lasts longer, so by then it is asked whether it still means it.
pub const LONGEST: SignedDuration = SignedDuration::from_hours(8 * 24);
/// Most entries in the status of an Issuer: that of the account, and those that end last.
const MOST_STORED: usize = 20;
/// A limit that ends so much later than what is known is the same.
const SAME: SignedDuration = SignedDuration::from_secs(30);

/// Who may read what is stored of limits, and may have written it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Origin {
    /// We.
    Ours,
    /// Whoever owns an issuer outside of our cluster.
    Tenant,
}

impl Cas {
    /// CAs whose limits are known as `policy` says.
    #[must_use]
    pub fn new(policy: AcmeLimits) -> Self {
        Self { policy, known: Mutex::default() }
    }

    /// The CA with this directory.
    #[must_use]
    pub fn at(&self, server: &str) -> Arc<Ca> {
        let mut known = lock(&self.known);
        let ca = known.entry(server.to_owned()).or_insert_with(|| {
            let numbers = is_known(self.policy, server).then_some(LETS_ENCRYPT);
            Arc::new(Ca::new(server, Limits::new(numbers)))
        });
        ca.clone()
    }
}

/// Let's Encrypt's own numbers are its production's: for its staging they would be far too low.
fn is_known(policy: AcmeLimits, server: &str) -> bool {
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
            turns: HashMap::new(),
            recalled: HashSet::new(),
            doubted: HashMap::new(),
        };
        Self { server: server.to_owned(), state: Mutex::new(state) }
    }

    /// The URL of its directory.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Until when the CA itself wants no such order.
    #[must_use]
    pub fn server_limit(&self, order: &Order<'_>, now: Timestamp) -> Option<Wait> {
        lock(&self.state).limits.server_limit(order, now).map(rounded)
    }

    /// Until when our picture leaves no room for an order, as far as it is the turn of `whose`.
    #[must_use]
    pub fn estimated_wait(
        &self,
        order: &Order<'_>,
        whose: &CertificateKey,
        now: Timestamp,
    ) -> Option<Wait> {
        lock(&self.state).room(order, whose, now)
    }

    /// Puts `whose` in line. `None` where it can go on at once instead.
    pub fn wait(&self, order: &Order<'_>, whose: &CertificateKey, now: Timestamp) -> Option<Wait> {
        let mut state = lock(&self.state);
        let wait = state.room(order, whose, now)?;
        state.turns.entry(wait.key.clone()).or_default().wait(whose, wait.until);
        Some(wait)
    }

    /// `whose` does not wait any more. *Idempotent*.
    pub fn leave(&self, whose: &CertificateKey) {
        let mut state = lock(&self.state);
        state.turns.values_mut().for_each(|turns| turns.leave(whose));
        state.turns.retain(|_, turns| !turns.is_empty());
    }

    /// The order is placed.
    pub fn ordered(&self, order: &Order<'_>, whose: &CertificateKey, now: Timestamp) {
        let mut state = lock(&self.state);
        state.limits.ordered(order, now);
        for turns in state.turns.values_mut() {
            turns.leave(whose);
            turns.note(whose, now);
        }
    }

    /// Its certificate is there.
    pub fn issued(&self, order: &Order<'_>, now: Timestamp) {
        lock(&self.state).limits.issued(order, now);
    }

    /// What an order counts as that looks like `claimed`. Whoever owns the namespace can write what we
    /// see that by, so it is believed until the CA has denied it.
    #[must_use]
    pub fn accepted_kind(
        &self,
        claimed: OrderKind,
        whose: &CertificateKey,
        now: Timestamp,
    ) -> OrderKind {
        match lock(&self.state).doubted.get(&whose.tenant()) {
            Some(doubt) if doubt.until > now && doubt.covers(claimed) => OrderKind::New,
            Some(_) | None => claimed,
        }
    }

    /// The CA refused, as no renewal, an order that counted as `novelty`.
    pub fn renewal_denied(&self, novelty: OrderKind, whose: &CertificateKey, now: Timestamp) {
        if novelty == OrderKind::New {
            return;
        }
        let mut state = lock(&self.state);
        state.doubted.retain(|_, doubt| doubt.until > now);
        let until = now.saturating_add(LONGEST).unwrap_or(now);
        let known = state.doubted.get(&whose.tenant());
        let of_replacements =
            novelty == OrderKind::Replacement || known.is_some_and(|it| it.of_replacements);
        state.doubted.insert(whose.tenant(), DeniedClaim { until, of_replacements });
    }

    /// The CA found the proofs of these names wanting.
    pub fn failed(&self, account: &str, names: &[DnsName], now: Timestamp) {
        let mut state = lock(&self.state);
        names.iter().for_each(|name| state.limits.failed(account, name, now));
    }

    /// The CA said that an order met a limit. Returns what is limited now, `None` where that is no
    /// news.
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
            .is_none_or(|(_, known)| until > known.saturating_add(SAME).unwrap_or(*known))
            .then_some(key)
    }

    /// What an earlier process heard, as it is stored where `origin` says.
    pub fn restore(&self, account: &str, stored: &[Limit], origin: Origin, now: Timestamp) {
        let mut state = lock(&self.state);
        let latest = now.saturating_add(LONGEST).unwrap_or(now);
        let ours = stored.iter().filter(|limit| limit.server == self.server);
        for limit in ours.take(MOST_STORED) {
            let until = limit.until.parse::<Timestamp>().map(|until| until.min(latest));
            match (Key::decode(&limit.of, account), until) {
                (Some(Key::Domain(_) | Key::Set(_)), _) if origin == Origin::Tenant => {}
                (Some(key), Ok(until)) => state.limits.restore(key, until),
                (None, _) | (_, Err(_)) => {}
            }
        }
    }

    /// What must be stored of what `account` heard: first what concerns all its orders. Where others read
    /// it as `origin` says, what concerns them all is none of their business.
    #[must_use]
    pub fn server_limits(&self, account: &str, origin: Origin, now: Timestamp) -> Vec<Limit> {
        let mut heard = lock(&self.state).limits.server_limits(now);
        heard.retain(|(key, _)| match key {
            Key::Account(of) | Key::Name { account: of, .. } => of == account,
            Key::Domain(_) | Key::Set(_) => origin == Origin::Ours,
        });
        heard.sort_by_key(|(key, _)| !matches!(key, Key::Account(_)));
        let stored = heard.into_iter().take(MOST_STORED).map(|(key, until)| Limit {
            server: self.server.clone(),
            of: key.encode(),
            until: seconds_up(until),
        });
        stored.collect()
    }

    /// Whether certificates that `issuer` made earlier are still to be [recalled](Self::recall).
    #[must_use]
    pub fn needs_estimates(&self, issuer: &IssuerKey) -> bool {
        let state = lock(&self.state);
        state.limits.counts() && !state.recalled.contains(issuer)
    }

    /// What `issuer` made before this process knew of it, in the order of time, as statuses tell it.
    /// Counts once.
    pub fn restore_estimates<'a>(
        &self,
        issuer: &IssuerKey,
        issued: impl IntoIterator<Item = (Order<'a>, Timestamp)>,
        now: Timestamp,
    ) {
        let mut state = lock(&self.state);
        if state.recalled.insert(issuer.clone()) {
            state.limits.restore_issued(issued, now);
        }
    }
}

impl State {
    fn room(&self, order: &Order<'_>, whose: &CertificateKey, now: Timestamp) -> Option<Wait> {
        let before = |key: &Key| self.turns.get(key).map_or(0, |turns| turns.before(whose, now));
        self.limits.estimated_wait(order, before, now).map(rounded)
    }
}

/// Whoever looks again at that second finds it come.
fn rounded(wait: Wait) -> Wait {
    Wait { until: whole_up(wait.until), ..wait }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{CertificateCluster, ObjectKey};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn whose(namespace: &str) -> CertificateKey {
        named(namespace, "x")
    }

    fn named(namespace: &str, name: &str) -> CertificateKey {
        CertificateKey::new(CertificateCluster::Source, ObjectKey::new(namespace, name))
    }

    #[test]
    fn only_lets_encrypts_production_has_known_numbers_unless_somebody_says_so() {
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
            assert_eq!(is_known(policy, server), known, "{policy:?} {server}");
        }
    }

    /// faults.md 69
    #[test]
    fn where_the_account_is_short_namespaces_take_turns() {
        let cas = Cas::new(AcmeLimits::LetsEncrypt);
        let ca = cas.at("https://ca/dir");
        for number in 0..300 {
            let names = [format!("www.d{number}.example").parse().unwrap()];
            let order = Order { account: "le", names: &names, kind: OrderKind::New };
            assert_eq!(ca.estimated_wait(&order, &whose("greedy"), at(0)), None);
            ca.ordered(&order, &whose("greedy"), at(0));
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
        let wait = ca.wait(&order, &whose("modest"), at(0)).unwrap();
        assert!(wait.until <= at(72), "{wait:?}");
    }

    #[test]
    fn a_namespace_whose_renewal_the_ca_denied_is_not_believed_for_a_while() {
        let ca = Cas::default().at("https://ca/dir");
        let end = LONGEST.as_secs();
        ca.renewal_denied(OrderKind::New, &whose("honest"), at(0));
        ca.renewal_denied(OrderKind::Replacement, &whose("liar"), at(0));
        ca.renewal_denied(OrderKind::Renewal, &whose("liar"), at(0));
        ca.renewal_denied(OrderKind::Renewal, &whose("newcomer"), at(0));
        let newcomer = |claimed| ca.accepted_kind(claimed, &whose("newcomer"), at(0));
        assert_eq!(newcomer(OrderKind::Renewal), OrderKind::New);
        assert_eq!(newcomer(OrderKind::Replacement), OrderKind::Replacement);
        for claimed in [OrderKind::Renewal, OrderKind::Replacement] {
            for (namespace, seconds, counts_as) in [
                ("honest", 0, claimed),
                ("liar", 0, OrderKind::New),
                ("liar", end - 1, OrderKind::New),
                ("liar", end, claimed),
            ] {
                let believed = ca.accepted_kind(claimed, &whose(namespace), at(seconds));
                assert_eq!(believed, counts_as, "{namespace} {seconds}");
            }
        }
    }

    /// What a liar has hidden is not in the picture, but from then on he waits like everybody else.
    #[test]
    fn whoever_passes_for_a_renewal_is_in_line_after_the_ca_has_found_out() {
        let ca = Cas::new(AcmeLimits::LetsEncrypt).at("https://ca/dir");
        let place = |number: u32| {
            let names = [format!("www.d{number}.example").parse().unwrap()];
            let novelty = ca.accepted_kind(OrderKind::Replacement, &whose("liar"), at(0));
            let order = Order { account: "le", names: &names, kind: novelty };
            let room = ca.estimated_wait(&order, &whose("liar"), at(0)).is_none();
            if room {
                ca.ordered(&order, &whose("liar"), at(0));
            }
            room
        };
        assert!((0..400).all(place), "nothing is counted");
        ca.renewal_denied(OrderKind::Replacement, &whose("liar"), at(0));
        assert_eq!((400..800).filter(|number| place(*number)).count(), 300);
    }

    #[test]
    fn what_the_ca_said_is_known_after_a_restart_and_to_the_other_accounts_where_it_concerns_them()
    {
        let names: [DnsName; 1] = ["www.example.org".parse().unwrap()];
        let order = |account| Order { account, names: &names, kind: OrderKind::New };
        let ca = Cas::default().at("https://ca/dir");
        let domain = LimitScope::Domain(names[0].clone());
        assert!(ca.record(&order("one"), &domain, at(600), at(0)).is_some());
        assert!(ca.record(&order("one"), &domain, at(600), at(1)).is_none(), "no news");
        assert!(ca.record(&order("one"), &LimitScope::Account, at(300), at(0)).is_some());
        let stored = ca.server_limits("one", Origin::Ours, at(10));
        let texts: Vec<&str> = stored.iter().map(|limit| limit.of.as_str()).collect();
        assert_eq!(texts, ["account", "domain example.org"]);
        let to_a_tenant = ca.server_limits("one", Origin::Tenant, at(10));
        assert_eq!(to_a_tenant.iter().map(|limit| &limit.of).collect::<Vec<_>>(), ["account"]);

        let again = Cas::default().at("https://ca/dir");
        again.restore("one", &stored, Origin::Ours, at(10));
        assert_eq!(again.server_limit(&order("one"), at(20)).unwrap().until, at(600));
        assert_eq!(again.server_limit(&order("two"), at(20)).unwrap().until, at(600));
        let tenants = Cas::default().at("https://ca/dir");
        tenants.restore("one", &stored, Origin::Tenant, at(10));
        assert_eq!(
            tenants.server_limit(&order("one"), at(20)).unwrap().until,
            at(300),
            "his account"
        );
        assert_eq!(tenants.server_limit(&order("two"), at(20)), None, "he speaks for nobody else");
        let elsewhere = Cas::default().at("https://other/dir");
        elsewhere.restore("one", &stored, Origin::Ours, at(10));
        assert_eq!(elsewhere.server_limit(&order("one"), at(20)), None, "another CA");
        let foreign =
            Limit { of: "?".into(), until: "soon".into(), server: "https://ca/dir".into() };
        again.restore("one", &[foreign], Origin::Ours, at(10));
    }
}
