//! Takes the order of a Certificate further: the driver of cert-lib with the order in a progress
//! Secret, and what its outcome means for slots, quotas, limits and the status.

use std::sync::Arc;

use async_trait::async_trait;
use cert_lib::{
    issue::{
        Advance, Capabilities, CleanupError, Disposition, IssueError, Issuer, Phase, Progress,
        driver::{self, OrderStore, RunningOrder, drive},
    },
    model::request::Request,
    plan::backoff::Backoff,
    solve::Owner,
};
use jiff::Timestamp;

use crate::{
    api::certificate::State,
    certificates::{
        admission::Permit,
        controller::Controller,
        pass::{Pass, Step},
        progress::{Cause, Order},
        status::Outcome,
    },
    runtime::metrics::IssuanceResult,
};

/// The order of one Certificate in one pass.
struct PassOrder<'a> {
    controller: &'a Controller,
    pass: &'a Pass<'a>,
    order: Option<Order>,
    /// That of an order that is not placed yet.
    permit: Option<Permit>,
}

/// The order to advance.
pub(super) enum Source {
    /// A new one, with its permit.
    New(Permit),
    /// The stored one.
    Stored(Box<Order>),
}

#[async_trait]
impl OrderStore for PassOrder<'_> {
    type Error = kube::Error;

    fn order(&self) -> Option<RunningOrder> {
        self.order.as_ref().map(|order| RunningOrder {
            progress: order.progress.clone(),
            is_stored: order.stored,
            backoff: order.transient_error,
        })
    }

    async fn save(&mut self, progress: &Progress, doing: &Phase) -> kube::Result<()> {
        let (controller, pass) = (self.controller, self.pass);
        let is_new = self.order.is_none();
        let order = match self.order.take() {
            Some(order) => {
                Order { progress: progress.clone(), transient_error: None, stored: false, ..order }
            }
            None => Order {
                progress: progress.clone(),
                issuer: pass.observed.issuer.key.clone(),
                permit: self.permit.take().map(|mut permit| {
                    permit.placed(&pass.observed.order, pass.now);
                    Arc::new(permit)
                }),
                reason: pass.plan.reason,
                transient_error: None,
                stored: false,
                found_in: None,
                wait: None,
            },
        };
        let order = controller.orders.save(pass.key, order).await?;
        if is_new {
            controller.announce(pass, doing, &order).await;
        }
        self.order = Some(order);
        Ok(())
    }

    fn keep(&mut self, progress: &Progress) {
        self.controller.orders.advanced_to(self.pass.key, progress);
    }
}

/// The issuer of a pass. Of its errors it knows what the Certificate has to do with them.
struct PassIssuer<'a> {
    controller: &'a Controller,
    pass: &'a Pass<'a>,
    issuer: Arc<dyn Issuer>,
}

impl PassIssuer<'_> {
    /// The issuer may have another key or account since, and the error may be due to that only.
    fn unless_replaced(&self, error: IssueError) -> IssueError {
        if self.controller.issuers.still_offers(&self.pass.observed.issuer.key, &self.issuer) {
            return error;
        }
        let progress = error.progress().cloned().map(Box::new);
        let passes = IssueError::Transient { message: error.to_string(), retry_at: None, progress };
        if error.is_unsent() { IssueError::NotSent(Box::new(passes)) } else { passes }
    }
}

#[async_trait]
impl Issuer for PassIssuer<'_> {
    fn capabilities(&self) -> Capabilities {
        self.issuer.capabilities()
    }

    async fn advance(
        &self,
        request: &Request,
        from: Option<Progress>,
    ) -> Result<Advance, IssueError> {
        self.issuer.advance(request, from).await.map_err(|error| {
            self.controller.without_kept_key(self.pass, self.unless_replaced(error))
        })
    }

    async fn abandon(&self, owner: &Owner, progress: &Progress) -> Result<(), CleanupError> {
        self.issuer.abandon(owner, progress).await
    }
}

impl Controller {
    /// Takes the order as far as it goes without waiting. The request for a new one is refunded where it
    /// is certain that the CA was not asked.
    pub(super) async fn advance_order(
        &self,
        pass: &Pass<'_>,
        issuer: Arc<dyn Issuer>,
        request: &Request,
        source: Source,
    ) -> kube::Result<Step> {
        let (order, permit) = match source {
            Source::New(permit) => (None, Some(permit)),
            Source::Stored(order) => (Some(*order), None),
        };
        let issuer = PassIssuer { controller: self, pass, issuer };
        let mut orders = PassOrder { controller: self, pass, order, permit };
        let failed = self.records.backoff(pass.key, pass.certificate);
        let outcome = drive(&issuer, request, &mut orders, failed, self.clock.as_ref()).await?;
        let PassOrder { order, permit, .. } = orders;
        let message = outcome.to_string();
        match outcome {
            driver::Outcome::Issued(bundle) => {
                self.complete(pass, request, &bundle, order.as_ref()).await
            }
            driver::Outcome::Waiting { doing, until } => {
                Ok(self.wait(pass, order.as_ref(), message, (Cause::of(&doing), until)))
            }
            driver::Outcome::Retry { error, backoff } => {
                self.record_transient_error(pass, &error, backoff).await;
                Ok(self.wait(pass, order.as_ref(), message, (Cause::Failure, backoff.until)))
            }
            driver::Outcome::Failed { error, reason, backoff } => {
                // A request that cannot be made is paid for: else it could be tried forever.
                let is_free = error.is_unsent() && error.disposition() != Disposition::FixRequest;
                permit.filter(|_| is_free).into_iter().for_each(Permit::refund);
                self.fail(pass, order.as_ref(), &error, backoff).await?;
                let outcome = pass.outcome(State::Error, message);
                let outcome = Outcome { reason, backoff: Some(backoff), ..outcome };
                Ok(Step::Publish(Box::new(outcome), backoff.until))
            }
        }
    }

    /// The order stands, and goes on at `until`.
    fn wait(
        &self,
        pass: &Pass<'_>,
        order: Option<&Order>,
        message: String,
        (cause, until): (Cause, Timestamp),
    ) -> Step {
        let Some(order) = order else { return Step::Again };
        let pending = self.pending(pass, message, order, (cause, until));
        Step::Publish(Box::new(pending), until)
    }

    async fn record_transient_error(&self, pass: &Pass<'_>, error: &IssueError, wait: Backoff) {
        match error.disposition() {
            Disposition::Until(_) => self.orders.record_wait(pass.key, wait).await,
            Disposition::Retry(_) | Disposition::FixIssuer | Disposition::FixRequest => {
                self.orders.record_error(pass.key, wait);
            }
        }
    }

    /// The order is over, or none could be placed.
    async fn fail(
        &self,
        pass: &Pass<'_>,
        order: Option<&Order>,
        error: &IssueError,
        backoff: Backoff,
    ) -> kube::Result<()> {
        pass.observed.order.failed(error, self.clock.now());
        self.claims.release(pass.key);
        self.give_up(pass.key).await?;
        self.count(pass, order, IssuanceResult::Failed);
        if error.disposition() == Disposition::FixIssuer {
            self.issuers.recheck(&pass.observed.issuer.key, error.to_string());
        }
        self.records.record_failure(pass.key, pass.certificate.metadata.generation, backoff);
        Ok(())
    }
}
