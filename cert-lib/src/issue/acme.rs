//! Certificates from an ACME CA (RFC 8555).
//!
//! The order at the CA is the truth, [`Durable`](crate::issue::progress::Durable) is what it takes to find it again and to use its
//! certificate, and everything else in a [`Progress`] is a cache. What to do next is decided in
//! [`crate::acme::order`]; this takes the steps until there is something to wait for. Not here: when
//! to try again ([`driver`](crate::issue::driver)), how many orders run at once, and who publishes
//! proofs.

mod authorizations;
mod chain;
mod delegation;
mod download;
mod failure;
mod new_order;
mod renewal;
mod revocation;
mod steps;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use futures::future;
use jiff::{SignedDuration, Timestamp};
use rustls_pki_types::CertificateDer;
use tokio::sync::Semaphore;

use crate::{
    acme::{
        account::Account,
        order::{self, Step, View},
    },
    clock::Clock,
    issue::{
        Advance, Capabilities, CleanupError, Disposition, IssueError, Issuer, KeyGenerator, Phase,
        Progress, RenewalInfo, RenewalInfoError, RetrySchedule, RevocationReason, RevokeError,
    },
    model::{bundle::Bundle, cert_id::CertId, request::Request},
    solve::{Owner, Proof, Solver},
};

use self::{
    authorizations::InUse,
    steps::{Running, cleanup_by_name},
};

/// Issues from one account at a CA.
pub struct AcmeIssuer {
    account: Account,
    solver: Arc<dyn Solver>,
    clock: Arc<dyn Clock>,
    keys: Arc<dyn KeyGenerator>,
    options: AcmeOptions,
    /// Orders are placed one after the other. A CA searches its authorizations for each and limits
    /// how many there may be, so that parallel requests gain nothing. Pebble 2.10 even locks up when
    /// orders are placed in parallel while others fetch their authorizations.
    placing: Semaphore,
    /// When the last order could not be placed, and why, if every order would have met the same.
    failure: Mutex<Option<(Timestamp, IssueError)>>,
    /// Which authorizations are needed by running orders.
    in_use: InUse,
}

/// How long an issuer waits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timing {
    /// How long published proofs may take to be seen.
    pub propagation_timeout: SignedDuration,
    /// How soon to poll the CA after a request that it works on. Each further poll waits twice as
    /// long, and none comes before the CA's Retry-After.
    pub first_poll: SignedDuration,
    /// The longest of these waits.
    pub longest_poll: SignedDuration,
}

/// The options of an issuer; those of a request take precedence.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AcmeOptions {
    /// How long it waits.
    pub timing: Timing,
    /// The profile (draft-ietf-acme-profiles), unless a request names one.
    pub profile: Option<String>,
    /// The common name of an issuer in the preferred chain, unless a request names one.
    pub preferred_chain: Option<String>,
    /// Whether authorizations are deactivated after the certificate was issued, so that each order
    /// proves control again (RFC 8555 section 7.5.2).
    pub deactivate_authorizations: bool,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            propagation_timeout: SignedDuration::from_secs(120),
            first_poll: SignedDuration::from_millis(50),
            longest_poll: SignedDuration::from_secs(5),
        }
    }
}

impl AcmeIssuer {
    /// The capabilities of all ACME issuers.
    pub const CAPABILITIES: Capabilities = Capabilities {
        proves_control: true,
        limits_orders: true,
        renewal_info: true,
        revokes: true,
        honors_extras: false,
        self_signs: false,
    };

    /// An issuer that orders with `account`. Sends nothing yet.
    #[must_use]
    pub fn new(
        account: Account,
        solver: Arc<dyn Solver>,
        clock: Arc<dyn Clock>,
        keys: Arc<dyn KeyGenerator>,
        options: AcmeOptions,
    ) -> Self {
        Self {
            account,
            solver,
            clock,
            keys,
            options,
            placing: Semaphore::new(1),
            failure: Mutex::default(),
            in_use: InUse::default(),
        }
    }

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

    /// When to poll the CA again.
    fn next_poll(&self, retry_after: Option<Timestamp>, polls: u32) -> Timestamp {
        let Timing { first_poll, longest_poll, .. } = self.options.timing;
        let pace = order::poll_interval(first_poll, longest_poll, polls);
        let ours = self.clock.now().saturating_add(pace).unwrap_or(Timestamp::MAX);
        let latest = self.clock.now().saturating_add(LONGEST_WAIT).unwrap_or(Timestamp::MAX);
        retry_after.map_or(ours, |theirs| theirs.min(latest).max(ours))
    }
}

/// Where the steps of an order stop.
enum Pause {
    Waiting(Phase, Timestamp),
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
                Step::Present => self.present(view).await?,
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
        let known = view.map(|view| view.proofs.as_slice()).unwrap_or_default();
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

impl fmt::Debug for AcmeIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcmeIssuer").field("account", &self.account).finish_non_exhaustive()
    }
}

/// An order takes eight, and a few more when it is resumed.
const MAX_STEPS: usize = 16;
/// Polls at the longest interval.
const MANY_POLLS: u32 = 100;
/// An order is polled after this at the latest, as a longer Retry-After may be a mistake.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_hours(1);
