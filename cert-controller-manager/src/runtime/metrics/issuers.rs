//! Label values for issuers. Certificates may name issuers that do not exist, and tenants may create
//! issuers. Therefore a name becomes a label value only if the issuer controller has registered it, up
//! to a limit.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::{IssuerKey, issuer::IssuerKind};

/// Properties of an issuer for labels.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IssuerFacts {
    /// Its kind.
    pub kind: IssuerKind,
    /// Host of its ACME directory, with the port if the URL has one.
    pub server: Option<String>,
    /// Its ACME account.
    pub account: Option<Account>,
}

/// An ACME account.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Account {
    /// Its URL.
    pub uri: String,
    /// Its contact address.
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
    /// `None` for an issuer above the limit.
    label: Option<String>,
    facts: IssuerFacts,
}

/// Label value for issuers above the limit, and for servers without issuer.
pub(super) const OTHER: &str = "other";
/// Label value for issuers that do not exist.
const NONE: &str = "";

impl Issuers {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, known: BTreeMap::new() }
    }

    /// Adds or updates an issuer. Returns its previous properties.
    pub(super) fn put(&mut self, key: &IssuerKey, facts: IssuerFacts) -> Option<IssuerFacts> {
        if let Some(known) = self.known.get_mut(key) {
            return Some(std::mem::replace(&mut known.facts, facts));
        }
        let labelled = self.known.values().filter(|known| known.label.is_some()).count();
        let label = (labelled < self.limit).then(|| key.to_string());
        self.known.insert(key.clone(), Known { label, facts });
        None
    }

    /// Removes an issuer. Returns its label value, if it had one, which then goes to another issuer.
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

    /// The label value of an issuer.
    pub(super) fn label(&self, key: &IssuerKey) -> &str {
        self.label_and_kind(key).0
    }

    /// The values of the labels `issuer` and `issuertype`.
    pub(super) fn label_and_kind(&self, key: &IssuerKey) -> (&str, &'static str) {
        match self.known.get(key) {
            None => (NONE, NONE),
            Some(known) => (known.label.as_deref().unwrap_or(OTHER), known.facts.kind.word()),
        }
    }

    /// Visits each issuer with its own label value.
    pub(super) fn each_label(&self, mut visit: impl FnMut(&str, &IssuerFacts)) {
        for known in self.known.values() {
            if let Some(label) = &known.label {
                visit(label, &known.facts);
            }
        }
    }

    /// The label value of a server: its host, if a labelled issuer has it.
    pub(super) fn server<'a>(&self, host: &'a str) -> &'a str {
        if self.servers().contains(host) { host } else { OTHER }
    }

    /// Hosts of the ACME directories of labelled issuers.
    pub(super) fn servers(&self) -> BTreeSet<&str> {
        let labelled = self.known.values().filter(|known| known.label.is_some());
        labelled.filter_map(|known| known.facts.server.as_deref()).collect()
    }

    /// Number of issuers above the limit.
    pub(super) fn omitted(&self) -> usize {
        self.known.values().filter(|known| known.label.is_none()).count()
    }
}
