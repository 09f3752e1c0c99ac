//! Collects the current state for one pass: the Secret and everything else that the plan reads.
//! Makes no decisions.

use std::sync::Arc;

use cert_lib::{
    model::request::Subject,
    plan::{Have, IssuerState, Quota, SecretState, Shared, Want, backoff::Backoff},
};
use jiff::Timestamp;

use crate::{
    api::{Certificate, CertificateKey, IssuerKey, ObjectKey, is_served, issuer::IssuerKind},
    certificates::{
        limits::{CountedOrder, OrderContext},
        ownership::{self, SecretOwnership},
        reconcile::Controller,
        scheduler::Priority,
        secret::{self, Expectation, Facts, keystores::KeystoreState, options::SecretOptions},
        secret_grant::SecretGrant,
        share::Sharing,
    },
    issuers::{self, query::recorded_fingerprint, registry::Lookup, selection::Selection},
};

/// The current state of one Certificate.
pub struct Observed {
    /// The part that the plan reads.
    pub have: Have,
    /// The Secret of the Certificate.
    pub secret: ObjectKey,
    /// Contents of the Secret; `None` if it does not exist.
    pub facts: Option<Facts>,
    /// Requested layout of the Secret.
    pub options: SecretOptions,
    /// State of the keystores in the Secret.
    pub stores: KeystoreState,
    /// How the Secret must belong to the Certificate.
    pub ownership: SecretOwnership,
    /// The selected issuer.
    pub issuer: Selection,
    /// How the CA counts a new order; `None` if no limits are counted.
    pub counted: Option<CountedOrder>,
    /// Priority in the queue for order slots.
    pub priority: Priority,
    /// Certificates with the same request; see [`share`](super::share).
    pub sharing: Sharing,
}

impl Controller {
    /// Collects the state that the plan for `certificate` depends on.
    ///
    /// # Errors
    /// When the Secret could not be read.
    pub(super) async fn observe(
        &self,
        key: &CertificateKey,
        certificate: &Certificate,
        want: &Want,
        issuer: Selection,
    ) -> kube::Result<Observed> {
        let secret = certificate.secret_key();
        // A refused request must not read a Secret that may belong to another tenant.
        let facts = match &want.request {
            Ok(_) => self.secrets.get(&secret).await?,
            Err(_) => None,
        };
        // A self-signed issuer always creates the private key itself.
        let key_is_elsewhere = issuer.kind != Some(IssuerKind::SelfSigned)
            && matches!(want.request.as_ref().map(|request| &request.subject), Ok(Subject::Csr(_)));
        let ownership =
            ownership::of(key, certificate, &secret, &self.places, self.settings.cascade_delete);
        let options = SecretOptions::of(&certificate.spec);
        let stores = match &facts {
            Some(facts) => self.secrets.stores(&secret, facts, &options, self.clock.now()).await,
            None => KeystoreState::Current,
        };
        let expected = Expectation {
            options: &options,
            stores: &stores,
            key_is_elsewhere,
            ownership: &ownership,
            only_certificate_secrets: !self.places.one_cluster
                || secret.namespace != key.object.namespace,
        };
        let state = secret::state(&secret, facts.as_ref(), &expected);
        let now = self.clock.now();
        let reissued = want
            .request
            .as_ref()
            .map(|request| self.retry_states.reissued(key, certificate, request, now));
        let context = OrderContext { key, certificate, want, issuer: &issuer.key, secret: &state };
        let counted = self.counted_order(&context, now);
        let rate_limit = self.rate_limit(&context, counted.as_ref(), now);
        let backoff = self.retry_states.backoff(key, certificate);
        let priority = priority(backoff, &state);
        let have = Have {
            responsible: is_served(certificate, &self.settings.classes),
            rival: self.rival(certificate, &secret).map(|rival| rival.to_string()),
            issuer: self.issuer_state(&issuer),
            running: self.orders.running(key),
            secret: state,
            shared: Shared::default(),
            recorded_fingerprint: recorded_fingerprint(certificate, &self.settings, &issuer.key),
            backoff,
            quota: self.quota(&issuer.key).map_or(Quota::Open, |quota| quota.check(key)),
            reissued: reissued.unwrap_or_default(),
            last_issued: self.retry_states.last_issued(key),
            rate_limit,
            slot: self.scheduler.check(&issuer.key.to_string(), key, priority),
            may_skip_limits: self.records.may_hurry(&key.tenant(), now),
        };
        Ok(Observed {
            have,
            secret,
            facts,
            options,
            stores,
            ownership,
            issuer,
            counted,
            priority,
            sharing: Sharing::default(),
        })
    }

    /// Counts the order again after the issuance record is known.
    pub(super) fn recount_order(
        &self,
        key: &CertificateKey,
        certificate: &Certificate,
        want: &Want,
        observed: &mut Observed,
        now: Timestamp,
    ) {
        let (issuer, secret) = (&observed.issuer.key, &observed.have.secret);
        let context = OrderContext { key, certificate, want, issuer, secret };
        let counted = self.counted_order(&context, now);
        let rate_limit = self.rate_limit(&context, counted.as_ref(), now);
        observed.have.rate_limit = rate_limit;
        observed.counted = counted;
    }

    /// Only Certificates that may write to the namespace of the Secret count as rivals.
    pub(super) fn rival(
        &self,
        certificate: &Certificate,
        secret: &ObjectKey,
    ) -> Option<CertificateKey> {
        self.index.rival(certificate, secret, |key, other| {
            let may_write = self.settings.cross_namespace_secrets
                || self.secret_grants.of(&key.object.namespace, secret) == SecretGrant::Given;
            may_write && is_served(other, &self.settings.classes)
        })
    }

    fn issuer_state(&self, issuer: &Selection) -> IssuerState {
        let name = &issuer.key;
        let lookup = self.issuers.lookup(name);
        match (&issuer.refusal, lookup) {
            // A missing issuer has no reason to refuse. An issuer that is not served refuses all
            // requests.
            (Some(why), _) => IssuerState::Refuses(why.clone()),
            (None, Lookup::Missing) => IssuerState::Missing(format!(
                "issuer {} does not exist: create it or change spec.issuerRef",
                self.object(name)
            )),
            (None, Lookup::Unknown) => {
                IssuerState::NotReady("the issuer has not been checked yet".to_owned())
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

    /// Namespace and name of an Issuer.
    pub(super) fn object(&self, issuer: &IssuerKey) -> ObjectKey {
        match issuer {
            IssuerKey::Default(name) => ObjectKey::new(&self.issuers.rules().namespace, name),
            IssuerKey::Target(object) => object.clone(),
        }
    }

    /// The quota of an issuer, if it has one.
    pub(super) fn quota(&self, issuer: &IssuerKey) -> Option<Arc<issuers::quota::Quota>> {
        match self.issuers.lookup(issuer) {
            Lookup::Ready { quota, .. } => quota,
            Lookup::Missing | Lookup::Unknown | Lookup::NotReady(_) => None,
        }
    }
}

/// A failed renewal keeps normal priority: its certificate is in use.
fn priority(backoff: Option<Backoff>, secret: &SecretState) -> Priority {
    match (backoff, secret) {
        (Some(_), SecretState::Missing | SecretState::Unusable(_)) => Priority::Retry,
        (Some(_), SecretState::Holds(_) | SecretState::NotWritable(_)) | (None, _) => {
            Priority::Normal
        }
    }
}
