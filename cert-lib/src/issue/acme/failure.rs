//! What went wrong with an order: whether it stands, who must act, and what people read.

use jiff::Timestamp;

use crate::{
    acme::{
        client::RequestError,
        order::{describe, is_over},
        problem::{Problem, ProblemScope, line},
        wire::{Authorization, AuthorizationStatus, Order},
    },
    issue::{Disposition, IssueError, RetrySchedule},
    model::request::Request,
    solve::{Proof, SolveError},
};

/// A request failed while `doing` something. The order stands when trying again is all it takes.
pub(super) fn failed(doing: &str, error: &RequestError, concern: ProblemScope) -> IssueError {
    let message = format!("{doing} failed: {error}");
    if concern == ProblemScope::Order && error.problem().is_some_and(is_lost) {
        return gone(&message);
    }
    let limit = error.problem().and_then(|problem| problem.limit(concern));
    if error.problem().is_some_and(is_limit) {
        let denied = error.problem().is_some_and(|problem| problem.denies_renewal(concern));
        let failure = IssueError::passing(message, error.disposition(concern));
        return failure.limited(limit).denying_renewal(denied);
    }
    let failure = match error.disposition(concern) {
        disposition @ (Disposition::Retry(RetrySchedule::Transport) | Disposition::Until(_)) => {
            IssueError::passing(message, disposition)
        }
        disposition @ (Disposition::Retry(RetrySchedule::Validation | RetrySchedule::Daily)
        | Disposition::FixIssuer
        | Disposition::FixRequest) => IssueError::fatal(message, disposition),
    };
    let refuses_csr = error.problem().is_some_and(|problem| problem.word() == "badCSR");
    let failure = failure.limited(limit).refusing_csr(refuses_csr);
    failure.unheard(is_unheard(error)).unsent(error.is_unsent())
}

/// No answer, or one of what stands before the CA.
fn is_unheard(error: &RequestError) -> bool {
    match error {
        RequestError::Transport(_) => true,
        RequestError::Problem(problem) => {
            problem.kind.is_empty() && problem.status.is_some_and(|status| status >= 500)
        }
        RequestError::Unusable { .. } | RequestError::Unsigned(_) => false,
    }
}

/// A 404 counts where the CA itself says it: what stands before it says 404, too, while the CA is
/// moved or started.
fn is_lost(problem: &Problem) -> bool {
    problem.is_gone() && (!problem.kind.is_empty() || problem.status == Some(410))
}

/// A limit says nothing about the order, not even where it does not say until when.
fn is_limit(problem: &Problem) -> bool {
    problem.word() == "rateLimited" || problem.status == Some(429)
}

/// The time of the order, which is of this instant, ran out.
pub(super) fn expired(placed: Timestamp) -> IssueError {
    gone(&format!("the order of {placed:.0} was not finished in time"))
}

/// The same, after it failed all the time.
pub(super) fn expired_after(placed: Timestamp, last: &IssueError) -> IssueError {
    gone(&format!("the order of {placed:.0} was not finished in time: {last}"))
}

/// The CA answered with an order that it has already signed for.
pub(super) fn finished_before() -> IssueError {
    IssueError::fatal(
        "the CA answered with an order that is finished already, for a key that is not known here",
        Disposition::Retry(RetrySchedule::Validation),
    )
}

/// How many names and addresses an order for `request` is for.
pub(super) fn asked_for(request: &Request) -> usize {
    request.names().len() + request.acme.addresses.len()
}

/// Each name has one authorization, at most.
pub(super) fn check_count(order: &Order, request: &Request) -> Result<(), IssueError> {
    if order.authorizations.len() > asked_for(request) {
        let message = "the CA wants more to be proved than was asked for";
        return Err(IssueError::fatal(message, Disposition::Retry(RetrySchedule::Validation)));
    }
    Ok(())
}

/// Nobody is there to publish what would be needed.
pub(super) fn unprovable_address() -> IssueError {
    IssueError::fatal(
        "an IP address is proved by HTTP01 or TLSALPN01, which this version does not publish",
        Disposition::FixRequest,
    )
}

/// The CA does not have this kind of certificate.
pub(super) fn unknown_profile<'a>(
    profile: &str,
    offered: impl ExactSizeIterator<Item = &'a String>,
    disposition: Disposition,
) -> IssueError {
    let more = offered.len().saturating_sub(MAX_PROFILES);
    let mut names: Vec<String> = offered.take(MAX_PROFILES).map(|name| line(name, 64)).collect();
    if more > 0 {
        names.push(format!("{more} more"));
    }
    let offers = match names.is_empty() {
        true => "it has no profiles".to_owned(),
        false => format!("it has {}", names.join(", ")),
    };
    let message = format!("the CA has no profile '{}': {offers}", line(profile, 64));
    IssueError::fatal(message, disposition)
}

/// A new order is all it takes.
pub(super) fn gone(message: &str) -> IssueError {
    IssueError::fatal(message, Disposition::Retry(RetrySchedule::Transport))
}

/// The solver failed while `doing` something.
pub(super) fn unsolved(doing: &str, error: &SolveError) -> IssueError {
    let message = format!("{doing} failed: {error}");
    match error {
        SolveError::Unavailable(_) => {
            IssueError::passing(message, Disposition::Retry(RetrySchedule::Transport))
        }
        // Not the issuer's fault: it may be one namespace that cannot be written, and the others
        // must not suffer.
        SolveError::Misconfigured(_) => {
            IssueError::fatal(message, Disposition::Retry(RetrySchedule::Validation))
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
    IssueError::fatal(message, Disposition::Retry(RetrySchedule::Validation))
}

/// The CA gave the order up: its own words on each name, or on the order where it has none.
pub(super) fn refused(order: &Order, authorizations: &[Authorization]) -> IssueError {
    let per_name: Vec<(String, &Problem)> = authorizations
        .iter()
        .flat_map(|authorization| {
            let problems = authorization.challenges.iter().filter_map(|one| one.error.as_ref());
            problems.map(|problem| (describe(authorization), problem))
        })
        .collect();
    let problems = per_name.iter().map(|(_, problem)| *problem).chain(&order.error);
    // A try that was refused counts at the CA, whatever the reason: no hurry.
    let hurried = |it: &Disposition| {
        matches!(it, Disposition::Retry(RetrySchedule::Transport) | Disposition::Until(_))
    };
    let disposition = problems
        .map(|problem| problem.disposition(ProblemScope::Order))
        .find(|disposition| !hurried(disposition))
        .unwrap_or(Disposition::Retry(RetrySchedule::Validation));
    let mut said: Vec<String> =
        per_name.iter().map(|(name, problem)| format!("{name}: {problem}")).collect();
    if said.is_empty() && order.error.is_none() {
        let over = authorizations.iter().filter(|one| is_over(one));
        said.extend(over.map(|one| format!("{}: {}", describe(one), one.status)));
    }
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
/// Profiles in one message: the CA's text.
const MAX_PROFILES: usize = 10;
