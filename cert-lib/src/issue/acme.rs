//! Certificates from an ACME CA (RFC 8555).
//!
//! The order at the CA is the truth, [`Durable`] is what it takes to find it again and to use its
//! certificate, and everything else in a [`Progress`] is a cache. What to do next is decided in
//! [`crate::acme::order`]; this takes the steps until there is something to wait for. Not here: when
//! to try again ([`driver`](crate::issue::driver)), how many orders run at once, and who publishes
//! proofs.

mod authorizations;
mod chain;
mod delegation;
mod download;
mod failure;
mod in_use;
mod issuer;
mod new_order;
mod renewal;
mod revocation;
mod steps;
#[cfg(test)]
mod tests;

use async_trait::async_trait;
use futures::future;
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;

use crate::{
    acme::order::{self, Step, View},
    issue::{
        Advance, Capabilities, CleanupError, Disposition, IssueError, Issuer, Phase, Progress,
        RenewalInfo, RenewalInfoError, RetrySchedule, RevocationReason, RevokeError,
        progress::Durable,
    },
    model::{bundle::Bundle, cert_id::CertId, request::Request},
    solve::{Owner, Proof},
};

pub use self::issuer::{AcmeIssuer, AcmeOptions, Timing};
use self::steps::{Running, cleanup_by_name};

impl AcmeIssuer {
    /// Continues an order until there is something to wait for.
    async fn resume(&self, request: &Request, progress: Progress) -> Result<Advance, IssueError> {
        let Progress { durable, view } = progress;
        if durable.fingerprint != request.fingerprint {
            return Err(failure::gone("the running order is for another request"));
        }
        if durable.account != self.account.url() {
            return Err(failure::gone("the running order was placed by another account"));
        }
        let running = Running { issuer: self, request, durable: &durable };
        let mut view = match view {
            Some(view) => view,
            None => match running.find().await {
                Ok(view) => Box::new(view),
                Err(error) => return Err(running.in_time(error, None)),
            },
        };
        view.signed_by(self.account.key().thumbprint());
        self.in_use.hold(&request.owner, &durable.order, &view.order.authorizations);
        match running.run_steps(&mut view).await {
            Ok(Pause::Issued(bundle)) => Ok(Advance::Issued(*bundle)),
            Ok(Pause::Store(proofs)) => {
                let progress =
                    Progress { durable: Durable { proofs, ..durable }, view: Some(view) };
                Ok(Advance::Waiting { progress, doing: Phase::Ordered, until: self.clock.now() })
            }
            Ok(Pause::Waiting(doing, until)) => Ok(Advance::Waiting {
                progress: Progress { durable, view: Some(view) },
                doing,
                until,
            }),
            Err(error) => {
                let error = running.in_time(error, Some(&view));
                if !error.ends_order() {
                    return Err(error.with_progress(Progress { durable, view: Some(view) }));
                }
                // Where the account or the order is gone, its authorizations are, too.
                let are_gone = matches!(
                    error.disposition(),
                    Disposition::FixIssuer | Disposition::Retry(RetrySchedule::Transport)
                );
                self.unused(&request.owner, &durable.order, &view, are_gone).await;
                Err(error)
            }
        }
    }
}

/// Where the steps of an order stop.
enum Pause {
    Waiting(Phase, Timestamp),
    /// These proofs must be stored before they are published.
    Store(Vec<Proof>),
    Issued(Box<Bundle>),
}

impl Running<'_> {
    /// An order whose requests fail again and again must not block the certificate forever: a CA may
    /// have lost it without saying so.
    fn in_time(&self, error: IssueError, view: Option<&View>) -> IssueError {
        let now = self.issuer.clock.now();
        let patience = match view {
            Some(view) if !view.may_be_signed() => order::GIVE_UP,
            // It may be signed already, so it is worth waiting longer.
            Some(_) | None => order::GIVE_UP * 3,
        };
        let is_over = view.is_some_and(|view| !view.may_be_signed() && view.is_expired(now))
            || now.duration_since(self.durable.started) >= patience;
        if is_over && !error.ends_order() {
            return failure::expired_after(self.durable.started, &error);
        }
        error
    }

    /// Step by step until there is something to wait for. A step records in the view only what it
    /// has done, so after a failure the view is worth keeping.
    async fn run_steps(&self, view: &mut View) -> Result<Pause, IssueError> {
        for _ in 0..MAX_STEPS {
            match order::next(view, self.issuer.clock.now()) {
                Step::Authorize => self.authorize(view).await?,
                Step::Present => {
                    if let Some(proofs) = self.present(view).await? {
                        return Ok(Pause::Store(proofs));
                    }
                }
                Step::Look { since } => {
                    if let Some((doing, until)) = self.check_visibility(view, since).await? {
                        return Ok(Pause::Waiting(doing, until));
                    }
                }
                Step::Answer => self.answer(view).await?,
                Step::Poll => self.poll(view).await?,
                Step::Wait { doing, until } => return Ok(Pause::Waiting(doing, until)),
                Step::Finalize => self.finalize(view).await?,
                Step::Download(url) => {
                    let bundle = self.download(view, &url).await?;
                    return Ok(Pause::Issued(Box::new(bundle)));
                }
                Step::Explain => return Err(self.explain(view).await),
                Step::Expire => return Err(failure::expired(self.durable.started)),
            }
        }
        // Only a CA that contradicts itself, or a pace of zero, leads here.
        Ok(Pause::Waiting(Phase::Validating, self.issuer.next_poll(None, MANY_POLLS)))
    }
}

#[async_trait]
impl Issuer for AcmeIssuer {
    fn capabilities(&self) -> Capabilities {
        Self::CAPABILITIES
    }

    async fn advance(
        &self,
        request: &Request,
        from: Option<Progress>,
    ) -> Result<Advance, IssueError> {
        match from {
            None => self.place_order(request).await,
            Some(progress) => self.resume(request, progress).await,
        }
    }

    async fn abandon(&self, owner: &Owner, progress: &Progress) -> Result<(), CleanupError> {
        let view = progress.view.as_ref();
        let known = view.map(|view| view.proofs.as_slice()).filter(|proofs| !proofs.is_empty());
        let known = known.unwrap_or(&progress.durable.proofs);
        let proofs: Vec<Proof> = cleanup_by_name(&progress.durable.names, known);
        let deactivated = async {
            if let Some(view) = view {
                self.unused(owner, &progress.durable.order, view, false).await;
            }
        };
        let removed = async {
            if proofs.is_empty() {
                return Ok(());
            }
            self.solver.cleanup(owner, &proofs).await.map_err(CleanupError)
        };
        future::join(removed, deactivated).await.0
    }

    async fn revoke(
        &self,
        certificate: &CertificateDer<'_>,
        why: RevocationReason,
    ) -> Result<(), RevokeError> {
        revocation::revoke(&self.account, certificate, why).await
    }

    async fn renewal_info(
        &self,
        certificate: &CertId,
    ) -> Result<Option<RenewalInfo>, RenewalInfoError> {
        renewal::ask(&self.account, certificate, self.clock.now()).await
    }
}

/// An order takes eight, and a few more when it is resumed.
const MAX_STEPS: usize = 16;
/// Polls at the longest interval.
const MANY_POLLS: u32 = 100;
