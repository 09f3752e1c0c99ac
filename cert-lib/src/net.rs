//! Access to the network, as traits with a real adapter and a scripted one for tests: HTTP
//! ([`Http`], adapter [`http::HttpsClient`]) and DNS ([`Resolver`], adapter [`dns::Udp`]). Every
//! call of an adapter has a deadline.

pub mod cidr;
pub mod dns;
pub mod doh;
pub mod http;
pub mod identity;
pub mod own_certificate;
pub mod platform;
pub mod proxy;
pub mod reach;
#[cfg(test)]
pub(crate) mod scripted;
pub mod tunnel;

use std::{fmt, net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;

use crate::model::name::DnsName;

/// Sends one HTTP request and returns the whole response. Follows no redirects.
#[async_trait]
pub trait Http: Send + Sync {
    /// Sends `request`. The body of the response is complete and not larger than the adapter's cap.
    ///
    /// # Errors
    /// When no response arrived: see [`HttpError`]. A response with an error status is a response.
    async fn send(
        &self,
        request: ::http::Request<Bytes>,
    ) -> Result<::http::Response<Bytes>, HttpError>;
}

/// Why no HTTP response arrived.
#[derive(Clone, Debug, thiserror::Error)]
pub enum HttpError {
    /// The server's certificate was not accepted.
    #[error("the certificate of {host} is not trusted: {reason}")]
    Untrusted {
        /// Host of the request.
        host: String,
        /// Error of the verifier.
        reason: String,
    },
    /// No connection.
    #[error("cannot reach {host}: {reason}")]
    Unreachable {
        /// Host of the request.
        host: String,
        /// Error of the transport.
        reason: String,
    },
    /// The connection broke: whether the server received the request is unknown.
    #[error("cannot reach {host}: {reason}")]
    Broken {
        /// Host of the request.
        host: String,
        /// Error of the transport.
        reason: String,
    },
    /// No response within the deadline.
    #[error("no answer from {host} within {seconds} s")]
    TimedOut {
        /// Host of the request.
        host: String,
        /// The deadline in seconds.
        seconds: u64,
    },
    /// The response was larger than the cap.
    #[error("the answer of {host} is larger than {limit} bytes")]
    TooLarge {
        /// Host of the request.
        host: String,
        /// The cap in bytes.
        limit: usize,
    },
}

impl HttpError {
    /// Whether the request was never sent, so that the server did nothing for it.
    #[must_use]
    pub fn is_unsent(&self) -> bool {
        match self {
            Self::Untrusted { .. } | Self::Unreachable { .. } => true,
            Self::Broken { .. } | Self::TimedOut { .. } | Self::TooLarge { .. } => false,
        }
    }
}

/// A DNS server and how it is asked.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Server {
    /// By DNS messages over UDP and TCP.
    Address(SocketAddr),
    /// Over HTTPS (RFC 8484), at this URL.
    Https(Arc<str>),
}

impl From<SocketAddr> for Server {
    fn from(address: SocketAddr) -> Self {
        Self::Address(address)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Https(url) => f.write_str(url),
        }
    }
}

/// Sends one question to one DNS server.
#[async_trait]
pub trait Resolver: Send + Sync {
    /// Asks `server` for the records of `name`.
    ///
    /// # Errors
    /// When the server gave no usable answer. NXDOMAIN and an empty answer are answers.
    async fn query(
        &self,
        server: SocketAddr,
        name: &DnsName,
        kind: RecordKind,
    ) -> Result<Answer, ResolveError>;

    /// Asks the server at `url` over HTTPS (RFC 8484). The default refuses; see [`doh::Doh`].
    ///
    /// # Errors
    /// As for [`query`](Self::query).
    async fn query_https(
        &self,
        url: &Arc<str>,
        _name: &DnsName,
        _kind: RecordKind,
    ) -> Result<Answer, ResolveError> {
        let reason = "DNS over HTTPS is not supported here: name a server as host:port".to_owned();
        Err(ResolveError::Unreachable { server: Server::Https(url.clone()), reason })
    }

    /// Asks `server`, of either type, for the records of `name`.
    ///
    /// # Errors
    /// As for [`query`](Self::query).
    async fn ask(
        &self,
        server: &Server,
        name: &DnsName,
        kind: RecordKind,
    ) -> Result<Answer, ResolveError> {
        match server {
            Server::Address(address) => self.query(*address, name, kind).await,
            Server::Https(url) => self.query_https(url, name, kind).await,
        }
    }

    /// The recursive resolvers of this machine, in order of preference.
    fn system_servers(&self) -> Vec<SocketAddr>;

    /// The addresses of the host `name`, which the operator configured, at `port`.
    ///
    /// # Errors
    /// When it has no address.
    async fn addresses(&self, name: &DnsName, port: u16) -> Result<Vec<SocketAddr>, ResolveError>;
}

/// The type of a DNS record.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum RecordKind {
    /// IPv4 address
    A,
    /// IPv6 address
    Aaaa,
    /// Alias. Queried without recursion: only authoritative answers count, and no resolver on the
    /// way must cache the absence of a name.
    Cname,
    /// Name server
    Ns,
    /// Start of authority
    Soa,
    /// Text
    Txt,
}

/// A DNS answer and the role of the server.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Answer {
    /// The server is authoritative for the name (AA bit).
    pub authoritative: bool,
    /// The response code said that the name does not exist.
    pub no_such_name: bool,
    /// Records of the answer section, in any order. DNS answers are hostile input.
    pub records: Vec<Record>,
    /// Target of the CNAME of the queried name, for all types of queries.
    pub alias: Option<DnsName>,
    /// Owner of the SOA record in the authority or answer section: the zone of the name.
    pub zone: Option<DnsName>,
}

/// One record of an answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Record {
    /// A or AAAA
    Address(std::net::IpAddr),
    /// NS
    NameServer(DnsName),
    /// TXT; the character strings of one record are joined
    Text(String),
}

/// Why a DNS server gave no usable answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ResolveError {
    /// No answer in time, or no connection.
    #[error("name server {server} does not answer: {reason}")]
    Unreachable {
        /// The server.
        server: Server,
        /// Error of the transport.
        reason: String,
    },
    /// A host without an address.
    #[error("the host {name} has no address: {reason}")]
    NoAddress {
        /// The host.
        name: DnsName,
        /// Error of the system resolver.
        reason: String,
    },
    /// The server refused or failed (REFUSED, SERVFAIL, …).
    #[error("name server {server} answers {code}")]
    Failed {
        /// The server.
        server: Server,
        /// Name of the response code.
        code: String,
    },
}
