//! Problem documents of the CA (RFC 7807, RFC 8555 section 6.7): as one line for status and logs,
//! and as a [`Disposition`] for the plan.

mod limit;

use std::fmt;

use jiff::Timestamp;
use serde::Deserialize;

use super::{bounds, identifier::Identifier};
use crate::model::disposition::{Disposition, RetrySchedule};

/// A problem document. Its texts are the CA's: they are shortened and cleaned when printed.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default)]
pub struct Problem {
    /// `urn:ietf:params:acme:error:` and the error type.
    #[serde(rename = "type", deserialize_with = "bounds::text")]
    pub kind: String,
    /// A text for users.
    #[serde(deserialize_with = "bounds::text")]
    pub detail: String,
    /// The HTTP status. Problems inside of orders and challenges may have none.
    pub status: Option<u16>,
    /// A URL with more information; with `userActionRequired` the terms to agree to.
    #[serde(deserialize_with = "bounds::some_text")]
    pub instance: Option<String>,
    /// One per identifier.
    #[serde(deserialize_with = "bounds::list")]
    pub subproblems: Vec<Subproblem>,
    /// The Retry-After of the response.
    #[serde(skip)]
    pub retry_after: Option<Timestamp>,
}

/// A problem with one identifier (RFC 8555 section 6.7.1).
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default)]
pub struct Subproblem {
    /// As in [`Problem::kind`].
    #[serde(rename = "type", deserialize_with = "bounds::text")]
    pub kind: String,
    /// A text for users.
    #[serde(deserialize_with = "bounds::text")]
    pub detail: String,
    /// The identifier.
    pub identifier: Option<Identifier>,
}

/// The operation of the request. The same problem has different meanings for different operations.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProblemScope {
    /// The account itself.
    Account,
    /// A new order: a refusal concerns the account.
    NewOrder,
    /// An existing order.
    Order,
}

impl Problem {
    /// A response without a problem document: a page of a proxy, or a reply of another server.
    /// Nothing of it is kept, because the server may be reachable from this process only.
    #[must_use]
    pub fn not_acme(status: u16) -> Self {
        Self { status: Some(status), ..Self::default() }
    }

    /// Whether its type is one of ACME's (RFC 8555 section 6.7).
    #[must_use]
    pub fn is_acme(&self) -> bool {
        self.kind.starts_with(NAMESPACE)
    }

    /// The error type without its namespace (RFC 8555 section 6.7), empty where there is none.
    #[must_use]
    pub fn word(&self) -> &str {
        word_of(&self.kind)
    }

    /// Whether the request only needs another nonce (RFC 8555 section 6.5).
    #[must_use]
    pub fn is_bad_nonce(&self) -> bool {
        self.word() == "badNonce"
    }

    /// Whether the requested resource does not exist, or no longer.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self.status, Some(404 | 410))
    }

    /// Who must act before a retry can succeed.
    #[must_use]
    pub fn disposition(&self, scope: ProblemScope) -> Disposition {
        if self.is_gone() {
            // Regardless of its type: the CA has moved or lost a resource, which is no user's
            // error.
            return Disposition::Retry(RetrySchedule::Transport);
        }
        if self.is_pause() {
            return Disposition::Retry(RetrySchedule::Daily);
        }
        let of = |word| classify(word, scope);
        let own = of(self.word());
        if let (Some(time), None | Some(Class::Limited | Class::Server)) = (self.again(), own) {
            return Disposition::Until(time);
        }
        // `compound` and unknown types: the subproblems decide.
        let inner = || self.subproblems.iter().find_map(|sub| of(word_of(&sub.kind)));
        match own.or_else(inner).or_else(|| self.by_status()) {
            Some(Class::FixRequest) => Disposition::FixRequest,
            Some(Class::FixIssuer) => Disposition::FixIssuer,
            Some(Class::Server) => Disposition::Retry(RetrySchedule::Transport),
            // A rate limit without a time is not retried quickly.
            Some(Class::Proof | Class::Limited) | None => {
                Disposition::Retry(RetrySchedule::Validation)
            }
        }
    }

    fn by_status(&self) -> Option<Class> {
        match self.status? {
            429 => Some(Class::Limited),
            // Proxies before the CA answer with these, and in HTML.
            408 | 500.. => Some(Class::Server),
            _ if self.kind.is_empty() => Some(Class::Server),
            _ => None,
        }
    }
}

/// A class of problems.
#[derive(Clone, Copy)]
enum Class {
    Limited,
    Proof,
    FixRequest,
    FixIssuer,
    Server,
}

fn classify(word: &str, scope: ProblemScope) -> Option<Class> {
    Some(match word {
        "rateLimited" => Class::Limited,
        "unauthorized" if scope != ProblemScope::Order => Class::FixIssuer,
        "unauthorized" | "caa" | "dns" | "connection" | "incorrectResponse" | "tls" => Class::Proof,
        "rejectedIdentifier" | "unsupportedIdentifier" | "badCSR" | "badRevocationReason" => {
            Class::FixRequest
        }
        "malformed" if scope == ProblemScope::Account => Class::FixIssuer,
        "malformed" => Class::FixRequest,
        "accountDoesNotExist"
        | "externalAccountRequired"
        | "userActionRequired"
        | "invalidContact"
        | "unsupportedContact"
        | "invalidProfile"
        | "badPublicKey"
        | "badSignatureAlgorithm" => Class::FixIssuer,
        "serverInternal" | "badNonce" | "orderNotReady" | "conflict" => Class::Server,
        _ => return None,
    })
}

fn word_of(kind: &str) -> &str {
    kind.strip_prefix(NAMESPACE).unwrap_or(kind)
}

/// One line: `rateLimited: too many certificates … (429)`, then the subproblems.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if !matches!(self.word(), "" | "about:blank") {
            parts.push(line(self.word(), MAX_WORD));
        }
        if !self.detail.is_empty() {
            parts.push(line(&self.detail, MAX_DETAIL));
        }
        if parts.is_empty() {
            parts.push(match self.status {
                Some(_) => "the answer is no ACME problem document".to_owned(),
                None => "the CA gave no reason".to_owned(),
            });
        }
        f.write_str(&parts.join(": "))?;
        if let Some(status) = self.status {
            write!(f, " (HTTP {status})")?;
        }
        if let Some(instance) = &self.instance {
            write!(f, ", see {}", line(instance, MAX_DETAIL))?;
        }
        for sub in self.subproblems.iter().take(MAX_SUBPROBLEMS) {
            write!(f, "; {sub}")?;
        }
        match self.subproblems.len().saturating_sub(MAX_SUBPROBLEMS) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl fmt::Display for Subproblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(identifier) = &self.identifier {
            write!(f, "{}: ", line(&identifier.value, MAX_DETAIL))?;
        }
        write!(f, "{}: {}", line(word_of(&self.kind), MAX_WORD), line(&self.detail, MAX_DETAIL))
    }
}

/// Untrusted text as one line for a log or a status.
pub(crate) fn line(text: &str, limit: usize) -> String {
    let mut clean = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        if !word.is_empty() {
            if !clean.is_empty() {
                clean.push(' ');
            }
            clean.push_str(word);
        }
    }
    match clean.char_indices().nth(limit) {
        Some((end, _)) => shortened(&clean, end),
        None => clean,
    }
}

/// The beginning of `text`, and the first link that would be cut, in full: half a link is useless.
fn shortened(text: &str, end: usize) -> String {
    let starts = text.match_indices("http").map(|(at, _)| at);
    let starts = starts.filter(|at| {
        let rest = &text[*at..];
        rest.starts_with("https://") || rest.starts_with("http://")
    });
    let mut links = starts.take(MAX_LINKS).filter_map(|at| {
        let link = text[at..].split(' ').next()?;
        (at + link.len() > end && link.len() <= MAX_LINK).then_some((at, link))
    });
    match links.next() {
        Some((at, link)) if at + link.len() == text.len() && at <= end => text.to_owned(),
        Some((at, link)) if at <= end => format!("{}{link} …", &text[..at]),
        Some((_, link)) => format!("{}… {link}", &text[..end]),
        None => format!("{}…", &text[..end]),
    }
}

/// Links that are examined in one text.
const MAX_LINKS: usize = 20;
const MAX_WORD: usize = 64;
/// Let's Encrypt's longest details quote a TXT record of 255 bytes and two names.
const MAX_DETAIL: usize = 800;
/// Let's Encrypt's link to end a pause carries a token.
const MAX_LINK: usize = 2000;
const MAX_SUBPROBLEMS: usize = 10;
/// The namespace of the error types of RFC 8555.
const NAMESPACE: &str = "urn:ietf:params:acme:error:";

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(word: &str) -> Problem {
        Problem { kind: format!("urn:ietf:params:acme:error:{word}"), ..Problem::default() }
    }

    #[test]
    fn each_error_type_has_its_disposition() {
        let validation = Disposition::Retry(RetrySchedule::Validation);
        let transport = Disposition::Retry(RetrySchedule::Transport);
        let (request, issuer) = (Disposition::FixRequest, Disposition::FixIssuer);
        for (word, order, new_order, account) in [
            ("rateLimited", validation, validation, validation),
            ("unauthorized", validation, issuer, issuer),
            ("caa", validation, validation, validation),
            ("dns", validation, validation, validation),
            ("connection", validation, validation, validation),
            ("incorrectResponse", validation, validation, validation),
            ("tls", validation, validation, validation),
            ("rejectedIdentifier", request, request, request),
            ("unsupportedIdentifier", request, request, request),
            ("badCSR", request, request, request),
            ("malformed", request, request, issuer),
            ("accountDoesNotExist", issuer, issuer, issuer),
            ("externalAccountRequired", issuer, issuer, issuer),
            ("userActionRequired", issuer, issuer, issuer),
            ("serverInternal", transport, transport, transport),
            ("badNonce", transport, transport, transport),
            ("somethingNew", validation, validation, validation),
        ] {
            let problem = problem(word);
            assert_eq!(problem.disposition(ProblemScope::Order), order, "{word}");
            assert_eq!(problem.disposition(ProblemScope::NewOrder), new_order, "{word}");
            assert_eq!(problem.disposition(ProblemScope::Account), account, "{word}");
        }
    }

    #[test]
    fn a_rate_limit_with_retry_after_lasts_until_then() {
        let time = "2026-11-22T10:00:00Z".parse().unwrap();
        for word in ["rateLimited", "serverInternal"] {
            let problem = Problem { retry_after: Some(time), ..problem(word) };
            assert_eq!(problem.disposition(ProblemScope::Account), Disposition::Until(time));
        }
        let html = Problem { retry_after: Some(time), ..Problem::not_acme(503) };
        assert_eq!(html.disposition(ProblemScope::Order), Disposition::Until(time));
        let refused = Problem { retry_after: Some(time), ..problem("badCSR") };
        assert_eq!(refused.disposition(ProblemScope::Order), Disposition::FixRequest);
    }

    #[test]
    fn an_unknown_error_type_is_classified_by_its_subproblems() {
        let sub = Subproblem { kind: problem("rejectedIdentifier").kind, ..Subproblem::default() };
        let problem = Problem { subproblems: vec![sub], ..problem("compound") };
        assert_eq!(problem.disposition(ProblemScope::Order), Disposition::FixRequest);
    }

    #[test]
    fn a_problem_is_one_readable_line() {
        let json = r#"{"type":"urn:ietf:params:acme:error:rejectedIdentifier","status":400,
            "detail":"Two names\n are refused\u0007","subproblems":[
            {"type":"urn:ietf:params:acme:error:rejectedIdentifier","detail":"forbidden",
             "identifier":{"type":"dns","value":"a.example.org"}},
            {"type":"urn:ietf:params:acme:error:caa","detail":"no"}]}"#;
        let problem: Problem = serde_json::from_str(json).unwrap();
        assert_eq!(
            problem.to_string(),
            "rejectedIdentifier: Two names are refused (HTTP 400); \
             a.example.org: rejectedIdentifier: forbidden; caa: no"
        );
        assert_eq!(Problem::default().to_string(), "the CA gave no reason");
        let endless = Problem { detail: "x".repeat(100_000), ..Problem::default() };
        assert!(endless.to_string().len() < 900);
        let link = "https://ca.example/read/on";
        let late = Problem { detail: format!("{} {link} y", "x ".repeat(1_000)), ..endless };
        assert!(late.to_string().ends_with(&format!("… {link}")), "{late}");
    }

    #[test]
    fn a_reply_without_a_problem_document_is_retried() {
        let problem = Problem::not_acme(502);
        assert_eq!(problem.to_string(), "the answer is no ACME problem document (HTTP 502)");
        assert_eq!(
            problem.disposition(ProblemScope::Order),
            Disposition::Retry(RetrySchedule::Transport)
        );
        let proxy = Problem::not_acme(403);
        assert_eq!(
            proxy.disposition(ProblemScope::Account),
            Disposition::Retry(RetrySchedule::Transport)
        );
    }
}
