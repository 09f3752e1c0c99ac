//! Tests of the selection.

use super::*;

fn rules() -> Rules {
    Rules {
        namespace: "issuers".into(),
        default_issuer: "fallback".into(),
        default_ranges: Ranges::default(),
        allow_target: true,
    }
}

fn default(name: &str) -> IssuerKey {
    IssuerKey::Default(name.into())
}

fn target(namespace: &str, name: &str) -> IssuerKey {
    IssuerKey::Target(ObjectKey::new(namespace, name))
}

fn candidate(key: IssuerKey, selection: Option<(&[&str], &[&str])>) -> Candidate {
    let selection = selection.map(|(include, exclude)| NameSelector {
        include: Ranges::new(include),
        exclude: Ranges::new(exclude),
    });
    Candidate { key, kind: Some(IssuerKind::Acme), selection }
}

fn candidates() -> Vec<Candidate> {
    vec![
        candidate(default("fallback"), None),
        candidate(default("plain"), None),
        candidate(default("com"), Some((&["example.com"], &["secret.example.com"]))),
        candidate(default("deep"), Some((&["*.Deep.example.com"], &[]))),
        candidate(default("same"), Some((&["example.com."], &[]))),
        candidate(target("tenant", "own"), Some((&["tenant.example.com"], &[]))),
    ]
}

fn query(names: &[&str]) -> IssuerQuery {
    let names = names.iter().map(|&name| name.to_owned()).collect();
    IssuerQuery { namespace: "web".into(), names, ..IssuerQuery::default() }
}

#[test]
fn without_a_reference_the_best_issuer_for_all_names_is_selected() {
    for (names, wanted) in [
        (&["a.example.org"][..], default("fallback")),
        (&["a.example.com"], default("com")),
        (&["A.Deep.Example.com"], default("deep")),
        (&["a.deep.example.com", "a.example.com"], default("com")),
        (&["a.example.com", "a.example.org"], default("fallback")),
        (&["a.secret.example.com"], default("same")),
        (&["a.tenant.example.com"], default("com")),
        (&[], default("fallback")),
    ] {
        let selection = select(&rules(), &candidates(), &query(names));
        assert_eq!((selection.key, selection.refusal), (wanted, None), "{names:?}");
        let backwards: Vec<_> = candidates().into_iter().rev().collect();
        let again = select(&rules(), &backwards, &query(names));
        assert_eq!(again, select(&rules(), &candidates(), &query(names)), "{names:?}");
    }
}

#[test]
fn a_target_issuer_is_selected_only_for_its_own_namespace() {
    let query_of_tenant =
        IssuerQuery { namespace: "tenant".into(), ..query(&["a.tenant.example.com"]) };
    assert_eq!(select(&rules(), &candidates(), &query_of_tenant).key, target("tenant", "own"));
    let without_target = Rules { allow_target: false, ..rules() };
    assert_eq!(select(&without_target, &candidates(), &query_of_tenant).key, default("com"));
}

#[test]
fn a_reference_selects_exactly_the_named_issuer() {
    for (name, namespace, allow_target, wanted, refused) in [
        ("plain", None, false, default("plain"), None),
        ("plain", Some(""), false, default("plain"), None),
        ("plain", Some("issuers"), false, default("plain"), None),
        ("plain", Some("tenant"), false, target("tenant", "plain"), Some("not allowed")),
        ("plain", Some("tenant"), true, target("tenant", "plain"), None),
        ("own", Some("tenant"), true, target("tenant", "own"), Some("not an included domain")),
        ("missing", None, true, default("missing"), None),
    ] {
        let reference = Some((name.to_owned(), namespace.map(str::to_owned)));
        let query = IssuerQuery { reference, ..query(&["a.example.org"]) };
        let rules = Rules { allow_target, ..rules() };
        let selection = select(&rules, &candidates(), &query);
        assert_eq!(selection.key, wanted, "{name} {namespace:?}");
        match (refused, selection.refusal) {
            (None, None) => {}
            (Some(part), Some(text)) if text.contains(part) => {}
            (wanted, got) => panic!("{name} {namespace:?}: {got:?}, not {wanted:?}"),
        }
    }
}

#[test]
fn a_name_outside_the_domains_is_refused_with_upstreams_message() {
    let rules = Rules { default_ranges: Ranges::new(["*.Example.net", "b.c."]), ..rules() };
    for (issuer, name, wanted) in [
        (
            None,
            "a.example.org",
            Some(
                "domain a.example.org is not in domain ranges of default issuer (.example.net,b.c)",
            ),
        ),
        (
            Some("fallback"),
            "a.example.org",
            Some(
                "domain a.example.org is not in domain ranges of default issuer (.example.net,b.c)",
            ),
        ),
        (None, "a.example.net", None),
        (None, "b.c", None),
        (
            Some("com"),
            "x.secret.example.com",
            Some("domain x.secret.example.com is an excluded domain of issuer com"),
        ),
        (
            Some("com"),
            "a.example.org",
            Some("domain a.example.org is not an included domain of issuer com"),
        ),
        (Some("plain"), "a.example.org", None),
    ] {
        let reference = issuer.map(|name| (name.to_owned(), None));
        let selection = select(&rules, &candidates(), &IssuerQuery { reference, ..query(&[name]) });
        assert_eq!(selection.refusal.as_deref(), wanted, "{issuer:?} {name}");
    }
}

#[test]
fn an_issued_certificate_keeps_its_issuer_while_that_is_eligible() {
    for (current, names, wanted) in [
        (default("same"), &["a.example.com"][..], default("same")),
        (default("fallback"), &["a.example.com"], default("fallback")),
        (default("plain"), &["a.example.com"], default("com")),
        (default("gone"), &["a.example.com"], default("com")),
        (default("deep"), &["a.example.com"], default("com")),
        (target("tenant", "own"), &["a.tenant.example.com"], default("com")),
    ] {
        let query = IssuerQuery { current: Some(current.clone()), ..query(names) };
        assert_eq!(select(&rules(), &candidates(), &query).key, wanted, "{current} {names:?}");
    }
}
