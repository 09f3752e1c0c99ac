//! Why a certificate is revoked (RFC 5280 section 5.3.1).

/// The reasons that public CAs accept from a subscriber.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum RevocationReason {
    /// Nobody says.
    #[default]
    Unspecified,
    /// Somebody else has the private key.
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
