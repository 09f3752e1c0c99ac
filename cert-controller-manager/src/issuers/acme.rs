//! Prepares ACME issuers: account key, account, quota and client.

use std::sync::Arc;

use cert_lib::{
    acme::client::Client as AcmeClient,
    issue::{
        Disposition, RetrySchedule,
        acme::{AcmeIssuer, AcmeOptions},
    },
};
use jiff::SignedDuration;
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{
    account::{self, AccountRequest, StoredAccount, StoredKey},
    built::{BuiltIssuer, IssuerInputs},
    controller::Controller,
    error::IssuerError,
    limits::Origin,
    outcome::Facts,
    quota::{Quota, QuotaIssuer},
    record::IssuerRecord,
    registry::Lookup,
    solvers::BuiltSolvers,
    status,
};
use crate::{
    api::{Issuer, IssuerKey, ObjectKey, issuer::AcmeSpec, well_known},
    runtime::errors::brief,
    solvers::{routed::RoutedSolver, routes::SolverRoutes},
};

impl Controller {
    pub(super) async fn prepare_acme(
        &self,
        key: &IssuerKey,
        issuer: &Issuer,
        spec: &AcmeSpec,
    ) -> Result<Facts, IssuerError> {
        check_required_fields(spec)?;
        let secret = account::key_secret(issuer, spec);
        require_own_namespace(key, &secret)?;
        if let Some(binding) = &spec.external_account_binding {
            require_own_namespace(key, &account::binding::secret_of(issuer, binding))?;
        }
        let solvers = self.build_solvers(key, issuer, spec).await?;
        self.solvers.set_routes(key, solvers.routes.clone());
        let stored = account::load_key(self.client(key), issuer, spec, &secret).await?;
        self.record_secret_reference(key, issuer, spec, &secret).await?;
        let (hash, now) = (stored.hash.clone(), self.clock.now());
        self.check_server_wait(key, issuer, spec, &hash)?;
        let established = self.establish(key, issuer, spec, (&secret, stored), solvers).await;
        established.map_err(|error| error.with_server(&spec.server, &hash, now))
    }

    /// Registers or finds the account and puts the issuer into the registry.
    async fn establish(
        &self,
        key: &IssuerKey,
        issuer: &Issuer,
        spec: &AcmeSpec,
        (secret, stored): (&ObjectKey, StoredKey),
        solvers: BuiltSolvers,
    ) -> Result<Facts, IssuerError> {
        let ca = self.acme_client(key, &spec.server);
        // After a failure the CA must be asked again, even if the status has a registration.
        let now = self.clock.now();
        let recheck_reason = self.registry.take_recheck(key, now);
        let asks_ca =
            recheck_reason.is_some() | matches!(self.registry.lookup(key), Lookup::NotReady(_));
        if asks_ca {
            ca.forget_directory();
        }
        let request = AccountRequest { client: self.client(key), issuer, spec, ca: &ca };
        let thumbprint = stored.key.thumbprint().to_owned();
        let (stored, found) = match self.account(key, &request, secret, stored, asks_ca).await {
            Err(IssuerError::Deactivated(why)) => {
                self.replace_deactivated_account(key, &request, secret, (&thumbprint, why)).await?
            }
            found => found?,
        };
        if found.is_new && recheck_reason.is_some() {
            self.registry.account_created(key, now);
        }
        let tomorrow = now.saturating_add(SignedDuration::from_hours(24)).unwrap_or(now);
        if let Some(terms) =
            recheck_reason.and_then(|why| IssuerError::terms_changed(&why, tomorrow))
        {
            return Err(terms);
        }
        if let Some(profile) = &spec.profile {
            check_profile(&ca, profile, asks_ca).await?;
        }
        let account = found.account.url();
        let inputs = IssuerInputs::of(spec, stored.hash, account, solvers.digest);
        let quota = self.quota(key, issuer, found.account.url());
        self.install(key, (inputs, solvers.routes), ca, found.account, quota);
        Ok(Facts::Acme(found.registration))
    }

    /// Finds the account of a key, after a requested key rotation.
    async fn account(
        &self,
        key: &IssuerKey,
        request: &AccountRequest<'_>,
        secret: &ObjectKey,
        stored: StoredKey,
        asks_ca: bool,
    ) -> Result<(StoredKey, StoredAccount), IssuerError> {
        let rotated = self.rotate(key, request, secret, stored).await?;
        let status = request.issuer.status.as_ref().and_then(|status| status.acme.as_ref());
        let remembered = rotated.registration.as_ref().or_else(|| status.filter(|_| !asks_ca));
        let found = request.find(&rotated.stored, remembered).await;
        let (server, now) = (&request.spec.server, self.clock.now());
        let found = found.map_err(|error| error.with_server(server, &rotated.stored.hash, now))?;
        Ok((rotated.stored, found))
    }

    /// Replaces a deactivated account, which cannot be reactivated. If the manager created the key,
    /// it creates another one, at limited intervals.
    async fn replace_deactivated_account(
        &self,
        key: &IssuerKey,
        request: &AccountRequest<'_>,
        secret: &ObjectKey,
        (closed, why): (&str, String),
    ) -> Result<(StoredKey, StoredAccount), IssuerError> {
        let (AccountRequest { client, issuer, spec, .. }, now) = (request, self.clock.now());
        // The Secret may have another key by now, from a rotation or from another issuer.
        let mut stored = account::load_key(client, issuer, spec, secret).await?;
        if stored.key.thumbprint() == closed {
            let may_replace = spec.auto_registration == Some(true) && stored.is_ours;
            if !may_replace || !self.registry.may_replace_account(key, now) {
                return Err(IssuerError::Deactivated(why));
            }
            tracing::warn!(issuer = %key, "issuer {key}: {why}; registering another account, with another key in Secret {secret}");
            stored = account::secret::replace(client, secret, &stored).await?;
            self.registry.replaced_account(key, now);
        }
        let found = request.find(&stored, None).await;
        // A wait that the CA demanded for the previous key does not apply to this one.
        let found = found.map_err(|error| error.with_server(&spec.server, &stored.hash, now))?;
        Ok((stored, found))
    }

    /// Fails while the CA has demanded a wait, unless the issuer is ready or the annotation
    /// requests a retry.
    fn check_server_wait(
        &self,
        key: &IssuerKey,
        issuer: &Issuer,
        spec: &AcmeSpec,
        hash: &str,
    ) -> Result<(), IssuerError> {
        let is_ready = matches!(self.registry.lookup(key), Lookup::Ready { .. });
        let retry_requested = issuer
            .annotations()
            .get(well_known::OPERATION)
            .is_some_and(|it| it == well_known::RECONCILE);
        let server_wait = issuer.status.as_ref().and_then(|status| {
            IssuerError::from_status(status, &spec.server, hash, self.clock.now())
        });
        match server_wait {
            Some(error) if !is_ready && !retry_requested => Err(error),
            Some(_) | None => Ok(()),
        }
    }

    /// The quota of the issuer. It survives all other changes of the issuer.
    fn quota(&self, key: &IssuerKey, issuer: &Issuer, account: &str) -> Arc<Quota> {
        let per_day = status::quota(issuer, self.default_quota);
        let known = |record: &mut IssuerRecord| {
            let quota = record.quota.get_or_insert_with(|| {
                let storage = QuotaIssuer {
                    api: self.api(key),
                    name: issuer.name_any(),
                    key: key.clone(),
                    queue: self.queue.clone(),
                    clock: self.clock.clone(),
                };
                Arc::new(Quota::new(storage, per_day, issuer.status.as_ref()))
            });
            quota.clone()
        };
        let quota = self.records.change(key, known);
        quota.set_per_day(per_day);
        if let Some(acme) = &issuer.spec.acme {
            let ca = self.limits.at(&acme.server);
            let (origin, name) = match key {
                IssuerKey::Default(_) => (Origin::Ours, account.to_owned()),
                // Tenants can write this status, so it must not affect limits of the operator's
                // accounts.
                IssuerKey::Target(_) => (Origin::Tenant, format!("{key} {account}")),
            };
            let stored = issuer.status.as_ref().map(|status| status::limits(status, account));
            quota.set_ca_account(ca, &name, &stored.unwrap_or_default(), origin);
        }
        quota
    }

    fn install(
        &self,
        key: &IssuerKey,
        (inputs, routes): (IssuerInputs, SolverRoutes),
        client: Arc<AcmeClient>,
        account: cert_lib::acme::account::Account,
        quota: Arc<Quota>,
    ) {
        let is_ready = matches!(self.registry.lookup(key), Lookup::Ready { .. });
        let is_same = |record: &mut IssuerRecord| {
            record.built.as_ref().is_some_and(|built| built.inputs == inputs)
        };
        if is_ready && self.records.change(key, is_same) {
            return;
        }
        let solver = Arc::new(RoutedSolver::new(self.solvers.clone(), routes));
        let options = AcmeOptions {
            timing: self.timing,
            profile: inputs.profile.clone(),
            preferred_chain: inputs.preferred_chain.clone(),
            deactivate_authorizations: self.deactivate_authorizations,
        };
        let issuer =
            AcmeIssuer::new(account, solver, self.clock.clone(), self.keys.clone(), options);
        let built = Some(BuiltIssuer { inputs, client });
        self.records.change(key, |record| record.built = built);
        let issuer = Arc::new(issuer);
        self.registry.put(key, Lookup::Ready { issuer, quota: Some(quota) });
        // Other solvers or credentials change what Certificates wait for.
        let _ = self.changed.send(key.clone());
    }

    /// The client for the CA; reused while the server is the same.
    fn acme_client(&self, key: &IssuerKey, server: &str) -> Arc<AcmeClient> {
        let known = |record: &mut IssuerRecord| {
            let built = record.built.as_ref().filter(|built| built.inputs.server == server);
            built.map(|built| built.client.clone())
        };
        match self.records.change(key, known) {
            Some(client) => client,
            None => {
                let http = match key {
                    IssuerKey::Default(_) => &self.http,
                    IssuerKey::Target(_) => &self.tenants_http,
                };
                Arc::new(AcmeClient::new(http.clone(), self.clock.clone(), server))
            }
        }
    }

    /// Writes the reference to a created key to the Issuer, as upstream does.
    async fn record_secret_reference(
        &self,
        key: &IssuerKey,
        issuer: &Issuer,
        spec: &AcmeSpec,
        secret: &ObjectKey,
    ) -> Result<(), IssuerError> {
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
        written.map(|_| ()).map_err(|error| IssuerError::Failed {
            message: format!("writing privateKeySecretRef to the Issuer failed: {}", brief(&error)),
            disposition: Disposition::Retry(RetrySchedule::Transport),
        })
    }
}

/// Fails if an Issuer in a tenant namespace refers to a Secret in another namespace.
pub(super) fn require_own_namespace(
    key: &IssuerKey,
    secret: &ObjectKey,
) -> Result<(), IssuerError> {
    match key {
        IssuerKey::Target(object) if object.namespace != secret.namespace => {
            Err(IssuerError::InvalidConfig(format!(
                "Secret {secret} is in another namespace than the Issuer, which is permitted in the \
                 issuer namespace only: use a Secret in {}",
                object.namespace
            )))
        }
        IssuerKey::Target(_) | IssuerKey::Default(_) => Ok(()),
    }
}

/// Checks the required fields before any request.
fn check_required_fields(spec: &AcmeSpec) -> Result<(), IssuerError> {
    if spec.email.is_empty() {
        return Err(IssuerError::InvalidConfig("missing email in ACME spec".to_owned()));
    }
    if spec.server.is_empty() {
        return Err(IssuerError::InvalidConfig("missing server in ACME spec".to_owned()));
    }
    Ok(())
}

/// Checks that the CA offers the profile (draft-ietf-acme-profiles). If the CA does not answer,
/// that is an error only if the check is `required`: a ready issuer stays ready.
async fn check_profile(ca: &AcmeClient, profile: &str, required: bool) -> Result<(), IssuerError> {
    let directory = match ca.directory().await {
        Ok(directory) => directory,
        Err(_) if !required => return Ok(()),
        Err(error) => {
            return Err(IssuerError::account("reading the profiles of the CA", &error.into()));
        }
    };
    check_offered(profile, directory.meta.profiles.keys().map(String::as_str))
        .map_err(|message| IssuerError::Failed { message, disposition: Disposition::FixIssuer })
}

fn check_offered<'a>(
    profile: &str,
    profiles: impl Iterator<Item = &'a str> + Clone,
) -> Result<(), String> {
    if profiles.clone().any(|offered| offered == profile) {
        return Ok(());
    }
    // Names from the CA are cut, as they become part of the status.
    let short = |name: &str| name.chars().take(MAX_PROFILE).collect::<String>();
    let all: Vec<String> = profiles.take(MAX_PROFILES).map(short).collect();
    let offers = match all.as_slice() {
        [] => "it offers none, remove spec.acme.profile".to_owned(),
        all => format!("it offers {}", all.join(", ")),
    };
    Err(format!("the CA has no profile {profile:?}: {offers}"))
}

/// Maximum number and length of profile names in a message.
const MAX_PROFILES: usize = 10;
const MAX_PROFILE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// faults.md 34
    #[test]
    fn the_error_for_an_unknown_profile_lists_the_offered_ones() {
        let two = ["classic", "shortlived"];
        assert_eq!(check_offered("classic", two.into_iter()), Ok(()));
        let unknown = check_offered("fast", two.into_iter()).unwrap_err();
        assert_eq!(unknown, "the CA has no profile \"fast\": it offers classic, shortlived");
        let none = check_offered("fast", [].into_iter()).unwrap_err();
        assert!(none.ends_with("it offers none, remove spec.acme.profile"), "{none}");
    }
}
