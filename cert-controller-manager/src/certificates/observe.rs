//! What there is: reads stores and, where a Secret changed, the Secret. Decides nothing.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use cert_lib::{
    model::request::Subject,
    plan::{Have, IssuerState, Running, Want},
};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Resource, ResourceExt};

use crate::{
    api::{Certificate, ObjectKey, marks},
    certificates::{
        convert,
        reconcile::Controller,
        secret::{self, Facts},
        status,
    },
    issuers::registry::Lookup,
    runtime::clusters::TargetCluster,
};

/// What a pass found.
pub struct Observed {
    /// For the plan.
    pub have: Have,
    /// Where the result goes.
    pub secret: ObjectKey,
    /// What is there now.
    pub facts: Option<Facts>,
    /// Name of the issuer in the issuer namespace.
    pub issuer: Result<String, String>,
}

impl Controller {
    /// Looks at everything that the plan for `certificate` depends on.
    ///
    /// # Errors
    /// When the Secret could not be read.
    pub(super) async fn observe(
        &self,
        key: &ObjectKey,
        certificate: &Certificate,
        want: &Want,
    ) -> kube::Result<Observed> {
        let secret = convert::secret_key(certificate);
        let issuer = convert::issuer_name(certificate, &self.settings);
        let facts = self.secrets.get(&secret).await?;
        let key_is_elsewhere =
            matches!(want.request.as_ref().map(|request| &request.subject), Ok(Subject::Csr(_)));
        let labels = certificate.spec.secret_labels.as_ref();
        let have = Have {
            responsible: responsible(certificate, &self.settings.class),
            rival: self.index.rival(certificate, &secret).map(|rival| rival.to_string()),
            issuer: self.issuer_state(&issuer),
            running: self.orders.fingerprint(key).map(|fingerprint| Running { fingerprint }),
            secret: secret::state(&secret, facts.as_ref(), labels, key_is_elsewhere),
            backoff: status::backoff(certificate),
            slot: self.gate.look(issuer.as_deref().unwrap_or_default(), key),
        };
        Ok(Observed { have, secret, facts, issuer })
    }

    fn issuer_state(&self, issuer: &Result<String, String>) -> IssuerState {
        let name = match issuer {
            Ok(name) => name,
            Err(why) => return IssuerState::Missing(why.clone()),
        };
        match self.issuers.lookup(name) {
            Lookup::Missing => IssuerState::Missing(format!(
                "issuer {}/{name} does not exist: create it or name another one in issuerRef",
                self.settings.issuer_namespace
            )),
            Lookup::Unknown => IssuerState::NotReady("it has not been looked at yet".to_owned()),
            Lookup::NotReady(why) => {
                IssuerState::NotReady(format!("referenced issuer {name} not ready: {why}"))
            }
            Lookup::Ready { needs_dns: true, .. } => match self.challenges.missing() {
                Some(why) => IssuerState::NoSolver(why),
                None => IssuerState::Ready,
            },
            Lookup::Ready { needs_dns: false, .. } => IssuerState::Ready,
        }
    }
}

/// Whether an object of this class annotation is ours. Empty means the default class.
#[must_use]
pub fn responsible<K: Resource>(object: &K, class: &str) -> bool {
    let annotated = object.annotations().get(marks::CLASS).map(String::as_str).unwrap_or_default();
    let effective = if annotated.is_empty() { marks::DEFAULT_CLASS } else { annotated };
    effective == class
}

/// Facts of the target's Secrets, each read once per version.
pub struct Secrets {
    cluster: TargetCluster,
    known: Mutex<HashMap<ObjectKey, Facts>>,
}

impl Secrets {
    /// Nothing known yet.
    #[must_use]
    pub fn new(cluster: TargetCluster) -> Self {
        Self { cluster, known: Mutex::default() }
    }

    /// The facts of a Secret; `None` where there is no Secret. What is known is not read again:
    /// [`seen`](Self::seen) says when it has changed.
    ///
    /// # Errors
    /// When it could not be read.
    pub async fn get(&self, key: &ObjectKey) -> kube::Result<Option<Facts>> {
        if let Some(facts) = self.lock().get(key) {
            return Ok(Some(facts.clone()));
        }
        let Some(secret) = self.api(key).get_opt(&key.name).await? else { return Ok(None) };
        Ok(Some(self.put(key, &secret)))
    }

    /// Takes a Secret that was read or written.
    pub fn put(&self, key: &ObjectKey, secret: &Secret) -> Facts {
        let facts = secret::facts(secret);
        // Only what carries our label is watched, and only what is watched may be remembered.
        if facts.labels.contains_key(marks::CERTIFICATE) {
            self.lock().insert(key.clone(), facts.clone());
        }
        facts
    }

    /// The watch saw a version of a Secret. Returns whether it is news.
    pub fn seen(&self, key: &ObjectKey, version: Option<&str>) -> bool {
        let mut known = self.lock();
        let is_known =
            known.get(key).is_some_and(|facts| Some(facts.resource_version.as_str()) == version);
        if !is_known {
            known.remove(key);
        }
        !is_known
    }

    /// All Secrets that something is known of.
    #[must_use]
    pub fn keys(&self) -> Vec<ObjectKey> {
        self.lock().keys().cloned().collect()
    }

    /// The API of the Secret's namespace.
    #[must_use]
    pub fn api(&self, key: &ObjectKey) -> Api<Secret> {
        Api::namespaced(self.cluster.0.clone(), &key.namespace)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectKey, Facts>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
