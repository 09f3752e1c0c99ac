//! From what failed at the CA or the solver to an [`IssueError`].

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

/// A request failed while `doing` something.
pub(super) fn failed(doing: &str, error: &RequestError, concern: ProblemScope) -> IssueError {
    let message = format!("{doing} failed: {error}");
    let failure = match error {
        RequestError::Problem(problem) => refused_request(message, problem, concern),
        RequestError::Transport(_) => {
            IssueError::Unreachable { message, retry_at: None, progress: None }
        }
        RequestError::Unusable { .. } | RequestError::Unsigned(_) => IssueError::transient(message),
    };
    if error.is_unsent() { failure.not_sent() } else { failure }
}

/// The CA, or a server in front of it, refused a request.
fn refused_request(message: String, problem: &Problem, concern: ProblemScope) -> IssueError {
    if concern == ProblemScope::Order && is_lost(problem) {
        return gone(&message);
    }
    if problem.is_pause() {
        return IssueError::UserActionRequired { message, url: unpause(problem), progress: None };
    }
    let disposition = problem.disposition(concern);
    let retry_at = match disposition {
        Disposition::Until(time) => Some(time),
        Disposition::Retry(_) | Disposition::FixIssuer | Disposition::FixRequest => None,
    };
    let (scope, is_limit) = (problem.limit(concern), is_limit(problem));
    if is_limit || (scope.is_some() && retry_at.is_some()) {
        let is_published = is_limit && problem.is_published_limit(concern);
        let (until, progress) = (retry_at, None);
        return IssueError::RateLimited { message, until, scope, is_published, progress };
    }
    match disposition {
        Disposition::Retry(RetrySchedule::Transport) | Disposition::Until(_) => {
            match is_unanswered(problem) {
                true => IssueError::Unreachable { message, retry_at, progress: None },
                false => IssueError::Transient { message, retry_at, progress: None },
            }
        }
        Disposition::Retry(RetrySchedule::Validation | RetrySchedule::Daily) => {
            IssueError::OrderFailed(message)
        }
        Disposition::FixIssuer => IssueError::InvalidIssuer(message),
        Disposition::FixRequest if problem.word() == "badCSR" => IssueError::BadCsr(message),
        Disposition::FixRequest => IssueError::InvalidRequest(message),
    }
}

/// Whether it comes from a server in front of the CA, which did not answer.
fn is_unanswered(problem: &Problem) -> bool {
    problem.kind.is_empty() && problem.status.is_some_and(|status| status >= 500)
}

/// The page on which a person ends a pause: Let's Encrypt has it in the text.
fn unpause(problem: &Problem) -> Option<String> {
    let words = problem.detail.split_whitespace();
    let mut links = words.filter(|word| word.starts_with("https://") && word.len() <= MAX_LINK);
    links.find(|link| link.contains("/unpause")).map(str::to_owned)
}

/// A 404 counts where the CA itself says it: a server in front of it answers 404, too, while the CA
/// is moved or started.
fn is_lost(problem: &Problem) -> bool {
    problem.is_gone() && (!problem.kind.is_empty() || problem.status == Some(410))
}

/// A limit does not end the order, not even where the CA names no instant.
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
    let message =
        "the CA answered with an order that is finished already, for a key that is not known here";
    IssueError::OrderFailed(message.to_owned())
}

/// How many names and addresses an order for `request` is for.
pub(super) fn asked_for(request: &Request) -> usize {
    request.names().len() + request.acme.addresses.len()
}

/// Each name has one authorization, at most.
pub(super) fn check_count(order: &Order, request: &Request) -> Result<(), IssueError> {
    if order.authorizations.len() > asked_for(request) {
        let message = "the CA wants more to be proved than was asked for".to_owned();
        return Err(IssueError::OrderFailed(message));
    }
    Ok(())
}

/// No solver publishes what would be needed.
pub(super) fn unprovable_address() -> IssueError {
    let message =
        "an IP address is proved by HTTP01 or TLSALPN01, which this version does not publish";
    IssueError::InvalidRequest(message.to_owned())
}

/// The CA does not have the profile of the request, or else of the issuer.
pub(super) fn refused_profile(request: &Request, message: String) -> IssueError {
    match request.acme.profile {
        Some(_) => IssueError::InvalidRequest(message),
        None => IssueError::InvalidIssuer(message),
    }
}

/// That the CA does not have this profile, and which it has.
pub(super) fn unknown_profile<'a>(
    profile: &str,
    offered: impl ExactSizeIterator<Item = &'a String>,
) -> String {
    let more = offered.len().saturating_sub(MAX_PROFILES);
    let mut names: Vec<String> = offered.take(MAX_PROFILES).map(|name| line(name, 64)).collect();
    if more > 0 {
        names.push(format!("{more} more"));
    }
    let offers = match names.is_empty() {
        true => "it has no profiles".to_owned(),
        false => format!("it has {}", names.join(", ")),
    };
    format!("the CA has no profile '{}': {offers}", line(profile, 64))
}

/// A new order is all it takes.
pub(super) fn gone(message: &str) -> IssueError {
    IssueError::OrderGone(message.to_owned())
}

/// The solver failed while `doing` something.
pub(super) fn unsolved(doing: &str, error: &SolveError) -> IssueError {
    let message = format!("{doing} failed: {error}");
    match error {
        SolveError::Unavailable(_) | SolveError::CredentialRefused(_) => {
            IssueError::transient(message)
        }
        // Not an invalid issuer: it may be one namespace that cannot be written, and the others
        // must not suffer.
        SolveError::Misconfigured(_) => IssueError::OrderFailed(message),
    }
}

/// The proofs took too long to be seen.
pub(super) fn invisible(proofs: &[Proof], why: &str) -> IssueError {
    let names = proofs.iter().filter_map(Proof::txt).map(|(fqdn, _)| format!("'{fqdn}'"));
    let mut shown: Vec<String> = names.collect();
    let more = shown.split_off(shown.len().min(MAX_NAMES)).len();
    let (records, are) = if proofs.len() == 1 { ("record", "is") } else { ("records", "are") };
    let and_more = if more == 0 { String::new() } else { format!(" and {more} more") };
    let message = format!(
        "DNS TXT {records} {}{and_more} {are} not visible on the authoritative or precheck name servers: {why}",
        shown.join(", "),
    );
    let disposition = Disposition::Retry(RetrySchedule::Validation);
    IssueError::ValidationFailed { message, names: Vec::new(), disposition }
}

/// The CA ended the order: its reasons for each name, or for the order where it has none.
pub(super) fn refused(order: &Order, authorizations: &[Authorization]) -> IssueError {
    let per_name: Vec<(String, &Problem)> = authorizations
        .iter()
        .flat_map(|authorization| {
            let problems = authorization.challenges.iter().filter_map(|one| one.error.as_ref());
            problems.map(|problem| (describe(authorization), problem))
        })
        .collect();
    let problems = per_name.iter().map(|(_, problem)| *problem).chain(&order.error);
    // A refused attempt counts at the CA, whatever the reason: no hurry.
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
    let names = failed.filter_map(|one| one.identifier.value.parse().ok()).collect();
    let message = format!("the CA refused the order: {words}");
    IssueError::ValidationFailed { message, names, disposition }
}

/// Names in one message.
const MAX_NAMES: usize = 5;
/// The longest link that is kept: that of Let's Encrypt carries a token.
const MAX_LINK: usize = 2000;
/// Profiles in one message: the CA's text.
const MAX_PROFILES: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_that_ends_a_pause_is_kept() {
        let page = "https://portal.example/sfe/v1/unpause?jwt=abc";
        let about =
            "Your account is temporarily prevented from requesting certificates for a.example";
        for (more, url) in [
            (format!(". Please visit: {page}"), Some(page)),
            (format!(". Please visit: {page}{}", "x".repeat(MAX_LINK)), None),
            (", see https://ca.example/help".to_owned(), None),
        ] {
            let problem = Problem {
                kind: "urn:ietf:params:acme:error:rateLimited".to_owned(),
                detail: format!("{about}{more}"),
                status: Some(429),
                ..Problem::default()
            };
            let error = RequestError::Problem(Box::new(problem));
            let error = failed("placing the order", &error, ProblemScope::NewOrder);
            let IssueError::UserActionRequired { url: found, .. } = &error else {
                panic!("{error:?}")
            };
            assert_eq!(found.as_deref(), url);
            assert_eq!(error.disposition(), Disposition::Retry(RetrySchedule::Daily));
            assert!(!error.ends_order());
        }
    }
}
