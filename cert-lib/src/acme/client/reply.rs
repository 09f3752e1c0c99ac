//! One reply of the CA: its body and the headers that ACME uses.

use ::http::{HeaderMap, HeaderName, Response, StatusCode, header};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use std::fmt;
use url::Url;

use super::error::RequestError;
use crate::acme::{
    bounds,
    problem::{Problem, line},
};

/// A reply with a success status.
#[derive(Clone, Debug)]
pub struct Reply {
    /// URL of the request.
    url: String,
    /// Whether the CA created the resource (201) and did not only find it.
    pub(crate) created: bool,
    /// `Location`: the URL of what was created.
    location: Option<String>,
    /// `Retry-After` as an instant, between now and tomorrow.
    pub retry_after: Option<Timestamp>,
    /// `Link`s (RFC 8288): the relation and the URL.
    pub links: Vec<(String, String)>,
    /// The whole body.
    pub body: Bytes,
}

impl Reply {
    /// Separates success from a problem.
    pub(super) fn read(
        url: &str,
        response: Response<Bytes>,
        now: Timestamp,
    ) -> Result<Self, RequestError> {
        let (head, body) = response.into_parts();
        let retry_after = text(&head.headers, &header::RETRY_AFTER)
            .and_then(|text| retry_after(text, now))
            .map(|time| clamp_retry_after(time, head.status, now));
        if head.status.is_redirection() {
            let target = redirection(url, &head.headers);
            return Err(unusable(url, redirect_message(target.as_deref(), head.status)));
        }
        if !head.status.is_success() {
            let problem = Problem { retry_after, ..problem(head.status, &head.headers, &body) };
            return Err(RequestError::Problem(Box::new(problem)));
        }
        let location = redirection(url, &head.headers);
        Ok(Self {
            url: url.to_owned(),
            created: head.status == StatusCode::CREATED,
            location,
            retry_after,
            links: links(url, &head.headers),
            body,
        })
    }

    /// The body as JSON.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, RequestError> {
        serde_json::from_slice(&self.body).map_err(|error| self.unusable(unreadable(&error)))
    }

    /// The URL of what was created.
    pub(crate) fn location(&self) -> Result<&str, RequestError> {
        self.location.as_deref().ok_or_else(|| self.unusable("it has no Location"))
    }

    /// An error: this reply is not as RFC 8555 requires.
    pub(crate) fn unusable(&self, why: impl fmt::Display) -> RequestError {
        unusable(&self.url, why)
    }
}

fn unusable(url: &str, why: impl fmt::Display) -> RequestError {
    RequestError::Unusable { url: line(url, MAX_SHOWN), why: why.to_string() }
}

/// Describes an error of a document without quoting it: the document may come from another server.
fn unreadable(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let is_ours = text.starts_with("missing field") || text.starts_with(bounds::TOO_LONG);
    match error.classify() {
        serde_json::error::Category::Data if is_ours => text,
        serde_json::error::Category::Data => "it is not what RFC 8555 describes".to_owned(),
        _ => "it is no JSON".to_owned(),
    }
}

/// Target of a redirect, as an absolute URL.
pub(super) fn redirection(url: &str, headers: &HeaderMap) -> Option<String> {
    absolute(url, text(headers, &header::LOCATION)?)
}

/// Describes a redirect to `target` that is not followed.
pub(super) fn redirect_message(target: Option<&str>, status: StatusCode) -> String {
    let target = target.map_or_else(|| "nowhere".to_owned(), |target| line(target, MAX_SHOWN));
    format!("it redirects to {target} (HTTP {})", status.as_u16())
}

/// The problem document of a reply. The status of the reply counts, as the document may have none
/// or a wrong one. Without the media type of RFC 7807 and without an ACME type, the reply is from
/// another server: nothing of it is shown.
fn problem(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Problem {
    let media_type = text(headers, &header::CONTENT_TYPE).and_then(|it| it.split(';').next());
    let declared =
        media_type.is_some_and(|it| it.trim().eq_ignore_ascii_case("application/problem+json"));
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) if declared || problem.is_acme() => {
            Problem { status: Some(status.as_u16()), ..problem }
        }
        _ => Problem::not_acme(status.as_u16()),
    }
}

/// Seconds or a date (RFC 9110 section 10.2.3).
fn retry_after(text: &str, now: Timestamp) -> Option<Timestamp> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds = text.parse().unwrap_or(i64::MAX);
        let later = now.saturating_add(SignedDuration::from_secs(seconds));
        return Some(later.unwrap_or(Timestamp::MAX));
    }
    Timestamp::try_from(httpdate::parse_http_date(text).ok()?).ok()
}

/// A date in the past means now. A date in the far future, for example from a broken proxy, is
/// shortened. The bound is higher for 429: a rate limit may last a week.
fn clamp_retry_after(time: Timestamp, status: StatusCode, now: Timestamp) -> Timestamp {
    let limit = now.saturating_add(SignedDuration::from_hours(24)).unwrap_or(Timestamp::MAX);
    let longest = now.saturating_add(SignedDuration::from_hours(14 * 24));
    match status {
        StatusCode::TOO_MANY_REQUESTS => time.clamp(now, longest.unwrap_or(Timestamp::MAX)),
        _ => time.clamp(now, limit),
    }
}

/// Reads `<url>;rel="relation"`, several per header or one each.
fn links(base: &str, headers: &HeaderMap) -> Vec<(String, String)> {
    let values = headers.get_all(header::LINK).iter().filter_map(|value| value.to_str().ok());
    let each = values.flat_map(|value| value.split('<').skip(1));
    each.filter_map(|link| {
        let (target, parameters) = link.split_once('>')?;
        let relation = parameters.split([';', ',']).find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            name.trim().eq_ignore_ascii_case("rel").then(|| value.trim().trim_matches('"'))
        })?;
        Some((relation.to_owned(), absolute(base, target)?))
    })
    .take(MAX_LINKS)
    .collect()
}

fn absolute(base: &str, target: &str) -> Option<String> {
    let url: String = Url::parse(base).ok()?.join(target.trim()).ok()?.into();
    Some(url).filter(|url| bounds::is_url(url))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// More than the alternate chains of any certificate.
const MAX_LINKS: usize = 32;
/// Characters of a URL in a message.
const MAX_SHOWN: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::scripted::{Answer, reply};

    fn now() -> Timestamp {
        "2026-11-22T10:00:00Z".parse().unwrap()
    }

    fn read(answer: Answer) -> Result<Reply, RequestError> {
        Reply::read("https://ca/order/1", answer.empty(), now())
    }

    fn problem_of(answer: Answer) -> Problem {
        read(answer).unwrap_err().problem().unwrap().clone()
    }

    #[test]
    fn retry_after_is_parsed_in_both_forms_and_clamped() {
        for (text, want) in [
            ("3", Some("2026-11-22T10:00:03Z")),
            ("0", Some("2026-11-22T10:00:00Z")),
            ("Sun, 22 Nov 2026 10:00:05 GMT", Some("2026-11-22T10:00:05Z")),
            ("Sun, 22 Nov 2026 09:00:00 GMT", Some("2026-11-22T10:00:00Z")),
            ("864000", Some("2026-11-23T10:00:00Z")),
            ("99999999999999999999999", Some("2026-11-23T10:00:00Z")),
            ("-3", None),
            ("soon", None),
            ("", None),
        ] {
            let reply = read(reply(200).header("retry-after", text)).unwrap();
            assert_eq!(reply.retry_after, want.map(|text| text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn retry_after_of_a_rate_limit_may_be_longer() {
        let limited = problem_of(reply(429).header("retry-after", "864000"));
        assert_eq!(limited.retry_after, Some("2026-12-02T10:00:00Z".parse().unwrap()));
        let overloaded = problem_of(reply(503).header("retry-after", "864000"));
        assert_eq!(overloaded.retry_after, Some("2026-11-23T10:00:00Z".parse().unwrap()));
    }

    #[test]
    fn links_and_location_are_made_absolute() {
        let reply = read(
            reply(201)
                .header("location", "/order/2")
                .header(
                    "link",
                    r#"<https://ca/dir>;rel="index", </cert/1>; title="x"; rel=alternate"#,
                )
                .header("link", r#"<https://ca/cert/2>;rel="alternate""#)
                .header("link", "nonsense"),
        )
        .unwrap();
        assert_eq!(reply.location().unwrap(), "https://ca/order/2");
        let want = [
            ("index", "https://ca/dir"),
            ("alternate", "https://ca/cert/1"),
            ("alternate", "https://ca/cert/2"),
        ];
        assert_eq!(reply.links, want.map(|(a, b)| (a.to_owned(), b.to_owned())));
    }

    #[test]
    fn an_invalid_document_is_not_quoted() {
        for (body, want) in [
            ("<html>a secret", "it is no JSON"),
            (r#""a secret""#, "it is not what RFC 8555 describes"),
            (r#"{"status":"ready","finalize":7}"#, "it is not what RFC 8555 describes"),
            (r#"{"status":"ready"}"#, "missing field `finalize` at line 1 column 18"),
        ] {
            let reply = Reply::read("https://ca/order/1", reply(200).html(body), now()).unwrap();
            let error = reply.json::<crate::acme::wire::Order>().unwrap_err().to_string();
            let want = format!("the answer to https://ca/order/1 cannot be used: {want}");
            assert_eq!(error, want, "{body}");
        }
    }

    #[test]
    fn a_missing_header_is_named() {
        let reply = read(reply(200)).unwrap();
        assert_eq!(
            reply.location().unwrap_err().to_string(),
            "the answer to https://ca/order/1 cannot be used: it has no Location"
        );
        assert!(reply.json::<serde_json::Value>().is_err());
    }

    #[test]
    fn an_error_without_a_problem_document_becomes_one() {
        for (answer, want) in [
            (
                reply(502).html("<h1>502</h1>\n<hr>nginx"),
                "the answer is no ACME problem document (HTTP 502)",
            ),
            (reply(500).html(""), "the answer is no ACME problem document (HTTP 500)"),
            (reply(400).html("{}"), "the answer is no ACME problem document (HTTP 400)"),
            (
                reply(404).html(r#"{"detail":"a secret of another server"}"#),
                "the answer is no ACME problem document (HTTP 404)",
            ),
            (
                reply(404)
                    .header("content-type", "application/problem+json; charset=utf-8")
                    .html(r#"{"detail":"no such order","status":400}"#),
                "no such order (HTTP 404)",
            ),
            (
                reply(400).html(r#"{"type":"urn:ietf:params:acme:error:badCSR","detail":"no"}"#),
                "badCSR: no (HTTP 400)",
            ),
            (
                reply(301).html("moved"),
                "the answer to https://ca/x cannot be used: it redirects to nowhere (HTTP 301)",
            ),
            (
                reply(308).header("location", "/y").html("moved"),
                "the answer to https://ca/x cannot be used: it redirects to https://ca/y (HTTP 308)",
            ),
        ] {
            let error = Reply::read("https://ca/x", answer, now()).unwrap_err();
            assert_eq!(error.to_string(), want);
        }
    }
}
