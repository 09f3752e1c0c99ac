//! Placing an order (RFC 8555 section 7.4), with the profile and the certificate that it replaces.

use std::{collections::BTreeSet, sync::PoisonError, time::Duration};

use jiff::Timestamp;
use serde::Serialize;
use tokio::time::timeout;

use crate::{
    acme::{
        client::RequestError,
        order::View,
        problem::{Problem, ProblemScope},
        wire::{Directory, Identifier, Order, OrderStatus},
    },
    issue::{
        Advance, IssueError, LimitScope, Phase, Progress,
        acme::{
            failure::{self, failed},
            issuer::AcmeIssuer,
            steps::Running,
        },
        progress::Durable,
    },
    model::{
        cert_id::CertId,
        key::PrivateKey,
        name::DnsName,
        request::{Request, Subject},
    },
    solve::Proof,
};

impl AcmeIssuer {
    /// Places an order. The key is made before, so that it is stored with the order long before the
    /// CA certifies it.
    pub(super) async fn place_order(&self, request: &Request) -> Result<Advance, IssueError> {
        if !request.acme.addresses.is_empty() && !self.solver.proves_addresses() {
            return Err(failure::unprovable_address().not_sent());
        }
        let key = self.key(request).await.map_err(IssueError::not_sent)?;
        let (url, order) = {
            let waited_since = self.clock.now();
            // It is never closed; and without a permit the order would only be placed at once.
            let _turn = self.placing.acquire().await;
            // What failed while this order waited its turn would fail again for each that waited.
            if let Some(error) = self.recent_failure(waited_since) {
                return Err(error.not_sent());
            }
            let outcome = self.new_order(request).await;
            self.remember(outcome.as_ref().err());
            let (url, order) = outcome?;
            self.in_use.hold(&request.owner, &url, &order.authorizations);
            (url, order)
        };
        let now = self.clock.now();
        let names = match order.status {
            // Nothing will be published, so nothing needs to be found again.
            OrderStatus::Ready | OrderStatus::Processing | OrderStatus::Valid => Vec::new(),
            OrderStatus::Pending | OrderStatus::Invalid | OrderStatus::Unknown => bases(request),
        };
        let fingerprint = request.fingerprint.clone();
        let account = self.account.url().to_owned();
        let mut durable = Durable {
            fingerprint,
            order: url,
            account,
            started: now,
            names,
            proofs: Vec::new(),
            key,
        };
        let mut view = View::of(order, now, now, self.next_poll(None, 0));
        if self.solver.stores_proofs() && !durable.names.is_empty() {
            let found = timeout(MAX_DELAY, self.first_proofs(request, &durable, &mut view)).await;
            durable.proofs = found.ok().flatten().unwrap_or_default();
        }
        let progress = Progress { durable, view: Some(Box::new(view)) };
        Ok(Advance::Waiting { progress, doing: Phase::Ordered, until: now })
    }

    /// The proofs, so that the first write of the order stores them, too. `None` where they are
    /// stored by a second write: after a failure, which the next step repeats and reports.
    async fn first_proofs(
        &self,
        request: &Request,
        durable: &Durable,
        view: &mut View,
    ) -> Option<Vec<Proof>> {
        view.signed_by(self.account.key().thumbprint());
        let running = Running { issuer: self, request, durable };
        running.authorize(view).await.ok()?;
        running.proofs(view).await.ok()
    }

    /// The key to be certified; `None` where only its signing request is known.
    async fn key(&self, request: &Request) -> Result<Option<PrivateKey>, IssueError> {
        match &request.subject {
            Subject::Csr(_) => Ok(None),
            Subject::Names { .. } if request.key.is_some() => Ok(request.key.clone()),
            Subject::Names { key, .. } => {
                let made = self.keys.generate(key.kind()).await;
                made.map(Some).map_err(|error| IssueError::transient(error.to_string()))
            }
        }
    }

    /// Why placing an order failed for the last one, if that was after `since`.
    fn recent_failure(&self, since: Timestamp) -> Option<IssueError> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.as_ref().filter(|(at, _)| *at > since).map(|(_, error)| error.clone())
    }

    /// Remembers a failure that every order would meet, and forgets it after a success.
    fn remember(&self, error: Option<&IssueError>) {
        let common = error.filter(|error| match error.cause() {
            IssueError::Unreachable { .. } => true,
            cause => cause.limit() == Some(&LimitScope::Account),
        });
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        *failure = common.map(|error| (self.clock.now(), error.clone()));
    }

    async fn new_order(&self, request: &Request) -> Result<(String, Order), IssueError> {
        let failed = |error| failed("placing the order", &error, ProblemScope::NewOrder);
        let client = self.account.client();
        let directory = client.directory().await.map_err(failed).map_err(IssueError::not_sent)?;
        let replaces = request.replaces.as_ref().filter(|_| directory.renewal_info.is_some());
        let mut payload = NewOrder {
            identifiers: identifiers(request),
            profile: self.profile(request, &directory).map_err(IssueError::not_sent)?,
            replaces: replaces.map(CertId::as_str),
        };
        let mut was_asked = false;
        let mut outcome = self.account.post(&directory.new_order, &payload).await;
        if payload.replaces.is_some() && outcome.as_ref().is_err_and(may_be_about_replaces) {
            // `replaces` only exempts from limits: the order is wanted without it, too.
            payload.replaces = None;
            outcome = self.account.post(&directory.new_order, &payload).await;
            was_asked = true;
        }
        let reply = outcome.map_err(|error| match error.problem() {
            Some(problem) if problem.word() == "invalidProfile" => {
                // It may have been removed since the directory was fetched.
                client.forget_directory();
                let message = format!("placing the order failed: {problem}");
                failure::refused_profile(request, message)
            }
            problem => {
                if problem.is_some_and(Problem::is_gone) {
                    client.forget_directory();
                }
                let error = failed(error);
                if was_asked { error.into_cause() } else { error }
            }
        })?;
        let url = reply.location().map_err(failed)?.to_owned();
        let order: Order = reply.json().map_err(failed)?;
        failure::check_count(&order, request)?;
        self.check_unfinished(request, &order)?;
        Ok((url, order))
    }

    /// The kind of certificate to ask for, if the CA has it (draft-ietf-acme-profiles section 4).
    fn profile<'a>(
        &'a self,
        request: &'a Request,
        directory: &Directory,
    ) -> Result<Option<&'a str>, IssueError> {
        let profile = request.acme.profile.as_ref().or(self.options.profile.as_ref());
        let Some(profile) = profile.filter(|name| !name.is_empty()) else { return Ok(None) };
        let offered = &directory.meta.profiles;
        if offered.contains_key(profile) {
            return Ok(Some(profile));
        }
        // The next attempt fetches the directory again.
        self.account.client().forget_directory();
        Err(failure::refused_profile(request, failure::unknown_profile(profile, offered.keys())))
    }

    /// A CA may answer with an order that it has already. One that is finished, or about to be, is
    /// of use only for a key from before it was placed.
    fn check_unfinished(&self, request: &Request, order: &Order) -> Result<(), IssueError> {
        let has_old_key = match &request.subject {
            Subject::Csr(_) => true,
            Subject::Names { .. } => request.key.is_some(),
        };
        match order.status {
            OrderStatus::Processing | OrderStatus::Valid if !has_old_key => {
                Err(failure::finished_before())
            }
            OrderStatus::Processing
            | OrderStatus::Valid
            | OrderStatus::Pending
            | OrderStatus::Ready
            | OrderStatus::Invalid
            | OrderStatus::Unknown => Ok(()),
        }
    }
}

#[derive(Serialize)]
struct NewOrder<'a> {
    identifiers: Vec<Identifier>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replaces: Option<&'a str>,
}

/// Whether a refusal may be about `replaces` (RFC 9773 section 5): apart from `alreadyReplaced` there
/// is no error type for it. Pebble answers with an internal error to each attempt to replace a
/// certificate that it has forgotten. Not where the CA names an instant for the next attempt.
fn may_be_about_replaces(error: &RequestError) -> bool {
    error.problem().is_some_and(|problem| {
        let word = matches!(
            problem.word(),
            "alreadyReplaced" | "conflict" | "malformed" | "unauthorized" | "serverInternal"
        );
        problem.retry_after.is_none() && (word || problem.status == Some(409))
    })
}

fn identifiers(request: &Request) -> Vec<Identifier> {
    let of = |kind: &str, value: String| Identifier { kind: kind.to_owned(), value };
    let names = request.names().into_iter().map(|name| of("dns", name.to_string()));
    let addresses: BTreeSet<_> = request.acme.addresses.iter().collect();
    names.chain(addresses.into_iter().map(|address| of("ip", address.to_string()))).collect()
}

/// What must be proved by DNS: a wildcard and its parent are one.
fn bases(request: &Request) -> Vec<DnsName> {
    let bases: BTreeSet<DnsName> = request.names().iter().map(DnsName::base).collect();
    bases.into_iter().collect()
}

/// The order is not stored before its proofs are known; a CA that does not answer must not delay
/// that for longer.
const MAX_DELAY: Duration = Duration::from_secs(5);
