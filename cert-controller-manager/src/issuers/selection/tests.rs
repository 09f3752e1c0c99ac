//! Tables of the choice: each row is a sentence.

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

fn offer(key: IssuerKey, selection: Option<(&[&str], &[&str])>) -> Candidate {
    let selection = selection.map(|(include, exclude)| NameSelector {
        include: Ranges::new(include),
        exclude: Ranges::new(exclude),
    });
    Candidate { key, kind: Some(IssuerKind::Acme), selection }
}

fn offers() -> Vec<Candidate> {
    vec![
        offer(default("fallback"), None),
        offer(default("plain"), None),
        offer(default("com"), Some((&["example.com"], &["secret.example.com"]))),
        offer(default("deep"), Some((&["*.Deep.example.com"], &[]))),
        offer(default("same"), Some((&["example.com."], &[]))),
        offer(target("tenant", "own"), Some((&["tenant.example.com"], &[]))),
    ]
}

fn asked(names: &[&str]) -> IssuerQuery {
    let names = names.iter().map(|&name| name.to_owned()).collect();
    IssuerQuery { namespace: "web".into(), names, ..IssuerQuery::default() }
}

#[test]
fn without_a_reference_the_issuer_wins_that_covers_all_names_best() {
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
        let chosen = select(&rules(), &offers(), &asked(names));
        assert_eq!((chosen.key, chosen.refusal), (wanted, None), "{names:?}");
        let backwards: Vec<_> = offers().into_iter().rev().collect();
        let again = select(&rules(), &backwards, &asked(names));
        assert_eq!(again, select(&rules(), &offers(), &asked(names)), "{names:?}");
    }
}

#[test]
fn a_tenants_issuer_draws_the_certificates_of_its_own_namespace_only() {
    let home = IssuerQuery { namespace: "tenant".into(), ..asked(&["a.tenant.example.com"]) };
    assert_eq!(select(&rules(), &offers(), &home).key, target("tenant", "own"));
    let closed = Rules { allow_target: false, ..rules() };
    assert_eq!(select(&closed, &offers(), &home).key, default("com"));
}

#[test]
fn a_reference_means_exactly_what_it_names() {
    for (name, namespace, allow_target, wanted, refused) in [
        ("plain", None, false, default("plain"), None),
        ("plain", Some(""), false, default("plain"), None),
        ("plain", Some("issuers"), false, default("plain"), None),
        ("plain", Some("tenant"), false, target("tenant", "plain"), Some("not allowed")),
        ("plain", Some("tenant"), true, target("tenant", "plain"), None),
        ("own", Some("tenant"), true, target("tenant", "own"), Some("not an included domain")),
        ("nobody", None, true, default("nobody"), None),
    ] {
        let reference = Some((name.to_owned(), namespace.map(str::to_owned)));
        let asked = IssuerQuery { reference, ..asked(&["a.example.org"]) };
        let rules = Rules { allow_target, ..rules() };
        let chosen = select(&rules, &offers(), &asked);
        assert_eq!(chosen.key, wanted, "{name} {namespace:?}");
        match (refused, chosen.refusal) {
            (None, None) => {}
            (Some(part), Some(text)) if text.contains(part) => {}
            (wanted, got) => panic!("{name} {namespace:?}: {got:?}, not {wanted:?}"),
        }
    }
}

#[test]
fn what_is_outside_is_refused_in_upstreams_words() {
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
        let chosen = select(&rules, &offers(), &IssuerQuery { reference, ..asked(&[name]) });
        assert_eq!(chosen.refusal.as_deref(), wanted, "{issuer:?} {name}");
    }
}

#[test]
fn what_was_issued_stays_with_its_issuer_while_that_one_is_eligible() {
    for (current, names, wanted) in [
        (default("same"), &["a.example.com"][..], default("same")),
        (default("fallback"), &["a.example.com"], default("fallback")),
        (default("plain"), &["a.example.com"], default("com")),
        (default("gone"), &["a.example.com"], default("com")),
        (default("deep"), &["a.example.com"], default("com")),
        (target("tenant", "own"), &["a.tenant.example.com"], default("com")),
    ] {
        let asked = IssuerQuery { current: Some(current.clone()), ..asked(names) };
        assert_eq!(select(&rules(), &offers(), &asked).key, wanted, "{current} {names:?}");
    }
}
