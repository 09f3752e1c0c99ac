//! Compares our flags with those of upstream in `flags.tsv`: the 92 of its early documentation, then the
//! later ones.

use super::{refused, run};
use crate::config::{
    duration, flags,
    flags::{Flag, Kind, MANAGER, Upstream},
};

const TABLE: &str = include_str!("../flags.tsv");

struct Row {
    short: Option<char>,
    name: &'static str,
    kind: &'static str,
    default: &'static str,
}

/// All rows but help and version.
fn rows() -> impl Iterator<Item = Row> {
    let row = |line: &'static str| {
        let fields: Vec<&str> = line.split('\t').collect();
        let [short, long, kind, default] = fields[..] else { panic!("{line}") };
        Row {
            short: short.chars().last(),
            name: long.trim_start_matches("--"),
            kind,
            default: default.trim_matches('"'),
        }
    };
    TABLE.lines().skip(1).map(row).filter(|row| !["help", "version"].contains(&row.name))
}

fn flag(row: &Row) -> &'static Flag {
    flags::find(MANAGER, row.name).unwrap_or_else(|| panic!("--{} is not there", row.name))
}

/// A valid value.
fn valid(name: &str, kind: Kind) -> &'static str {
    match (name, kind) {
        ("config", _) => "/dev/null",
        ("controllers", _) => "issuer",
        ("bind-address-http", _) => "127.0.0.1",
        ("lease-renew-deadline", _) => "12s",
        ("lease-retry-period", _) => "1s",
        (_, Kind::Bool) => "true",
        (_, Kind::Word(words)) => words[words.len() - 1],
        (_, Kind::Number { .. }) => "3",
        (_, Kind::Duration) => "1m30s",
        (_, Kind::Nameservers) => "1.2.3.4,ns.example.org:5353",
        (_, Kind::LogLevel) => "debug",
        _ => "some-text",
    }
}

/// An invalid value, if there is any.
fn invalid(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Bool => Some("maybe"),
        Kind::Word(_) => Some("nonsense"),
        Kind::Number { .. } => Some("3x"),
        Kind::Duration => Some("5 minutes"),
        Kind::Nameservers => Some("1.2.3.4:99999"),
        Kind::LogLevel => Some("loud"),
        _ => None,
    }
}

#[test]
fn the_list_contains_all_flags_of_upstream() {
    // 141 flags in its documentation, and four for each cluster in its code.
    assert_eq!(TABLE.lines().skip(1).count(), 141 + 4 * 4);
}

#[test]
fn every_flag_of_upstream_exists_with_its_type_and_short_form() {
    for row in rows() {
        let flag = flag(&row);
        assert_eq!(flag.kind.word(), row.kind, "{}", row.name);
        assert_eq!(flag.short, row.short, "{}", row.name);
        assert_ne!(flag.upstream, Upstream::Absent, "{}", row.name);
    }
}

#[test]
fn flags_that_are_marked_as_upstream_are_in_the_list() {
    let known: Vec<&str> = rows().map(|row| row.name).collect();
    for flag in MANAGER.iter().filter(|flag| flag.upstream != Upstream::Absent) {
        for spelling in flag.spellings() {
            // Upstream has no flags of a controller that it lacks.
            let of_upstream = |prefix: &str| known.iter().any(|name| name.starts_with(prefix));
            let is_other = spelling.split_once('.').is_some_and(|(prefix, _)| !of_upstream(prefix));
            assert!(is_other || known.contains(&spelling.as_str()), "{spelling}");
        }
    }
}

#[test]
fn every_flag_of_upstream_is_accepted_in_every_form() {
    for row in rows() {
        let flag = flag(&row);
        let (name, value) = (row.name, valid(row.name, flag.kind));
        let mut forms = vec![vec![format!("--{name}={value}")]];
        match flag.kind {
            Kind::Bool => forms.extend([
                vec![format!("--{name}")],
                vec![format!("--{name}=false")],
                vec![format!("--{name}=maybe"), format!("--{name}=F")],
            ]),
            _ => forms.extend([
                vec![format!("--{name}"), value.to_owned()],
                vec![format!("--{name}=-"), format!("--{name}={value}")],
            ]),
        }
        if let Some(letter) = row.short {
            forms.push(match flag.kind {
                Kind::Bool => vec![format!("-{letter}")],
                _ => vec![format!("-{letter}"), value.to_owned()],
            });
        }
        for form in forms {
            let mut arguments = vec!["--target=another-cluster"];
            arguments.extend(form.iter().map(String::as_str));
            let settings = run(&arguments).unwrap_or_else(|error| panic!("{form:?}: {error:#}"));
            let idle = settings.without_effect.contains(&format!("--{name}"));
            assert_eq!(idle, flag.idle.is_some(), "{form:?}");
        }
    }
}

#[test]
fn an_invalid_value_of_every_flag_is_refused_by_name() {
    for row in rows() {
        let Some(value) = invalid(flag(&row).kind) else { continue };
        let error = refused(&[&format!("--{}={value}", row.name)]);
        assert!(error.starts_with(&format!("--{}: ", row.name)), "{error}");
        assert!(error.contains(value.split(',').next_back().unwrap_or(value)), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn every_default_is_that_of_upstream_or_is_marked_as_different() {
    for row in rows().filter(|row| !row.default.is_empty()) {
        let flag = flag(&row);
        match flag.upstream {
            Upstream::Differs { default, why } => {
                assert_eq!(default, row.default, "{}", row.name);
                assert!(!why.is_empty());
            }
            _ if flag.idle.is_some() => {}
            _ if flag.kind == Kind::Duration => {
                assert_eq!(duration(flag.default), duration(row.default), "{}", row.name);
            }
            _ => assert_eq!(flag.default, row.default, "{}", row.name),
        }
    }
}

#[test]
fn the_migration_page_lists_different_defaults_and_new_flags() {
    let page = include_str!("../../../../docs/migration.md");
    for flag in MANAGER.iter().filter(|flag| flag.upstream != Upstream::Same) {
        let spelling = flag.spellings().next().unwrap();
        assert!(page.contains(&format!("`--{spelling}`")), "{spelling}");
    }
}
