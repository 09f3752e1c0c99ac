//! Proofs of control over names, and the [`Solver`] trait for publishing them.

pub mod dns01;

use async_trait::async_trait;
use jiff::SignedDuration;

use crate::model::name::DnsName;

/// Publishes proofs and removes them.
///
/// All methods are *idempotent*: after a crash they are called again with the same arguments. None
/// waits: [`ready`](Solver::ready) checks once.
#[async_trait]
pub trait Solver: Send + Sync {
    /// The name at which the proof of `challenge`, a challenge name, is published if the request
    /// follows CNAMEs. The default is the name itself.
    ///
    /// # Errors
    /// When the CNAME cannot be resolved or must not be followed.
    async fn follow(&self, challenge: &DnsName) -> Result<DnsName, SolveError> {
        Ok(challenge.clone())
    }

    /// Publishes `proofs` for `owner`. Replaces what an earlier order of this owner published under
    /// the same names, and leaves proofs of other owners alone.
    ///
    /// # Errors
    /// When the proofs cannot be published.
    async fn present(&self, owner: &Owner, proofs: &[Proof]) -> Result<(), SolveError>;

    /// Checks once whether the CA will see `proofs`.
    ///
    /// # Errors
    /// When the check failed and a retry will not help.
    async fn ready(&self, owner: &Owner, proofs: &[Proof]) -> Result<Readiness, SolveError>;

    /// Removes `proofs` of `owner`. Missing ones are no error. A proof without values stands for
    /// all values that this owner published for its name, at any CNAME target: after a crash the
    /// values are unknown.
    ///
    /// # Errors
    /// When the proofs cannot be removed.
    async fn cleanup(&self, owner: &Owner, proofs: &[Proof]) -> Result<(), SolveError>;

    /// Whether control over IP addresses (RFC 8738) can be proved. DNS-01 cannot do that. HTTP-01
    /// can, but has no [`Proof`] here: this is for CAs that do not validate.
    fn proves_addresses(&self) -> bool {
        false
    }
}

/// The owner of a proof, in a form that the solver can store with it. The engine does not interpret
/// it; the controller uses `namespace/name` of the Certificate.
#[derive(Clone, Debug, Eq, Hash, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct Owner(pub String);

/// A record that the CA validates.
#[derive(Clone, Eq, PartialEq)]
pub enum Proof {
    /// DNS-01 (RFC 8555 section 8.4): all values of one name. A wildcard and its parent share the
    /// name and have two values; each value is a record of its own.
    Txt {
        /// The challenge name, `_acme-challenge.…`, or the target of its CNAME.
        fqdn: DnsName,
        /// The values.
        values: Vec<String>,
    },
}

/// Values of proofs are bearer tokens while the order runs, so only the name is printed.
impl std::fmt::Debug for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Txt { fqdn, values } => write!(f, "Txt({fqdn}, {} values)", values.len()),
        }
    }
}

/// The result of one check.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Readiness {
    /// The proofs are visible: the challenge can be triggered.
    Ready,
    /// Not visible yet: `why` is a message for users; check again after a while.
    NotYet {
        /// For example `DNSEntry default/cert--example.org has state Pending`.
        why: String,
        /// Time until the next check.
        look_again: SignedDuration,
    },
}

/// Why a solver failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SolveError {
    /// A retry may succeed without a change.
    #[error("{0}")]
    Unavailable(String),
    /// A user must change something first.
    #[error("{0}")]
    Misconfigured(String),
}
