//! Tests of the limits of CAs.

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

/// Places an order for a new domain if the estimated limits allow it.
fn place(ca: &Ca, namespace: &str, number: u32, claimed: OrderKind) -> bool {
    let (tenant, names) =
        (tenant(namespace), [format!("www.{namespace}-{number}.example").parse().unwrap()]);
    let order = Order { account: "le", names: &names, kind: claimed };
    let kind = ca.counted_kind(&order, &tenant, claimed, at(0));
    let order = Order { kind, ..order };
    let has_room = ca.estimated_wait(&order, &tenant, None, at(0)).is_none();
    if has_room {
        ca.ordered(&order, &tenant, at(0));
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
        let names = [format!("www.{name}.example").parse().unwrap()];
        let order = Order { account: "le", names: &names, kind: OrderKind::New };
        let position = ca.wait(&order, &tenant(namespace), None, at(0)).unwrap();
        let wait = ca.estimated_wait(&order, &tenant(namespace), Some(&position), at(0)).unwrap();
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
    let names = ["www.refused.example".parse().unwrap()];
    let order = Order { account: "le", names: &names, kind: OrderKind::New };
    for (is_published, until) in [(false, None), (true, Some(at(600)))] {
        ca.record(&order, (&LimitScope::Account, is_published), at(600), at(0));
        let wait = ca.estimated_wait(&order, &tenant("modest"), None, at(0));
        assert_eq!(wait.map(|wait| wait.until), until, "{is_published}");
    }
}

#[test]
fn imposed_limits_survive_a_restart_and_those_of_domains_affect_all_accounts() {
    let names: [DnsName; 1] = ["www.example.org".parse().unwrap()];
    let order = |account| Order { account, names: &names, kind: OrderKind::New };
    let ca = CaRegistry::default().at("https://ca/dir");
    let domain = LimitScope::Domain(names[0].clone());
    assert!(ca.record(&order("one"), (&domain, true), at(600), at(0)).is_some());
    assert!(ca.record(&order("one"), (&domain, true), at(600), at(1)).is_none(), "already known");
    assert!(ca.record(&order("one"), (&LimitScope::Account, true), at(300), at(0)).is_some());
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
    let foreign = Limit { of: "?".into(), until: "soon".into(), server: "https://ca/dir".into() };
    restarted.restore("one", &[foreign], Origin::Ours, at(10));
}
