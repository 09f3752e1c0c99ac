//! Why a proxy did not connect.

use std::time::Duration;

/// Why a proxy did not connect.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TunnelError {
    /// A status other than success.
    #[error("proxy {proxy} refuses to connect to {server}: HTTP {status}{hint}")]
    Refused {
        /// The proxy without credentials.
        proxy: String,
        /// Host and port of the server.
        server: String,
        /// Its HTTP status.
        status: u16,
        /// What to do.
        hint: &'static str,
    },
    /// Not an HTTP response.
    #[error("proxy {proxy} does not answer CONNECT to {server} as an HTTP proxy")]
    NoProxy {
        /// The proxy without credentials.
        proxy: String,
        /// Host and port of the server.
        server: String,
    },
    /// SOCKS failed.
    #[error("proxy {proxy} does not connect to {server}: {why}")]
    Socks {
        /// The proxy without credentials.
        proxy: String,
        /// Host and port of the server.
        server: String,
        /// The reason of the proxy.
        why: SocksRefusal,
    },
    /// The URL of the proxy has no valid host and port.
    #[error(
        "the URL of the proxy for {server} has no valid host and port, correct HTTPS_PROXY or HTTP_PROXY"
    )]
    Nowhere {
        /// Host and port of the server.
        server: String,
    },
    /// No response within the deadline.
    #[error("proxy {proxy} does not connect to {server} within {} s", DEADLINE.as_secs())]
    TimedOut {
        /// The proxy without credentials.
        proxy: String,
        /// Host and port of the server.
        server: String,
    },
}

/// The error of a connector.
pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why SOCKS failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SocksRefusal {
    /// Another protocol, or no reply.
    #[error("it does not answer as a SOCKS 5 proxy")]
    NotSocks,
    /// It requires credentials, and its URL has none.
    #[error("it requires credentials: add user and password to its URL")]
    NoLogin,
    /// It requires another method of authentication.
    #[error("it accepts neither user and password nor a client without credentials")]
    OtherLogin,
    /// Lengths that RFC 1929 does not allow.
    #[error("the user in its URL must have 1 to 255 bytes, and the password at most 255")]
    LoginLength,
    /// It refuses the credentials.
    #[error("it refuses the user and the password in its URL")]
    WrongLogin,
    /// A length that RFC 1928 does not allow.
    #[error("the server's name has more than 255 bytes")]
    NameLength,
    /// It could not connect to the server.
    #[error("{meaning} (SOCKS reply {code})")]
    Reply {
        /// The reply code of RFC 1928 section 6.
        code: u8,
        /// Meaning of the code.
        meaning: &'static str,
    },
}

impl SocksRefusal {
    pub(super) fn of_reply(code: u8) -> Self {
        let meaning = match code {
            1 => "general failure",
            2 => "its rules do not allow it",
            3 => "network unreachable",
            4 => "host unreachable",
            5 => "connection refused",
            6 => "TTL expired",
            7 => "it does not know the command CONNECT",
            8 => "it does not know this type of address",
            _ => "failure",
        };
        Self::Reply { code, meaning }
    }
}

/// From the first packet to the response, in which the proxy connects to the server.
pub(super) const DEADLINE: Duration = Duration::from_secs(15);
