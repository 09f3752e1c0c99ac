//! Why a request cannot be fulfilled, and the limits of its names.

use crate::model::name::{DnsName, MAX_NAME, NameError};

/// Most names in one certificate besides the common name, as in upstream and Let's Encrypt's
/// classic profile.
pub const MAX_DNS_NAMES: usize = 99;
/// Longest common name (X.520 ub-common-name).
pub const MAX_COMMON_NAME: usize = 64;

/// Why a request cannot be fulfilled. The messages are upstream's where it has them.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// Neither names nor a signing request.
    #[error("either domains or csr must be specified")]
    Empty,
    /// Both a common name and a signing request.
    #[error("cannot specify both commonName and csr")]
    NamesAndCsr,
    /// Over 99 DNS names.
    #[error("invalid number of DNS names: {0} (max {MAX_DNS_NAMES})")]
    TooManyNames(usize),
    /// Over 64 characters.
    #[error(
        "the Common Name is limited to {MAX_COMMON_NAME} characters (X.509 ASN.1 specification), but first given domain {0}… has {1} characters"
    )]
    LongCommonName(String, usize),
    /// A duplicate name.
    #[error("duplicate domain: {0}")]
    Duplicate(DnsName),
    /// A challenge name of over 253 characters.
    #[error(
        "invalid domain: {0}… is too long for DNS01: with _acme-challenge. before it, it has more than {MAX_NAME} characters; choose a shorter name"
    )]
    LongChallenge(String),
    /// An invalid name.
    #[error("invalid domain: {0}")]
    Name(#[from] NameError),
    /// Not PEM, not PKCS#10, truncated.
    #[error("parsing CSR failed: {0}")]
    Csr(String),
    /// A key that no public CA certifies.
    #[error(
        "the key of the CSR is not accepted: {0}; use RSA with 2048 to 4096 bits, P-256 or P-384"
    )]
    WeakKey(String),
    /// Another error in the specification; the text is from its parser.
    #[error("{0}")]
    Other(String),
}
