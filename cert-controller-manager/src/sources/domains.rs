//! Which names of routes belong to the certificate of a server or listener.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use jiff::Timestamp;

use super::{
    names::{NameList, normalize},
    object::{Entry, Labels, PublicHost},
};

/// So many names of the routes of one namespace are looked at for one entry.
const MAX_LOOKED: usize = 1_000;
/// So many looks at routes and their names are shared by all entries of an object and all namespaces
/// with routes: some tenths of a second.
const ALL_LOOKS: usize = 1_000_000;
/// The share of one namespace, at least and at most.
const LOOKS: (usize, usize) = (5_000, 100_000);

/// A route, as far as one of the things that it is attached to sees it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Attachment {
    /// The namespace of the route.
    pub namespace: Arc<str>,
    /// Its labels, where they are known.
    pub labels: Option<Arc<Labels>>,
    /// The only listener that is meant, where one is.
    pub section: Option<String>,
    /// The only port that is meant, where one is.
    pub port: Option<i64>,
    /// When the route was made.
    pub created: Option<Timestamp>,
    /// Names that the route serves. All attachments of a route share them.
    pub hostnames: Arc<[String]>,
}

/// The routes of one object while its entries are looked at, by namespace.
///
/// Entries and routes multiply, and tenants write both. So each namespace has a share of looks for
/// all entries together: what one spends is not missing to another.
pub struct Routes<'a> {
    /// The namespace of the object.
    here: &'a str,
    namespaces: BTreeMap<&'a str, OfNamespace<'a>>,
}

struct OfNamespace<'a> {
    /// With their places among all routes: the order of names depends on it.
    routes: Vec<(usize, &'a Attachment)>,
    /// How many looks are left.
    looks: usize,
    /// Whether there was more to look at.
    is_spent: bool,
}

/// A name that a route adds.
struct Candidate<'a> {
    place: usize,
    created: Option<Timestamp>,
    name: &'a str,
}

impl<'a> Routes<'a> {
    /// The routes of an object in the namespace `here`.
    #[must_use]
    pub fn new(routes: &'a [Attachment], here: &'a str) -> Self {
        let mut namespaces: BTreeMap<&str, OfNamespace<'_>> = BTreeMap::new();
        let none = || OfNamespace { routes: Vec::new(), looks: 0, is_spent: false };
        for (place, route) in routes.iter().enumerate() {
            let namespace = namespaces.entry(&*route.namespace).or_insert_with(none);
            namespace.routes.push((place, route));
        }
        let looks = (ALL_LOOKS / namespaces.len().max(1)).clamp(LOOKS.0, LOOKS.1);
        namespaces.values_mut().for_each(|namespace| namespace.looks = looks);
        Self { here, namespaces }
    }

    /// The names of an entry: its own, then those of its routes that it serves and does not cover
    /// yet, and how many of the latter are left out because there would be more than `room`.
    ///
    /// A route adds nothing to an entry that would not serve it: not from a namespace that may not
    /// attach, not to another listener, and no name outside the entry's own ones, so that the
    /// certificates of two servers do not get each other's names. Names of older routes stay when
    /// there is no room for those of newer ones, so that nobody takes the place of others.
    #[must_use]
    pub fn of_entry(&mut self, entry: &Entry, room: usize) -> (NameList, usize) {
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

    /// The namespaces whose routes were not all looked at.
    pub fn spent(&self) -> impl Iterator<Item = &str> {
        self.namespaces.iter().filter(|(_, it)| it.is_spent).map(|(namespace, _)| *namespace)
    }

    /// The names of routes that an entry serves and that its own names do not cover, each once.
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

impl<'a> OfNamespace<'a> {
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
        let Some(looks) = self.looks.checked_sub(entry.hosts.len()) else {
            self.is_spent = true;
            return;
        };
        self.looks = looks;
        let served = Served::of(entry, own.is_empty(), first, here);
        if served.is_nothing() {
            return;
        }
        let mut looked = 0;
        for (place, route) in routes {
            if looked == MAX_LOOKED {
                break;
            }
            // The route itself is a look, too.
            let Some(looks) = self.looks.checked_sub(1) else {
                self.is_spent = true;
                break;
            };
            let count = route.hostnames.len().min(MAX_LOOKED - looked);
            self.is_spent |= count > looks;
            let count = count.min(looks);
            self.looks = looks - count;
            looked += count;
            for name in route.hostnames.iter().take(count) {
                if name != "*" && served.has(name) && !own.covers(name) {
                    found.push(Candidate { place: *place, created: route.created, name });
                }
            }
        }
    }
}

fn host_applies(place: &PublicHost, route: &Attachment) -> bool {
    let section = route.section.as_ref().is_none_or(|section| *section == place.section);
    section && route.port.is_none_or(|port| Some(port) == place.port)
}

/// What an entry serves of the routes of one namespace.
struct Served<'a> {
    everything: bool,
    names: HashSet<Cow<'a, str>>,
    /// The wildcards among them without their `*`.
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

    /// Whether `host` is served: a wildcard here stands for any number of labels.
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
    use crate::sources::object::{Host, NamespaceFilter};

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
            place: PublicHost { section: "web".into(), port: Some(443) },
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
            // A server that lists names takes no others, even with `*` among them.
            (
                &entry(&[(None, all.clone()), (Some("c.x"), all.clone())]),
                route(None, None, &["a.x"]),
                vec!["c.x"],
            ),
        ] {
            assert_eq!(Routes::new(&[route], "infra").of_entry(entry, 100).0.as_slice(), names);
        }
    }

    #[test]
    fn newer_routes_do_not_take_the_place_of_older_ones() {
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
        let (names, left_out) = Routes::new(&routes, "infra").of_entry(&entry, 4);
        assert_eq!(names.as_slice(), ["h0.evil", "h1.evil", "one.x", "two.x"]);
        assert_eq!(left_out, 998);
        let (names, left_out) = Routes::new(&routes[1..], "infra").of_entry(&entry, 2);
        assert_eq!((names.as_slice().len(), left_out), (2, 0));
    }

    #[test]
    fn a_namespace_has_so_many_looks_for_all_entries_and_takes_none_of_others() {
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
            (0..1_000).map(|_| routes.of_entry(&entry, 1_000).0.as_slice().len()).collect();
        assert_eq!((found[0], found[98], found[101]), (101, 101, 2));
        assert_eq!(found.last(), Some(&2), "the other namespace is served");
        assert_eq!(routes.spent().collect::<Vec<_>>(), ["evil"]);
        let mut few = Routes::new(&all[..1], "infra");
        assert_eq!(few.of_entry(&entry, 1_000).0.as_slice(), ["*.x", "h0.good.x"]);
        assert_eq!(few.spent().count(), 0);
    }
}
