//! An [`Http`] that answers from a script, for tests.

use std::sync::{Mutex, MutexGuard};

use ::http::{Request, Response};
use async_trait::async_trait;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use bytes::Bytes;
use serde_json::Value;

use crate::net::{Http, HttpError};

type Script = Box<dyn FnMut(&Seen) -> Result<Response<Bytes>, HttpError> + Send>;

/// Answers by its script and records the requests.
pub(crate) struct Scripted {
    script: Mutex<Script>,
    seen: Mutex<Vec<Seen>>,
}

/// A received request.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) url: String,
    /// The protected header of the JWS; null without a JWS.
    pub(crate) header: Value,
    /// The payload of the JWS; null for a POST-as-GET.
    pub(crate) payload: Value,
    /// The body; null if it is not JSON.
    pub(crate) body: Value,
}

impl Scripted {
    /// A script that always answers.
    pub(crate) fn new(mut script: impl FnMut(&Seen) -> Response<Bytes> + Send + 'static) -> Self {
        Self::fallible(move |seen| Ok(script(seen)))
    }

    /// A script that may also fail.
    pub(crate) fn fallible(
        script: impl FnMut(&Seen) -> Result<Response<Bytes>, HttpError> + Send + 'static,
    ) -> Self {
        Self { script: Mutex::new(Box::new(script)), seen: Mutex::default() }
    }

    /// All requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        lock(&self.seen).clone()
    }

    /// All requests so far as `METHOD /path`.
    pub(crate) fn log(&self) -> Vec<String> {
        self.seen().iter().map(|seen| format!("{} {}", seen.method, seen.path())).collect()
    }

    /// Clears the recorded requests.
    pub(crate) fn clear(&self) {
        lock(&self.seen).clear();
    }
}

#[async_trait]
impl Http for Scripted {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let seen = Seen::of(&request);
        lock(&self.seen).push(seen.clone());
        lock(&self.script)(&seen)
    }
}

impl Seen {
    fn of(request: &Request<Bytes>) -> Self {
        let jws: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        let part = |name: &str| {
            let bytes = BASE64URL.decode(jws[name].as_str().unwrap_or_default());
            serde_json::from_slice(&bytes.unwrap_or_default()).unwrap_or_default()
        };
        Self {
            method: request.method().to_string(),
            url: request.uri().to_string(),
            header: part("protected"),
            payload: part("payload"),
            body: jws,
        }
    }

    /// The path of the URL.
    pub(crate) fn path(&self) -> &str {
        let rest = self.url.split_once("://").map_or(self.url.as_str(), |(_, rest)| rest);
        rest.find('/').map_or("/", |start| &rest[start..])
    }

    /// The nonce of the request.
    pub(crate) fn nonce(&self) -> Option<String> {
        Some(self.header["nonce"].as_str()?.to_owned())
    }
}

/// Builds an answer.
pub(crate) fn reply(status: u16) -> Answer {
    Answer(Response::builder().status(status))
}

/// An answer without a body.
pub(crate) struct Answer(::http::response::Builder);

impl Answer {
    pub(crate) fn header(self, name: &str, value: &str) -> Self {
        Self(self.0.header(name, value))
    }

    pub(crate) fn nonce(self, nonce: &str) -> Self {
        self.header("replay-nonce", nonce)
    }

    pub(crate) fn json(self, body: &Value) -> Response<Bytes> {
        self.0.body(Bytes::from(body.to_string())).unwrap()
    }

    pub(crate) fn html(self, body: &str) -> Response<Bytes> {
        self.0.body(Bytes::from(body.to_owned())).unwrap()
    }

    pub(crate) fn empty(self) -> Response<Bytes> {
        self.html("")
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}
