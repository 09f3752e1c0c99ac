//! What went wrong with an order: whether it stands, who must act, and what people read.

use crate::{
    acme::{
        client::RequestError,
        order::shown,
        problem::{Concern, Problem},
        wire::{Authorization, AuthorizationStatus, Order},
    },
    issue::{Disposition, IssueError, Ladder},
    solve::{Proof, SolveError},
};

/// A request failed while `doing` something. The order stands when trying again is all it takes.
pub(super) fn failed(doing: &str, error: &RequestError, concern: Concern) -> IssueError {
    let message = format!("{doing} failed: {error}");
    if concern == Concern::Order && error.problem().is_some_and(Problem::is_gone) {
        return gone(&message);
    }
    let limit = error.problem().and_then(|problem| problem.limit(concern));
    let failure = match error.disposition(concern) {
        disposition @ (Disposition::Retry(Ladder::Transport) | Disposition::Until(_)) => {
            IssueError::passing(message, disposition)
        }
        disposition @ (Disposition::Retry(Ladder::Validation | Ladder::Daily)
        | Disposition::FixIssuer
        | Disposition::FixRequest) => IssueError::fatal(message, disposition),
    };
    failure.limited(limit)
}

/// The time of the order ran out while nobody looked.
pub(super) fn expired() -> IssueError {
    gone("the order has expired before it was finished")
}

/// A new order is all it takes.
pub(super) fn gone(message: &str) -> IssueError {
    IssueError::fatal(message, Disposition::Retry(Ladder::Transport))
}

/// The solver failed while `doing` something.
pub(super) fn unsolved(doing: &str, error: &SolveError) -> IssueError {
    let message = format!("{doing} failed: {error}");
    match error {
        SolveError::Unavailable(_) => {
            IssueError::passing(message, Disposition::Retry(Ladder::Transport))
        }
        // Not the issuer's fault: it may be one namespace that cannot be written, and the others
        // must not suffer.
        SolveError::Misconfigured(_) => {
            IssueError::fatal(message, Disposition::Retry(Ladder::Validation))
        }
    }
}

/// The proofs took too long to be seen.
pub(super) fn invisible(proofs: &[Proof], why: &str) -> IssueError {
    let names = proofs.iter().map(|Proof::Txt { fqdn, .. }| format!("'{fqdn}'"));
    let mut shown: Vec<String> = names.collect();
    let more = shown.split_off(shown.len().min(MAX_NAMES)).len();
    let (records, are) = if proofs.len() == 1 { ("record", "is") } else { ("records", "are") };
    let and_more = if more == 0 { String::new() } else { format!(" and {more} more") };
    let message = format!(
        "DNS TXT {records} {}{and_more} {are} not visible on the authoritative or precheck name servers: {why}",
        shown.join(", "),
    );
    IssueError::fatal(message, Disposition::Retry(Ladder::Validation))
}

/// The CA gave the order up: its own words on each name, or on the order where it has none.
pub(super) fn refused(order: &Order, authorizations: &[Authorization]) -> IssueError {
    let per_name: Vec<(String, &Problem)> = authorizations
        .iter()
        .flat_map(|authorization| {
            let problems = authorization.challenges.iter().filter_map(|one| one.error.as_ref());
            problems.map(|problem| (shown(authorization), problem))
        })
        .collect();
    let disposition = match (per_name.first(), &order.error) {
        (Some((_, problem)), _) => problem.disposition(Concern::Order),
        (None, Some(problem)) => problem.disposition(Concern::Order),
        (None, None) => Disposition::Retry(Ladder::Validation),
    };
    let mut said: Vec<String> =
        per_name.iter().map(|(name, problem)| format!("{name}: {problem}")).collect();
    let more = said.split_off(said.len().min(MAX_NAMES)).len();
    if more > 0 {
        said.push(format!("and {more} more"));
    }
    let words = match (said.is_empty(), &order.error) {
        (false, _) => said.join("; "),
        (true, Some(problem)) => problem.to_string(),
        (true, None) => "it gave no reason".to_owned(),
    };
    let failed = authorizations.iter().filter(|one| one.status == AuthorizationStatus::Invalid);
    let unproved = failed.filter_map(|one| one.identifier.value.parse().ok()).collect();
    IssueError::fatal(format!("the CA refused the order: {words}"), disposition)
        .with_unproved(unproved)
}

/// Names in one message.
const MAX_NAMES: usize = 5;
