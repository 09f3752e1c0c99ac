//! What there is: reads stores and, where a Secret changed, the Secret. Decides nothing.

use std::{
    collections::HashMap,
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cert_lib::{
    model::request::Subject,
    plan::{Have, IssuerState, Quota, SecretState, Want, backoff::Backoff},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
    core::PartialObjectMeta,
};
use serde::Serialize;

use crate::{
    api::{Certificate, CertificateKey, IssuerKey, ObjectKey, is_served, marks},
    certificates::{
        bond::{self, Bond},
        consent::Consent,
        gate::Standing,
        limits::{Counted, Situation},
        reconcile::Controller,
        secret::{
            self, Expectation, Facts,
            keystores::{Keystores, Stores},
            wishes::Wishes,
        },
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
    /// What the Certificate asks of it besides the certificate.
    pub wishes: Wishes,
    /// How its keystores are.
    pub stores: Stores,
    /// What ties it to the Certificate.
    pub bond: Bond,
    /// The issuer that is meant.
    pub issuer: Chosen,
    /// When the certificate was issued again lately.
    pub reissued: Vec<Timestamp>,
    /// How the CA counts a new order; `None` where nobody counts.
    pub counted: Option<Counted>,
    /// Who comes before it in line.
    pub standing: Standing,
}

impl Controller {
    /// Looks at everything that the plan for `certificate` depends on.
    ///
    /// # Errors
    /// When the Secret could not be read.
    pub(super) async fn observe(
        &self,
        key: &CertificateKey,
        certificate: &Certificate,
        want: &Want,
        issuer: Chosen,
    ) -> kube::Result<Observed> {
        let secret = certificate.secret_key();
        // What is refused has no business with anybody's Secret.
        let facts = match &want.request {
            Ok(_) => self.secrets.get(&secret).await?,
            Err(_) => None,
        };
        let key_is_elsewhere =
            matches!(want.request.as_ref().map(|request| &request.subject), Ok(Subject::Csr(_)));
        let bond =
            bond::bond(key, certificate, &secret, &self.places, self.settings.cascade_delete);
        let wishes = Wishes::of(&certificate.spec);
        let stores = match &facts {
            Some(facts) => self.secrets.stores(&secret, facts, &wishes, self.clock.now()).await,
            None => Stores::Current,
        };
        let expected = Expectation {
            wishes: &wishes,
            stores: &stores,
            key_is_elsewhere,
            bond: &bond,
            only_ours: !self.places.one_cluster || secret.namespace != key.object.namespace,
        };
        let state = secret::state(&secret, facts.as_ref(), &expected);
        let now = self.clock.now();
        let reissued = want
            .request
            .as_ref()
            .map(|request| self.setbacks.reissued(key, certificate, &request.fingerprint, now));
        let reissued = reissued.unwrap_or_default();
        let situation = Situation {
            key,
            certificate,
            want,
            issuer: &issuer.key,
            target: &secret,
            secret: &state,
            reissued: &reissued,
        };
        let counted = self.counted(&situation, now);
        let brake = self.brake(&situation, counted.as_ref(), now);
        let backoff = self.setbacks.backoff(key, certificate);
        let standing = standing(backoff, &state);
        let have = Have {
            responsible: is_served(certificate, &self.settings.classes),
            rival: self.rival(certificate, &secret).map(|rival| rival.to_string()),
            issuer: self.issuer_state(&issuer),
            running: self.orders.running(key),
            secret: state,
            backoff,
            quota: self.quota(&issuer.key).map_or(Quota::Open, |quota| quota.look(whose(key))),
            brake,
            slot: self.gate.look(&issuer.key.to_string(), key, standing),
        };
        Ok(Observed {
            have,
            secret,
            facts,
            wishes,
            stores,
            bond,
            issuer,
            reissued,
            counted,
            standing,
        })
    }

    /// Only those count as rivals that may write into the namespace of the Secret.
    fn rival(&self, certificate: &Certificate, secret: &ObjectKey) -> Option<CertificateKey> {
        self.index.rival(certificate, secret, |key, other| {
            let may_write = self.settings.cross_namespace_secrets
                || self.consents.of(&key.object.namespace, secret) == Consent::Given;
            may_write && is_served(other, &self.settings.classes)
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

/// A renewal is not put off because it failed: somebody is served until it succeeds.
fn standing(backoff: Option<Backoff>, secret: &SecretState) -> Standing {
    match (backoff, secret) {
        (Some(_), SecretState::Missing | SecretState::Unusable(_)) => Standing::Failed,
        (Some(_), SecretState::Holds(_) | SecretState::NotWritable(_)) | (None, _) => {
            Standing::Hopeful
        }
    }
}

/// The Certificate, as quotas count it.
pub(super) fn whose(key: &CertificateKey) -> Whose<'_> {
    Whose { namespace: &key.object.namespace, certificate: &key.object.name }
}

/// Facts of the target's Secrets, each read once per version.
pub struct Secrets {
    cluster: TargetCluster,
    known: Mutex<Known>,
    /// Their keystores.
    pub keystores: Keystores,
}

#[derive(Default)]
struct Known {
    facts: HashMap<ObjectKey, Facts>,
    /// All Secrets with our label.
    seen: HashMap<ObjectKey, Kind>,
    /// Secrets that are being read or written.
    under_way: HashMap<ObjectKey, UnderWay>,
}

/// Calls about one Secret.
#[derive(Clone, Copy, Debug, Default)]
struct UnderWay {
    calls: usize,
    /// The watch saw news meanwhile, or there were several calls: then nobody knows which answer is
    /// the oldest, and none is remembered.
    overtaken: bool,
}

/// What a Secret with our label is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Kind {
    backup: bool,
    revoked: bool,
}

/// How many Secrets there are with our label.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Count {
    /// All of them.
    pub total: usize,
    /// Copies for a revocation.
    pub backup: usize,
    /// Those whose certificate was revoked.
    pub revoked: usize,
}

impl Secrets {
    /// Nothing known yet.
    #[must_use]
    pub fn new(cluster: TargetCluster) -> Self {
        Self { cluster, known: Mutex::default(), keystores: Keystores::default() }
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

    /// How the keystores of a Secret are.
    async fn stores(
        &self,
        key: &ObjectKey,
        facts: &Facts,
        wishes: &Wishes,
        now: Timestamp,
    ) -> Stores {
        self.keystores.look(&self.api(key), key, facts, &wishes.stores, now).await
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
    ) -> kube::Result<Option<Facts>> {
        let api = self.api(key);
        let call = async { api.patch(&key.name, params, patch).await.map(Some) };
        self.remember(key, call).await
    }

    /// Takes what a call says of a Secret, unless the watch said something meanwhile.
    async fn remember(
        &self,
        key: &ObjectKey,
        call: impl Future<Output = kube::Result<Option<Secret>>>,
    ) -> kube::Result<Option<Facts>> {
        self.lock().begin(key);
        let answer = call.await;
        let mut known = self.lock();
        let overtaken = known.end(key);
        let facts = answer?.as_ref().map(secret::facts);
        // Only what carries our label is watched, and only what is watched may be remembered.
        if let Some(facts) = &facts
            && !overtaken
            && facts.label(marks::CERTIFICATE).is_some()
        {
            known.facts.insert(key.clone(), facts.clone());
        }
        Ok(facts)
    }

    /// The watch saw a version of a Secret, or that it is gone. Returns whether it is news.
    pub fn seen(&self, key: &ObjectKey, secret: Option<&PartialObjectMeta<Secret>>) -> bool {
        let mut known = self.lock();
        match secret {
            Some(secret) => known.seen.insert(key.clone(), kind(secret)),
            None => {
                self.keystores.forget(key);
                known.seen.remove(key)
            }
        };
        let version = secret.and_then(|secret| secret.metadata.resource_version.as_deref());
        let facts = known.facts.get(key);
        let is_known = facts.is_some_and(|it| Some(it.resource_version.as_str()) == version);
        if !is_known {
            known.facts.remove(key);
            if let Some(under_way) = known.under_way.get_mut(key) {
                under_way.overtaken = true;
            }
        }
        !is_known
    }

    /// All Secrets that the watch saw.
    #[must_use]
    pub fn keys(&self) -> Vec<ObjectKey> {
        self.lock().seen.keys().cloned().collect()
    }

    /// How many Secrets there are.
    #[must_use]
    pub fn count(&self) -> Count {
        let known = self.lock();
        known.seen.values().fold(Count::default(), |count, kind| Count {
            total: count.total + 1,
            backup: count.backup + usize::from(kind.backup),
            revoked: count.revoked + usize::from(kind.revoked),
        })
    }

    /// Deletes a Secret whose annotation names one of `owners`; leaves any other. *Idempotent*.
    ///
    /// # Errors
    /// When it could not be read or deleted.
    pub async fn delete_if_owned(&self, key: &ObjectKey, owners: &[String]) -> kube::Result<()> {
        let api = self.api(key);
        let Some(found) = api.get_metadata_opt(&key.name).await? else { return Ok(()) };
        let noted = found.annotations().get(marks::OWNERS);
        let is_ours = |it: &str| owners.iter().any(|owner| owner == it.trim());
        if !noted.is_some_and(|noted| noted.split(',').any(is_ours)) {
            return Ok(());
        }
        let same = Preconditions { uid: found.uid(), resource_version: None };
        let params = DeleteParams { preconditions: Some(same), ..DeleteParams::default() };
        match api.delete(&key.name, &params).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The API of all namespaces.
    #[must_use]
    pub fn all(&self) -> Api<Secret> {
        Api::all(self.cluster.0.clone())
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

impl Known {
    fn begin(&mut self, key: &ObjectKey) {
        let under_way = self.under_way.entry(key.clone()).or_default();
        under_way.calls += 1;
        under_way.overtaken |= under_way.calls > 1;
    }

    /// A call has its answer. Returns whether that may be outdated.
    fn end(&mut self, key: &ObjectKey) -> bool {
        let Some(under_way) = self.under_way.get_mut(key) else { return true };
        under_way.calls -= 1;
        let UnderWay { calls, overtaken } = *under_way;
        if calls == 0 {
            self.under_way.remove(key);
        }
        overtaken
    }
}

fn kind(secret: &PartialObjectMeta<Secret>) -> Kind {
    let is_true = |text: Option<&String>| text.is_some_and(|text| text == "true");
    Kind {
        backup: is_true(secret.labels().get(marks::BACKUP)),
        revoked: is_true(secret.annotations().get(marks::REVOKED)),
    }
}
