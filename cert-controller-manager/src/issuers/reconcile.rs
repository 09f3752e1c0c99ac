//! One pass over one Issuer, and what wakes it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cert_lib::{
    acme::client::Client as AcmeClient,
    clock::Clock,
    issue::{
        Disposition, Keys, Ladder,
        acme::{AcmeIssuer, Timing},
    },
    net::Http,
    plan::backoff,
    solve::Solver,
};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
    core::PartialObjectMeta,
};
use serde_json::json;

use super::{
    account::{self, Trouble},
    registry::{Lookup, Registry},
    status::{self, Outcome},
};
use crate::{
    api::{Issuer, ObjectKey, issuer::AcmeSpec, responsible},
    runtime::{
        clusters::DefaultCluster, errors::brief, follow::Follower, merge, queue::Shared,
        report::Reports,
    },
    solvers,
};

/// Everything that a pass needs.
pub struct Controller {
    /// Where Issuers live.
    pub cluster: DefaultCluster,
    /// The namespace that they live in.
    pub namespace: String,
    /// Class to serve.
    pub class: String,
    /// Whom Certificates ask.
    pub registry: Arc<Registry>,
    /// The way to CAs.
    pub http: Arc<dyn Http>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Makes keys of certificates.
    pub keys: Arc<dyn Keys>,
    /// Publishes proofs.
    pub solver: Arc<dyn Solver>,
    /// How long proofs may take.
    pub timing: Timing,
    /// Events on Issuers.
    pub reports: Reports,
    /// Which Issuers need a pass.
    pub queue: Shared<String>,
    /// Told the name of each issuer that has changed.
    pub changed: tokio::sync::mpsc::UnboundedSender<String>,
    /// What this process knows of issuers.
    pub known: Known,
}

/// What this process knows of issuers.
#[derive(Default)]
pub struct Known {
    issuers: Mutex<HashMap<String, Arc<Issuer>>>,
    built: Mutex<HashMap<String, Built>>,
    waits: Mutex<HashMap<String, SignedDuration>>,
}

/// An issuer as it was built last, so that a pass that finds nothing new keeps its connections and
/// nonces.
struct Built {
    recipe: Recipe,
    client: Arc<AcmeClient>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Recipe {
    server: String,
    secret_hash: String,
    account: String,
    needs_dns: bool,
}

/// A cluster that is away is tried again after this.
const UNREACHABLE: Duration = Duration::from_secs(5);

impl Controller {
    /// One pass. Returns after how long the next one is due.
    pub async fn reconcile(&self, name: String) -> Option<Duration> {
        let issuer = lock(&self.known.issuers).get(&name).cloned();
        let ours = issuer.filter(|issuer| responsible(issuer.as_ref(), &self.class));
        let Some(issuer) = ours else {
            self.registry.put(&name, Lookup::Missing);
            lock(&self.known.built).remove(&name);
            let _ = self.changed.send(name);
            return None;
        };
        let outcome = self.prepare(&name, &issuer).await;
        let again = self.settle(&name, &outcome);
        let said = match outcome {
            Ok(registration) => Outcome::Ready(registration),
            Err(trouble) => {
                self.registry.put(&name, Lookup::NotReady(trouble.to_string()));
                Outcome::Error(trouble.to_string())
            }
        };
        let _ = self.changed.send(name.clone());
        match self.say(&name, &issuer, &said).await {
            Ok(()) => again,
            Err(error) => {
                tracing::warn!(issuer = %name, "issuer {name}: its status cannot be written: {}", brief(&error));
                Some(UNREACHABLE)
            }
        }
    }

    /// Makes the issuer usable. Returns what its status keeps of the account.
    async fn prepare(&self, name: &str, issuer: &Issuer) -> Result<serde_json::Value, Trouble> {
        let Some(spec) = &issuer.spec.acme else {
            return Err(Trouble::Mend(match (&issuer.spec.ca, &issuer.spec.self_signed) {
                (None, None) => "concrete issuer unspecified: set acme".to_owned(),
                _ => "this version issues through ACME only: set acme".to_owned(),
            }));
        };
        check(spec)?;
        let secret = account::key_secret(issuer, spec, &self.namespace);
        let stored = account::load_key(&self.cluster.0, issuer, spec, &secret).await?;
        self.note_secret(issuer, spec, &secret).await?;
        let client = self.client(name, &spec.server);
        // An issuer that was doubted or not ready asks the CA, whatever its status remembers.
        let doubted = self.registry.take_doubt(name)
            | matches!(self.registry.lookup(name), Lookup::NotReady(_));
        let remembered = issuer.status.as_ref().and_then(|status| status.acme.as_ref());
        let remembered = remembered.filter(|_| !doubted);
        let found = account::find(&client, &stored, &spec.email, remembered).await?;
        let needs_dns = spec.skip_dns_challenge_validation != Some(true);
        let recipe = Recipe {
            server: spec.server.clone(),
            secret_hash: stored.hash,
            account: found.account.url().to_owned(),
            needs_dns,
        };
        self.install(name, recipe, client, found.account);
        Ok(found.registration)
    }

    fn install(
        &self,
        name: &str,
        recipe: Recipe,
        client: Arc<AcmeClient>,
        account: cert_lib::acme::account::Account,
    ) {
        let is_ready = matches!(self.registry.lookup(name), Lookup::Ready { .. });
        let mut built = lock(&self.known.built);
        if is_ready && built.get(name).is_some_and(|built| built.recipe == recipe) {
            return;
        }
        let solver: Arc<dyn Solver> =
            if recipe.needs_dns { self.solver.clone() } else { Arc::new(solvers::skip::Skip) };
        let issuer =
            AcmeIssuer::new(account, solver, self.clock.clone(), self.keys.clone(), self.timing);
        let needs_dns = recipe.needs_dns;
        built.insert(name.to_owned(), Built { recipe, client });
        self.registry.put(name, Lookup::Ready { issuer: Arc::new(issuer), needs_dns });
    }

    /// The client of the issuer's CA: the one in use, while the server stays the same.
    fn client(&self, name: &str, server: &str) -> Arc<AcmeClient> {
        let built = lock(&self.known.built);
        match built.get(name).filter(|built| built.recipe.server == server) {
            Some(built) => built.client.clone(),
            None => Arc::new(AcmeClient::new(self.http.clone(), self.clock.clone(), server)),
        }
    }

    /// Writes the reference to a key that we made into the Issuer, as upstream does.
    async fn note_secret(
        &self,
        issuer: &Issuer,
        spec: &AcmeSpec,
        secret: &ObjectKey,
    ) -> Result<(), Trouble> {
        let named = spec.private_key_secret_ref.as_ref().and_then(|it| it.name.as_deref());
        if named.is_some_and(|name| !name.is_empty()) {
            return Ok(());
        }
        let reference = json!({ "name": secret.name, "namespace": secret.namespace });
        let patch = json!({ "spec": { "acme": { "privateKeySecretRef": reference } } });
        let written = self
            .api()
            .patch(&issuer.name_any(), &PatchParams::default(), &Patch::Merge(patch))
            .await;
        written.map(|_| ()).map_err(|error| Trouble::Failed {
            message: format!("noting the account key in the Issuer failed: {}", brief(&error)),
            disposition: Disposition::Retry(Ladder::Transport),
        })
    }

    /// When to look again after a failure; the ladder is forgotten on success.
    fn settle(&self, name: &str, outcome: &Result<serde_json::Value, Trouble>) -> Option<Duration> {
        let mut waits = lock(&self.known.waits);
        let disposition = match outcome {
            Ok(_) => {
                waits.remove(name);
                return None;
            }
            // Whoever mends it changes the Issuer or a Secret that we watch; the look is for the rest.
            Err(Trouble::Mend(_)) => Disposition::Retry(Ladder::Transport),
            Err(Trouble::Failed { disposition, .. }) => *disposition,
        };
        let now = self.clock.now();
        let wait = backoff::after(disposition, waits.get(name).copied(), now).interval;
        waits.insert(name.to_owned(), wait);
        Duration::try_from(wait).ok()
    }

    async fn say(&self, name: &str, issuer: &Issuer, outcome: &Outcome) -> kube::Result<()> {
        let should = status::of(issuer, outcome);
        let before = issuer.status.as_ref();
        let Some(patch) = merge::status_patch(before, &should) else { return Ok(()) };
        let written =
            self.api().patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        match written {
            Ok(written) => lock(&self.known.issuers).insert(name.to_owned(), Arc::new(written)),
            // Deleted in the meantime: the watch will tell.
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            Err(error) => return Err(error),
        };
        let is_news =
            before.is_none_or(|it| (&it.state, &it.message) != (&should.state, &should.message));
        if is_news {
            let about = issuer.object_ref(&());
            match outcome {
                Outcome::Ready(_) => {
                    tracing::info!(issuer = %name, "issuer {name} is ready");
                    self.reports.normal(about, "Ready", "the account is registered");
                }
                Outcome::Error(message) => {
                    tracing::warn!(issuer = %name, "issuer {name}: {message}");
                    self.reports.warning(about, "IssuerNotReady", message);
                }
            }
        }
        Ok(())
    }

    fn api(&self) -> Api<Issuer> {
        Api::namespaced(self.cluster.0.clone(), &self.namespace)
    }
}

/// What must be there before anybody is asked anything.
fn check(spec: &AcmeSpec) -> Result<(), Trouble> {
    if spec.email.is_empty() {
        return Err(Trouble::Mend("missing email in ACME spec".to_owned()));
    }
    if spec.server.is_empty() {
        return Err(Trouble::Mend("missing server in ACME spec".to_owned()));
    }
    if spec.external_account_binding.is_some() {
        return Err(Trouble::Mend(
            "externalAccountBinding is not supported by this version".to_owned(),
        ));
    }
    if spec.domains.is_some() {
        return Err(Trouble::Mend("domains is not supported by this version".to_owned()));
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Follower<Issuer> for Controller {
    fn applied(&self, issuer: Issuer) {
        let name = issuer.name_any();
        let known = lock(&self.known.issuers).insert(name.clone(), Arc::new(issuer.clone()));
        let is_echo =
            known.is_some_and(|known| known.resource_version() == issuer.resource_version());
        if !is_echo {
            self.registry.seen(&name);
            self.queue.push(name);
        }
    }

    fn gone(&self, key: &ObjectKey) {
        lock(&self.known.issuers).remove(&key.name);
        self.queue.push(key.name.clone());
    }

    fn keys(&self) -> Vec<ObjectKey> {
        let issuers = lock(&self.known.issuers);
        issuers.keys().map(|name| ObjectKey::new(&self.namespace, name)).collect()
    }
}

/// The Secrets that issuers refer to, as metadata: a changed key is a new pass.
impl Follower<PartialObjectMeta<Secret>> for Controller {
    fn applied(&self, secret: PartialObjectMeta<Secret>) {
        self.wake_users(&ObjectKey::of(&secret));
    }

    fn gone(&self, secret: &ObjectKey) {
        self.wake_users(secret);
    }

    /// Nothing is kept of them.
    fn keys(&self) -> Vec<ObjectKey> {
        Vec::new()
    }
}

impl Controller {
    fn wake_users(&self, secret: &ObjectKey) {
        let issuers = lock(&self.known.issuers);
        let users = issuers.iter().filter(|(_, issuer)| {
            let spec = issuer.spec.acme.as_ref();
            spec.is_some_and(|spec| account::key_secret(issuer, spec, &self.namespace) == *secret)
        });
        users.for_each(|(name, _)| self.queue.push(name.clone()));
    }
}
