//! The steps of an order: each does one thing at the CA or the solver, and records it in the view.

use std::collections::BTreeSet;

use futures::{StreamExt, future, stream};
use jiff::Timestamp;
use serde_json::json;

use super::{delegation, failure, issuer::AcmeIssuer};
use crate::{
    acme::{
        client::{Reply, RequestError},
        order::{ProofKind, Unprovable, View, proofs},
        problem::ProblemScope,
        wire::{Authorization, Order},
    },
    issue::{IssueError, Phase, progress::Durable, x509},
    model::{name::DnsName, request::Request},
    solve::{Proof, Readiness, SolveError},
};

/// An order, and what it is for.
pub(super) struct Running<'a> {
    pub(super) issuer: &'a AcmeIssuer,
    pub(super) request: &'a Request,
    pub(super) durable: &'a Durable,
}

impl Running<'_> {
    /// Finds out how far the order is that another process placed.
    pub(super) async fn find(&self) -> Result<View, IssueError> {
        let (order, reply) = self.fetch_order().await?;
        let next_poll = self.issuer.next_poll(reply.retry_after, 0);
        Ok(View::of(order, self.durable.started, self.issuer.clock.now(), next_poll))
    }

    /// Fetches the authorizations (RFC 8555 section 7.5).
    pub(super) async fn authorize(&self, view: &mut View) -> Result<(), IssueError> {
        failure::check_count(&view.order, self.request)?;
        let all = self.fetch_authorizations(&view.order).await;
        let failed =
            |error| failure::failed("fetching an authorization", &error, ProblemScope::Order);
        view.authorized(all.into_iter().collect::<Result<_, _>>().map_err(failed)?);
        Ok(())
    }

    /// Publishes the proofs. Returns them instead if the solver needs them stored before.
    pub(super) async fn present(&self, view: &mut View) -> Result<Option<Vec<Proof>>, IssueError> {
        let proofs = self.proofs(view).await?;
        if self.issuer.solver.stores_proofs() && proofs != self.durable.proofs {
            // Those of a replaced account key: nothing would remember them.
            self.remove(&self.durable.proofs).await;
            return Ok(Some(proofs));
        }
        let outcome = self.issuer.solver.present(&self.request.owner, &proofs).await;
        outcome.map_err(|error| failure::unsolved("publishing the proofs", &error))?;
        view.presented(proofs, self.issuer.clock.now());
        Ok(None)
    }

    /// The proofs of the open authorizations, at the targets of CNAMEs that are followed.
    pub(super) async fn proofs(&self, view: &View) -> Result<Vec<Proof>, IssueError> {
        let fix = |error: Unprovable| IssueError::InvalidRequest(error.to_string());
        let open = view.open().map_err(fix)?;
        // The CA decides which of the requested names must be proved. It must not ask for others.
        for one in &open {
            let (asked, shown) = match &one.of {
                ProofKind::Name(name) => (self.durable.names.contains(name), name.to_string()),
                ProofKind::Address(address) => {
                    (self.request.acme.addresses.contains(address), address.to_string())
                }
            };
            if !asked {
                return Err(fix(Unprovable::OtherName(shown)));
            }
        }
        let key = self.issuer.account.key();
        let proofs = proofs(&open, |token| key.dns_value(token));
        // Their CNAMEs were followed when they were stored.
        if !proofs.is_empty() && values(&proofs) == values(&self.durable.proofs) {
            return Ok(self.durable.proofs.clone());
        }
        let (owner, asks) = (&self.request.owner, self.request.acme.follow_cname);
        let followed = delegation::follow(self.issuer.solver.as_ref(), owner, proofs, asks).await;
        followed.map_err(|error| self.delegation_failed(&error))
    }

    /// The name servers belong to the owner of the name. One that does not answer is waited for as
    /// long as for a record, so that it does not block the order for longer.
    fn delegation_failed(&self, error: &SolveError) -> IssueError {
        let failed = failure::unsolved("following CNAMEs", error);
        let age = self.issuer.clock.now().duration_since(self.durable.started);
        if failed.ends_order() || age < self.issuer.options.timing.propagation_timeout {
            return failed;
        }
        IssueError::OrderFailed(failed.to_string())
    }

    /// Checks once whether the proofs, published at `since`, are visible. Returns what to wait for.
    pub(super) async fn check_visibility(
        &self,
        view: &mut View,
        since: Timestamp,
    ) -> Result<Option<(Phase, Timestamp)>, IssueError> {
        let outcome = self.issuer.solver.ready(&self.request.owner, &view.proofs).await;
        let (why, look_again) = match outcome {
            Ok(Readiness::Ready) => {
                view.seen();
                return Ok(None);
            }
            Ok(Readiness::NotYet { why, look_again }) => (why, look_again),
            // A failed check counts as not visible: the same deadline applies.
            Err(SolveError::Unavailable(why) | SolveError::CredentialRefused(why)) => {
                (why, self.issuer.options.timing.longest_poll)
            }
            Err(error) => return Err(failure::unsolved("looking at the proofs", &error)),
        };
        let now = self.issuer.clock.now();
        let after = |start: Timestamp, wait| start.saturating_add(wait).unwrap_or(Timestamp::MAX);
        let default = self.issuer.options.timing.propagation_timeout;
        let (solver, owner) = (&self.issuer.solver, &self.request.owner);
        let deadline = after(since, solver.propagation_timeout(owner, &view.proofs, default));
        if now >= deadline {
            return Err(failure::invisible(&view.proofs, &why));
        }
        let why = delegation::explain(why, &self.durable.names, &view.proofs);
        Ok(Some((Phase::Propagating(why), after(now, look_again).min(deadline))))
    }

    /// Asks the CA to validate (section 7.5.1).
    pub(super) async fn answer(&self, view: &mut View) -> Result<(), IssueError> {
        let open = view.open().unwrap_or_default();
        let waiting = open.iter().filter(|one| !one.answered);
        let waiting: Vec<String> = waiting.map(|one| one.url.to_owned()).collect();
        let empty = json!({});
        let posts: Vec<_> =
            waiting.iter().map(|url| self.issuer.account.post(url, &empty)).collect();
        let replies: Vec<_> = stream::iter(posts).buffered(AT_ONCE).collect().await;
        let (mut retry_after, mut refused, mut failed) = (None, false, None);
        for (url, reply) in waiting.iter().zip(replies) {
            match reply {
                Ok(reply) => {
                    retry_after = retry_after.max(reply.retry_after);
                    view.challenge_triggered(url);
                }
                Err(RequestError::Problem(problem)) if problem.word() == "malformed" => {
                    refused = true;
                }
                Err(error) => failed = Some(error),
            }
        }
        if let Some(error) = failed {
            return Err(failure::failed("answering a challenge", &error, ProblemScope::Order));
        }
        if refused {
            // The CA went on by itself, or the authorization is over, which the order need not show.
            self.authorize(view).await?;
            if view.open().unwrap_or_default().iter().any(|one| !one.answered) {
                let message = "the CA did not take the answer to a challenge that it waits for";
                return Err(IssueError::transient(message));
            }
        }
        view.answered(self.issuer.next_poll(retry_after, 0));
        Ok(())
    }

    /// Fetches the order: one request, however many names it has.
    pub(super) async fn poll(&self, view: &mut View) -> Result<(), IssueError> {
        let (order, reply) = self.fetch_order().await?;
        view.polled(order, self.issuer.next_poll(reply.retry_after, view.polls() + 1));
        Ok(())
    }

    /// Sends the signing request (section 7.4), and meanwhile removes the proofs, which the CA has
    /// seen.
    pub(super) async fn finalize(&self, view: &mut View) -> Result<(), IssueError> {
        let csr = x509::signing_request(self.request, self.durable.key.as_ref());
        let csr = csr.map_err(|error| failure::gone(&error.to_string()))?;
        let payload = json!({"csr": base64url(&csr)});
        let known = view.finalize_unknown();
        let finalize = self.issuer.account.post(&view.order.finalize, &payload);
        let (outcome, ()) = future::join(finalize, self.cleanup(view)).await;
        let failed = |error| failure::failed("finalizing the order", &error, ProblemScope::Order);
        match outcome {
            Ok(reply) => {
                let order: Order = reply.json().map_err(failed)?;
                let polls = if view.is_finalized() { view.polls() } else { 0 };
                view.finalized(Some(order), self.issuer.next_poll(reply.retry_after, polls));
            }
            // It was finalized before, and the answer was lost: find out at once how far it is.
            Err(RequestError::Problem(problem)) if problem.word() == "orderNotReady" => {
                let again = view.is_finalized();
                let at_once = self.issuer.clock.now();
                let later = || self.issuer.next_poll(None, view.polls());
                let next_poll = if again { later() } else { at_once };
                view.finalized(None, next_poll);
            }
            Err(error) => {
                let error = failed(error);
                if error.is_unsent() {
                    view.finalize_known(known);
                }
                return Err(error);
            }
        }
        view.proofs.clear();
        Ok(())
    }

    /// Finds out why the CA ended the order.
    pub(super) async fn explain(&self, view: &mut View) -> IssueError {
        let all = self.fetch_authorizations(&view.order).await;
        // One that cannot be fetched explains nothing; the order is over all the same.
        let found: Vec<Authorization> = all.into_iter().filter_map(Result::ok).collect();
        let error = failure::refused(&view.order, &found);
        view.authorized(found);
        error
    }

    pub(super) async fn cleanup_unless_done(&self, view: &View) {
        if !view.is_finalized() {
            self.cleanup(view).await;
        }
    }

    /// The certificate does not depend on this cleanup. The caller removes remaining proofs later.
    async fn cleanup(&self, view: &View) {
        let known = if view.proofs.is_empty() { &self.durable.proofs } else { &view.proofs };
        self.remove(&cleanup_by_name(&self.durable.names, known)).await;
    }

    async fn remove(&self, proofs: &[Proof]) {
        if proofs.is_empty() {
            return;
        }
        let owner = &self.request.owner;
        if let Err(error) = self.issuer.solver.cleanup(owner, proofs).await {
            tracing::warn!(owner = %owner.0, %error, "taking the proofs of {} away failed", owner.0);
        }
    }

    async fn fetch_order(&self) -> Result<(Order, Reply), IssueError> {
        let failed = |error| failure::failed("fetching the order", &error, ProblemScope::Order);
        let reply = self.issuer.account.fetch(&self.durable.order).await.map_err(failed)?;
        Ok((reply.json().map_err(failed)?, reply))
    }

    /// At most as many as were requested, however many the CA lists.
    async fn fetch_authorizations(
        &self,
        order: &Order,
    ) -> Vec<Result<Authorization, RequestError>> {
        let urls = order.authorizations.iter().take(failure::asked_for(self.request));
        let fetches: Vec<_> = urls.map(|url| self.fetch_authorization(url)).collect();
        stream::iter(fetches).buffered(AT_ONCE).collect().await
    }

    async fn fetch_authorization(&self, url: &str) -> Result<Authorization, RequestError> {
        let found: Authorization = self.issuer.account.fetch(url).await?.json()?;
        Ok(Authorization { url: url.to_owned(), ..found })
    }
}

/// All values, whatever their names.
fn values(proofs: &[Proof]) -> BTreeSet<&str> {
    let all = proofs.iter().filter_map(Proof::txt).flat_map(|(_, values)| values);
    all.map(String::as_str).collect()
}

/// What to remove: the `known` proofs, and for each other name all that is published there.
pub(super) fn cleanup_by_name(names: &[DnsName], known: &[Proof]) -> Vec<Proof> {
    let mut proofs = known.to_vec();
    for fqdn in names.iter().map(DnsName::challenge) {
        if !known.iter().filter_map(Proof::txt).any(|(other, _)| *other == fqdn) {
            proofs.push(Proof::at_challenge(fqdn, Vec::new()));
        }
    }
    proofs
}

fn base64url(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// Requests of one order at the same time. With a cold pool each needs a nonce of its own, and
/// Let's Encrypt allows ten of those at once.
const AT_ONCE: usize = 8;
