//! The one vocabulary for what is going on with a certificate.

use std::fmt;

/// Why a plan is what it is. The word is the reason of the `Ready` condition, the reason of events,
/// the label of metrics and what the command line prints. A closed set: never an object's name and
/// never the text of an error.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, serde::Deserialize, serde::Serialize)]
pub enum Reason {
    /// The Secret holds what is asked for.
    Ready,
    /// The specification cannot be fulfilled as it is.
    SpecRefused,
    /// Another manager is responsible.
    OtherClass,
    /// The Secret belongs to another Certificate.
    SecretConflict,
    /// The Secret cannot be written as it is.
    SecretNotWritable,
    /// There is no such issuer.
    IssuerMissing,
    /// The issuer cannot issue now.
    IssuerNotReady,
    /// The issuer may not issue for these names, or not for this Certificate.
    IssuerRefuses,
    /// The place where proofs are published is missing.
    SolverNotReady,
    /// An order is running.
    Issuing,
    /// There is no Secret yet.
    SecretMissing,
    /// The Secret holds no usable certificate and key.
    SecretUnusable,
    /// The Secret holds a certificate for something else.
    SecretMismatch,
    /// The certificate was revoked.
    Revoked,
    /// Somebody asked for a new one.
    RenewalDemanded,
    /// The certificate is near its end.
    RenewalDue,
    /// The Secret's layout is not what is asked for; the certificate is.
    LayoutOutdated,
    /// The last try failed, and it is too early for another.
    BackingOff,
    /// The issuer was asked for as many certificates as it may be asked for in a day.
    QuotaExhausted,
    /// The CA's limits, or our own picture of them, leave no room for another order.
    RateLimited,
    /// The same certificate was issued again and again: somebody undoes what is written.
    LoopSuspected,
    /// Too many orders run already.
    Queued,
    /// Another Certificate asks for the same, and its order runs.
    SameRequest,
    /// A cluster refuses what must be read or written.
    ClusterRefused,
}

impl Reason {
    /// Every reason there is.
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

    /// The word, in the form that Kubernetes conditions want.
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
