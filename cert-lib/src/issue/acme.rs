//! Certificates from an ACME CA (RFC 8555), proved by DNS-01.
//!
//! The order at the CA is the truth, [`Durable`] is what it takes to find it again and to use its
//! certificate, and everything else in a [`Progress`] is memory that may be lost. What to do next is
//! decided in [`crate::acme::order`]; this asks, does and remembers until there is something to wait
//! for. Not here: when to try again, how many orders run at once, and who publishes proofs.

mod delegation;
mod failure;
mod renewal;
mod revocation;
mod steps;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use rustls_pki_types::CertificateDer;
use serde::Serialize;
use tokio::sync::Semaphore;

use crate::{
    acme::{
        account::Account,
        order::{self, Step, View},
        problem::{Concern, Problem},
        wire::{Identifier, Order, OrderStatus},
    },
    clock::Clock,
    issue::{
        Advance, Disposition, IssueError, Issuer, Keys, Ladder, Phase, Progress, RenewalInfo,
        RevocationReason, progress::Durable,
    },
    model::{
        cert_id::CertId,
        name::DnsName,
        request::{Request, Subject},
    },
    solve::{Owner, Proof, Solver},
};

use self::{
    failure::failed,
    steps::{Running, cleanup_by_name},
};

/// Issues from one account at a CA.
pub struct AcmeIssuer {
    account: Account,
    solver: Arc<dyn Solver>,
    clock: Arc<dyn Clock>,
    keys: Arc<dyn Keys>,
    conduct: Conduct,
    /// Orders are placed one after the other. A CA looks through its authorizations for each, limits
    /// how many there may be, and gains nothing from a crowd; Pebble 2.10 even locks up for good when
    /// orders are placed in parallel while others fetch their authorizations.
    placing: Semaphore,
    /// When the last order could not be placed because the CA did not answer, and why.
    failure: Mutex<Option<(Timestamp, IssueError)>>,
}

/// How patient an issuer is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timing {
    /// How long published proofs may take to be seen.
    pub propagation_timeout: SignedDuration,
    /// How soon to ask the CA after it got something to do. Each further question waits twice as
    /// long, and none comes before the CA's Retry-After.
    pub first_poll: SignedDuration,
    /// The longest of these waits.
    pub longest_poll: SignedDuration,
}

/// What an issuer does beyond what each request asks for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Conduct {
    /// How patient it is.
    pub timing: Timing,
    /// The kind of certificate (draft-ietf-acme-profiles), unless a request names one.
    pub profile: Option<String>,
    /// The common name of an issuer in the chain that is taken, unless a request names one.
    pub preferred_chain: Option<String>,
    /// Whether authorizations are given up after the certificate was issued, so that each order
    /// proves control anew (RFC 8555 section 7.5.2).
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
    /// An issuer that orders in the name of `account`. Asks nothing yet.
    #[must_use]
    pub fn new(
        account: Account,
        solver: Arc<dyn Solver>,
        clock: Arc<dyn Clock>,
        keys: Arc<dyn Keys>,
        conduct: Conduct,
    ) -> Self {
        Self {
            account,
            solver,
            clock,
            keys,
            conduct,
            placing: Semaphore::new(1),
            failure: Mutex::default(),
        }
    }

    /// Places an order (section 7.4). The key is made before, so that it is stored with the order
    /// long before the CA certifies it.
    async fn place(&self, request: &Request) -> Result<Advance, IssueError> {
        let key = match &request.subject {
            Subject::Csr(_) => None,
            Subject::Names { .. } if request.key.is_some() => request.key.clone(),
            Subject::Names { key, .. } => {
                let made = self.keys.generate(key.kind()).await;
                let retry = Disposition::Retry(Ladder::Transport);
                Some(made.map_err(|error| IssueError::passing(error.to_string(), retry))?)
            }
        };
        let (url, order) = {
            let waited_since = self.clock.now();
            // It is never closed; and without a permit the order would only be placed at once.
            let _turn = self.placing.acquire().await;
            // Whoever waited while the CA did not answer need not find that out again, one by one.
            if let Some(error) = self.recent_failure(waited_since) {
                return Err(error);
            }
            let outcome = self.new_order(request).await;
            self.remember(outcome.as_ref().err());
            outcome?
        };
        let now = self.clock.now();
        let names = match order.status {
            // Nothing will be published, so nothing needs to be found again.
            OrderStatus::Ready | OrderStatus::Processing | OrderStatus::Valid => Vec::new(),
            OrderStatus::Pending | OrderStatus::Invalid | OrderStatus::Unknown => bases(request),
        };
        let fingerprint = request.fingerprint.clone();
        let account = self.account.url().to_owned();
        let durable = Durable { fingerprint, order: url, account, started: now, names, key };
        let view = View::of(order, now, self.next_poll(None, 0));
        let progress = Progress { durable, view: Some(Box::new(view)) };
        Ok(Advance::Waiting { progress, doing: Phase::Ordered, until: now })
    }

    /// Why placing an order failed for the last one, if that was after `since`.
    fn recent_failure(&self, since: Timestamp) -> Option<IssueError> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.as_ref().filter(|(at, _)| *at > since).map(|(_, error)| error.clone())
    }

    /// Remembers a failure that everybody would meet, and forgets it after a success.
    fn remember(&self, error: Option<&IssueError>) {
        let hiccup = Disposition::Retry(Ladder::Transport);
        let common = error.filter(|error| error.disposition() == hiccup);
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        *failure = common.map(|error| (self.clock.now(), error.clone()));
    }

    async fn new_order(&self, request: &Request) -> Result<(String, Order), IssueError> {
        let failed = |error| failed("placing the order", &error, Concern::NewOrder);
        let client = self.account.client();
        let directory = client.directory().await.map_err(failed)?;
        let identifier =
            |name: DnsName| Identifier { kind: "dns".to_owned(), value: name.to_string() };
        let payload =
            NewOrder { identifiers: request.names().into_iter().map(identifier).collect() };
        let outcome = self.account.post(&directory.new_order, &payload).await;
        let reply = outcome.map_err(|error| {
            if error.problem().is_some_and(Problem::is_gone) {
                client.forget_directory();
            }
            failed(error)
        })?;
        let url = reply.location().map_err(failed)?.to_owned();
        Ok((url, reply.json().map_err(failed)?))
    }

    /// Goes on with an order until there is something to wait for.
    async fn resume(&self, request: &Request, progress: Progress) -> Result<Advance, IssueError> {
        let Progress { durable, view } = progress;
        if durable.fingerprint != request.fingerprint {
            let retry = Disposition::Retry(Ladder::Transport);
            return Err(IssueError::fatal("the running order is for another request", retry));
        }
        if durable.account != self.account.url() {
            return Err(failure::gone("the running order was placed by another account"));
        }
        let running = Running { issuer: self, request, durable: &durable };
        let mut view = match view {
            Some(view) => view,
            None => Box::new(running.find().await?),
        };
        for _ in 0..MAX_STEPS {
            match order::next(&view, self.clock.now()) {
                Step::Authorize => running.authorize(&mut view).await?,
                Step::Present => running.present(&mut view).await?,
                Step::Look { since } => {
                    if let Some((doing, until)) = running.look(&mut view, since).await? {
                        return Ok(waiting(durable, view, doing, until));
                    }
                }
                Step::Answer => running.answer(&mut view).await?,
                Step::Poll => running.poll(&mut view).await?,
                Step::Wait { doing, until } => return Ok(waiting(durable, view, doing, until)),
                Step::Finalize => running.finalize(&mut view).await?,
                Step::Download(url) => return running.download(&view, &url).await,
                Step::Explain => return Err(running.explain(&view).await),
                Step::Expire => return Err(failure::expired()),
            }
        }
        // Only a CA that contradicts itself, or a pace of zero, comes here.
        let until = self.next_poll(None, MAX_POLLS);
        Ok(waiting(durable, view, Phase::Validating, until))
    }

    /// When to ask the CA again.
    fn next_poll(&self, retry_after: Option<Timestamp>, polls: u32) -> Timestamp {
        let Timing { first_poll, longest_poll, .. } = self.conduct.timing;
        let pace = order::pace(first_poll, longest_poll, polls);
        let ours = self.clock.now().saturating_add(pace).unwrap_or(Timestamp::MAX);
        retry_after.map_or(ours, |theirs| theirs.max(ours))
    }
}

#[async_trait]
impl Issuer for AcmeIssuer {
    async fn advance(
        &self,
        request: &Request,
        from: Option<Progress>,
    ) -> Result<Advance, IssueError> {
        match from {
            None => self.place(request).await,
            Some(progress) => self.resume(request, progress).await,
        }
    }

    async fn abandon(&self, owner: &Owner, progress: &Progress) -> Result<(), IssueError> {
        let known = progress.view.as_ref().map(|view| view.proofs.as_slice()).unwrap_or_default();
        let proofs: Vec<Proof> = cleanup_by_name(&progress.durable.names, known);
        if proofs.is_empty() {
            return Ok(());
        }
        let outcome = self.solver.cleanup(owner, &proofs).await;
        outcome.map_err(|error| failure::unsolved("taking the proofs away", &error))
    }

    async fn revoke(
        &self,
        certificate: &CertificateDer<'_>,
        why: RevocationReason,
    ) -> Result<(), IssueError> {
        revocation::revoke(&self.account, certificate, why).await
    }

    async fn renewal_info(&self, certificate: &CertId) -> Result<Option<RenewalInfo>, IssueError> {
        renewal::ask(&self.account, certificate).await
    }
}

impl fmt::Debug for AcmeIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcmeIssuer").field("account", &self.account).finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct NewOrder {
    identifiers: Vec<Identifier>,
}

fn waiting(durable: Durable, view: Box<View>, doing: Phase, until: Timestamp) -> Advance {
    Advance::Waiting { progress: Progress { durable, view: Some(view) }, doing, until }
}

/// What must be proved: a wildcard and its parent are one.
fn bases(request: &Request) -> Vec<DnsName> {
    let bases: BTreeSet<DnsName> = request.names().iter().map(DnsName::base).collect();
    bases.into_iter().collect()
}

/// An order takes eight, and a few more when it is taken up again.
const MAX_STEPS: usize = 16;
/// As if it had been polled so often.
const MAX_POLLS: u32 = u32::MAX;
