//! The outcome of a pass.

use serde_json::Value;

use crate::api::issuer::ServerWait;

/// The outcome of a pass.
#[derive(Debug)]
pub enum Outcome {
    /// The issuer is ready.
    Ready(Facts),
    /// The issuer is not ready.
    Error {
        /// What failed, and how to fix it.
        message: String,
        /// The wait that the CA demanded, if any.
        server_wait: Option<ServerWait>,
    },
}

/// Details of a ready issuer.
#[derive(Clone, Debug)]
pub enum Facts {
    /// `status.acme`
    Acme(Value),
    /// A CA issuer.
    Ca {
        /// `status.ca`
        ca: Value,
        /// A problem that does not prevent issuance.
        warning: Option<&'static str>,
    },
    /// An issuer of a kind without details.
    NoDetails,
}

impl Facts {
    /// A problem that does not prevent issuance.
    #[must_use]
    pub fn warning(&self) -> Option<&'static str> {
        match self {
            Self::Ca { warning, .. } => *warning,
            Self::Acme(_) | Self::NoDetails => None,
        }
    }
}
