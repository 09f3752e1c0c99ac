//! Makes an ACME issuer usable: its key, its account, its quota.

use std::sync::Arc;

use cert_lib::{
    acme::client::Client as AcmeClient,
    issue::{
        Disposition, Ladder,
        acme::{AcmeIssuer, Conduct},
    },
    solve::{Solver, dns01::Nameserver},
};
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{
    account::{self, Trouble},
    nameservers,
    quota::Quota,
    reconcile::{Controller, lock},
    registry::Lookup,
    status::{self, Facts},
};
use crate::{
    api::{Issuer, IssuerKey, ObjectKey, issuer::AcmeSpec},
    runtime::errors::brief,
    solvers,
};

/// An issuer as it was built last, so that a pass that finds nothing new keeps its connections and
/// nonces.
pub(super) struct Built {
    recipe: Recipe,
    client: Arc<AcmeClient>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Recipe {
    server: String,
    secret_hash: String,
    account: String,
    needs_dns: bool,
    profile: Option<String>,
    preferred_chain: Option<String>,
    nameservers: Vec<Nameserver>,
}

impl Controller {
    pub(super) async fn prepare_acme(
        &self,
        key: &IssuerKey,
        issuer: &Issuer,
        spec: &AcmeSpec,
    ) -> Result<Facts, Trouble> {
        check(spec)?;
        let secret = account::key_secret(issuer, spec);
        own_namespace(key, &secret)?;
        let nameservers = nameservers::of(key, spec, self.solver.nameservers())?;
        let stored = account::load_key(self.home(key), issuer, spec, &secret).await?;
        self.note_secret(key, issuer, spec, &secret).await?;
        let client = self.client(key, &spec.server);
        // An issuer that was doubted or not ready asks the CA, whatever its status remembers.
        let doubted = self.registry.take_doubt(key)
            | matches!(self.registry.lookup(key), Lookup::NotReady(_));
        let remembered = issuer.status.as_ref().and_then(|status| status.acme.as_ref());
        let remembered = remembered.filter(|_| !doubted);
        let found = account::find(&client, &stored, &spec.email, remembered).await?;
        let needs_dns = spec.skip_dns_challenge_validation != Some(true);
        let recipe = Recipe {
            server: spec.server.clone(),
            secret_hash: stored.hash,
            account: found.account.url().to_owned(),
            needs_dns,
            profile: spec.profile.clone(),
            preferred_chain: spec.preferred_chain.clone(),
            nameservers,
        };
        let quota = self.quota(key, issuer);
        self.install(key, recipe, client, found.account, quota);
        Ok(Facts::Acme(found.registration))
    }

    /// What is left of the issuer's quota, which outlives whatever else of it changes.
    fn quota(&self, key: &IssuerKey, issuer: &Issuer) -> Arc<Quota> {
        let per_day = status::quota(issuer, self.default_quota);
        let mut quotas = lock(&self.known.quotas);
        let quota = quotas.entry(key.clone()).or_insert_with(|| {
            let (name, status) = (issuer.name_any(), issuer.status.as_ref());
            Arc::new(Quota::new(self.api(key), &name, per_day, status, self.clock.clone()))
        });
        quota.set_per_day(per_day);
        quota.clone()
    }

    fn install(
        &self,
        key: &IssuerKey,
        recipe: Recipe,
        client: Arc<AcmeClient>,
        account: cert_lib::acme::account::Account,
        quota: Arc<Quota>,
    ) {
        let is_ready = matches!(self.registry.lookup(key), Lookup::Ready { .. });
        let mut built = lock(&self.known.built);
        if is_ready && built.get(key).is_some_and(|built| built.recipe == recipe) {
            return;
        }
        let solver: Arc<dyn Solver> = if recipe.needs_dns {
            self.solver.looking_at(recipe.nameservers.clone(), self.clock.clone())
        } else {
            Arc::new(solvers::skip::Skip)
        };
        let needs_dns = recipe.needs_dns;
        let conduct = Conduct {
            timing: self.timing,
            profile: recipe.profile.clone(),
            preferred_chain: recipe.preferred_chain.clone(),
            deactivate_authorizations: false,
        };
        let issuer =
            AcmeIssuer::new(account, solver, self.clock.clone(), self.keys.clone(), conduct);
        built.insert(key.clone(), Built { recipe, client });
        let issuer = Arc::new(issuer);
        self.registry.put(key, Lookup::Ready { issuer, needs_dns, quota: Some(quota) });
    }

    /// The client of the issuer's CA: the one in use, while the server stays the same.
    fn client(&self, key: &IssuerKey, server: &str) -> Arc<AcmeClient> {
        let built = lock(&self.known.built);
        match built.get(key).filter(|built| built.recipe.server == server) {
            Some(built) => built.client.clone(),
            None => Arc::new(AcmeClient::new(self.http.clone(), self.clock.clone(), server)),
        }
    }

    /// Writes the reference to a key that we made into the Issuer, as upstream does.
    async fn note_secret(
        &self,
        key: &IssuerKey,
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
            .api(key)
            .patch(&issuer.name_any(), &PatchParams::default(), &Patch::Merge(patch))
            .await;
        written.map(|_| ()).map_err(|error| Trouble::Failed {
            message: format!("noting the account key in the Issuer failed: {}", brief(&error)),
            disposition: Disposition::Retry(Ladder::Transport),
        })
    }
}

/// A tenant's issuer has nothing to do with Secrets of others.
pub(super) fn own_namespace(key: &IssuerKey, secret: &ObjectKey) -> Result<(), Trouble> {
    match key {
        IssuerKey::Target(object) if object.namespace != secret.namespace => {
            Err(Trouble::Mend(format!(
                "Secret {secret} is in another namespace than the issuer, which is for issuers of \
                 the issuer namespace only: use a Secret in {}",
                object.namespace
            )))
        }
        IssuerKey::Target(_) | IssuerKey::Default(_) => Ok(()),
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
    Ok(())
}
