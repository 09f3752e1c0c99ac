//! Does what the plan says: one match on the action, and no policy of its own.

use cert_lib::{
    issue::{
        Advance, Disposition, IssueError, RetrySchedule,
        verify::{Mismatch, verify},
    },
    model::{reason::Reason, request::Request},
    plan::{
        Action, Plan, Quota, Record, SecretState, Slot, Stored, Want,
        backoff::{self, Backoff},
    },
};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde_json::json;

use crate::{
    api::{
        Certificate, CertificateKey, IssuerKey, certificate::State, time::seconds_up, well_known,
    },
    certificates::{
        observe::Observed,
        progress::{Cause, Order},
        reconcile::Controller,
        secret::write,
        status::{Outcome, ready_message},
    },
    issuers::{quota::QuotaReservation, registry::Lookup},
    runtime::metrics::IssuanceResult,
};

/// What a pass came to.
pub(super) enum Step {
    /// Say this, and look again then.
    Publish(Box<Outcome>, Timestamp),
    /// Something was written that makes a new pass necessary at once.
    Again,
    /// Nothing to say.
    Silent,
}

/// Longest rest of an order that stands.
const LONGEST_REST: SignedDuration = SignedDuration::from_hours(24);

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
        // What only notes a demand places no order yet.
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
        let claim = self.scheduler.claim(&issuer, pass.key, pass.observed.standing, permit, call);
        match claim.await? {
            Some((request, spent)) => self.advance_order(pass, &request, None, spent).await,
            None => Ok(Step::Again),
        }
    }

    /// What the CA is to be asked for, and what of the day's quota is used for it; `None` where that is
    /// used up.
    async fn permit(
        &self,
        pass: &Pass<'_>,
        request: &Request,
    ) -> kube::Result<Option<(Request, Option<QuotaReservation>)>> {
        let request = self.keeping_key(pass, request).await?;
        let quota = self.quota(&pass.observed.issuer.key);
        let spent = match &quota {
            Some(quota) => {
                let running = self.scheduler.running(&pass.observed.issuer.key.to_string());
                quota.spend(pass.key, running).await?
            }
            None => None,
        };
        if quota.is_some() && spent.is_none() && !pass.plan.urgent {
            return Ok(None);
        }
        // Last of all: where nothing is ordered, nothing of that budget is used.
        if pass.hurries_without_record() && !self.records.hurry(&pass.key.tenant(), pass.now) {
            if let Some(spent) = spent {
                spent.give_back();
            }
            return Ok(None);
        }
        let request = Request { replaces: pass.plan.replaces.clone(), ..request };
        Ok(Some((request, spent)))
    }

    fn hold(&self, pass: &Pass<'_>) -> Step {
        let (state, message) = match pass.plan.reason {
            Reason::OtherClass => return Step::Silent,
            Reason::Revoked => (State::Revoked, pass.plan.message.clone()),
            Reason::Queued => {
                let issuer = pass.observed.issuer.key.to_string();
                self.wake_all(self.scheduler.turn_to(&issuer, pass.key));
                match self.scheduler.wait(&issuer, pass.key, pass.observed.standing) {
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

    /// Takes the order as far as it goes without waiting. What was spent on a new one is given back where
    /// it is certain that nobody was asked for it.
    async fn advance_order(
        &self,
        pass: &Pass<'_>,
        request: &Request,
        mut order: Option<Order>,
        mut spent: Option<QuotaReservation>,
    ) -> kube::Result<Step> {
        let Lookup::Ready { issuer, .. } = self.issuers.lookup(&pass.observed.issuer.key) else {
            if let Some(spent) = spent {
                spent.give_back();
            }
            return Ok(Step::Again);
        };
        let name = pass.observed.issuer.key.to_string();
        self.scheduler.enter(&name, pass.key, pass.observed.standing);
        if let Some(unsure) = order.take_if(|order| !order.stored) {
            order = Some(self.orders.save(pass.key, unsure).await?);
        }
        loop {
            let from = order.as_ref().map(|order| order.progress.clone());
            let is_new = from.is_none();
            match issuer.advance(request, from).await {
                Ok(Advance::Issued(bundle)) => {
                    return match verify(&bundle, request, self.clock.now()) {
                        Ok(()) => self.complete(pass, request, &bundle, order.as_ref()).await,
                        Err(mismatch) => self.handle_error(pass, order, &unusable(&mismatch)).await,
                    };
                }
                Ok(Advance::Waiting { progress, doing, until }) => {
                    let reason = order.as_ref().map_or(pass.plan.reason, |order| order.reason);
                    let issuer = name.clone();
                    let found_in = order.and_then(|order| order.found_in);
                    let (hiccup, stored) = (None, false);
                    let saved = Order {
                        progress,
                        issuer,
                        reason,
                        transient_error: hiccup,
                        stored,
                        found_in,
                    };
                    let saved = self.orders.save(pass.key, saved).await?;
                    if is_new {
                        spent = None;
                        pass.record_order();
                        self.announce(pass, &doing, &saved).await;
                    }
                    if until > self.clock.now() {
                        let wait = (Cause::of(&doing), until);
                        let outcome = self.pending(pass, doing.to_string(), &saved, wait);
                        return Ok(Step::Publish(Box::new(outcome), until));
                    }
                    order = Some(saved);
                }
                Err(error) => {
                    // A request that cannot be made is paid for: else it could be tried for ever.
                    let is_free =
                        error.is_unsent() && error.disposition() != Disposition::FixRequest;
                    if let Some(spent) = spent.filter(|_| is_free) {
                        spent.give_back();
                    }
                    if let Some(progress) = error.progress() {
                        self.orders.advanced_to(pass.key, progress);
                    }
                    // It has another key or account since, and may have been refused for that only.
                    let error = match self.issuers.still_offers(&pass.observed.issuer.key, &issuer)
                    {
                        true => error,
                        false => {
                            let retry = Disposition::Retry(RetrySchedule::Transport);
                            IssueError::passing(error.to_string(), retry)
                        }
                    };
                    let error = self.without_kept_key(pass, error);
                    return self.handle_error(pass, order, &error).await;
                }
            }
        }
    }

    /// An order did not go on.
    async fn handle_error(
        &self,
        pass: &Pass<'_>,
        order: Option<Order>,
        error: &IssueError,
    ) -> kube::Result<Step> {
        let now = self.clock.now();
        if let (Some(order), false) = (&order, error.ends_order()) {
            let previous = order.transient_error.map(|hiccup| hiccup.interval);
            let wait = backoff::after(error.disposition(), previous, now);
            // An order that stands is worth a look a day, whatever somebody on the way says.
            let latest = now.saturating_add(LONGEST_REST).unwrap_or(now);
            let wait = Backoff { until: wait.until.min(latest), ..wait };
            match error.disposition() {
                Disposition::Until(_) => self.orders.record_wait(pass.key, wait).await,
                Disposition::Retry(_) | Disposition::FixIssuer | Disposition::FixRequest => {
                    self.orders.record_error(pass.key, wait);
                }
            }
            let message = format!("certificate requested, trying again: {error}");
            let pending = self.pending(pass, message, order, (Cause::Failure, wait.until));
            return Ok(Step::Publish(Box::new(pending), wait.until));
        }
        self.record_failure(pass, error).await;
        self.claims.release(pass.key);
        self.give_up(pass.key).await?;
        self.return_unused_quota(&pass.observed.issuer.key).await;
        self.count(pass, order.as_ref(), IssuanceResult::Failed);
        if error.disposition() == Disposition::FixIssuer {
            self.issuers.recheck(&pass.observed.issuer.key, error.to_string());
        }
        let previous = self.retry_states.backoff(pass.key, pass.certificate);
        let backoff = backoff::next(error.disposition(), previous, now);
        self.retry_states.record_failure(pass.key, pass.certificate.metadata.generation, backoff);
        let reason = match error.disposition() {
            Disposition::FixRequest => Reason::SpecRefused,
            Disposition::FixIssuer => Reason::IssuerNotReady,
            Disposition::Retry(_) | Disposition::Until(_) => Reason::BackingOff,
        };
        let outcome = Outcome {
            reason,
            backoff: Some(backoff),
            ..pass.outcome(State::Error, format!("obtaining certificate failed: {error}"))
        };
        Ok(Step::Publish(Box::new(outcome), backoff.until))
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

    /// Ends the order of a Certificate, if one runs, and gives its slot to the next in line.
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
        // Without room the CA is not told; the records are swept in any case.
        if let Some(_room) = self.tenant_limiter.try_acquire(by.tenant())
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

    /// Slots are free for these.
    pub(super) fn wake_all(&self, next: Vec<CertificateKey>) {
        next.into_iter().for_each(|next| self.queue.push(next));
    }
}

/// A certificate that is not what was asked for is not written; a new one may be.
fn unusable(mismatch: &Mismatch) -> IssueError {
    let message = format!("the issuer's certificate cannot be used: {mismatch}");
    IssueError::fatal(message, Disposition::Retry(RetrySchedule::Validation))
}

impl Pass<'_> {
    /// Whether it passes limits because of a certificate that nothing records.
    fn hurries_without_record(&self) -> bool {
        let is_missing = |stored: &Stored| stored.record == Record::Missing;
        let secret = &self.observed.have.secret;
        self.plan.urgent && matches!(secret, SecretState::Holds(stored) if is_missing(stored))
    }

    /// Whether the Secret says that it is for `request`, as it is written.
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

    /// What the status says already.
    fn published_message(&self) -> String {
        let status = self.certificate.status.as_ref();
        status.and_then(|status| status.message.clone()).unwrap_or_default()
    }

    /// What the plan says, and how a person overrides it.
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
