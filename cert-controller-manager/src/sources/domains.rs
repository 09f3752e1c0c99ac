//! Which names of routes belong to the certificate of a server or listener.

use super::object::{Entry, Host, Place};

/// A route, as far as one of the things that it is attached to sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attachment {
    /// The namespace of the route.
    pub namespace: String,
    /// The only listener that is meant, where one is.
    pub section: Option<String>,
    /// The only port that is meant, where one is.
    pub port: Option<i64>,
    /// Names that the route serves.
    pub hostnames: Vec<String>,
}

/// The names of an entry: its own, then those of its routes that it serves and does not cover yet.
///
/// A route adds nothing to an entry that would not serve it: not from a namespace that may not
/// attach, not to another listener, and no name outside the entry's own ones, so that the
/// certificates of two servers do not get each other's names.
#[must_use]
pub fn of_entry(entry: &Entry, routes: &[Attachment], here: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in entry.hosts.iter().filter_map(|host| host.name.as_ref()) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    let open = names.is_empty();
    for route in routes.iter().filter(|route| is_meant(&entry.place, route)) {
        for hostname in &route.hostnames {
            let serves = |host: &Host| {
                let named = match &host.name {
                    Some(own) => is_below(hostname, own),
                    None => open,
                };
                named && host.from.admits(&route.namespace, here)
            };
            let is_new = hostname != "*" && !names.iter().any(|name| covers(name, hostname));
            if is_new && entry.hosts.iter().any(serves) {
                names.push(hostname.clone());
            }
        }
    }
    names
}

fn is_meant(place: &Place, route: &Attachment) -> bool {
    let section = route.section.as_ref().is_none_or(|section| *section == place.section);
    section && route.port.is_none_or(|port| Some(port) == place.port)
}

/// Whether a certificate for `name` is one for `host`, too: a wildcard stands for one label
/// (RFC 6125 section 6.4.3).
fn covers(name: &str, host: &str) -> bool {
    let one_label =
        |(label, rest): (&str, &str)| label != "*" && name.strip_prefix("*.") == Some(rest);
    name == host || host.split_once('.').is_some_and(one_label)
}

/// Whether a server for `own` serves `host`: a wildcard there stands for any number of labels.
fn is_below(host: &str, own: &str) -> bool {
    let under = |suffix: &str| host.len() > suffix.len() && host.ends_with(suffix);
    host == own
        || own.strip_prefix('*').is_some_and(|suffix| suffix.starts_with('.') && under(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::object::From;

    #[test]
    fn wildcards_stand_for_one_label_in_certificates_and_for_many_in_servers() {
        for (own, host, covered, served) in [
            ("a.b", "a.b", true, true),
            ("*.b", "a.b", true, true),
            ("*.b", "a.a.b", false, true),
            ("*.b", "*.b", true, true),
            ("*.b", "*.a.b", false, true),
            ("*.b", "b", false, false),
            ("*.b", "ab", false, false),
            ("a.b", "*.b", false, false),
            ("*.a.b", "*.b", false, false),
            ("a.b", "c.b", false, false),
            ("*b", "ab", false, false),
        ] {
            assert_eq!(covers(own, host), covered, "{own} covers {host}");
            assert_eq!(is_below(host, own), served, "{own} serves {host}");
        }
    }

    #[test]
    fn a_route_adds_names_only_where_it_is_served() {
        let entry = |hosts: &[(Option<&str>, From)]| Entry {
            place: Place { section: "web".into(), port: Some(443) },
            hosts: hosts
                .iter()
                .map(|(name, from)| Host { name: name.map(str::to_owned), from: from.clone() })
                .collect(),
            ..Entry::default()
        };
        let route = |section: Option<&str>, port, hostnames: &[&str]| Attachment {
            namespace: "apps".into(),
            section: section.map(str::to_owned),
            port,
            hostnames: hostnames.iter().map(|name| (*name).to_owned()).collect(),
        };
        let all = From::Everywhere;
        let wild = entry(&[(Some("*.x"), all.clone())]);
        let any = entry(&[(None, all.clone())]);
        for (entry, route, names) in [
            (&wild, route(None, None, &["a.x", "a.a.x", "a.y", "*"]), vec!["*.x", "a.a.x"]),
            (&any, route(None, None, &["a.x", "a.x", "b.y", "*"]), vec!["a.x", "b.y"]),
            (&any, route(Some("web"), Some(443), &["a.x"]), vec!["a.x"]),
            (&any, route(Some("other"), None, &["a.x"]), vec![]),
            (&any, route(None, Some(8443), &["a.x"]), vec![]),
            (&entry(&[(None, From::Here)]), route(None, None, &["a.x"]), vec![]),
            (
                &entry(&[(None, From::Namespace("apps".into()))]),
                route(None, None, &["a.x"]),
                vec!["a.x"],
            ),
            // A server that lists names takes no others, even with `*` among them.
            (
                &entry(&[(None, all.clone()), (Some("c.x"), all.clone())]),
                route(None, None, &["a.x"]),
                vec!["c.x"],
            ),
        ] {
            assert_eq!(of_entry(entry, &[route], "infra"), names);
        }
    }
}
