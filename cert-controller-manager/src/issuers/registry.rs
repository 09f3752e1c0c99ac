//! The issuers that can issue, and why the others cannot. One writer, the issuers' controller;
//! Certificates look things up.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use cert_lib::issue::Issuer;

use crate::runtime::queue::Shared;

/// See the [module](self).
pub struct Registry {
    entries: RwLock<HashMap<String, Lookup>>,
    /// The issuers' controller.
    queue: Shared<String>,
}

/// What is known of an issuer.
#[derive(Clone)]
pub enum Lookup {
    /// There is none of this name.
    Missing,
    /// There is one, and its controller has not looked at it yet: the process has just started.
    Unknown,
    /// There is one, but it cannot issue; the text says why.
    NotReady(String),
    /// It can issue.
    Ready {
        /// What issues.
        issuer: Arc<dyn Issuer>,
        /// Whether it needs a place to publish DNS records in.
        needs_dns: bool,
    },
}

impl Registry {
    /// An empty registry; whoever is doubted is put into `queue`.
    #[must_use]
    pub fn new(queue: Shared<String>) -> Self {
        Self { entries: RwLock::default(), queue }
    }

    /// What is known of the issuer `name`.
    #[must_use]
    pub fn lookup(&self, name: &str) -> Lookup {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.get(name).cloned().unwrap_or(Lookup::Missing)
    }

    /// An issuer turned out not to work: nobody uses it until its controller has looked again.
    pub fn doubt(&self, name: &str, why: &str) {
        if matches!(self.lookup(name), Lookup::Ready { .. }) {
            self.put(name, Lookup::NotReady(why.to_owned()));
        }
        self.queue.push(name.to_owned());
    }

    /// There is an issuer of this name; its controller will say more.
    pub(super) fn seen(&self, name: &str) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        entries.entry(name.to_owned()).or_insert(Lookup::Unknown);
    }

    /// The controller knows more of an issuer.
    pub(super) fn put(&self, name: &str, lookup: Lookup) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        match lookup {
            Lookup::Missing => entries.remove(name),
            known @ (Lookup::Unknown | Lookup::NotReady(_) | Lookup::Ready { .. }) => {
                entries.insert(name.to_owned(), known)
            }
        };
    }
}
