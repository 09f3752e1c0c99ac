//! Selects the names of routes that belong to the certificate of a server or listener. Pure.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use jiff::Timestamp;

use super::{
    entry::{Entry, Labels, ListenerRef},
    names::{NameList, normalize},
};

/// Maximum number of route names of one namespace that are compared with one entry.
const MAX_NAMES_PER_ENTRY: usize = 1_000;
/// Maximum number of comparisons for one object, shared by all entries and all namespaces with
/// routes. They take some tenths of a second.
const MAX_COMPARISONS: usize = 1_000_000;
/// Minimum and maximum share of one namespace.
const COMPARISONS_PER_NAMESPACE: (usize, usize) = (5_000, 100_000);

/// One parent reference of a route.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Attachment {
    /// Namespace of the route.
    pub namespace: Arc<str>,
    /// Labels of the namespace, if known.
    pub labels: Option<Arc<Labels>>,
    /// `sectionName`: the only listener.
    pub section: Option<String>,
    /// The only port.
    pub port: Option<i64>,
    /// Creation time of the route.
    pub created: Option<Timestamp>,
    /// Host names of the route, shared by all its attachments.
    pub hostnames: Arc<[String]>,
}

/// The routes of one object, by namespace, with the remaining comparisons.
///
/// The work is the product of entries and routes, and tenants write both. Therefore each namespace
/// has its own share of comparisons.
pub struct Routes<'a> {
    /// Namespace of the object.
    here: &'a str,
    namespaces: BTreeMap<&'a str, NamespaceRoutes<'a>>,
}

struct NamespaceRoutes<'a> {
    /// With their index among all routes, which determines the order of the names.
    routes: Vec<(usize, &'a Attachment)>,
    /// Remaining comparisons.
    comparisons: usize,
    /// Whether comparisons were skipped.
    is_exhausted: bool,
}

/// A host name of a route that may be added.
struct Candidate<'a> {
    place: usize,
    created: Option<Timestamp>,
    name: &'a str,
}

impl<'a> Routes<'a> {
    /// The routes of an object in the namespace `here`.
    #[must_use]
    pub fn new(routes: &'a [Attachment], here: &'a str) -> Self {
        let mut namespaces: BTreeMap<&str, NamespaceRoutes<'_>> = BTreeMap::new();
        let none = || NamespaceRoutes { routes: Vec::new(), comparisons: 0, is_exhausted: false };
        for (place, route) in routes.iter().enumerate() {
            let namespace = namespaces.entry(&*route.namespace).or_insert_with(none);
            namespace.routes.push((place, route));
        }
        let comparisons = (MAX_COMPARISONS / namespaces.len().max(1))
            .clamp(COMPARISONS_PER_NAMESPACE.0, COMPARISONS_PER_NAMESPACE.1);
        namespaces.values_mut().for_each(|namespace| namespace.comparisons = comparisons);
        Self { here, namespaces }
    }

    /// Returns the names of an entry, and the number of names that exceed `room`. The entry's own names
    /// come first; then names of routes that the entry serves and does not cover yet.
    ///
    /// A route adds nothing to an entry that does not serve it: its namespace must be allowed, the
    /// listener must match, and the entry's own names must include the name. So certificates of
    /// two servers do not get each other's names. Names of older routes win, so that a new route
    /// cannot displace existing names.
    #[must_use]
    pub fn names_of_entry(&mut self, entry: &Entry, room: usize) -> (NameList, usize) {
        let own = entry.hosts.iter().filter_map(|host| host.name.as_deref());
        let mut names: NameList = own.collect();
        let mut added = self.candidates(entry, &names);
        let room = room.saturating_sub(names.as_slice().len());
        let left_out = added.len().saturating_sub(room);
        if left_out > 0 {
            let mut oldest: Vec<usize> = (0..added.len()).collect();
            oldest.sort_by_key(|at| added.get(*at).map(|one| one.created));
            let kept: HashSet<usize> = oldest.into_iter().take(room).collect();
            let mut at = 0..added.len();
            added.retain(|_| at.next().is_some_and(|at| kept.contains(&at)));
        }
        for one in added {
            if !names.covers(one.name) {
                names.add(one.name);
            }
        }
        (names, left_out)
    }

    /// Namespaces with skipped comparisons.
    pub fn exhausted(&self) -> impl Iterator<Item = &str> {
        self.namespaces.iter().filter(|(_, it)| it.is_exhausted).map(|(namespace, _)| *namespace)
    }

    /// Names of routes that an entry serves and that its own names do not cover, without duplicates.
    fn candidates(&mut self, entry: &Entry, own: &NameList) -> Vec<Candidate<'a>> {
        let mut found = Vec::new();
        for namespace in self.namespaces.values_mut() {
            namespace.candidates(entry, own, self.here, &mut found);
        }
        found.sort_by_key(|one| one.place);
        let mut seen = HashSet::new();
        found.retain(|one| seen.insert(one.name));
        found
    }
}

impl<'a> NamespaceRoutes<'a> {
    fn candidates(
        &mut self,
        entry: &Entry,
        own: &NameList,
        here: &str,
        found: &mut Vec<Candidate<'a>>,
    ) {
        let is_meant = |(_, route): &&(usize, &Attachment)| host_applies(&entry.place, route);
        let mut routes = self.routes.iter().filter(is_meant).peekable();
        let Some((_, first)) = routes.peek() else { return };
        let Some(comparisons) = self.comparisons.checked_sub(entry.hosts.len()) else {
            self.is_exhausted = true;
            return;
        };
        self.comparisons = comparisons;
        let served = Served::of(entry, own.is_empty(), first, here);
        if served.is_nothing() {
            return;
        }
        let mut compared = 0;
        for (place, route) in routes {
            if compared == MAX_NAMES_PER_ENTRY {
                break;
            }
            // A route without names counts as a comparison, too.
            let Some(comparisons) = self.comparisons.checked_sub(1) else {
                self.is_exhausted = true;
                break;
            };
            let count = route.hostnames.len().min(MAX_NAMES_PER_ENTRY - compared);
            self.is_exhausted |= count > comparisons;
            let count = count.min(comparisons);
            self.comparisons = comparisons - count;
            compared += count;
            for name in route.hostnames.iter().take(count) {
                if name != "*" && served.has(name) && !own.covers(name) {
                    found.push(Candidate { place: *place, created: route.created, name });
                }
            }
        }
    }
}

fn host_applies(place: &ListenerRef, route: &Attachment) -> bool {
    let section = route.section.as_ref().is_none_or(|section| *section == place.section);
    section && route.port.is_none_or(|port| Some(port) == place.port)
}

/// Names that an entry serves for routes of one namespace.
struct Served<'a> {
    everything: bool,
    names: HashSet<Cow<'a, str>>,
    /// Wildcards without their `*`.
    below: HashSet<String>,
}

impl<'a> Served<'a> {
    fn of(entry: &'a Entry, open: bool, route: &Attachment, here: &str) -> Self {
        let (from, labels) = (&*route.namespace, route.labels.as_deref());
        let admitted = || entry.hosts.iter().filter(|host| host.from.admits(from, labels, here));
        let names = || admitted().filter_map(|host| host.name.as_deref()).map(normalize);
        let suffix = |name: Cow<'_, str>| Some(name.strip_prefix('*')?.to_owned());
        let is_parent = |suffix: &String| suffix.starts_with('.');
        Self {
            everything: open && admitted().any(|host| host.name.is_none()),
            names: names().collect(),
            below: names().filter_map(suffix).filter(is_parent).collect(),
        }
    }

    fn is_nothing(&self) -> bool {
        !self.everything && self.names.is_empty()
    }

    /// Whether `host` is served. A wildcard matches any number of labels here.
    fn has(&self, host: &str) -> bool {
        let host = normalize(host);
        let is_below = || {
            let dots = host.match_indices('.').filter(|(at, _)| *at > 0);
            dots.filter_map(|(at, _)| host.get(at..)).any(|suffix| self.below.contains(suffix))
        };
        self.everything || self.names.contains(&host) || (!self.below.is_empty() && is_below())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::entry::{Host, NamespaceFilter};

    #[test]
    fn wildcards_match_one_label_in_certificates_and_many_in_servers() {
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
            ("*.B", "a.b.", true, true),
            ("A.b.", "a.B", true, true),
        ] {
            let list: NameList = [own].into_iter().collect();
            assert_eq!(list.covers(host), covered, "{own} covers {host}");
            let host_of = |name: &str| Host {
                name: Some(name.to_owned()),
                from: NamespaceFilter::Everywhere,
            };
            let entry = Entry { hosts: vec![host_of(own)], ..Entry::default() };
            let served_here = Served::of(&entry, false, &Attachment::default(), "ns").has(host);
            assert_eq!(served_here, served, "{own} serves {host}");
        }
    }

    #[test]
    fn a_route_adds_names_only_where_it_is_served() {
        let entry = |hosts: &[(Option<&str>, NamespaceFilter)]| Entry {
            place: ListenerRef { section: "web".into(), port: Some(443) },
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
            ..Attachment::default()
        };
        let all = NamespaceFilter::Everywhere;
        let wild = entry(&[(Some("*.x"), all.clone())]);
        let any = entry(&[(None, all.clone())]);
        for (entry, route, names) in [
            (&wild, route(None, None, &["a.x", "a.a.x", "a.y", "*"]), vec!["*.x", "a.a.x"]),
            (&any, route(None, None, &["a.x", "a.x", "b.y", "*"]), vec!["a.x", "b.y"]),
            (&any, route(Some("web"), Some(443), &["a.x"]), vec!["a.x"]),
            (&any, route(Some("other"), None, &["a.x"]), vec![]),
            (&any, route(None, Some(8443), &["a.x"]), vec![]),
            (&entry(&[(None, NamespaceFilter::Here)]), route(None, None, &["a.x"]), vec![]),
            (
                &entry(&[(None, NamespaceFilter::Namespace("apps".into()))]),
                route(None, None, &["a.x"]),
                vec!["a.x"],
            ),
            // A server that lists names accepts no others, even if `*` is among them.
            (
                &entry(&[(None, all.clone()), (Some("c.x"), all.clone())]),
                route(None, None, &["a.x"]),
                vec!["c.x"],
            ),
        ] {
            assert_eq!(
                Routes::new(&[route], "infra").names_of_entry(entry, 100).0.as_slice(),
                names
            );
        }
    }

    #[test]
    fn newer_routes_do_not_displace_older_ones() {
        let any = Host { name: None, from: NamespaceFilter::Everywhere };
        let entry = Entry { hosts: vec![any], ..Entry::default() };
        let route = |namespace: &str, second, hostnames: Vec<String>| Attachment {
            namespace: namespace.into(),
            created: Timestamp::from_second(second).ok(),
            hostnames: hostnames.into(),
            ..Attachment::default()
        };
        let many = (0..5_000).map(|it| format!("h{it}.evil")).collect();
        let routes = [
            route("a-newer", 2, many),
            route("older", 1, vec!["one.x".to_owned(), "two.x".to_owned()]),
        ];
        let (names, left_out) = Routes::new(&routes, "infra").names_of_entry(&entry, 4);
        assert_eq!(names.as_slice(), ["h0.evil", "h1.evil", "one.x", "two.x"]);
        assert_eq!(left_out, 998);
        let (names, left_out) = Routes::new(&routes[1..], "infra").names_of_entry(&entry, 2);
        assert_eq!((names.as_slice().len(), left_out), (2, 0));
    }

    #[test]
    fn comparisons_are_limited_for_each_namespace_separately() {
        let host = Host { name: Some("*.x".into()), from: NamespaceFilter::Everywhere };
        let entry = Entry { hosts: vec![host], ..Entry::default() };
        let route = |namespace: &str, count: usize| Attachment {
            namespace: namespace.into(),
            hostnames: (0..count).map(|it| format!("h{it}.{namespace}.x")).collect(),
            ..Attachment::default()
        };
        let mut all = vec![route("good", 1)];
        all.resize(5, route("evil", 250));
        let mut routes = Routes::new(&all, "infra");
        let found: Vec<usize> =
            (0..1_000).map(|_| routes.names_of_entry(&entry, 1_000).0.as_slice().len()).collect();
        assert_eq!((found[0], found[98], found[101]), (101, 101, 2));
        assert_eq!(found.last(), Some(&2), "the other namespace is served");
        assert_eq!(routes.exhausted().collect::<Vec<_>>(), ["evil"]);
        let mut few = Routes::new(&all[..1], "infra");
        assert_eq!(few.names_of_entry(&entry, 1_000).0.as_slice(), ["*.x", "h0.good.x"]);
        assert_eq!(few.exhausted().count(), 0);
    }
}
