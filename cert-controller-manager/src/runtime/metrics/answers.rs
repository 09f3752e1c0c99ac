//! Counters of the DNS responder. Clients are not authenticated, so all label values come from closed sets.

use prometheus::{IntCounterVec, Registry, Result};

use super::families;

/// The transport of a DNS query.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DnsTransport {
    /// UDP
    Udp,
    /// TCP
    Tcp,
}

/// What the rate limit did to an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LimitedAnswer {
    /// It was not sent.
    Dropped,
    /// It was sent without records and marked as truncated.
    Truncated,
}

/// What happened to a TCP connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TcpConnection {
    /// It was accepted.
    Accepted,
    /// It was closed for a new one, because there were too many.
    Replaced,
    /// It could not be accepted, most likely for lack of file descriptors.
    Failed,
}

/// The counters.
pub(super) struct AnswerCounters {
    queries: IntCounterVec,
    limited: IntCounterVec,
    connections: IntCounterVec,
}

impl AnswerCounters {
    pub(super) fn new(registry: &Registry) -> Result<Self> {
        Ok(Self {
            queries: families::ANSWERED.counters(registry)?,
            limited: families::ANSWERS_LIMITED.counters(registry)?,
            connections: families::ANSWER_CONNECTIONS.counters(registry)?,
        })
    }

    pub(super) fn answered(&self, transport: DnsTransport, code: Option<u16>) {
        let transport = match transport {
            DnsTransport::Udp => "udp",
            DnsTransport::Tcp => "tcp",
        };
        self.queries.with_label_values(&[transport, code_word(code)]).inc();
    }

    pub(super) fn limited(&self, answer: LimitedAnswer) {
        let action = match answer {
            LimitedAnswer::Dropped => "dropped",
            LimitedAnswer::Truncated => "truncated",
        };
        self.limited.with_label_values(&[action]).inc();
    }

    pub(super) fn connection(&self, connection: TcpConnection) {
        let result = match connection {
            TcpConnection::Accepted => "accepted",
            TcpConnection::Replaced => "replaced",
            TcpConnection::Failed => "failed",
        };
        self.connections.with_label_values(&[result]).inc();
    }
}

/// The response codes that the responder sends (RFC 6895 section 2.3).
fn code_word(code: Option<u16>) -> &'static str {
    match code {
        None => "none",
        Some(0) => "NOERROR",
        Some(1) => "FORMERR",
        Some(2) => "SERVFAIL",
        Some(3) => "NXDOMAIN",
        Some(4) => "NOTIMP",
        Some(5) => "REFUSED",
        Some(16) => "BADVERS",
        Some(_) => "other",
    }
}
