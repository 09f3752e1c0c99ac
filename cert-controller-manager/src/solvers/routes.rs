//! The solvers of one issuer, and which one proves a name. Pure.

use std::{collections::BTreeMap, fmt, sync::Arc};

use cert_lib::{model::name::DnsName, solve::dns01::Propagation};

use super::dns_server::DnsServerSolver;
use crate::api::issuer::SolverKind;

/// Labels of a Certificate.
pub type Labels = BTreeMap<String, String>;

/// The solvers of one issuer, in the order of its specification.
#[derive(Clone, Default)]
pub struct SolverRoutes(pub Vec<Route>);

/// One solver of an issuer, and its names.
#[derive(Clone)]
pub struct Route {
    /// The names.
    pub selector: Selector,
    /// The solver.
    pub solver: RouteSolver,
    /// The check with name servers of the issuer or the solver; the manager's if unset.
    pub propagation: Option<Arc<Propagation>>,
    /// Whether CNAMEs are followed even if the Certificate does not ask for it.
    pub follows_cnames: bool,
}

/// The solver of a route.
#[derive(Clone)]
pub enum RouteSolver {
    /// One that all issuers share.
    Shared(SolverKind),
    /// One with a configuration of its own.
    Own(Arc<DnsServerSolver>),
}

impl fmt::Display for RouteSolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shared(kind) => f.write_str(kind.word()),
            Self::Own(solver) => f.write_str(&solver.name),
        }
    }
}

/// The names of a solver. An empty condition matches all.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Selector {
    /// Exact names.
    pub names: Vec<DnsName>,
    /// Domains with all names below.
    pub zones: Vec<DnsName>,
    /// Labels of the Certificate.
    pub labels: Labels,
}

/// How specific a match is: an exact name, then the length of the zone, then the number of labels.
type Rank = (bool, usize, usize);

impl Selector {
    fn rank(&self, name: &DnsName, labels: &Labels) -> Option<Rank> {
        let is_exact = self.names.contains(name);
        let within = self.zones.iter().filter(|zone| name.base().is_within(zone));
        let zone = within.map(|zone| zone.as_str().len()).max();
        let labels_match = self.labels.iter().all(|(key, value)| labels.get(key) == Some(value));
        let matches = labels_match
            && (self.names.is_empty() || is_exact)
            && (self.zones.is_empty() || zone.is_some());
        matches.then_some((is_exact, zone.unwrap_or_default(), self.labels.len()))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: &[DnsName]| {
            let shown = names.iter().take(MAX_SHOWN).map(DnsName::as_str);
            let more = if names.len() > MAX_SHOWN { ", …" } else { "" };
            format!("{}{more}", shown.collect::<Vec<_>>().join(", "))
        };
        let mut parts = Vec::new();
        if !self.names.is_empty() {
            parts.push(format!("dnsNames {}", list(&self.names)));
        }
        if !self.zones.is_empty() {
            parts.push(format!("dnsZones {}", list(&self.zones)));
        }
        let labels = self.labels.iter().take(MAX_SHOWN);
        let labels: Vec<String> = labels.map(|(key, value)| format!("{key}={value}")).collect();
        if !labels.is_empty() {
            parts.push(format!("matchLabels {}", labels.join(", ")));
        }
        match parts.as_slice() {
            [] => f.write_str("all names"),
            parts => f.write_str(&parts.join(" and ")),
        }
    }
}

impl SolverRoutes {
    /// One solver for all names.
    #[must_use]
    pub fn all(solver: SolverKind, propagation: Option<Arc<Propagation>>) -> Self {
        Self(vec![Route {
            selector: Selector::default(),
            solver: RouteSolver::Shared(solver),
            propagation,
            follows_cnames: false,
        }])
    }

    /// The position of the solver that proves control of `name`: of several with equally specific
    /// selectors, the first.
    #[must_use]
    pub fn of(&self, name: &DnsName, labels: &Labels) -> Option<usize> {
        self.best(|selector| selector.rank(name, labels))
    }

    /// The position of the solver of a challenge name. A name and its wildcard share one.
    #[must_use]
    pub fn of_challenge(&self, challenge: &DnsName, labels: &Labels) -> Option<usize> {
        let name = challenge.parent().filter(|name| name.challenge() == *challenge);
        let name = name.as_ref().unwrap_or(challenge);
        let wildcard: Option<DnsName> = format!("*.{name}").parse().ok();
        self.best(|selector| {
            let wildcard = wildcard.as_ref().and_then(|name| selector.rank(name, labels));
            selector.rank(name, labels).max(wildcard)
        })
    }

    fn best(&self, rank: impl Fn(&Selector) -> Option<Rank>) -> Option<usize> {
        let ranked = self.0.iter().enumerate();
        let ranked = ranked.filter_map(|(at, route)| Some((rank(&route.selector)?, at)));
        let best = ranked.max_by(|(a, first), (b, second)| a.cmp(b).then(second.cmp(first)));
        best.map(|(_, at)| at)
    }

    /// Those `labels` that a selector has. A tenant chooses the others, in any size.
    #[must_use]
    pub fn selecting(&self, labels: &Labels) -> Labels {
        let selectors = || self.0.iter().map(|route| &route.selector);
        let selects = |key: &str, value: &String| {
            selectors().any(|selector| selector.labels.get(key) == Some(value))
        };
        let selecting = labels.iter().filter(|(key, value)| selects(key, value));
        selecting.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Why `name` has no solver.
    #[must_use]
    pub fn uncovered(&self, name: &DnsName) -> String {
        let shown = self.0.iter().take(MAX_SHOWN);
        let shown: Vec<String> =
            shown.map(|route| format!("{} for {}", route.solver, route.selector)).collect();
        let more = if self.0.len() > MAX_SHOWN { "; …" } else { "" };
        format!(
            "no solver of the issuer covers {name}; its solvers are: {}{more}. Extend a selector in \
             spec.acme.solvers",
            shown.join("; ")
        )
    }
}

/// Solvers and names in one message.
const MAX_SHOWN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> DnsName {
        text.parse().unwrap()
    }

    fn names(texts: &[&str]) -> Vec<DnsName> {
        texts.iter().map(|text| name(text)).collect()
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn routes(selectors: Vec<Selector>) -> SolverRoutes {
        let route = |selector| Route {
            selector,
            solver: RouteSolver::Shared(SolverKind::DnsEntry),
            propagation: None,
            follows_cnames: false,
        };
        SolverRoutes(selectors.into_iter().map(route).collect())
    }

    fn example() -> SolverRoutes {
        let zones = |zones: &[&str]| Selector { zones: names(zones), ..Selector::default() };
        routes(vec![
            Selector::default(),
            zones(&["b.test", "c.test"]),
            zones(&["x.b.test"]),
            Selector { names: names(&["*.x.b.test", "d.test"]), ..Selector::default() },
            Selector { labels: labels(&[("team", "red")]), ..Selector::default() },
            zones(&["b.test"]),
        ])
    }

    #[test]
    fn the_most_specific_selector_wins_and_of_equal_ones_the_first() {
        let routes = example();
        for (text, team, want) in [
            ("a.test", "", 0),
            ("a.test", "red", 4),
            ("b.test", "red", 1),
            ("*.b.test", "", 1),
            ("y.b.test", "", 1),
            ("bb.test", "", 0),
            ("x.b.test", "", 2),
            ("*.x.b.test", "", 3),
            ("z.x.b.test", "", 2),
            ("d.test", "red", 3),
            ("*.d.test", "", 0),
        ] {
            let labels = labels(&[("team", team)]);
            assert_eq!(routes.of(&name(text), &labels), Some(want), "{text} {team}");
        }
    }

    #[test]
    fn a_name_and_its_wildcard_share_the_most_specific_solver() {
        let routes = example();
        let of = |text: &str| routes.of_challenge(&name(text).challenge(), &Labels::new());
        assert_eq!(of("x.b.test"), Some(3));
        assert_eq!(of("b.test"), Some(1));
        assert_eq!(routes.of_challenge(&name("x.c.test"), &Labels::new()), Some(1));
    }

    #[test]
    fn all_conditions_of_a_selector_must_match() {
        let routes = routes(vec![Selector {
            names: names(&["a.b.test", "a.c.test"]),
            zones: names(&["b.test"]),
            labels: labels(&[("team", "red")]),
        }]);
        let red = labels(&[("team", "red"), ("other", "x")]);
        assert_eq!(routes.of(&name("a.b.test"), &red), Some(0));
        assert_eq!(routes.of(&name("a.b.test"), &labels(&[("team", "blue")])), None);
        assert_eq!(routes.of(&name("a.c.test"), &red), None);
        assert_eq!(routes.of(&name("b.b.test"), &red), None);
        assert_eq!(routes.selecting(&red), labels(&[("team", "red")]));
        assert_eq!(
            routes.uncovered(&name("b.b.test")),
            "no solver of the issuer covers b.b.test; its solvers are: DNSEntry for dnsNames \
             a.b.test, a.c.test and dnsZones b.test and matchLabels team=red. Extend a selector in \
             spec.acme.solvers"
        );
    }
}
