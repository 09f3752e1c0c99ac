//! The issuers that can issue, and why the others cannot. One writer, the issuers' controller;
//! Certificates look things up.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use cert_lib::issue::Issuer;

use crate::runtime::queue::Shared;

/// See the [module](self).
pub struct Registry {
    entries: RwLock<HashMap<String, Lookup>>,
    doubted: Mutex<HashSet<String>>,
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
        Self { entries: RwLock::default(), doubted: Mutex::default(), queue }
    }

    /// What is known of the issuer `name`.
    #[must_use]
    pub fn lookup(&self, name: &str) -> Lookup {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.get(name).cloned().unwrap_or(Lookup::Missing)
    }

    /// An issuer did not work for somebody: its controller asks the CA. Until then it stays what it
    /// is, as it may have been that one request.
    pub fn doubt(&self, name: &str) {
        let mut doubted = self.doubted.lock().unwrap_or_else(PoisonError::into_inner);
        doubted.insert(name.to_owned());
        self.queue.push(name.to_owned());
    }

    /// Whether the issuer was doubted since this was asked last.
    pub(super) fn take_doubt(&self, name: &str) -> bool {
        let mut doubted = self.doubted.lock().unwrap_or_else(PoisonError::into_inner);
        doubted.remove(name)
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
