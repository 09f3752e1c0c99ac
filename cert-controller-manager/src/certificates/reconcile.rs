//! One pass over one Certificate, and what wakes it.

use std::{sync::Arc, time::Duration};

use cert_lib::{
    clock::Clock,
    model::reason::Reason,
    plan::{Action, Policy, plan},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
    core::PartialObjectMeta,
};
use serde_json::{Value, json};

use crate::{
    api::{
        Certificate, IssuerKey, ObjectKey,
        certificate::{CertificateStatus, UsedIssuer},
        marks, responsible,
    },
    certificates::{
        act::{Pass, Step},
        convert,
        gate::Gate,
        index::Index,
        observe::Secrets,
        progress::Store,
        secret,
        status::{self, Outcome, State},
    },
    config::CertificateSettings,
    issuers::{
        choice::Chosen,
        registry::{Lookup, Registry},
    },
    runtime::{
        clusters::SourceCluster, errors::brief, follow::Follower, merge, queue::Shared,
        report::Reports,
    },
    solvers::Challenges,
};

/// When a cluster cannot be reached, a pass is repeated after this.
const UNREACHABLE: Duration = Duration::from_secs(5);
/// A Certificate whose issuer was not looked at yet is looked at again after this.
const AFTER_START: Duration = Duration::from_secs(2);
/// What a cluster refuses is tried again after this.
const REFUSED: Duration = Duration::from_secs(60);
/// Longest sleep: a suspended machine or a moved clock is noticed within it.
const LONGEST: Duration = Duration::from_secs(3_600);

/// Everything that a pass needs. All of it is shared; a pass holds no lock while it waits.
pub struct Controller {
    /// Where Certificates live.
    pub source: SourceCluster,
    /// The Certificates.
    pub index: Index,
    /// The Secrets.
    pub secrets: Secrets,
    /// Running orders.
    pub orders: Store,
    /// How many of them.
    pub gate: Gate,
    /// Who issues.
    pub issuers: Arc<Registry>,
    /// Where proofs are published.
    pub challenges: Arc<Challenges>,
    /// What was asked of the manager.
    pub settings: CertificateSettings,
    /// For the plan.
    pub policy: Policy,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Events on Certificates.
    pub reports: Reports,
    /// Which Certificates need a pass.
    pub queue: Shared<ObjectKey>,
}

impl Controller {
    /// One pass. Returns after how long the next one is due.
    pub async fn reconcile(&self, key: ObjectKey) -> Option<Duration> {
        match self.pass(&key).await {
            Ok(Some(look_again)) => {
                let wait = look_again.duration_since(self.clock.now());
                Some(Duration::try_from(wait).unwrap_or_default().min(LONGEST))
            }
            Ok(None) => None,
            Err(kube::Error::Api(status)) if status.code == 409 => Some(Duration::from_millis(100)),
            // The watch will tell that it is gone.
            Err(kube::Error::Api(status))
                if status.code == 404 && self.index.get(&key).is_none() =>
            {
                None
            }
            Err(error) => {
                tracing::warn!(certificate = %key, "certificate {key}: a cluster refused or is away: {}", brief(&error));
                Some(UNREACHABLE)
            }
        }
    }

    async fn pass(&self, key: &ObjectKey) -> kube::Result<Option<Timestamp>> {
        let certificate = self.index.get(key);
        let alive = certificate.filter(|it| it.metadata.deletion_timestamp.is_none());
        let Some(certificate) = alive else { return self.gone(key).await };
        let now = self.clock.now();
        let issuer = self.chosen(&certificate);
        // Right after the start nothing can be said of a Certificate whose issuer was not looked at.
        if matches!(self.issuers.lookup(&issuer.key), Lookup::Unknown) {
            return Ok(Some(now + AFTER_START));
        }
        let want = convert::want(&certificate, &self.settings, &issuer);
        let observed = self.observe(key, &certificate, &want, issuer).await?;
        let plan = plan(&want, &observed.have, &self.policy, now);
        let pass = Pass {
            key,
            certificate: &certificate,
            want: &want,
            observed: &observed,
            plan: &plan,
            now,
        };
        let look_again = match self.act(&pass).await {
            Ok(Step::Say(outcome, look_again)) => {
                self.say(&pass, &outcome).await?;
                look_again
            }
            Ok(Step::Again) => return Ok(Some(now)),
            Ok(Step::Silent) => return Ok(None),
            Err(kube::Error::Api(status)) if is_refusal(&status) => {
                self.say_refused(&pass, &status.message).await?;
                now + REFUSED
            }
            Err(error) => return Err(error),
        };
        Ok(Some(self.clean_up_after(&pass, look_again).await))
    }

    /// Where no order runs any more, nothing that it published may stay.
    async fn clean_up_after(&self, pass: &Pass<'_>, look_again: Timestamp) -> Timestamp {
        let soon = pass.now + UNREACHABLE;
        match pass.plan.action {
            _ if self.order_runs(pass.key) => look_again,
            // It took its records away itself; the next pass looks whether they are gone.
            Action::Start | Action::Resume => look_again.min(soon),
            Action::Keep | Action::Rewrite | Action::Hold | Action::Refuse => {
                if self.sweep(pass.key).await { look_again } else { look_again.min(soon) }
            }
        }
    }

    /// A cluster refuses what a pass has to do: no outage, but a right or an object that is missing.
    async fn say_refused(&self, pass: &Pass<'_>, why: &str) -> kube::Result<()> {
        let message = format!("a cluster refuses what has to be written: {why}");
        let outcome =
            Outcome { reason: Reason::ClusterRefused, ..pass.outcome(State::Error, message) };
        self.say(pass, &outcome).await
    }

    /// The Certificate is gone or going: nothing of its order stays. Its Secret does.
    async fn gone(&self, key: &ObjectKey) -> kube::Result<Option<Timestamp>> {
        self.give_up(key).await?;
        let swept = self.sweep(key).await;
        Ok((!swept).then(|| self.clock.now() + UNREACHABLE))
    }

    /// The issuer that a Certificate means.
    fn chosen(&self, certificate: &Certificate) -> Chosen {
        self.issuers.choose(&convert::asked(certificate, &self.issuers.rules().namespace))
    }

    pub(super) fn order_runs(&self, key: &ObjectKey) -> bool {
        self.orders.running(key).is_some()
    }

    /// Removes challenge records that no order needs. Returns whether none is left.
    async fn sweep(&self, key: &ObjectKey) -> bool {
        match self.challenges.sweep(&key.owner()).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(certificate = %key, "challenge records of {key} could not be removed yet: {error}");
                false
            }
        }
    }

    /// Writes what there is to say about a Certificate, where it differs from what is said.
    pub(super) async fn say(&self, pass: &Pass<'_>, outcome: &Outcome) -> kube::Result<()> {
        let generation = |it: &Certificate| it.metadata.generation;
        let current = self.index.get(pass.key);
        if current.as_deref().map(generation) != Some(generation(pass.certificate)) {
            // Gone, or asking for something else by now: there is nothing to say of it yet.
            self.queue.push(pass.key.clone());
            return Ok(());
        }
        let certificate = self.mark(pass, outcome).await?;
        let issuer = &pass.observed.issuer;
        let object = self.object(&issuer.key);
        let cluster = match issuer.key {
            IssuerKey::Default(_) => "default",
            IssuerKey::Target(_) => "target",
        };
        let issuer = issuer.refusal.is_none().then(|| UsedIssuer {
            cluster: Some(cluster.to_owned()),
            name: object.name,
            namespace: object.namespace,
        });
        let should = status::of(&certificate, pass.want, issuer, outcome, &self.policy, pass.now);
        let Some(mut patch) = merge::status_patch(certificate.status.as_ref(), &should) else {
            return Ok(());
        };
        let is_news = is_news(certificate.status.as_ref(), &should, outcome.state);
        patch["metadata"] = json!({ "uid": certificate.uid() });
        let written = self
            .api(pass.key)
            .patch_status(&pass.key.name, &PatchParams::default(), &Patch::Merge(&patch))
            .await?;
        self.index.update(written);
        if is_news {
            self.tell(&certificate, pass.key, outcome);
        }
        Ok(())
    }

    /// Puts upstream's marks on a Certificate that is well: which request its Secret fulfils, how
    /// long, and where the Secret is.
    async fn mark(&self, pass: &Pass<'_>, outcome: &Outcome) -> kube::Result<Arc<Certificate>> {
        let current =
            self.index.get(pass.key).unwrap_or_else(|| Arc::new(pass.certificate.clone()));
        let (Ok(request), Some(leaf), State::Ready) =
            (&pass.want.request, &outcome.leaf, outcome.state)
        else {
            return Ok(current);
        };
        let secret = &pass.observed.secret;
        let labels = json!({ marks::HASH: request.fingerprint.as_str() });
        let annotations = json!({
            marks::NOT_BEFORE: secret::seconds(leaf.not_before),
            marks::NOT_AFTER: secret::seconds(leaf.not_after),
        });
        let reference = json!({ "name": secret.name, "namespace": secret.namespace });
        let is = serde_json::to_value(current.as_ref()).map_err(kube::Error::SerdeError)?;
        let has = |path: &str, wanted: &Value| {
            let found = is.pointer(path);
            wanted
                .as_object()
                .into_iter()
                .flatten()
                .all(|(name, value)| found.and_then(|found| found.get(name)) == Some(value))
        };
        if has("/metadata/labels", &labels)
            && has("/metadata/annotations", &annotations)
            && has("/spec/secretRef", &reference)
        {
            return Ok(current);
        }
        let patch = json!({
            "metadata": {
                "resourceVersion": current.resource_version(),
                "uid": current.uid(),
                "labels": labels,
                "annotations": annotations,
            },
            "spec": { "secretRef": reference },
        });
        self.write(pass.key, &patch).await
    }

    /// Patches a Certificate outside its status.
    pub(super) async fn write(
        &self,
        key: &ObjectKey,
        patch: &Value,
    ) -> kube::Result<Arc<Certificate>> {
        let written =
            self.api(key).patch(&key.name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        self.index.update(written.clone());
        Ok(Arc::new(written))
    }

    fn tell(&self, certificate: &Certificate, key: &ObjectKey, outcome: &Outcome) {
        let (word, message) = (outcome.reason.word(), &outcome.message);
        let about = certificate.object_ref(&());
        if outcome.state == State::Error {
            tracing::warn!(certificate = %key, reason = word, "certificate {key}: {message}");
            self.reports.warning(about, word, message);
        } else {
            tracing::info!(certificate = %key, reason = word, "certificate {key}: {message}");
            self.reports.normal(about, word, message);
        }
    }

    fn wake_users(&self, secret: &ObjectKey) {
        self.index.of_secret(secret).into_iter().for_each(|key| self.queue.push(key));
    }

    fn api(&self, key: &ObjectKey) -> Api<Certificate> {
        Api::namespaced(self.source.0.clone(), &key.namespace)
    }

    /// An issuer has changed: whoever uses it, or may be looking for one, and is not well gets a pass.
    pub fn issuer_changed(&self, key: &IssuerKey) {
        let waiting = self.index.matching(|certificate| {
            let state = certificate.status.as_ref().map(|status| status.state.as_str());
            let reference = certificate.spec.issuer_ref.as_ref().filter(|it| !it.name.is_empty());
            state != Some(State::Ready.word())
                && (reference.is_none() || self.chosen(certificate).key == *key)
        });
        waiting.into_iter().for_each(|key| self.queue.push(key));
    }

    /// The place for proofs has come or gone: whoever is not well gets a pass.
    pub fn challenges_changed(&self) {
        let waiting = self.index.matching(|certificate| {
            let state = certificate.status.as_ref().map(|status| status.state.as_str());
            responsible(certificate, &self.settings.class) && state != Some(State::Ready.word())
        });
        waiting.into_iter().for_each(|key| self.queue.push(key));
    }
}

/// Whether the API server said no, in contrast to not now.
fn is_refusal(status: &kube::core::Status) -> bool {
    (400..500).contains(&status.code) && ![404, 408, 409, 429].contains(&status.code)
}

/// Whether a change is worth an event. While an order runs its message follows its phases, and
/// waiting in line is no event: both are for the status alone.
fn is_news(before: Option<&CertificateStatus>, now: &CertificateStatus, state: State) -> bool {
    let changed = before.is_none_or(|before| before.state != now.state);
    match state {
        State::Waiting => false,
        State::Pending => changed,
        State::Ready | State::Error | State::Revoked => {
            changed || before.is_some_and(|before| before.message != now.message)
        }
    }
}

impl Follower<Certificate> for Controller {
    fn applied(&self, certificate: Certificate) {
        self.index.put(certificate).into_iter().for_each(|key| self.queue.push(key));
    }

    fn gone(&self, key: &ObjectKey) {
        self.index.remove(key).into_iter().for_each(|key| self.queue.push(key));
        self.queue.push(key.clone());
    }

    fn keys(&self) -> Vec<ObjectKey> {
        self.index.keys()
    }
}

/// Secrets are followed as metadata; they are read when a pass needs them.
impl Follower<PartialObjectMeta<Secret>> for Controller {
    fn applied(&self, secret: PartialObjectMeta<Secret>) {
        let key = ObjectKey::of(&secret);
        if self.secrets.seen(&key, secret.resource_version().as_deref()) {
            self.wake_users(&key);
        }
    }

    fn gone(&self, key: &ObjectKey) {
        self.secrets.seen(key, None);
        self.wake_users(key);
    }

    fn keys(&self) -> Vec<ObjectKey> {
        self.secrets.keys()
    }
}
