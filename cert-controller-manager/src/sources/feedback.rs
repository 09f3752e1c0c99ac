//! Tells people on the source object what becomes of its certificates: events, said only when
//! something changed. What was said is remembered while the process lives; after a start only what
//! is wrong is said again.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{BuildHasher, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::api::core::v1::ObjectReference;

use super::{
    kind::SourceKey, object::Object, owned_certificates::OwnedCertificate, routes::Problem,
};
use crate::{api::ObjectKey, runtime::events::EventRecorder};

/// Reason of events about what is done.
const RECONCILE: &str = "reconcile";
/// Reason of events about the state of a certificate.
const STATE: &str = "cert-annotation";
/// Longest text of a foreign object in an event.
const MAX_TEXT: usize = 500;

/// See the [module](self).
pub struct Feedback {
    reports: EventRecorder,
    memory: Mutex<HashMap<SourceKey, Reported>>,
    hasher: RandomState,
}

/// What was said. Others decide how long the texts are, so their hashes are kept.
#[derive(Default)]
struct Reported {
    /// The last word about each Secret.
    states: BTreeMap<ObjectKey, u64>,
    complaints: BTreeSet<u64>,
}

/// Something to say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CertificateState {
    /// All is well.
    Normal(String),
    /// Somebody should have a look.
    Warning(String),
}

impl Feedback {
    /// Events go to `reports`.
    #[must_use]
    pub fn new(reports: EventRecorder) -> Self {
        Self { reports, memory: Mutex::default(), hasher: RandomState::new() }
    }

    /// Says that something was done.
    pub fn done(&self, key: &SourceKey, object: &Object, what: &str) {
        self.reports.normal(reference(key, object), RECONCILE, what);
    }

    /// Says what cannot be done, each thing once until it has changed.
    pub fn report_problems(&self, key: &SourceKey, object: &Object, complaints: &[String]) {
        let complaints: BTreeMap<u64, String> = complaints
            .iter()
            .map(|text| cut(text))
            .map(|text| (self.hasher.hash_one(&text), text))
            .collect();
        let known = complaints.keys().copied().collect();
        let before = {
            let mut memory = self.lock();
            let memory = memory.entry(key.clone()).or_default();
            std::mem::replace(&mut memory.complaints, known)
        };
        let fresh = complaints.into_iter().filter(|(hash, _)| !before.contains(hash));
        let fresh = fresh.map(|(_, text)| text);
        for complaint in fresh {
            self.reports.warning(reference(key, object), RECONCILE, &complaint);
        }
    }

    /// Says on routes what is wrong with them.
    pub fn routes(&self, complaints: Vec<Problem>) {
        for Problem { about, text } in complaints {
            self.reports.warning(about, RECONCILE, &text);
        }
    }

    /// Says in which state the Certificates are.
    pub fn states(&self, key: &SourceKey, object: &Object, slaves: &[OwnedCertificate]) {
        if let Some(memory) = self.lock().get_mut(key) {
            let there: BTreeSet<_> = slaves.iter().filter_map(|it| it.secret.as_ref()).collect();
            memory.states.retain(|secret, _| there.contains(secret));
        }
        for (secret, state) in slaves
            .iter()
            .filter_map(|slave| Some((slave.secret.clone()?, certificate_state(slave)?)))
        {
            let (text, wrong) = match &state {
                CertificateState::Normal(text) => (text, false),
                CertificateState::Warning(text) => (text, true),
            };
            let before = {
                let mut memory = self.lock();
                let states = &mut memory.entry(key.clone()).or_default().states;
                states.insert(secret.clone(), self.hasher.hash_one(text))
            };
            let about = || reference(key, object);
            let note = format!("{secret}: {}", cut(text));
            match before {
                Some(before) if before == self.hasher.hash_one(text) => {}
                None if !wrong => {}
                _ if wrong => self.reports.warning(about(), STATE, &note),
                _ => self.reports.normal(about(), STATE, &note),
            }
        }
    }

    /// A Certificate for `secret` was made: everything about it is news from now on.
    pub fn expect(&self, key: &SourceKey, secret: ObjectKey) {
        self.lock().entry(key.clone()).or_default().states.insert(secret, self.hasher.hash_one(""));
    }

    /// The object is not there any more.
    pub fn forget(&self, key: &SourceKey) {
        self.lock().remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SourceKey, Reported>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What there is to say about a Certificate, in upstream's words: people match on them.
#[must_use]
pub fn certificate_state(slave: &OwnedCertificate) -> Option<CertificateState> {
    let with = |text: &str| match slave.message.as_str() {
        "" => text.to_owned(),
        message => format!("{text}: {message}"),
    };
    match slave.state.as_str() {
        "Ready" if slave.message.is_empty() => {
            Some(CertificateState::Normal("certificate ready".to_owned()))
        }
        "Ready" => Some(CertificateState::Normal(slave.message.clone())),
        "Pending" => Some(CertificateState::Normal(with("certificate pending"))),
        "Error" => Some(CertificateState::Warning(with("errornous certificate"))),
        _ => None,
    }
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

fn reference(key: &SourceKey, object: &Object) -> ObjectReference {
    let name = key.kind.name();
    let api_version = match name.group {
        "" => object.version.to_owned(),
        group => format!("{group}/{}", object.version),
    };
    ObjectReference {
        api_version: Some(api_version),
        kind: Some(name.kind.to_owned()),
        namespace: Some(key.object.namespace.clone()),
        name: Some(key.object.name.clone()),
        uid: Some(object.uid.clone()),
        ..ObjectReference::default()
    }
}
