//! Why the responder ended.

use std::net::SocketAddr;

/// An error of the responder.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// A socket cannot be bound.
    #[error("cannot listen on {address}")]
    Bind {
        /// Address.
        address: SocketAddr,
        /// Error of the system.
        source: std::io::Error,
    },
    /// The server failed.
    #[error("the DNS server failed: {0}")]
    Server(String),
}
