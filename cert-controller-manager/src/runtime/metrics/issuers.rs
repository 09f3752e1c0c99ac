//! The issuers that may be named in a label, and how. Certificates name issuers that need not exist,
//! and tenants may have issuers of their own, so a name becomes a label only when the issuers'
//! controller has said that it exists, and only as long as there are not too many.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::{IssuerKey, issuer::IssuerKind};

/// An issuer as the metrics know it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IssuerFacts {
    /// Its kind.
    pub kind: IssuerKind,
    /// Host of its ACME directory, with the port where the URL has one.
    pub server: Option<String>,
    /// Its ACME account.
    pub account: Option<Account>,
}

/// An ACME account.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Account {
    /// Its URL.
    pub uri: String,
    /// Whom the CA writes to.
    pub email: String,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Issuers {
    limit: usize,
    known: BTreeMap<IssuerKey, Known>,
}

#[derive(Debug)]
struct Known {
    /// `None` for one issuer too many.
    label: Option<String>,
    facts: IssuerFacts,
}

/// Label of the issuers that are too many, and of servers that no issuer has.
pub(super) const OTHER: &str = "other";
/// Label of issuers that do not exist.
const NONE: &str = "";

impl Issuers {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, known: BTreeMap::new() }
    }

    /// There is such an issuer. Returns what was known of it.
    pub(super) fn put(&mut self, key: &IssuerKey, facts: IssuerFacts) -> Option<IssuerFacts> {
        if let Some(known) = self.known.get_mut(key) {
            return Some(std::mem::replace(&mut known.facts, facts));
        }
        let labelled = self.known.values().filter(|known| known.label.is_some()).count();
        let label = (labelled < self.limit).then(|| key.to_string());
        self.known.insert(key.clone(), Known { label, facts });
        None
    }

    /// There is no such issuer any more. Returns its label, where it had one of its own, which then
    /// leaves room for another one.
    pub(super) fn remove(&mut self, key: &IssuerKey) -> Option<(Option<String>, IssuerFacts)> {
        let known = self.known.remove(key)?;
        if known.label.is_some()
            && let Some((key, next)) =
                self.known.iter_mut().find(|(_, known)| known.label.is_none())
        {
            next.label = Some(key.to_string());
        }
        Some((known.label, known.facts))
    }

    /// The label of an issuer.
    pub(super) fn label(&self, key: &IssuerKey) -> &str {
        self.label_and_kind(key).0
    }

    /// The labels `issuer` and `issuertype` of an issuer.
    pub(super) fn label_and_kind(&self, key: &IssuerKey) -> (&str, &'static str) {
        match self.known.get(key) {
            None => (NONE, NONE),
            Some(known) => (known.label.as_deref().unwrap_or(OTHER), known.facts.kind.word()),
        }
    }

    /// Shows each issuer that has a label of its own.
    pub(super) fn each_label(&self, mut visit: impl FnMut(&str, &IssuerFacts)) {
        for known in self.known.values() {
            if let Some(label) = &known.label {
                visit(label, &known.facts);
            }
        }
    }

    /// The label of a server: a host of one of the labelled issuers.
    pub(super) fn server<'a>(&self, host: &'a str) -> &'a str {
        if self.servers().contains(host) { host } else { OTHER }
    }

    /// Hosts of ACME directories of labelled issuers.
    pub(super) fn servers(&self) -> BTreeSet<&str> {
        let labelled = self.known.values().filter(|known| known.label.is_some());
        labelled.filter_map(|known| known.facts.server.as_deref()).collect()
    }

    /// How many have no label of their own.
    pub(super) fn omitted(&self) -> usize {
        self.known.values().filter(|known| known.label.is_none()).count()
    }
}
