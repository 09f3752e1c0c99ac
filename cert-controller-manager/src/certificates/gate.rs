//! How many orders of an issuer run at once, and who is next: namespaces take turns, so that one
//! with ten thousand Certificates does not hold up one with a single one.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use cert_lib::plan::Slot;

use crate::api::CertificateKey;

/// See the [module](self).
#[derive(Debug)]
pub struct Gate {
    at_once: usize,
    issuers: Mutex<HashMap<String, Line>>,
}

#[derive(Debug, Default)]
struct Line {
    running: HashSet<CertificateKey>,
    /// Admitted by a leaver, not yet running.
    called: HashSet<CertificateKey>,
    waiting: BTreeMap<String, VecDeque<CertificateKey>>,
    /// The namespace that had the last turn.
    last: String,
}

impl Gate {
    /// A gate that lets `at_once` orders of each issuer run.
    #[must_use]
    pub fn new(at_once: usize) -> Self {
        Self { at_once, issuers: Mutex::default() }
    }

    /// Whether `key` may place an order now. Changes nothing.
    #[must_use]
    pub fn look(&self, issuer: &str, key: &CertificateKey) -> Slot {
        let issuers = self.lock();
        let Some(line) = issuers.get(issuer) else { return Slot::Free };
        if line.running.contains(key) || line.called.contains(key) {
            return Slot::Free;
        }
        if line.running.len() + line.called.len() < self.at_once && line.waiting.is_empty() {
            return Slot::Free;
        }
        Slot::Taken
    }

    /// Puts `key` in the line: [`leave`](Self::leave) will name it when its turn has come. Where
    /// somebody has left since `key` [looked](Self::look), it may come at once instead.
    pub fn wait(&self, issuer: &str, key: &CertificateKey) -> Slot {
        let mut issuers = self.lock();
        let line = issuers.entry(issuer.to_owned()).or_default();
        if line.running.len() + line.called.len() < self.at_once && line.waiting.is_empty() {
            line.called.insert(key.clone());
            return Slot::Free;
        }
        let own = line.waiting.entry(key.object.namespace.clone()).or_default();
        if !own.contains(key) {
            own.push_back(key.clone());
        }
        Slot::Taken
    }

    /// `key` has an order running.
    pub fn enter(&self, issuer: &str, key: &CertificateKey) {
        let mut issuers = self.lock();
        let line = issuers.entry(issuer.to_owned()).or_default();
        line.drop_out(key);
        line.running.insert(key.clone());
    }

    /// `key` needs no slot any more. Returns who may come now.
    pub fn leave(&self, key: &CertificateKey) -> Vec<CertificateKey> {
        let mut issuers = self.lock();
        let mut called = Vec::new();
        for line in issuers.values_mut() {
            line.running.remove(key);
            line.drop_out(key);
            while line.running.len() + line.called.len() < self.at_once {
                let Some(next) = line.next() else { break };
                line.called.insert(next.clone());
                called.push(next);
            }
        }
        issuers.retain(|_, line| !line.is_idle());
        called
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Line>> {
        self.issuers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn drop_out(&mut self, key: &CertificateKey) {
        self.called.remove(key);
        if let Some(own) = self.waiting.get_mut(&key.object.namespace) {
            own.retain(|other| other != key);
            if own.is_empty() {
                self.waiting.remove(&key.object.namespace);
            }
        }
    }

    /// The first of the namespace whose turn it is.
    fn next(&mut self) -> Option<CertificateKey> {
        let after = (std::ops::Bound::Excluded(self.last.clone()), std::ops::Bound::Unbounded);
        let turn =
            self.waiting.range(after).next().or_else(|| self.waiting.iter().next())?.0.clone();
        let own = self.waiting.get_mut(&turn)?;
        let next = own.pop_front();
        if own.is_empty() {
            self.waiting.remove(&turn);
        }
        self.last = turn;
        next
    }

    fn is_idle(&self) -> bool {
        self.running.is_empty() && self.called.is_empty() && self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Home, ObjectKey};

    fn key(namespace: &str, name: &str) -> CertificateKey {
        CertificateKey::new(Home::Source, ObjectKey::new(namespace, name))
    }

    #[test]
    fn namespaces_take_turns_and_those_who_came_first_go_first() {
        let gate = Gate::new(1);
        let first = key("a", "0");
        assert_eq!(gate.look("ca", &first), Slot::Free);
        gate.enter("ca", &first);
        for name in ["1", "2", "3"] {
            assert_eq!(gate.wait("ca", &key("a", name)), Slot::Taken);
        }
        assert_eq!(gate.wait("ca", &key("b", "1")), Slot::Taken);
        assert_eq!(gate.look("ca", &key("b", "1")), Slot::Taken);
        let mut order = Vec::new();
        let mut leaver = first;
        while let [next] = gate.leave(&leaver).as_slice() {
            assert_eq!(gate.look("ca", next), Slot::Free);
            gate.enter("ca", next);
            order.push(next.to_string());
            leaver = next.clone();
        }
        assert_eq!(order, ["a/1", "b/1", "a/2", "a/3"]);
    }

    #[test]
    fn one_who_is_called_and_does_not_come_lets_the_next_in() {
        let gate = Gate::new(1);
        gate.enter("ca", &key("a", "0"));
        assert_eq!(gate.wait("ca", &key("a", "1")), Slot::Taken);
        assert_eq!(gate.wait("ca", &key("a", "2")), Slot::Taken);
        assert_eq!(gate.leave(&key("a", "0")), [key("a", "1")]);
        assert_eq!(gate.leave(&key("a", "1")), [key("a", "2")]);
    }

    #[test]
    fn a_slot_that_came_free_between_the_look_and_the_line_is_not_lost() {
        let gate = Gate::new(1);
        gate.enter("ca", &key("a", "0"));
        assert_eq!(gate.look("ca", &key("a", "1")), Slot::Taken);
        assert!(gate.leave(&key("a", "0")).is_empty());
        assert_eq!(gate.wait("ca", &key("a", "1")), Slot::Free);
        assert_eq!(gate.look("ca", &key("a", "1")), Slot::Free);
        assert_eq!(gate.look("ca", &key("a", "2")), Slot::Taken);
    }

    #[test]
    fn issuers_have_gates_of_their_own() {
        let gate = Gate::new(1);
        gate.enter("one", &key("a", "0"));
        assert_eq!(gate.look("two", &key("a", "1")), Slot::Free);
    }
}
