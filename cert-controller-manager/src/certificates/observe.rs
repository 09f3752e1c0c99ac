//! Collects the current state for one pass: the Secret and everything else that the plan reads.
//! Makes no decisions.

use cert_lib::{
    model::request::{Request, Subject},
    plan::{Have, IssuerState, SecretState, Shared, Want},
};
use jiff::Timestamp;
use kube::ResourceExt as _;

use crate::{
    api::{Certificate, CertificateKey, ObjectKey, is_served},
    certificates::{
        admission::Ticket,
        controller::Controller,
        ownership::{self, SecretOwnership},
        pass::{Observed, Sharing},
        secret::{self, Expectation, Facts, keystores::KeystoreState, options::SecretOptions},
        secret_grant::SecretGrant,
    },
    issuers::{query::recorded_fingerprint, registry::Lookup, selection::Selection},
};

/// The Secret of a Certificate, as one pass sees it.
struct SecretView {
    secret: ObjectKey,
    facts: Option<Facts>,
    options: SecretOptions,
    keystores: KeystoreState,
    ownership: SecretOwnership,
    state: SecretState,
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
        ticket: Option<&Ticket>,
    ) -> kube::Result<Observed> {
        let SecretView { secret, facts, options, keystores, ownership, state } =
            self.observe_secret(key, certificate, want, &issuer).await?;
        let now = self.clock.now();
        let reissued = want
            .request
            .as_ref()
            .map(|request| self.records.reissued(key, certificate, request, now));
        let backoff = self.records.backoff(key, certificate);
        let this = (key, certificate);
        let order = self.new_order(this, want, &issuer.key, (&state, backoff), now);
        let have = Have {
            responsible: is_served(certificate, &self.settings.classes),
            rival: self.rival(certificate, &secret).map(|rival| rival.to_string()),
            issuer: self.issuer_state(this, &issuer, want),
            running: self.orders.running(key),
            secret: state,
            shared: Shared::default(),
            recorded_fingerprint: recorded_fingerprint(certificate, &self.settings, &issuer.key),
            backoff,
            reissued: reissued.unwrap_or_default(),
            last_issued: self.records.last_issued(key),
            admission: self.admission.check(&order, ticket, now),
        };
        let sharing = Sharing::default();
        Ok(Observed { have, secret, facts, options, keystores, ownership, issuer, order, sharing })
    }

    async fn observe_secret(
        &self,
        key: &CertificateKey,
        certificate: &Certificate,
        want: &Want,
        issuer: &Selection,
    ) -> kube::Result<SecretView> {
        let secret = certificate.secret_key();
        // A refused request must not read a Secret that may belong to another tenant.
        let facts = match &want.request {
            Ok(_) => self.secrets.get(&secret).await?,
            Err(_) => None,
        };
        let key_is_elsewhere = !issuer.capabilities().self_signs
            && matches!(want.request.as_ref().map(|request| &request.subject), Ok(Subject::Csr(_)));
        let ownership = ownership::of(
            key,
            certificate,
            &secret,
            &self.cluster_identities,
            self.settings.cascade_delete,
        );
        let options = SecretOptions::of(&certificate.spec);
        let keystores = match &facts {
            Some(facts) => {
                self.secrets.keystore_state(&secret, facts, &options, self.clock.now()).await
            }
            None => KeystoreState::Current,
        };
        let expected = Expectation {
            options: &options,
            keystores: &keystores,
            key_is_elsewhere,
            ownership: &ownership,
            only_certificate_secrets: !self.cluster_identities.one_cluster
                || secret.namespace != key.object.namespace,
        };
        let state = secret::state(&secret, facts.as_ref(), &expected);
        Ok(SecretView { secret, facts, options, keystores, ownership, state })
    }

    /// Asks admission again after the issuance record is known.
    pub(super) fn admit_again(
        &self,
        this: (&CertificateKey, &Certificate),
        want: &Want,
        observed: &mut Observed,
        ticket: Option<&Ticket>,
        now: Timestamp,
    ) {
        let known = (&observed.have.secret, observed.have.backoff);
        let order = self.new_order(this, want, &observed.issuer.key, known, now);
        observed.have.admission = self.admission.check(&order, ticket, now);
        observed.order = order;
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
            may_write && self.settings.classes.serves(other.class.as_deref())
        })
    }

    fn issuer_state(
        &self,
        (key, certificate): (&CertificateKey, &Certificate),
        issuer: &Selection,
        want: &Want,
    ) -> IssuerState {
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
            (None, Lookup::Ready { issuer, .. }) if issuer.capabilities().proves_control => {
                let names = want.request.as_ref().map(Request::names).unwrap_or_default();
                let (owner, runs) = (key.owner(), self.orders.get(key).is_some());
                self.solvers.set_labels(name, &owner, certificate.labels(), runs);
                match self.solvers.unavailable(name, &owner, &names) {
                    Some(why) => IssuerState::NoSolver(why),
                    None => IssuerState::Ready,
                }
            }
            (None, Lookup::Ready { .. }) => IssuerState::Ready,
        }
    }
}
