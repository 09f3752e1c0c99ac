//! What there is: reads stores and, where a Secret changed, the Secret. Decides nothing.

use std::{
    collections::HashMap,
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cert_lib::{
    model::request::Subject,
    plan::{Have, IssuerState, Quota, Want},
};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde::Serialize;

use crate::{
    api::{Certificate, IssuerKey, ObjectKey, marks, responsible},
    certificates::{
        convert,
        reconcile::Controller,
        secret::{self, Facts},
        status,
    },
    issuers::{self, choice::Chosen, quota::Whose, registry::Lookup},
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
    /// The issuer that is meant.
    pub issuer: Chosen,
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
        issuer: Chosen,
    ) -> kube::Result<Observed> {
        let secret = convert::secret_key(certificate);
        // What is refused has no business with anybody's Secret.
        let facts = match &want.request {
            Ok(_) => self.secrets.get(&secret).await?,
            Err(_) => None,
        };
        let key_is_elsewhere =
            matches!(want.request.as_ref().map(|request| &request.subject), Ok(Subject::Csr(_)));
        let labels = certificate.spec.secret_labels.as_ref();
        let have = Have {
            responsible: responsible(certificate, &self.settings.class),
            rival: self.rival(certificate, &secret).map(|rival| rival.to_string()),
            issuer: self.issuer_state(&issuer),
            running: self.orders.running(key),
            secret: secret::state(&secret, facts.as_ref(), labels, key_is_elsewhere),
            backoff: status::backoff(certificate),
            quota: self.quota(&issuer.key).map_or(Quota::Open, |quota| quota.look(whose(key))),
            slot: self.gate.look(&issuer.key.to_string(), key),
        };
        Ok(Observed { have, secret, facts, issuer })
    }

    /// Only those count as rivals that may write into the namespace of the Secret.
    fn rival(&self, certificate: &Certificate, secret: &ObjectKey) -> Option<ObjectKey> {
        self.index.rival(certificate, secret, |other| {
            let at_home = other.metadata.namespace.as_deref() == Some(secret.namespace.as_str());
            (at_home || self.settings.cross_namespace_secrets)
                && responsible(other, &self.settings.class)
        })
    }

    fn issuer_state(&self, issuer: &Chosen) -> IssuerState {
        let name = &issuer.key;
        let lookup = self.issuers.lookup(name);
        match (&issuer.refusal, lookup) {
            // An issuer that is not there can refuse nothing, one that is not served refuses all.
            (Some(why), _) => IssuerState::Refuses(why.clone()),
            (None, Lookup::Missing) => IssuerState::Missing(format!(
                "issuer {} does not exist: create it or name another one in issuerRef",
                self.object(name)
            )),
            (None, Lookup::Unknown) => {
                IssuerState::NotReady("it has not been looked at yet".to_owned())
            }
            (None, Lookup::NotReady(why)) => {
                IssuerState::NotReady(format!("referenced issuer {name} not ready: {why}"))
            }
            (None, Lookup::Ready { needs_dns: true, .. }) => match self.challenges.missing() {
                Some(why) => IssuerState::NoSolver(why),
                None => IssuerState::Ready,
            },
            (None, Lookup::Ready { needs_dns: false, .. }) => IssuerState::Ready,
        }
    }

    /// The issuer's object.
    pub(super) fn object(&self, issuer: &IssuerKey) -> ObjectKey {
        match issuer {
            IssuerKey::Default(name) => ObjectKey::new(&self.issuers.rules().namespace, name),
            IssuerKey::Target(object) => object.clone(),
        }
    }

    /// How much the issuer may be asked for, where somebody counts.
    pub(super) fn quota(&self, issuer: &IssuerKey) -> Option<Arc<issuers::quota::Quota>> {
        match self.issuers.lookup(issuer) {
            Lookup::Ready { quota, .. } => quota,
            Lookup::Missing | Lookup::Unknown | Lookup::NotReady(_) => None,
        }
    }
}

/// The Certificate, as quotas count it.
pub(super) fn whose(key: &ObjectKey) -> Whose<'_> {
    Whose { namespace: &key.namespace, certificate: &key.name }
}

/// Facts of the target's Secrets, each read once per version.
pub struct Secrets {
    cluster: TargetCluster,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    facts: HashMap<ObjectKey, Facts>,
    /// Secrets that are being read or written, and whether the watch saw news of them meanwhile:
    /// then nobody knows which of the two is older, and nothing is remembered.
    under_way: HashMap<ObjectKey, bool>,
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
        if let Some(facts) = self.lock().facts.get(key) {
            return Ok(Some(facts.clone()));
        }
        let api = self.api(key);
        self.remember(key, async { api.get_opt(&key.name).await }).await
    }

    /// Writes a Secret, and knows it afterwards.
    ///
    /// # Errors
    /// When it could not be written.
    pub async fn write<P: Serialize + Debug>(
        &self,
        key: &ObjectKey,
        params: &PatchParams,
        patch: &Patch<P>,
    ) -> kube::Result<()> {
        let api = self.api(key);
        let call = async { api.patch(&key.name, params, patch).await.map(Some) };
        self.remember(key, call).await.map(drop)
    }

    /// Takes what a call says of a Secret, unless the watch said something meanwhile.
    async fn remember(
        &self,
        key: &ObjectKey,
        call: impl Future<Output = kube::Result<Option<Secret>>>,
    ) -> kube::Result<Option<Facts>> {
        self.lock().under_way.insert(key.clone(), false);
        let answer = call.await;
        let mut known = self.lock();
        let overtaken = known.under_way.remove(key).unwrap_or(true);
        let facts = answer?.as_ref().map(secret::facts);
        // Only what carries our label is watched, and only what is watched may be remembered.
        if let Some(facts) = &facts
            && !overtaken
            && facts.labels.contains_key(marks::CERTIFICATE)
        {
            known.facts.insert(key.clone(), facts.clone());
        }
        Ok(facts)
    }

    /// The watch saw a version of a Secret. Returns whether it is news.
    pub fn seen(&self, key: &ObjectKey, version: Option<&str>) -> bool {
        let mut known = self.lock();
        let facts = known.facts.get(key);
        let is_known = facts.is_some_and(|it| Some(it.resource_version.as_str()) == version);
        if !is_known {
            known.facts.remove(key);
            if let Some(overtaken) = known.under_way.get_mut(key) {
                *overtaken = true;
            }
        }
        !is_known
    }

    /// All Secrets that something is known of.
    #[must_use]
    pub fn keys(&self) -> Vec<ObjectKey> {
        self.lock().facts.keys().cloned().collect()
    }

    /// The API of the Secret's namespace.
    #[must_use]
    pub fn api(&self, key: &ObjectKey) -> Api<Secret> {
        Api::namespaced(self.cluster.0.clone(), &key.namespace)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
