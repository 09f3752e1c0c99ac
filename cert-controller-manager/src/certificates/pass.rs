//! What the steps of a pass share: what was observed and planned, and what comes out.

use cert_lib::{
    model::request::Request,
    plan::{Have, Plan, Record, SecretState, Want},
};
use jiff::Timestamp;

use super::{
    admission::{NewOrder, Urgency},
    ownership::SecretOwnership,
    secret::{
        Facts,
        keystore_problem::{keystore_problem, with_keystore_problem},
        keystores::KeystoreState,
        options::SecretOptions,
    },
    status::{Outcome, ready_message},
};
use crate::{
    api::{Certificate, CertificateKey, ObjectKey, certificate::State, well_known},
    issuers::selection::Selection,
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
    pub keystores: KeystoreState,
    /// How the Secret must belong to the Certificate.
    pub ownership: SecretOwnership,
    /// The selected issuer.
    pub issuer: Selection,
    /// The order that it would place, for admission.
    pub order: NewOrder,
    /// Certificates with the same request; see [`share`](super::share).
    pub sharing: Sharing,
}

/// Equal requests, as seen by one pass.
#[derive(Clone, Debug, Default)]
pub struct Sharing {
    /// Hash of the request identity; `None` if nothing is shared.
    pub(super) identity_hash: Option<u64>,
    /// The Secret with a certificate that can be shared.
    pub(super) from: Option<ObjectKey>,
}

/// The result of a pass.
pub(super) enum Step {
    /// Publish this, and start the next pass then.
    Publish(Box<Outcome>, Timestamp),
    /// Something was written that makes a new pass necessary at once.
    Again,
    /// Publish nothing.
    Silent,
}

/// One Certificate in one pass.
pub(super) struct Pass<'a> {
    pub(super) key: &'a CertificateKey,
    pub(super) certificate: &'a Certificate,
    pub(super) want: &'a Want,
    pub(super) observed: &'a Observed,
    pub(super) plan: &'a Plan,
    pub(super) now: Timestamp,
}

impl Pass<'_> {
    /// How urgent a new order is.
    pub(super) fn urgency(&self) -> Urgency {
        match &self.observed.have.secret {
            _ if !self.plan.urgent => Urgency::Normal,
            SecretState::Holds(stored) if stored.record == Record::Missing => Urgency::Unrecorded,
            _ => Urgency::Emergency,
        }
    }

    /// Whether the Secret is labelled with the fingerprint of `request`.
    pub(super) fn is_labelled(&self, request: &Request) -> bool {
        matches!(
            &self.observed.have.secret,
            SecretState::Holds(stored) if stored.fingerprint.as_ref() == Some(&request.fingerprint)
        )
    }

    pub(super) fn ready_outcome(&self) -> Outcome {
        let message = match &self.observed.have.secret {
            SecretState::Holds(stored) => ready_message(&stored.leaf),
            SecretState::Missing | SecretState::NotWritable(_) | SecretState::Unusable(_) => {
                String::new()
            }
        };
        let trouble = keystore_problem(&self.observed.keystores);
        let message = with_keystore_problem(message, trouble);
        Outcome { warns: trouble.is_some(), ..self.outcome(State::Ready, message) }
    }

    /// The message in the status.
    pub(super) fn published_message(&self) -> String {
        let status = self.certificate.status.as_ref();
        status.and_then(|status| status.message.clone()).unwrap_or_default()
    }

    /// The message of the plan, and how to override it.
    pub(super) fn message_with_remedy(&self) -> String {
        format!(
            "{}, unless the annotation {}={} asks for it (Secret {})",
            self.plan.message,
            well_known::OPERATION,
            well_known::RECONCILE,
            self.observed.secret
        )
    }

    pub(super) fn outcome(&self, state: State, message: String) -> Outcome {
        let have = &self.observed.have;
        let stored = match &have.secret {
            SecretState::Holds(stored) => Some(stored),
            SecretState::Missing | SecretState::NotWritable(_) | SecretState::Unusable(_) => None,
        };
        let backoff = match state {
            State::Error | State::Pending | State::Waiting => have.backoff,
            State::Ready | State::Revoked => None,
        };
        Outcome {
            state,
            reason: self.plan.reason,
            message,
            ready: self.plan.ready,
            leaf: stored.map(|stored| stored.leaf.clone()),
            requested_at: stored.map_or(self.now, |stored| stored.requested_at),
            suggested: stored.and_then(|stored| stored.suggested.as_deref().cloned()),
            backoff,
            reissued: have.reissued.clone(),
            pending_since: None,
            warns: false,
        }
    }
}
