//! The reasons of conditions, events and metrics: one closed set.

use std::fmt;

/// Why a plan is what it is. The word is the reason of the `Ready` condition and of events, the
/// label of metrics and the output of the command line. It never contains an object's name or the
/// text of an error.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, serde::Deserialize, serde::Serialize)]
pub enum Reason {
    /// The Secret holds the requested certificate.
    Ready,
    /// The specification is invalid or cannot be fulfilled.
    SpecRefused,
    /// The Certificate belongs to another class.
    OtherClass,
    /// The Secret belongs to another Certificate.
    SecretConflict,
    /// The Secret cannot be written.
    SecretNotWritable,
    /// The issuer does not exist.
    IssuerMissing,
    /// The issuer is not ready.
    IssuerNotReady,
    /// The issuer is not allowed for these names or this Certificate.
    IssuerRefuses,
    /// There is no place to publish proofs.
    SolverNotReady,
    /// An order is in progress.
    Issuing,
    /// The Secret does not exist yet.
    SecretMissing,
    /// The Secret holds no usable certificate and key.
    SecretUnusable,
    /// The Secret holds a certificate for another request.
    SecretMismatch,
    /// The certificate was revoked.
    Revoked,
    /// A renewal was requested.
    RenewalDemanded,
    /// The certificate is near its expiration.
    RenewalDue,
    /// The layout of the Secret is outdated; the certificate is not.
    LayoutOutdated,
    /// The last attempt failed, and the back-off is not over.
    BackingOff,
    /// The daily quota of the issuer is used up.
    QuotaExhausted,
    /// The CA's rate limits, or our estimate of them, are used up.
    RateLimited,
    /// The same certificate was issued repeatedly: another client removes the result, or requests
    /// it again.
    LoopSuspected,
    /// Too many orders are in progress.
    Queued,
    /// An order of another Certificate with the same request is in progress.
    SameRequest,
    /// A cluster refuses a read or a write.
    ClusterRefused,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 24] = [
        Self::Ready,
        Self::SpecRefused,
        Self::OtherClass,
        Self::SecretConflict,
        Self::SecretNotWritable,
        Self::IssuerMissing,
        Self::IssuerNotReady,
        Self::IssuerRefuses,
        Self::SolverNotReady,
        Self::Issuing,
        Self::SecretMissing,
        Self::SecretUnusable,
        Self::SecretMismatch,
        Self::Revoked,
        Self::RenewalDemanded,
        Self::RenewalDue,
        Self::LayoutOutdated,
        Self::BackingOff,
        Self::QuotaExhausted,
        Self::RateLimited,
        Self::LoopSuspected,
        Self::Queued,
        Self::SameRequest,
        Self::ClusterRefused,
    ];

    /// The text form, as Kubernetes conditions require it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::SpecRefused => "SpecRefused",
            Self::OtherClass => "OtherClass",
            Self::SecretConflict => "SecretConflict",
            Self::SecretNotWritable => "SecretNotWritable",
            Self::IssuerMissing => "IssuerMissing",
            Self::IssuerNotReady => "IssuerNotReady",
            Self::IssuerRefuses => "IssuerRefuses",
            Self::SolverNotReady => "SolverNotReady",
            Self::Issuing => "Issuing",
            Self::SecretMissing => "SecretMissing",
            Self::SecretUnusable => "SecretUnusable",
            Self::SecretMismatch => "SecretMismatch",
            Self::Revoked => "Revoked",
            Self::RenewalDemanded => "RenewalDemanded",
            Self::RenewalDue => "RenewalDue",
            Self::LayoutOutdated => "LayoutOutdated",
            Self::BackingOff => "BackingOff",
            Self::QuotaExhausted => "QuotaExhausted",
            Self::RateLimited => "RateLimited",
            Self::LoopSuspected => "LoopSuspected",
            Self::Queued => "Queued",
            Self::SameRequest => "SameRequest",
            Self::ClusterRefused => "ClusterRefused",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
