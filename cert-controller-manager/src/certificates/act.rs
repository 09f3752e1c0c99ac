//! Does what the plan says: one match on the action, and no policy of its own. How an order goes on is
//! in [`advance`](super::advance).

use cert_lib::{
    model::{reason::Reason, request::Request},
    plan::{Action, Plan, Record, SecretState, Want},
};
use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::json;

use crate::{
    api::{Certificate, CertificateKey, certificate::State, time::seconds_up, well_known},
    certificates::{
        admission::{Ticket, Urgency},
        advance::Source,
        observe::Observed,
        reconcile::Controller,
        secret::write,
        status::{Outcome, ready_message},
    },
    issuers::registry::Lookup,
};

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

impl Controller {
    /// Does what the plan says.
    ///
    /// # Errors
    /// When a cluster could not be written: nothing is lost, the pass can be repeated.
    pub(super) async fn act(
        &self,
        pass: &Pass<'_>,
        ticket: &mut Option<Ticket>,
    ) -> kube::Result<Step> {
        if pass.plan.gives_up {
            self.give_up(pass.key).await?;
        }
        // A Certificate that neither waits nor starts leaves its queue here.
        let previous = ticket.take();
        match (pass.plan.action, pass.want.request.as_ref()) {
            (Action::Keep, _) => {
                Ok(Step::Publish(Box::new(pass.ready_outcome()), pass.plan.look_again))
            }
            (Action::Hold, _) => {
                let order = &pass.observed.order;
                *ticket = self.admission.wait(order, pass.plan.reason, previous, pass.now);
                Ok(self.hold(pass))
            }
            (Action::Refuse, _) | (_, Err(_)) => {
                let outcome = pass.outcome(State::Error, pass.plan.message.clone());
                Ok(Step::Publish(Box::new(outcome), pass.plan.look_again))
            }
            (Action::Rewrite, Ok(request)) => self.rewrite(pass, request).await,
            (Action::Start, Ok(_)) if pass.want.renew => self.record_renewal_demand(pass).await,
            (Action::Start, Ok(request)) => {
                let (step, waits) = self.start(pass, request, previous).await?;
                *ticket = waits;
                Ok(step)
            }
            (Action::Share, Ok(request)) => self.share(pass, request).await,
            (Action::Resume, Ok(request)) => self.resume(pass, request).await,
        }
    }

    /// Places an order, if it is admitted. Returns the position in a queue if it waits.
    async fn start(
        &self,
        pass: &Pass<'_>,
        request: &Request,
        ticket: Option<Ticket>,
    ) -> kube::Result<(Step, Option<Ticket>)> {
        let Lookup::Ready { issuer, .. } = self.issuers.lookup(&pass.observed.issuer.key) else {
            return Ok((Step::Again, ticket));
        };
        if !self.claims_order(pass) {
            return Ok((Step::Again, ticket));
        }
        let request = self.keeping_key(pass, request).await?;
        let (order, urgency) = (&pass.observed.order, pass.urgency());
        let permit = match self.admission.acquire(order, ticket, urgency, pass.now).await? {
            Ok(permit) => permit,
            Err(ticket) => return Ok((Step::Again, ticket)),
        };
        let request = Request { replaces: pass.plan.replaces.clone(), ..request };
        let step = self.advance_order(pass, issuer, &request, Source::New(permit)).await?;
        Ok((step, None))
    }

    async fn resume(&self, pass: &Pass<'_>, request: &Request) -> kube::Result<Step> {
        let lookup = self.issuers.lookup(&pass.observed.issuer.key);
        match (lookup, self.orders.get(pass.key)) {
            (Lookup::Ready { issuer, .. }, Some(order)) => {
                self.advance_order(pass, issuer, request, Source::Stored(order)).await
            }
            _ => Ok(Step::Again),
        }
    }

    fn hold(&self, pass: &Pass<'_>) -> Step {
        let (state, message) = match pass.plan.reason {
            Reason::OtherClass => return Step::Silent,
            Reason::Revoked => (State::Revoked, pass.plan.message.clone()),
            Reason::Queued | Reason::QuotaExhausted | Reason::RateLimited | Reason::SameRequest => {
                (State::Waiting, pass.plan.message.clone())
            }
            Reason::LoopSuspected => (State::Error, pass.message_with_remedy()),
            Reason::Issuing => (State::Pending, pass.published_message()),
            Reason::BackingOff => (State::Error, pass.published_message()),
            _ => (State::Error, pass.plan.message.clone()),
        };
        let order = self.orders.get(pass.key).filter(|_| state == State::Pending);
        let outcome = Outcome {
            pending_since: order.map(|order| order.progress.started()),
            ..pass.outcome(state, message)
        };
        Step::Publish(Box::new(outcome), pass.plan.look_again)
    }

    /// `renew: true` becomes a date, which is fulfilled by any newer certificate: a crash neither
    /// forgets nor repeats the renewal.
    async fn record_renewal_demand(&self, pass: &Pass<'_>) -> kube::Result<Step> {
        let patch = json!({
            "metadata": { "resourceVersion": pass.certificate.resource_version() },
            "spec": { "renew": null, "ensureRenewedAfter": seconds_up(pass.now) },
        });
        self.write(pass.key, &patch).await?;
        Ok(Step::Again)
    }

    /// Ends the order of a Certificate, if one runs: proofs, then progress, then its slot. *Idempotent*.
    pub(super) async fn give_up(&self, key: &CertificateKey) -> kube::Result<()> {
        let Some(order) = self.orders.get(key) else { return Ok(()) };
        if let Lookup::Ready { issuer, .. } = self.issuers.lookup(&order.issuer)
            && let Err(error) = issuer.abandon(&key.owner(), &order.progress).await
        {
            tracing::warn!(certificate = %key, "challenge records of {key} could not be removed yet: {error}");
        }
        self.orders.delete(key).await
    }
}

impl Pass<'_> {
    /// How urgent a new order is.
    fn urgency(&self) -> Urgency {
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
        let trouble = write::keystore_problem(&self.observed.stores);
        let message = write::with_keystore_problem(message, trouble);
        Outcome { warns: trouble.is_some(), ..self.outcome(State::Ready, message) }
    }

    /// The message in the status.
    fn published_message(&self) -> String {
        let status = self.certificate.status.as_ref();
        status.and_then(|status| status.message.clone()).unwrap_or_default()
    }

    /// The message of the plan, and how to override it.
    fn message_with_remedy(&self) -> String {
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
