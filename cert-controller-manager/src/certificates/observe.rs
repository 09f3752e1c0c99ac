//! What there is, for one pass: the Secret, and all that the plan asks about around it. Decides
//! nothing.

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

/// What a pass found.
pub struct Observed {
    /// For the plan.
    pub have: Have,
    /// Where the result goes.
    pub secret: ObjectKey,
    /// What is there now.
    pub facts: Option<Facts>,
    /// What the Certificate asks of it besides the certificate.
    pub options: SecretOptions,
    /// How its keystores are.
    pub stores: KeystoreState,
    /// What ties it to the Certificate.
    pub ownership: SecretOwnership,
    /// The issuer that is meant.
    pub issuer: Selection,
    /// How the CA counts a new order; `None` where nobody counts.
    pub counted: Option<CountedOrder>,
    /// Who comes before it in line.
    pub standing: Priority,
    /// What it may share with others; see [`share`](super::share).
    pub sharing: Sharing,
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
        issuer: Selection,
    ) -> kube::Result<Observed> {
        let secret = certificate.secret_key();
        // What is refused has no business with anybody's Secret.
        let facts = match &want.request {
            Ok(_) => self.secrets.get(&secret).await?,
            Err(_) => None,
        };
        // Nobody but us has the key of a certificate that signed itself.
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
            quota: self.quota(&issuer.key).map_or(Quota::Open, |quota| quota.look(key)),
            reissued: reissued.unwrap_or_default(),
            last_issued: self.retry_states.last_issued(key),
            rate_limit,
            slot: self.scheduler.look(&issuer.key.to_string(), key, priority),
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
            standing: priority,
            sharing: Sharing::default(),
        })
    }

    /// What holds a new order back, once it is known whether the certificate in the Secret was issued.
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

    /// Only those count as rivals that may write into the namespace of the Secret.
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
fn priority(backoff: Option<Backoff>, secret: &SecretState) -> Priority {
    match (backoff, secret) {
        (Some(_), SecretState::Missing | SecretState::Unusable(_)) => Priority::Retry,
        (Some(_), SecretState::Holds(_) | SecretState::NotWritable(_)) | (None, _) => {
            Priority::Normal
        }
    }
}
