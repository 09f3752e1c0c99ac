//! Rules of a [`Proxy`](super::Proxy): the faults and the requests to which they apply.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};

use super::Seen;

/// The requested resource: an ACME resource at Pebble's path.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// The directory.
    Directory,
    /// A nonce.
    NewNonce,
    /// Creates or finds an account.
    NewAccount,
    /// An existing account.
    Account,
    /// A new order.
    NewOrder,
    /// An order.
    Order,
    /// An authorization.
    Authorization,
    /// A challenge.
    Challenge,
    /// Finalization of an order.
    Finalize,
    /// A certificate.
    Certificate,
    /// Renewal information.
    RenewalInfo,
    /// A revocation.
    Revoke,
    /// A key change of an account.
    KeyChange,
    /// Anything else, for example a Kubernetes API.
    Other,
}

impl Kind {
    pub(super) fn of(path: &str) -> Self {
        const PATHS: [(&str, Kind); 13] = [
            ("/dir", Kind::Directory),
            ("/nonce-plz", Kind::NewNonce),
            ("/sign-me-up", Kind::NewAccount),
            ("/my-account/", Kind::Account),
            ("/order-plz", Kind::NewOrder),
            ("/my-order/", Kind::Order),
            ("/authZ/", Kind::Authorization),
            ("/chalZ/", Kind::Challenge),
            ("/finalize-order/", Kind::Finalize),
            ("/certZ/", Kind::Certificate),
            ("/draft-ietf-acme-ari-03/renewalInfo/", Kind::RenewalInfo),
            ("/revoke-cert", Kind::Revoke),
            ("/rollover-account-key", Kind::KeyChange),
        ];
        let known = PATHS.iter().find(|(prefix, _)| path.starts_with(prefix));
        known.map_or(Self::Other, |(_, kind)| *kind)
    }
}

/// A fault and the requests to which it applies.
#[derive(Debug)]
pub struct Rule {
    kind: Option<Kind>,
    method: Option<Method>,
    path: Option<String>,
    times: Times,
    fault: Fault,
    /// Number of matching requests so far.
    met: usize,
}

#[derive(Clone, Copy, Debug)]
enum Times {
    Always,
    First(usize),
    Only(usize),
    Percent(usize),
}

impl Rule {
    /// Applies to every request.
    #[must_use]
    pub fn all(fault: Fault) -> Self {
        Self { kind: None, method: None, path: None, times: Times::Always, fault, met: 0 }
    }

    /// Applies to every request of a kind.
    #[must_use]
    pub fn on(kind: Kind, fault: Fault) -> Self {
        Self { kind: Some(kind), ..Self::all(fault) }
    }

    /// Restricts it to requests of this method.
    #[must_use]
    pub fn method(self, method: Method) -> Self {
        Self { method: Some(method), ..self }
    }

    /// Restricts it to paths with this prefix.
    #[must_use]
    pub fn path(self, prefix: &str) -> Self {
        Self { path: Some(prefix.to_owned()), ..self }
    }

    /// Restricts it to the first matching request.
    #[must_use]
    pub fn once(self) -> Self {
        self.first(1)
    }

    /// Restricts it to the first `count` matching requests.
    #[must_use]
    pub fn first(self, count: usize) -> Self {
        Self { times: Times::First(count), ..self }
    }

    /// Restricts it to one matching request, counted from 1.
    #[must_use]
    pub fn only(self, number: usize) -> Self {
        Self { times: Times::Only(number), ..self }
    }

    /// Restricts it to this percentage of matching requests, well distributed and deterministic.
    #[must_use]
    pub fn percent(self, percent: usize) -> Self {
        Self { times: Times::Percent(percent), ..self }
    }

    /// The fault for a request, if this rule applies.
    pub(super) fn fault_for(&mut self, seen: &Seen) -> Option<Fault> {
        let (method, path) = seen.line.split_once(' ')?;
        let applies = self.kind.is_none_or(|kind| kind == seen.kind)
            && self.method.as_ref().is_none_or(|wanted| wanted == method)
            && self.path.as_ref().is_none_or(|prefix| path.starts_with(prefix));
        if !applies {
            return None;
        }
        self.met += 1;
        let now = match self.times {
            Times::Always => true,
            Times::First(count) => self.met <= count,
            Times::Only(number) => self.met == number,
            // 37 and 100 have no common divisor, so a hundred requests have a hundred different
            // numbers.
            Times::Percent(percent) => self.met * 37 % 100 < percent,
        };
        now.then(|| self.fault.clone())
    }
}

/// A fault.
#[derive(Clone)]
pub enum Fault {
    /// Responds with this; the server does not receive the request.
    Answer(Answer),
    /// Closes the connection without a response; the server does not receive the request.
    ResetBefore,
    /// Closes the connection without a response, after the server has processed the request.
    ResetAfter,
    /// Closes the connection in the middle of the response.
    BreakOff,
    /// Delays the request.
    Delay(Duration),
    /// Alters the response of the server.
    Alter(Alteration),
}

/// A change of a response.
pub type Alteration = Arc<dyn Fn(&mut Answer) + Send + Sync>;

impl Fault {
    /// Alters the response of the server.
    pub fn alter(change: impl Fn(&mut Answer) + Send + Sync + 'static) -> Self {
        Self::Alter(Arc::new(change))
    }

    /// Alters the JSON of the response, if it is JSON.
    pub fn json(change: impl Fn(&mut Value) + Send + Sync + 'static) -> Self {
        Self::alter(move |answer| {
            if let Ok(mut value) = serde_json::from_slice(&answer.body) {
                change(&mut value);
                answer.body = value.to_string().into();
            }
        })
    }

    /// Replaces a top-level member of the JSON.
    pub fn member(name: &'static str, value: impl Into<Value>) -> Self {
        let value = value.into();
        Self::json(move |json| {
            if let Some(members) = json.as_object_mut() {
                members.insert(name.to_owned(), value.clone());
            }
        })
    }

    /// Removes a top-level member of the JSON.
    #[must_use]
    pub fn without(name: &'static str) -> Self {
        Self::json(move |json| {
            if let Some(members) = json.as_object_mut() {
                members.remove(name);
            }
        })
    }

    /// A problem document (RFC 8555 section 6.7) instead of the response.
    #[must_use]
    pub fn problem(status: u16, word: &str, detail: &str) -> Self {
        Self::Answer(Answer::problem(status, word, detail))
    }

    /// Replaces the body.
    #[must_use]
    pub fn body(body: impl Into<Bytes>) -> Self {
        let body = body.into();
        Self::alter(move |answer| answer.body = body.clone())
    }

    /// Ends the response after half of its body, as if it were complete.
    #[must_use]
    pub fn truncate() -> Self {
        Self::alter(|answer| answer.body.truncate(answer.body.len() / 2))
    }

    /// Appends this number of bytes to the body.
    #[must_use]
    pub fn oversize(bytes: usize) -> Self {
        Self::alter(move |answer| {
            let padding = vec![b' '; bytes];
            answer.body = [answer.body.as_ref(), &padding].concat().into();
        })
    }

    /// Replaces the content type.
    #[must_use]
    pub fn content_type(value: &'static str) -> Self {
        Self::alter(move |answer| answer.set(header::CONTENT_TYPE, value))
    }

    /// Removes the nonce.
    #[must_use]
    pub fn without_nonce() -> Self {
        Self::alter(|answer| {
            answer.headers.remove(REPLAY_NONCE);
        })
    }

    /// Replaces the nonce by an unknown one.
    #[must_use]
    pub fn stale_nonce() -> Self {
        Self::alter(|answer| {
            if answer.headers.contains_key(REPLAY_NONCE) {
                answer.set(REPLAY_NONCE, "c3RhbGU");
            }
        })
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Answer(_) => "Answer",
            Self::ResetBefore => "ResetBefore",
            Self::ResetAfter => "ResetAfter",
            Self::BreakOff => "BreakOff",
            Self::Delay(_) => "Delay",
            Self::Alter(_) => "Alter",
        })
    }
}

/// A response of the server or of the proxy.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Answer {
    /// A response with a text.
    #[must_use]
    pub fn text(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or_default();
        let mut answer = Self { status, headers: HeaderMap::new(), body: body.into() };
        answer.set(header::CONTENT_TYPE, content_type);
        answer
    }

    /// A response of a load balancer.
    #[must_use]
    pub fn html(status: u16, title: &str) -> Self {
        let body = format!("<html><head><title>{title}</title></head><body>proxy</body></html>");
        Self::text(status, "text/html", body)
    }

    /// A problem document (RFC 8555 section 6.7).
    #[must_use]
    pub fn problem(status: u16, word: &str, detail: &str) -> Self {
        let kind = format!("urn:ietf:params:acme:error:{word}");
        Self::json(status, &json!({"type": kind, "detail": detail, "status": status}))
    }

    /// A JSON document.
    #[must_use]
    pub fn json(status: u16, body: &Value) -> Self {
        Self::text(status, "application/problem+json", body.to_string())
    }

    /// Adds a header. An invalid one is left out.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: &str) -> Self {
        self.set(name, value);
        self
    }

    /// Adds a Retry-After.
    #[must_use]
    pub fn retry_after(self, value: &str) -> Self {
        self.with(header::RETRY_AFTER, value)
    }

    /// Sets a header. An invalid value is left out.
    pub fn set(&mut self, name: HeaderName, value: &str) {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
    }
}

/// RFC 8555 section 6.5.1.
pub const REPLAY_NONCE: HeaderName = HeaderName::from_static("replay-nonce");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_selects_that_many_of_a_hundred() {
        let mut rule = Rule::all(Fault::ResetBefore).percent(95);
        let seen = Seen {
            kind: Kind::Order,
            line: "GET /my-order/1".to_owned(),
            payload: Value::Null,
            at: jiff::Timestamp::UNIX_EPOCH,
            faulted: false,
            peer: 0,
        };
        let hits = (0..100).filter(|_| rule.fault_for(&seen).is_some()).count();
        assert_eq!(hits, 95);
        let mut rule = Rule::on(Kind::Order, Fault::ResetBefore).only(2);
        let hits: Vec<bool> = (0..3).map(|_| rule.fault_for(&seen).is_some()).collect();
        assert_eq!(hits, [false, true, false]);
        let mut other = Rule::on(Kind::Finalize, Fault::ResetBefore);
        assert!(other.fault_for(&seen).is_none());
    }
}
