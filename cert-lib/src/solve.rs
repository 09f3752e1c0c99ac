//! Proofs of control over names, and the [`Solver`] trait for publishing them.

pub mod dns01;
pub mod dns_records;
pub mod powerdns;
pub mod rfc2136;

use std::{fmt, net::IpAddr};

use async_trait::async_trait;
use jiff::SignedDuration;

use crate::model::name::DnsName;

/// Publishes proofs and removes them.
///
/// All methods are *idempotent*: after a crash they are called again with the same arguments. None
/// waits: [`ready`](Solver::ready) checks once.
#[async_trait]
pub trait Solver: Send + Sync {
    /// The name at which the proof of `challenge`, a challenge name of `owner`, is published if the
    /// request follows CNAMEs. The default is the name itself.
    ///
    /// # Errors
    /// When the CNAME cannot be resolved or must not be followed.
    async fn follow(&self, owner: &Owner, challenge: &DnsName) -> Result<DnsName, SolveError> {
        let _ = owner;
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

    /// Whether control over IP addresses (RFC 8738) can be proved. DNS-01 cannot do that, HTTP-01
    /// can.
    fn proves_addresses(&self) -> bool {
        false
    }

    /// Whether CNAMEs of `challenge` are [followed](Self::follow) even if the request does not ask for
    /// it.
    fn follows_cnames(&self, owner: &Owner, challenge: &DnsName) -> bool {
        let _ = (owner, challenge);
        false
    }

    /// Whether the running order stores the `proofs` before they are published. A solver needs that
    /// if nothing at the place of publication says whose they are, or if it publishes them from the
    /// stored orders.
    fn stores_proofs(&self) -> bool {
        false
    }

    /// How long `proofs` of `owner` may stay invisible before the order fails; `default` is the time
    /// of the issuer.
    fn propagation_timeout(
        &self,
        owner: &Owner,
        proofs: &[Proof],
        default: SignedDuration,
    ) -> SignedDuration {
        let _ = (owner, proofs);
        default
    }
}

/// The owner of a proof, in a form that the solver can store with it. The engine does not interpret
/// it; the controller uses `namespace/name` of the Certificate.
#[derive(Clone, Debug, Eq, Hash, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct Owner(pub String);

/// A record or response that the CA validates. A solver refuses the types that it does not publish.
#[derive(Clone, Eq, PartialEq)]
#[non_exhaustive]
pub enum Proof {
    /// DNS-01 (RFC 8555 section 8.4): all values of one name. A wildcard and its parent share the
    /// name and have two values; each value is a record of its own.
    Txt {
        /// The challenge name, `_acme-challenge.…`. Of several whose CNAMEs lead to one target, the
        /// first.
        challenge: DnsName,
        /// The name of the records: the challenge name, or the target of its CNAME.
        fqdn: DnsName,
        /// The values.
        values: Vec<String>,
    },
    /// HTTP-01 (RFC 8555 section 8.3): `host` answers requests for
    /// `/.well-known/acme-challenge/<token>` on port 80.
    Http {
        /// The name or address whose control is proved.
        host: Host,
        /// The last segment of the path.
        token: String,
        /// The content of the response, the key authorization.
        body: String,
    },
}

/// The host of an HTTP-01 proof.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Host {
    /// A name, never a wildcard.
    Name(DnsName),
    /// An address (RFC 8738).
    Address(IpAddr),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl Proof {
    /// A DNS-01 proof at the challenge name itself.
    #[must_use]
    pub fn at_challenge(challenge: DnsName, values: Vec<String>) -> Self {
        Self::Txt { fqdn: challenge.clone(), challenge, values }
    }

    /// The name and the values of a DNS-01 proof; `None` for other types.
    #[must_use]
    pub fn txt(&self) -> Option<(&DnsName, &[String])> {
        match self {
            Self::Txt { fqdn, values, .. } => Some((fqdn, values)),
            Self::Http { .. } => None,
        }
    }

    /// The same for solvers that publish DNS records only.
    ///
    /// # Errors
    /// For a proof of another type.
    pub fn require_txt(&self) -> Result<(&DnsName, &[String]), SolveError> {
        self.txt().ok_or_else(|| {
            SolveError::Misconfigured(format!(
                "cannot publish the proof {self:?}: the selected solver publishes DNS01 proofs only"
            ))
        })
    }
}

/// Values of proofs are bearer tokens while the order runs, so only the name is printed.
impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Txt { fqdn, values, .. } => write!(f, "Txt({fqdn}, {} values)", values.len()),
            Self::Http { host, .. } => write!(f, "Http({host})"),
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
    /// A server does not accept the credential of the solver. That is no fault of the order, so it
    /// waits until an operator has corrected the credential or the server.
    #[error("{0}")]
    CredentialRefused(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dns_solver_refuses_http_proofs_without_secrets_in_the_message() {
        let host = Host::Name("a.example".parse().unwrap());
        let proof = Proof::Http { host, token: "secret1".into(), body: "secret2".into() };
        let error = proof.require_txt().unwrap_err().to_string();
        let wanted = "cannot publish the proof Http(a.example): the selected solver publishes DNS01 \
                      proofs only";
        assert_eq!(error, wanted);
        assert!(proof.txt().is_none());
    }
}
