//! What a [`Proxy`](super::Proxy) does to which requests.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};

use super::Seen;

/// What a request asks for: an ACME resource at Pebble's path.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// The directory.
    Directory,
    /// A nonce.
    NewNonce,
    /// A new account, or the one of a key.
    NewAccount,
    /// An account that there is.
    Account,
    /// A new order.
    NewOrder,
    /// An order.
    Order,
    /// An authorization.
    Authorization,
    /// A challenge.
    Challenge,
    /// The end of an order.
    Finalize,
    /// A certificate.
    Certificate,
    /// When to renew.
    RenewalInfo,
    /// A revocation.
    Revoke,
    /// Another account key.
    KeyChange,
    /// Anything else: no ACME server, perhaps.
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

/// Which requests something happens to, and what.
#[derive(Debug)]
pub struct Rule {
    kind: Option<Kind>,
    method: Option<Method>,
    path: Option<String>,
    times: Times,
    fault: Fault,
    /// How many requests it was about so far.
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
    /// About every request, always.
    #[must_use]
    pub fn all(fault: Fault) -> Self {
        Self { kind: None, method: None, path: None, times: Times::Always, fault, met: 0 }
    }

    /// About every request of a kind, always.
    #[must_use]
    pub fn on(kind: Kind, fault: Fault) -> Self {
        Self { kind: Some(kind), ..Self::all(fault) }
    }

    /// Only about requests of this method.
    #[must_use]
    pub fn method(self, method: Method) -> Self {
        Self { method: Some(method), ..self }
    }

    /// Only about paths that begin so.
    #[must_use]
    pub fn path(self, prefix: &str) -> Self {
        Self { path: Some(prefix.to_owned()), ..self }
    }

    /// Only the first of them.
    #[must_use]
    pub fn once(self) -> Self {
        self.first(1)
    }

    /// Only the first `count` of them.
    #[must_use]
    pub fn first(self, count: usize) -> Self {
        Self { times: Times::First(count), ..self }
    }

    /// Only one of them, counted from 1.
    #[must_use]
    pub fn only(self, number: usize) -> Self {
        Self { times: Times::Only(number), ..self }
    }

    /// Only so many of each hundred, well mixed and the same ones each time.
    #[must_use]
    pub fn percent(self, percent: usize) -> Self {
        Self { times: Times::Percent(percent), ..self }
    }

    /// What becomes of a request, if this rule has anything to say.
    pub(super) fn judge(&mut self, seen: &Seen) -> Option<Fault> {
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
            // 37 and 100 have no common divisor: a hundred requests are a hundred numbers.
            Times::Percent(percent) => self.met * 37 % 100 < percent,
        };
        now.then(|| self.fault.clone())
    }
}

/// What goes wrong.
#[derive(Clone)]
pub enum Fault {
    /// This answer comes back; the server never sees the request.
    Answer(Answer),
    /// The connection ends without an answer; the server never sees the request.
    ResetBefore,
    /// The connection ends without an answer, after the server has done what was asked of it.
    ResetAfter,
    /// The connection ends in the middle of the answer.
    BreakOff,
    /// The request goes on after a while.
    Delay(Duration),
    /// The server's answer is altered.
    Alter(Alteration),
}

/// What is done to an answer.
pub type Alteration = Arc<dyn Fn(&mut Answer) + Send + Sync>;

impl Fault {
    /// The server's answer is altered.
    pub fn alter(change: impl Fn(&mut Answer) + Send + Sync + 'static) -> Self {
        Self::Alter(Arc::new(change))
    }

    /// The JSON of the server's answer is altered, where it is JSON.
    pub fn json(change: impl Fn(&mut Value) + Send + Sync + 'static) -> Self {
        Self::alter(move |answer| {
            if let Ok(mut value) = serde_json::from_slice(&answer.body) {
                change(&mut value);
                answer.body = value.to_string().into();
            }
        })
    }

    /// A member of the JSON at the top is replaced.
    pub fn member(name: &'static str, value: impl Into<Value>) -> Self {
        let value = value.into();
        Self::json(move |json| {
            if let Some(members) = json.as_object_mut() {
                members.insert(name.to_owned(), value.clone());
            }
        })
    }

    /// A member of the JSON at the top is left out.
    #[must_use]
    pub fn without(name: &'static str) -> Self {
        Self::json(move |json| {
            if let Some(members) = json.as_object_mut() {
                members.remove(name);
            }
        })
    }

    /// A problem document (RFC 8555 section 6.7) instead of an answer.
    #[must_use]
    pub fn problem(status: u16, word: &str, detail: &str) -> Self {
        Self::Answer(Answer::problem(status, word, detail))
    }

    /// The answer has another body.
    #[must_use]
    pub fn body(body: impl Into<Bytes>) -> Self {
        let body = body.into();
        Self::alter(move |answer| answer.body = body.clone())
    }

    /// The answer ends after half of its body, as if that were all.
    #[must_use]
    pub fn truncate() -> Self {
        Self::alter(|answer| answer.body.truncate(answer.body.len() / 2))
    }

    /// The body is followed by so many bytes of nothing.
    #[must_use]
    pub fn oversize(bytes: usize) -> Self {
        Self::alter(move |answer| {
            let padding = vec![b' '; bytes];
            answer.body = [answer.body.as_ref(), &padding].concat().into();
        })
    }

    /// The answer has another content type.
    #[must_use]
    pub fn content_type(value: &'static str) -> Self {
        Self::alter(move |answer| answer.set(header::CONTENT_TYPE, value))
    }

    /// The answer brings no nonce.
    #[must_use]
    pub fn without_nonce() -> Self {
        Self::alter(|answer| {
            answer.headers.remove(REPLAY_NONCE);
        })
    }

    /// The answer brings a nonce that the server does not know.
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

/// An answer of the server, or instead of one.
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
    /// An answer with a text.
    #[must_use]
    pub fn text(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or_default();
        let mut answer = Self { status, headers: HeaderMap::new(), body: body.into() };
        answer.set(header::CONTENT_TYPE, content_type);
        answer
    }

    /// What a load balancer says.
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

    /// A document of one's own.
    #[must_use]
    pub fn json(status: u16, body: &Value) -> Self {
        Self::text(status, "application/problem+json", body.to_string())
    }

    /// With one more header. One that cannot be sent is left out.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: &str) -> Self {
        self.set(name, value);
        self
    }

    /// With a Retry-After.
    #[must_use]
    pub fn retry_after(self, value: &str) -> Self {
        self.with(header::RETRY_AFTER, value)
    }

    /// Sets a header. A value that cannot be sent is left out.
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
    fn ninety_five_percent_are_ninety_five_of_a_hundred() {
        let mut rule = Rule::all(Fault::ResetBefore).percent(95);
        let seen = Seen {
            kind: Kind::Order,
            line: "GET /my-order/1".to_owned(),
            payload: Value::Null,
            at: jiff::Timestamp::UNIX_EPOCH,
            faulted: false,
            peer: 0,
        };
        let hits = (0..100).filter(|_| rule.judge(&seen).is_some()).count();
        assert_eq!(hits, 95);
        let mut rule = Rule::on(Kind::Order, Fault::ResetBefore).only(2);
        let hits: Vec<bool> = (0..3).map(|_| rule.judge(&seen).is_some()).collect();
        assert_eq!(hits, [false, true, false]);
        let mut other = Rule::on(Kind::Finalize, Fault::ResetBefore);
        assert!(other.judge(&seen).is_none());
    }
}
