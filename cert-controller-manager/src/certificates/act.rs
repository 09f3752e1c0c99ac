//! Does what the plan says: one match on the action, and no policy of its own. How an order goes on is
//! in [`advance`](super::advance).

use cert_lib::{
    model::{reason::Reason, request::Request},
    plan::Action,
};
use kube::ResourceExt;
use serde_json::json;

use crate::{
    api::{CertificateKey, certificate::State, time::seconds_up},
    certificates::{
        admission::Ticket,
        advance::Source,
        controller::Controller,
        pass::{Pass, Step},
        status::Outcome,
    },
    issuers::registry::Lookup,
    solvers::routed,
};

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
                self.advance_order(pass, issuer, request, Source::Stored(Box::new(order))).await
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
        let removed = match self.issuers.lookup(&order.issuer) {
            Lookup::Ready { issuer, .. } => {
                let abandoned = issuer.abandon(&key.owner(), &order.progress).await;
                abandoned.map_err(|error| error.to_string())
            }
            // Its solvers are known after its first check, which follows soon.
            Lookup::Unknown if !order.progress.proofs().is_empty() => {
                let why =
                    format!("the issuer {} of a running order is not checked yet", order.issuer);
                return Err(kube::Error::Service(why.into()));
            }
            _ => {
                let proofs = order.progress.proofs();
                let removed =
                    routed::remove(&self.solvers, &order.issuer, &key.owner(), proofs).await;
                removed.map_err(|error| error.to_string())
            }
        };
        if let Err(error) = removed {
            tracing::warn!(certificate = %key, "challenge records of {key} could not be removed yet: {error}");
        }
        self.orders.delete(key).await
    }
}
