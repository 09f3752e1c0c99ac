//! Does what the plan says: one match on the action, and no policy of its own. How an order goes on is
//! in [`advance`](super::advance).

use cert_lib::{
    model::{reason::Reason, request::Request},
    plan::{Action, Plan, Quota, Record, SecretState, Slot, Stored, Want},
};
use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::json;

use crate::{
    api::{
        Certificate, CertificateKey, IssuerKey, certificate::State, time::seconds_up, well_known,
    },
    certificates::{
        observe::Observed,
        reconcile::Controller,
        secret::write,
        status::{Outcome, ready_message},
    },
    issuers::{quota::QuotaReservation, registry::Lookup},
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
    pub(super) async fn act(&self, pass: &Pass<'_>) -> kube::Result<Step> {
        if pass.plan.gives_up {
            self.drop_order(pass.key).await?;
        }
        // A pass that only records the demand for a renewal places no order yet.
        let starts = pass.plan.action == Action::Start && !pass.want.renew;
        let claims_slot = starts
            || pass.plan.action == Action::Resume
            || pass.plan.reason == Reason::Queued
            || (self.order_runs(pass.key) && pass.plan.action != Action::Refuse);
        if !claims_slot {
            self.wake_next(pass.key);
        }
        let waits = [Reason::QuotaExhausted, Reason::RateLimited, Reason::Queued];
        if !waits.contains(&pass.plan.reason)
            && let Some(quota) = self.quota(&pass.observed.issuer.key)
            && pass.plan.action != Action::Start
        {
            quota.leave(pass.key);
        }
        match (pass.plan.action, pass.want.request.as_ref()) {
            (Action::Keep, _) => {
                Ok(Step::Publish(Box::new(pass.ready_outcome()), pass.plan.look_again))
            }
            (Action::Hold, _) => Ok(self.hold(pass)),
            (Action::Refuse, _) | (_, Err(_)) => {
                let outcome = pass.outcome(State::Error, pass.plan.message.clone());
                Ok(Step::Publish(Box::new(outcome), pass.plan.look_again))
            }
            (Action::Rewrite, Ok(request)) => self.rewrite(pass, request).await,
            (Action::Start, Ok(_)) if pass.want.renew => self.record_renewal_demand(pass).await,
            (Action::Start, Ok(request)) => self.start(pass, request).await,
            (Action::Share, Ok(request)) => self.share(pass, request).await,
            (Action::Resume, Ok(request)) => {
                let order = self.orders.get(pass.key);
                self.advance_order(pass, request, order, None).await
            }
        }
    }

    /// Places an order, where there is a slot and a request left for it.
    async fn start(&self, pass: &Pass<'_>, request: &Request) -> kube::Result<Step> {
        if !self.claims_order(pass) {
            return Ok(Step::Again);
        }
        let issuer = pass.observed.issuer.key.to_string();
        let permit = self.permit(pass, request);
        let call = |next| self.queue.push(next);
        let claim = self.scheduler.claim(&issuer, pass.key, pass.observed.priority, permit, call);
        match claim.await? {
            Some((request, reservation)) => {
                self.advance_order(pass, &request, None, reservation).await
            }
            None => Ok(Step::Again),
        }
    }

    /// The request for the CA, and the reservation of the day's quota for it; `None` where the quota is
    /// used up.
    async fn permit(
        &self,
        pass: &Pass<'_>,
        request: &Request,
    ) -> kube::Result<Option<(Request, Option<QuotaReservation>)>> {
        let request = self.keeping_key(pass, request).await?;
        let quota = self.quota(&pass.observed.issuer.key);
        let reservation = match &quota {
            Some(quota) => {
                let running = self.scheduler.running(&pass.observed.issuer.key.to_string());
                quota.spend(pass.key, running).await?
            }
            None => None,
        };
        if quota.is_some() && reservation.is_none() && !pass.plan.urgent {
            return Ok(None);
        }
        // Last: where nothing is ordered, nothing of that budget is used.
        if pass.hurries_without_record() && !self.records.hurry(&pass.key.tenant(), pass.now) {
            if let Some(reservation) = reservation {
                reservation.give_back();
            }
            return Ok(None);
        }
        let request = Request { replaces: pass.plan.replaces.clone(), ..request };
        Ok(Some((request, reservation)))
    }

    fn hold(&self, pass: &Pass<'_>) -> Step {
        let (state, message) = match pass.plan.reason {
            Reason::OtherClass => return Step::Silent,
            Reason::Revoked => (State::Revoked, pass.plan.message.clone()),
            Reason::Queued => {
                let issuer = pass.observed.issuer.key.to_string();
                self.wake_all(self.scheduler.leave_other_issuers(&issuer, pass.key));
                match self.scheduler.wait(&issuer, pass.key, pass.observed.priority) {
                    Slot::Free => return Step::Again,
                    Slot::Taken => (State::Waiting, pass.plan.message.clone()),
                }
            }
            Reason::QuotaExhausted => {
                let quota = self.quota(&pass.observed.issuer.key);
                match quota.map_or(Quota::Open, |quota| quota.wait(pass.key)) {
                    Quota::Open => return Step::Again,
                    Quota::Until { .. } => (State::Waiting, pass.plan.message.clone()),
                }
            }
            Reason::RateLimited => match self.queue_for_limit(pass) {
                true => (State::Waiting, pass.plan.message.clone()),
                false => return Step::Again,
            },
            Reason::SameRequest => (State::Waiting, pass.plan.message.clone()),
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

    /// Ends the order of a Certificate, if one runs, and gives its slot to the next in the queue.
    /// *Idempotent*.
    pub(super) async fn give_up(&self, key: &CertificateKey) -> kube::Result<()> {
        self.drop_order(key).await?;
        self.wake_next(key);
        Ok(())
    }

    /// Ends the order of a Certificate, if one runs: proofs, then progress. *Idempotent*.
    async fn drop_order(&self, key: &CertificateKey) -> kube::Result<()> {
        let Some(order) = self.orders.get(key) else { return Ok(()) };
        let by = IssuerKey::from_text(&order.issuer);
        // Without a permit the order is not abandoned at the CA; the records are removed in any case.
        if let Some(_permit) = self.tenant_limiter.try_acquire(by.tenant())
            && let Lookup::Ready { issuer, .. } = self.issuers.lookup(&by)
            && let Err(error) = issuer.abandon(&key.owner(), &order.progress).await
        {
            tracing::warn!(certificate = %key, "challenge records of {key} could not be removed yet: {error}");
        }
        self.orders.delete(key).await
    }

    pub(super) fn wake_next(&self, key: &CertificateKey) {
        self.wake_all(self.scheduler.leave(key));
    }

    /// There are free slots for these.
    pub(super) fn wake_all(&self, next: Vec<CertificateKey>) {
        next.into_iter().for_each(|next| self.queue.push(next));
    }
}

impl Pass<'_> {
    /// Whether it is exempt from limits because of a certificate without a record.
    fn hurries_without_record(&self) -> bool {
        let is_missing = |stored: &Stored| stored.record == Record::Missing;
        let secret = &self.observed.have.secret;
        self.plan.urgent && matches!(secret, SecretState::Holds(stored) if is_missing(stored))
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
