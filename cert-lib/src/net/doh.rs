//! DNS over HTTPS (RFC 8484), as an adapter around another [`Resolver`]: [`Doh`].
//!
//! The transport is an [`Http`], so that its proxies and roots apply. Answers are hostile input:
//! status, type, size and question are checked.
//!
//! Not here: HTTP caches. A question is sent by POST, which no cache answers.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use ::http::{
    Request, Response, StatusCode,
    header::{ACCEPT, CONTENT_TYPE},
};
use async_trait::async_trait;
use bytes::Bytes;
use hickory_proto::op::Message;
use tokio::time::timeout;

use super::{
    Answer, Http, RecordKind, ResolveError, Resolver, Server,
    dns::{
        exchange::answers,
        message::{answer, question},
    },
};
use crate::model::name::DnsName;

/// Asks servers over HTTPS by its [`Http`], and all others by another resolver.
pub struct Doh {
    inner: Arc<dyn Resolver>,
    http: Arc<dyn Http>,
}

impl Doh {
    /// Asks servers over HTTPS with `http`, and all others with `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn Resolver>, http: Arc<dyn Http>) -> Self {
        Self { inner, http }
    }

    async fn exchange(&self, url: &str, question: &Message) -> Result<Message, String> {
        let wire = question.to_vec().map_err(|error| error.to_string())?;
        let request = Request::post(url)
            .header(CONTENT_TYPE, DNS_MESSAGE)
            .header(ACCEPT, DNS_MESSAGE)
            .body(Bytes::from(wire))
            .map_err(|error| error.to_string())?;
        let late = |_| format!("nothing within {} s", DEADLINE.as_secs());
        let response = timeout(DEADLINE, self.http.send(request)).await.map_err(late)?;
        read(question, &response.map_err(|error| error.to_string())?)
    }
}

#[async_trait]
impl Resolver for Doh {
    async fn query(
        &self,
        server: SocketAddr,
        name: &DnsName,
        kind: RecordKind,
    ) -> Result<Answer, ResolveError> {
        self.inner.query(server, name, kind).await
    }

    async fn query_https(
        &self,
        url: &Arc<str>,
        name: &DnsName,
        kind: RecordKind,
    ) -> Result<Answer, ResolveError> {
        let server = Server::Https(url.clone());
        let mut question = question(&server, name, kind, true)?;
        // Section 4.1: the connection relates an answer to its question.
        question.metadata.id = 0;
        match self.exchange(url, &question).await {
            Ok(response) => answer(&server, name, kind, &response),
            Err(reason) => Err(ResolveError::Unreachable { server, reason }),
        }
    }

    fn system_servers(&self) -> Vec<SocketAddr> {
        self.inner.system_servers()
    }

    async fn addresses(&self, name: &DnsName, port: u16) -> Result<Vec<SocketAddr>, ResolveError> {
        self.inner.addresses(name, port).await
    }
}

/// The DNS message of an HTTP response.
fn read(question: &Message, response: &Response<Bytes>) -> Result<Message, String> {
    let status = response.status();
    if status != StatusCode::OK {
        return Err(format!("HTTP status {} instead of 200", status.as_u16()));
    }
    let media_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = media_type.and_then(|text| text.split(';').next()).unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case(DNS_MESSAGE) {
        return Err(format!(
            "an answer that is not of type {DNS_MESSAGE}: check the path of the URL"
        ));
    }
    let body = response.body();
    if body.len() > usize::from(u16::MAX) {
        return Err("an answer that is larger than a DNS message".to_owned());
    }
    let message = Message::from_vec(body).map_err(|_| "a malformed DNS message".to_owned())?;
    if !answers(question, &message) {
        return Err("something that is no answer to the question".to_owned());
    }
    if message.metadata.truncation {
        return Err("a truncated answer".to_owned());
    }
    Ok(message)
}

const DNS_MESSAGE: &str = "application/dns-message";
/// For one exchange, with the TLS handshake and that of a proxy.
const DEADLINE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
