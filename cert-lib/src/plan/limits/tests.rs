//! Tables of the limits: which orders wait, and until when.

use super::*;

const HOUR: i64 = 3_600;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn names(names: &[&str]) -> Vec<DnsName> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn order<'a>(names: &'a [DnsName], kind: OrderKind) -> Order<'a> {
    Order { account: "le", names, kind }
}

/// Places orders for new names until the limits allow no more. Returns their number and the wait.
fn fill(limits: &mut Limits, name: impl Fn(u32) -> String, now: Timestamp) -> (u32, Wait) {
    for number in 0.. {
        let names = names(&[&name(number)]);
        let order = order(&names, OrderKind::New);
        match limits.estimated_wait(&order, |_| 0, now) {
            None => {
                limits.ordered(&order, now);
                limits.issued(&order, now);
            }
            Some(wait) => return (number, wait),
        }
    }
    unreachable!()
}

#[test]
fn the_limits_of_lets_encrypt_apply_and_refill_one_by_one() {
    for (what, name, burst, interval) in [
        ("an account", (|number| format!("www.d{number}.example")) as fn(u32) -> String, 300, 36),
        ("a domain", |number| format!("n{number}.example.co.uk"), 50, 12_096),
        ("a set", |_| "www.example.org".to_owned(), 5, 120_960),
    ] {
        let mut limits = Limits::new(Some(LETS_ENCRYPT));
        let (placed, wait) = fill(&mut limits, name, at(0));
        assert_eq!((placed, wait.until), (burst, at(interval)), "{what}");
        let (placed, wait) = fill(&mut limits, name, at(interval));
        assert_eq!((placed, wait.until), (1, at(2 * interval)), "{what}");
        let (placed, _) = fill(&mut limits, name, at(60 * 24 * HOUR));
        assert_eq!(placed, burst, "{what} after a long rest");
    }
}

#[test]
fn a_renewal_counts_for_its_set_only_and_a_replacement_for_nothing() {
    let mut limits = Limits::new(Some(LETS_ENCRYPT));
    fill(&mut limits, |number| format!("n{number}.example.org"), at(0));
    let names = names(&["old.example.org"]);
    for _ in 0..5 {
        assert_eq!(limits.estimated_wait(&order(&names, OrderKind::Renewal), |_| 0, at(0)), None);
        limits.ordered(&order(&names, OrderKind::Renewal), at(0));
        limits.issued(&order(&names, OrderKind::Renewal), at(0));
    }
    let wait = limits.estimated_wait(&order(&names, OrderKind::Renewal), |_| 0, at(0)).unwrap();
    assert_eq!(wait.key, set_key(&names));
    assert_eq!(limits.estimated_wait(&order(&names, OrderKind::Replacement), |_| 0, at(0)), None);
}

#[test]
fn orders_without_a_certificate_only_count_for_the_account() {
    let mut limits = Limits::new(Some(LETS_ENCRYPT));
    let names = names(&["never.example.org"]);
    for _ in 0..299 {
        limits.ordered(&order(&names, OrderKind::New), at(0));
        assert_eq!(limits.estimated_wait(&order(&names, OrderKind::New), |_| 0, at(0)), None);
    }
    limits.ordered(&order(&names, OrderKind::New), at(0));
    let wait = limits.estimated_wait(&order(&names, OrderKind::New), |_| 0, at(0)).unwrap();
    assert_eq!((wait.key, wait.until), (Key::Account("le".into()), at(36)));
}

#[test]
fn five_failures_of_a_name_in_an_hour_delay_all_orders_with_it() {
    let mut limits = Limits::new(Some(LETS_ENCRYPT));
    let (bad, good) =
        (names(&["bad.example.org", "good.example.org"]), names(&["good.example.org"]));
    for _ in 0..5 {
        limits.failed("le", &bad[0], at(0));
    }
    let wait = limits.estimated_wait(&order(&bad, OrderKind::New), |_| 0, at(0)).unwrap();
    assert_eq!(wait.until, at(720));
    assert_eq!(
        wait.to_string(),
        "the CA allows 5 failed validations in an hour; by our estimate they are used up for bad.example.org until 2027-01-15T08:12:00Z"
    );
    assert_eq!(limits.estimated_wait(&order(&good, OrderKind::New), |_| 0, at(0)), None);
    let other = Order { account: "other", ..order(&bad, OrderKind::New) };
    assert_eq!(limits.estimated_wait(&other, |_| 0, at(0)), None, "the CA counts it per account");
}

#[test]
fn each_waiting_order_has_its_own_time() {
    let mut limits = Limits::new(Some(LETS_ENCRYPT));
    fill(&mut limits, |number| format!("www.d{number}.example"), at(0));
    let names = names(&["late.example"]);
    let order = order(&names, OrderKind::New);
    for (before, until) in [(0, 36), (1, 72), (9, 360)] {
        let before = |key: &Key| if matches!(key, Key::Account(_)) { before } else { 0 };
        assert_eq!(limits.estimated_wait(&order, before, at(0)).unwrap().until, at(until));
    }
}

/// One refusal of the CA replaces counts that a restart has lost.
#[test]
fn a_refusal_corrects_the_estimate() {
    let mut limits = Limits::new(Some(LETS_ENCRYPT));
    let one = names(&["www.d1.example"]);
    let order = order(&one, OrderKind::New);
    limits.correct(&Key::Account("le".to_owned()), at(HOUR));
    for (before, until) in [(0, HOUR), (1, HOUR + 36), (10, HOUR + 360)] {
        let before = |key: &Key| if matches!(key, Key::Account(_)) { before } else { 0 };
        let wait = limits.estimated_wait(&order, before, at(0)).unwrap();
        assert_eq!(wait.until, at(until));
    }
    assert_eq!(limits.estimated_wait(&order, |_| 0, at(HOUR)), None);
}

#[test]
fn limits_of_the_account_and_of_domains_are_shared_with_other_tenants() {
    let limits = Limits::new(Some(LETS_ENCRYPT));
    let names = names(&["a.example.org", "b.example.org", "c.example.co.uk"]);
    let shared = limits.shared(&order(&names, OrderKind::Replacement));
    let keys: Vec<String> = shared.iter().map(|(key, _)| key.encode()).collect();
    assert_eq!(keys, ["account", "domain example.co.uk", "domain example.org"]);
    assert!(Limits::new(None).shared(&order(&names, OrderKind::New)).is_empty());
}

#[test]
fn without_numbers_no_order_waits_for_an_estimate() {
    let mut limits = Limits::new(None);
    let names = names(&["a.example.org"]);
    for _ in 0..1_000 {
        limits.ordered(&order(&names, OrderKind::New), at(0));
        limits.failed("le", &names[0], at(0));
    }
    assert_eq!(limits.estimated_wait(&order(&names, OrderKind::New), |_| 0, at(0)), None);
    assert!(limits.full_at.is_empty());
}

/// faults.md 3 and 4
#[test]
fn an_imposed_limit_delays_exactly_the_orders_in_its_scope() {
    let (here, there) = (names(&["a.example.org"]), names(&["a.example.net"]));
    let name = |text: &str| text.parse::<DnsName>().unwrap();
    for (about, same_set, same_domain, other_domain, other_account) in [
        (LimitScope::Account, true, true, true, false),
        (LimitScope::Domain(name("example.org")), true, true, false, true),
        (LimitScope::Set, true, false, false, true),
        (LimitScope::Name(name("a.example.org")), true, false, false, false),
    ] {
        let mut limits = Limits::new(None);
        limits.record_limit(&order(&here, OrderKind::New), &about, at(60));
        let sister = names(&["b.example.org"]);
        for (names, account, waits) in [
            (&here, "le", same_set),
            (&sister, "le", same_domain),
            (&there, "le", other_domain),
            (&here, "other", other_account),
        ] {
            let order = Order { account, names, kind: OrderKind::New };
            let said = limits.server_limit(&order, at(59));
            assert_eq!(said.is_some(), waits, "{about:?} {names:?} {account}");
            assert!(
                said.is_none_or(|wait| wait.until == at(60) && wait.source == LimitSource::Server)
            );
            assert_eq!(limits.server_limit(&order, at(60)), None, "{about:?}");
        }
    }
}

#[test]
fn a_renewal_does_not_wait_for_the_domain_but_for_the_account() {
    let mut limits = Limits::new(None);
    let names = names(&["a.example.org"]);
    let renewal = order(&names, OrderKind::Renewal);
    limits.record_limit(&renewal, &LimitScope::Domain(names[0].clone()), at(60));
    assert_eq!(limits.server_limit(&renewal, at(0)), None);
    limits.record_limit(&renewal, &LimitScope::Account, at(50));
    assert_eq!(limits.server_limit(&renewal, at(0)).unwrap().until, at(50));
}

#[test]
fn imposed_limits_round_trip_through_text() {
    let name = |text: &str| text.parse::<DnsName>().unwrap();
    let names = names(&["a.example.org"]);
    let mut limits = Limits::new(None);
    for (number, about) in [
        LimitScope::Account,
        LimitScope::Domain(name("b.example.org")),
        LimitScope::Set,
        LimitScope::Name(name("*.a.example.org")),
    ]
    .iter()
    .enumerate()
    {
        limits.record_limit(
            &order(&names, OrderKind::New),
            about,
            at(60 - i64::try_from(number).unwrap()),
        );
    }
    let imposed = limits.server_limits(at(0));
    let texts: Vec<String> = imposed.iter().map(|(key, _)| key.encode()).collect();
    let Key::Set(hash) = set_key(&names) else { unreachable!() };
    assert_eq!(
        texts,
        ["account", "domain example.org", &format!("set {hash}"), "name a.example.org"]
    );
    for ((key, _), text) in imposed.iter().zip(&texts) {
        assert_eq!(Key::decode(text, "le").as_ref(), Some(key));
    }
    for foreign in ["", "domain", "planet earth", "accounts"] {
        assert_eq!(Key::decode(foreign, "le"), None, "{foreign}");
    }
    assert_eq!(limits.server_limits(at(60)), []);
}

#[test]
fn the_registered_domain_is_one_label_below_the_public_suffix() {
    for (name, domain) in [
        ("a.b.example.com", "example.com"),
        ("*.example.co.uk", "example.co.uk"),
        ("app.user.github.io", "user.github.io"),
        ("co.uk", "co.uk"),
        ("localhost", "localhost"),
    ] {
        assert_eq!(registered_domain(&name.parse().unwrap()), domain, "{name}");
    }
}
