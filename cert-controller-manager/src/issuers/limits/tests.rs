//! Tests of the limits of CAs.

use cert_lib::issue::LimitScope;

use super::*;
use crate::api::CertificateCluster;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn tenant(namespace: &str) -> Tenant {
    Tenant { cluster: CertificateCluster::Source, namespace: namespace.to_owned() }
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

/// An order of an account for one name.
fn order(ca: &Arc<Ca>, account: &str, namespace: &str, name: &str, claimed: OrderKind) -> CaOrder {
    let (ca, account) = (ca.clone(), account.to_owned());
    let ca_account = CaAccount { ca, account, origin: Origin::Ours };
    CaOrder::new(ca_account, tenant(namespace), (vec![name.parse().unwrap()], claimed), at(0))
}

/// A refusal because of a limit.
fn refusal(scope: LimitScope, is_published: bool, until: Timestamp) -> IssueError {
    let message = "too many orders".to_owned();
    let (until, scope) = (Some(until), Some(scope));
    IssueError::RateLimited { message, until, scope, is_published, progress: None }
}

/// Places an order for a new domain if the estimated limits allow it.
fn place(ca: &Arc<Ca>, namespace: &str, number: u32, claimed: OrderKind) -> bool {
    let name = format!("www.{namespace}-{number}.example");
    let order = order(ca, "le", namespace, &name, claimed);
    let has_room = order.estimated_wait(None, at(0)).is_none();
    if has_room {
        order.placed(at(0));
    }
    has_room
}

/// faults.md 69
#[test]
fn namespaces_take_turns_for_the_limit_of_an_account() {
    let ca = CaRegistry::new(AcmeLimits::LetsEncrypt).at("https://ca/dir");
    assert!((0..300).all(|number| place(&ca, "greedy", number, OrderKind::New)));
    let mut positions = Vec::new();
    let mut wait = |namespace: &str, name: &str| {
        let order = order(&ca, "le", namespace, &format!("www.{name}.example"), OrderKind::New);
        let position = order.wait(None, at(0)).unwrap();
        let wait = order.estimated_wait(Some(&position), at(0)).unwrap();
        positions.push(position);
        wait.until.duration_since(at(0)).as_secs()
    };
    let waits: Vec<i64> = (0..20).map(|number| wait("greedy", &format!("m{number}"))).collect();
    assert_eq!(waits[..3], [36, 72, 108]);
    assert!(wait("modest", "modest") <= 72);
}

/// The CA may not accept that an order is a renewal, which only the namespace claims.
#[test]
fn renewals_beyond_the_share_of_a_namespace_count_as_new() {
    for claimed in [OrderKind::Renewal, OrderKind::Replacement] {
        let ca = CaRegistry::new(AcmeLimits::LetsEncrypt).at("https://ca/dir");
        assert!(place(&ca, "modest", 0, OrderKind::New));
        let placed = (0..1_000).filter(|number| place(&ca, "forger", *number, claimed)).count();
        // Two namespaces have a share of 150 each. The rest takes from the limit of the account.
        assert_eq!(placed, 150 + 299, "{claimed:?}");
        assert!(!place(&ca, "modest", 1, OrderKind::New), "the limit is used up");
        assert!(place(&ca, "modest", 2, claimed), "a renewal within its share is exempt");
    }
}

/// A forger exceeds the limit of the CA by its share. One refusal restores the turns.
#[test]
fn after_one_refusal_all_namespaces_share_what_the_ca_allows() {
    let ca = CaRegistry::new(AcmeLimits::LetsEncrypt).at("https://ca/dir");
    assert!((0..299).all(|number| place(&ca, "forger", number, OrderKind::Replacement)));
    let order = order(&ca, "le", "modest", "www.refused.example", OrderKind::New);
    for (is_published, until) in [(false, None), (true, Some(at(600)))] {
        order.failed(&refusal(LimitScope::Account, is_published, at(600)), at(0));
        let wait = order.estimated_wait(None, at(0));
        assert_eq!(wait.map(|wait| wait.until), until, "{is_published}");
    }
}

#[test]
fn imposed_limits_survive_a_restart_and_those_of_domains_affect_all_accounts() {
    let order = |ca, account| order(ca, account, "web", "www.example.org", OrderKind::New);
    let ca = CaRegistry::default().at("https://ca/dir");
    let refused = refusal(LimitScope::Domain("www.example.org".parse().unwrap()), true, at(600));
    let domain = order(&ca, "one").failed(&refused, at(0)).unwrap();
    assert_eq!((domain.0.to_string().as_str(), domain.1), ("example.org", at(600)));
    assert!(order(&ca, "one").failed(&refused, at(1)).is_none(), "already known");
    let refused = refusal(LimitScope::Account, true, at(300));
    assert!(order(&ca, "one").failed(&refused, at(0)).is_some());
    let stored = ca.server_limits("one", Origin::Ours, at(10));
    let texts: Vec<&str> = stored.iter().map(|limit| limit.of.as_str()).collect();
    assert_eq!(texts, ["account", "domain example.org"]);
    let for_tenant = ca.server_limits("one", Origin::Tenant, at(10));
    assert_eq!(for_tenant.iter().map(|limit| &limit.of).collect::<Vec<_>>(), ["account"]);

    let restarted = CaRegistry::default().at("https://ca/dir");
    restarted.restore("one", &stored, Origin::Ours, at(10));
    assert_eq!(order(&restarted, "one").server_limit(at(20)).unwrap().until, at(600));
    assert_eq!(order(&restarted, "two").server_limit(at(20)).unwrap().until, at(600));
    let tenant = CaRegistry::default().at("https://ca/dir");
    tenant.restore("one", &stored, Origin::Tenant, at(10));
    assert_eq!(
        order(&tenant, "one").server_limit(at(20)).unwrap().until,
        at(300),
        "the limit of the account"
    );
    assert_eq!(
        order(&tenant, "two").server_limit(at(20)),
        None,
        "a tenant cannot limit other accounts"
    );
    let elsewhere = CaRegistry::default().at("https://other/dir");
    elsewhere.restore("one", &stored, Origin::Ours, at(10));
    assert_eq!(order(&elsewhere, "one").server_limit(at(20)), None, "another CA");
    let foreign = Limit { of: "?".into(), until: "soon".into(), server: "https://ca/dir".into() };
    restarted.restore("one", &[foreign], Origin::Ours, at(10));
}
