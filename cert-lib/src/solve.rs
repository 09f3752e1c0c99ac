//! Proving control of names: what a proof is, and the seam to whatever publishes it.

pub mod dns01;

use async_trait::async_trait;
use jiff::SignedDuration;

use crate::model::name::DnsName;

/// Publishes proofs and takes them away again.
///
/// All are *idempotent*: after a crash they are called again with the same arguments. None waits:
/// [`ready`](Solver::ready) is one look.
#[async_trait]
pub trait Solver: Send + Sync {
    /// Where the proof of `challenge`, a challenge name, is to be published when the request wants
    /// CNAMEs followed: where the name leads. A solver that cannot ask publishes at the name itself.
    ///
    /// # Errors
    /// When that cannot be found out, or leads to where nothing must be published.
    async fn follow(&self, challenge: &DnsName) -> Result<DnsName, SolveError> {
        Ok(challenge.clone())
    }

    /// Publishes `proofs` for `owner`, replacing what an earlier order of this owner published
    /// under the same names and leaving everybody else's alone.
    ///
    /// # Errors
    /// When the place of publication refused or could not be reached.
    async fn present(&self, owner: &Owner, proofs: &[Proof]) -> Result<(), SolveError>;

    /// Looks once whether everybody who asks will see `proofs`.
    ///
    /// # Errors
    /// When looking failed and looking again will not help.
    async fn ready(&self, owner: &Owner, proofs: &[Proof]) -> Result<Readiness, SolveError>;

    /// Takes `proofs` of `owner` away. What is gone already is fine. A proof without values means
    /// all that this owner published for its name, wherever that leads: after a crash nobody knows
    /// the values.
    ///
    /// # Errors
    /// When the place of publication refused or could not be reached.
    async fn cleanup(&self, owner: &Owner, proofs: &[Proof]) -> Result<(), SolveError>;

    /// Whether control over IP addresses (RFC 8738) is proved, too. DNS-01 cannot do that; it takes
    /// HTTP-01, for which no [`Proof`] is handed out: this is for CAs that do not look.
    fn proves_addresses(&self) -> bool {
        false
    }
}

/// Who a proof is for, in words that the solver can store beside it and find it by again. The
/// engine never looks inside; the controller uses `namespace/name` of the Certificate.
#[derive(Clone, Debug, Eq, Hash, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct Owner(pub String);

/// What must be published for the CA to look at.
#[derive(Clone, Eq, PartialEq)]
pub enum Proof {
    /// DNS-01 (RFC 8555 section 8.4): all values of one name. A wildcard and its parent have one
    /// name and two values, and each value must become a record of its own.
    Txt {
        /// The challenge name, `_acme-challenge.…`, or where a CNAME there leads.
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

/// What one look at the proofs showed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Readiness {
    /// Everybody sees them: tell the CA.
    Ready,
    /// Not yet: `why` in words for a person, and when to look again if nothing wakes us before.
    NotYet {
        /// For example `DNSEntry default/cert--example.org has state Pending`.
        why: String,
        /// How long to wait for the next look.
        look_again: SignedDuration,
    },
}

/// Why a solver could not do its work.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SolveError {
    /// It may work later without anybody doing anything.
    #[error("{0}")]
    Unavailable(String),
    /// Somebody must change something first.
    #[error("{0}")]
    Misconfigured(String),
}
