//! Why a certificate is revoked (RFC 5280 section 5.3.1), and why it could not be.

use crate::model::disposition::Disposition;

/// The reasons that public CAs accept from a subscriber.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum RevocationReason {
    /// No reason is given.
    #[default]
    Unspecified,
    /// The private key has leaked.
    KeyCompromise,
    /// There is a newer certificate.
    Superseded,
    /// The names are not in use any more.
    CessationOfOperation,
}

impl RevocationReason {
    /// The number in a revocation request.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Unspecified => 0,
            Self::KeyCompromise => 1,
            Self::Superseded => 4,
            Self::CessationOfOperation => 5,
        }
    }
}

/// Why a certificate was not revoked.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RevokeError {
    /// The issuer does not revoke this certificate, now or later.
    #[error("{0}")]
    Refused(String),
    /// The issuer must be changed first.
    #[error("{0}")]
    InvalidIssuer(String),
    /// Another attempt may succeed.
    #[error("{message}")]
    Retry {
        /// What failed, and why.
        message: String,
        /// When to try again.
        disposition: Disposition,
    },
}

impl RevokeError {
    pub(crate) fn new(message: String, disposition: Disposition) -> Self {
        match disposition {
            Disposition::FixRequest => Self::Refused(message),
            Disposition::FixIssuer => Self::InvalidIssuer(message),
            Disposition::Retry(_) | Disposition::Until(_) => Self::Retry { message, disposition },
        }
    }

    /// What must happen before another attempt can succeed.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Refused(_) => Disposition::FixRequest,
            Self::InvalidIssuer(_) => Disposition::FixIssuer,
            Self::Retry { disposition, .. } => *disposition,
        }
    }
}
