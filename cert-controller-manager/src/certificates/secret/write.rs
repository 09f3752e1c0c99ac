//! Writes certificate Secrets, with a new or with the existing certificate. Also decides whether
//! the private key is reused.

use cert_lib::{
    issue::IssueError,
    model::{
        bundle::Bundle,
        key::KeyError,
        reason::Reason,
        request::{KeyChoice, Request, Subject},
    },
    plan::SecretState,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Map, Value, json};

use super::{
    Body, Content, Facts, bundle, keystore_problem::with_keystore_problem, keystores, layout,
    render,
};
use crate::{
    api::{
        certificate::{RotationPolicy, State},
        issuer::IssuerKind,
        secret::{assumed_request, entry},
        well_known,
    },
    certificates::{
        controller::Controller,
        pass::{Pass, Step},
        status::{Outcome, ready_message},
    },
    runtime::store::apply,
};

/// A Secret that is ready to be written.
pub struct RenderedSecret {
    /// The Secret for server-side apply.
    pub secret: Secret,
    /// Why keystores are missing or outdated.
    pub keystore_error: Option<String>,
}

impl Controller {
    /// Renders the Secret with a new certificate.
    pub(in crate::certificates) async fn render_issued(
        &self,
        pass: &Pass<'_>,
        request: &Request,
        bundle: &Bundle,
        requested_at: Timestamp,
    ) -> Result<RenderedSecret, KeyError> {
        let options = &pass.observed.options;
        let encoding = options.encoding.unwrap_or_else(|| {
            pass.observed.issuer.kind.map(IssuerKind::default_encoding).unwrap_or_default()
        });
        let body = Body::from_bundle(bundle, encoding)?;
        let held = pass.observed.facts.as_ref();
        let kind = held.map(|facts| facts.kind.as_str());
        Ok(self.render_secret(pass, request, body, requested_at, kind).await)
    }

    /// Renders the Secret with its optional entries. If the keystores cannot be created, the
    /// existing ones stay: a program can work with an outdated keystore, but not without one.
    pub(in crate::certificates) async fn render_secret(
        &self,
        pass: &Pass<'_>,
        request: &Request,
        body: Body<'_>,
        requested_at: Timestamp,
        kind: Option<&str>,
    ) -> RenderedSecret {
        let (key, options) = (&pass.observed.secret, &pass.observed.options);
        let api = self.secrets.api(key);
        let (namespace, now) = (&key.namespace, pass.now);
        let made =
            keystores::make(api.as_ref(), namespace, &options.stores, body.bundle, &body.ca, now)
                .await;
        let (stores, keystore_error) = match made {
            Ok(made) => (made.entries, None),
            Err(why) => {
                let held = match &pass.observed.facts {
                    Some(_) => api.get_opt(&key.name).await.ok().flatten(),
                    None => None,
                };
                let wanted = layout::stores(&options.stores, true).into_iter();
                let held = held.unwrap_or_default();
                let stores = wanted
                    .map(|name| (name, entry(&held, name)))
                    .filter(|(_, bytes)| !bytes.is_empty())
                    .map(|(name, bytes)| (name, k8s_openapi::ByteString(bytes.to_vec())));
                (stores.collect(), Some(why))
            }
        };
        let content = Content {
            body,
            fingerprint: &request.fingerprint,
            requested_at,
            realm: &self.realm,
            options,
            stores,
            keystores_are_outdated: keystore_error.is_some(),
            kind,
            ownership: &pass.observed.ownership,
        };
        RenderedSecret { secret: render(key, &content), keystore_error }
    }

    /// Writes a Secret and removes our entries that are no longer requested. An apply removes
    /// fields of earlier applies only, so entries that upstream wrote are removed by name. Returns
    /// a summary of the Secret.
    ///
    /// # Errors
    /// When it could not be written.
    pub(in crate::certificates) async fn apply_secret(
        &self,
        pass: &Pass<'_>,
        secret: &Secret,
    ) -> kube::Result<Option<Facts>> {
        let key = &pass.observed.secret;
        let params = PatchParams::apply(well_known::FIELD_MANAGER).force();
        let facts = self.secrets.write(key, &params, &apply(secret)?).await?;
        let unwanted =
            |facts: &Facts| facts.layout.unwanted_keys(&pass.observed.options, facts.has_key);
        let unwanted = facts.as_ref().map(unwanted).unwrap_or_default();
        if unwanted.is_empty() {
            return Ok(facts);
        }
        let removals: Map<String, Value> =
            unwanted.into_iter().map(|name| (name.to_owned(), Value::Null)).collect();
        let patch = Patch::Merge(json!({ "data": removals }));
        self.secrets.write(key, &PatchParams::default(), &patch).await
    }

    /// Writes the Secret again with its existing certificate.
    ///
    /// # Errors
    /// When it could not be read or written.
    pub(in crate::certificates) async fn rewrite(
        &self,
        pass: &Pass<'_>,
        request: &Request,
    ) -> kube::Result<Step> {
        if let Err(time) = self.records.may_rewrite(pass.key, pass.now) {
            // The certificate is usable, so a conflict with another client about the layout is no
            // error.
            return Ok(Step::Publish(Box::new(pass.ready_outcome()), time));
        }
        let key = &pass.observed.secret;
        if pass.observed.facts.as_ref().is_some_and(|facts| facts.has_void_mark) {
            self.clear_revoked_mark(key).await?;
            return Ok(Step::Again);
        }
        // The Secret has changed since it was observed. The watch causes another pass.
        let Some(held) = self.secrets.api(key).get_opt(&key.name).await? else {
            return Ok(Step::Publish(Box::new(pass.ready_outcome()), pass.plan.look_again));
        };
        let Ok(bundle) = bundle(&held) else {
            return Ok(Step::Publish(Box::new(pass.ready_outcome()), pass.plan.look_again));
        };
        let requested_at = super::facts(&held).requested_at;
        let requested_at = requested_at.unwrap_or_else(|| assumed_request(&bundle.leaf));
        let body = match Body::from_secret(&held, &bundle, pass.observed.options.encoding) {
            Ok(body) => body,
            Err(error) => return Ok(key_not_writable(pass, &error)),
        };
        let mut rendered =
            self.render_secret(pass, request, body, requested_at, held.type_.as_deref()).await;
        // Do not overwrite a concurrent change.
        rendered.secret.metadata.uid = held.uid();
        rendered.secret.metadata.resource_version = held.resource_version();
        self.apply_secret(pass, &rendered.secret).await?;
        let Some(error) = rendered.keystore_error else { return Ok(Step::Again) };
        // The next pass would fail the same way.
        let message = with_keystore_problem(ready_message(&bundle.leaf), Some(&error));
        let outcome =
            Outcome { reason: Reason::Ready, warns: true, ..pass.outcome(State::Ready, message) };
        Ok(Step::Publish(Box::new(outcome), pass.plan.look_again))
    }

    /// The request, with the existing private key if `rotationPolicy` is `Never`. The key must be
    /// of the requested type, not belong to a certificate that is revoked or about to be, and not
    /// be refused by the CA.
    ///
    /// # Errors
    /// When the Secret could not be read.
    pub(in crate::certificates) async fn keeping_key(
        &self,
        pass: &Pass<'_>,
        request: &Request,
    ) -> kube::Result<Request> {
        let request = request.clone();
        let policy = pass.certificate.spec.private_key.as_ref().and_then(|it| it.rotation_policy);
        let (Some(RotationPolicy::Never), Some(facts), Subject::Names { key: choice, .. }) =
            (policy, &pass.observed.facts, &request.subject)
        else {
            return Ok(request);
        };
        let generation = pass.certificate.metadata.generation;
        let is_refused = self.records.key_is_refused(pass.key, generation);
        let must_be_replaced = matches!(
            &pass.observed.have.secret,
            SecretState::Holds(stored) if pass.want.gives_up_key(stored)
        );
        if facts.revoked || must_be_replaced || !facts.has_key || is_refused {
            return Ok(request);
        }
        let key = &pass.observed.secret;
        let held = self.secrets.api(key).get_opt(&key.name).await?;
        let held = held.and_then(|held| bundle(&held).ok()).and_then(|bundle| bundle.key);
        let choice = *choice;
        let kept = held.filter(|key| match choice {
            // A CA may refuse types that the manager does not create.
            KeyChoice::Free(_) => key.kind().is_some(),
            KeyChoice::Asked(kind) => key.kind() == Some(kind),
        });
        Ok(Request { key: kept, ..request })
    }

    /// A CA refuses a leaked key forever. If it refuses the request with a reused key, the next
    /// attempt uses a new one.
    pub(in crate::certificates) fn without_kept_key(
        &self,
        pass: &Pass<'_>,
        error: IssueError,
    ) -> IssueError {
        let policy = pass.certificate.spec.private_key.as_ref().and_then(|it| it.rotation_policy);
        let generation = pass.certificate.metadata.generation;
        let is_kept = policy == Some(RotationPolicy::Never)
            && pass.observed.facts.as_ref().is_some_and(|facts| facts.has_key)
            && !self.records.key_is_refused(pass.key, generation);
        if !error.refuses_csr() || !is_kept {
            return error;
        }
        self.records.record_refused_key(pass.key, generation);
        let message =
            format!("{error}; the next attempt ignores rotationPolicy Never and uses a new key");
        IssueError::OrderFailed(message)
    }
}

/// Voids the revocation annotation of the certificate that `secret` replaces. This happens in the
/// same write, as a crash could lose a later one.
pub(in crate::certificates) fn void_mark(secret: &mut Secret, facts: Option<&Facts>) {
    if facts.is_some_and(Facts::is_marked_revoked) {
        let annotation =
            (well_known::REVOKED_CERTIFICATE.to_owned(), well_known::REPLACED.to_owned());
        secret.annotations_mut().extend([annotation]);
    }
}

pub(in crate::certificates) fn key_not_writable(pass: &Pass<'_>, error: &KeyError) -> Step {
    let message = format!("cannot write the private key in the requested encoding: {error}");
    let mut outcome = pass.outcome(State::Error, message);
    outcome.reason = Reason::LayoutOutdated;
    Step::Publish(Box::new(outcome), pass.plan.look_again)
}
