//! Reports the state of Certificates as events on their source object, once for each change.
//!
//! Reported states are kept in memory. After a restart, only warnings are repeated.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{BuildHasher, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::api::core::v1::ObjectReference;

use super::{
    key::SourceKey, object::Object, owned_certificates::OwnedCertificate, routes::Problem,
};
use crate::{
    api::{ObjectKey, source::KindName},
    runtime::events::EventRecorder,
};

/// Reason of events about changes to Certificates.
const RECONCILE: &str = "reconcile";
/// Reason of events about the state of a Certificate.
const STATE: &str = "cert-annotation";
/// Maximum number of characters from other objects in an event.
const MAX_TEXT: usize = 500;

/// See the [module](self).
pub struct Feedback {
    events: EventRecorder,
    reported: Mutex<HashMap<SourceKey, Reported>>,
    hasher: RandomState,
}

/// Hashes of the reported messages. Tenants determine their length, so the texts are not kept.
#[derive(Default)]
struct Reported {
    /// The last reported state for each Secret.
    states: BTreeMap<ObjectKey, u64>,
    problems: BTreeSet<u64>,
}

/// The state of a Certificate, with the message to report.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CertificateState {
    /// Reported as normal event.
    Normal(String),
    /// Reported as warning.
    Warning(String),
}

impl Feedback {
    /// Publishes events with `events`.
    #[must_use]
    pub fn new(events: EventRecorder) -> Self {
        Self { events, reported: Mutex::default(), hasher: RandomState::new() }
    }

    /// Reports a change.
    pub fn report_change(&self, key: &SourceKey, object: &Object, what: &str) {
        self.events.normal(reference(key, object), RECONCILE, what);
    }

    /// Reports problems, each once until it changes.
    pub fn report_problems(&self, key: &SourceKey, object: &Object, problems: &[String]) {
        let problems: BTreeMap<u64, String> = problems
            .iter()
            .map(|text| cut(text))
            .map(|text| (self.hasher.hash_one(&text), text))
            .collect();
        let known = problems.keys().copied().collect();
        let before = {
            let mut reported = self.lock();
            let reported = reported.entry(key.clone()).or_default();
            std::mem::replace(&mut reported.problems, known)
        };
        let fresh = problems.into_iter().filter(|(hash, _)| !before.contains(hash));
        let fresh = fresh.map(|(_, text)| text);
        for problem in fresh {
            self.events.warning(reference(key, object), RECONCILE, &problem);
        }
    }

    /// Reports problems of routes, on the routes.
    pub fn report_route_problems(&self, problems: Vec<Problem>) {
        for problem in problems {
            self.events.warning(route_reference(&problem), RECONCILE, &problem.text);
        }
    }

    /// Reports state changes of the Certificates.
    pub fn report_states(&self, key: &SourceKey, object: &Object, owned: &[OwnedCertificate]) {
        if let Some(reported) = self.lock().get_mut(key) {
            let there: BTreeSet<_> = owned.iter().filter_map(|it| it.secret.as_ref()).collect();
            reported.states.retain(|secret, _| there.contains(secret));
        }
        for (secret, state) in owned.iter().filter_map(|certificate| {
            Some((certificate.secret.clone()?, certificate_state(certificate)?))
        }) {
            let (text, wrong) = match &state {
                CertificateState::Normal(text) => (text, false),
                CertificateState::Warning(text) => (text, true),
            };
            let before = {
                let mut reported = self.lock();
                let states = &mut reported.entry(key.clone()).or_default().states;
                states.insert(secret.clone(), self.hasher.hash_one(text))
            };
            let about = || reference(key, object);
            let note = format!("{secret}: {}", cut(text));
            match before {
                Some(before) if before == self.hasher.hash_one(text) => {}
                None if !wrong => {}
                _ if wrong => self.events.warning(about(), STATE, &note),
                _ => self.events.normal(about(), STATE, &note),
            }
        }
    }

    /// Reports every state of the new Certificate for `secret`, including a normal first state.
    pub fn expect_states(&self, key: &SourceKey, secret: ObjectKey) {
        self.lock().entry(key.clone()).or_default().states.insert(secret, self.hasher.hash_one(""));
    }

    /// Forgets a deleted object.
    pub fn forget(&self, key: &SourceKey) {
        self.lock().remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SourceKey, Reported>> {
        self.reported.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state of a Certificate in the wording of upstream, on which users may match.
#[must_use]
pub fn certificate_state(certificate: &OwnedCertificate) -> Option<CertificateState> {
    let with = |text: &str| match certificate.message.as_str() {
        "" => text.to_owned(),
        message => format!("{text}: {message}"),
    };
    match certificate.state.as_str() {
        "Ready" if certificate.message.is_empty() => {
            Some(CertificateState::Normal("certificate ready".to_owned()))
        }
        "Ready" => Some(CertificateState::Normal(certificate.message.clone())),
        "Pending" => Some(CertificateState::Normal(with("certificate pending"))),
        "Error" => Some(CertificateState::Warning(with("errornous certificate"))),
        _ => None,
    }
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

fn reference(key: &SourceKey, object: &Object) -> ObjectReference {
    reference_of(key.kind.name(), object.version, &key.object, &object.uid)
}

fn route_reference(problem: &Problem) -> ObjectReference {
    let (kind, key) = &problem.route;
    reference_of(&kind.row().objects.name, problem.version, key, &problem.uid)
}

fn reference_of(name: &KindName, version: &str, key: &ObjectKey, uid: &str) -> ObjectReference {
    let api_version = match name.group {
        "" => version.to_owned(),
        group => format!("{group}/{version}"),
    };
    ObjectReference {
        api_version: Some(api_version),
        kind: Some(name.kind.to_owned()),
        namespace: Some(key.namespace.clone()),
        name: Some(key.name.clone()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    }
}
