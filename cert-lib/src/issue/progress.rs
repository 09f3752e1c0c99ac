//! The token that makes an order resumable.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    acme::order::View,
    model::{key::PrivateKey, name::DnsName, request::Fingerprint},
    solve::Proof,
};

/// How far a running order is: opaque to all but the issuer that created it. It holds the new private
/// key, so it prints nothing in `Debug`, its encoding is wiped when dropped, and it belongs in the
/// trusted cluster only.
#[derive(Clone)]
pub struct Progress {
    /// What must survive the process.
    pub(crate) durable: Durable,
    /// What this process knows besides; fetched again where it is missing.
    pub(crate) view: Option<Box<View>>,
}

/// The part of [`Progress`] that is stored. Everything else follows from the order at the CA.
#[derive(Clone)]
pub(crate) struct Durable {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) order: String,
    /// The account that placed it. Another one cannot go on with it.
    pub(crate) account: String,
    /// When the order was placed.
    pub(crate) started: Timestamp,
    /// Names whose proofs may have been published.
    pub(crate) names: Vec<DnsName>,
    /// DNS-01 proofs that may be published, if the solver needs them stored. HTTP-01 proofs are not
    /// stored.
    pub(crate) proofs: Vec<Proof>,
    /// `None` for a signing request of the user.
    pub(crate) key: Option<PrivateKey>,
}

/// The stored form.
#[derive(Deserialize, Serialize)]
struct Stored {
    version: u32,
    fingerprint: Fingerprint,
    order: String,
    account: String,
    started: Timestamp,
    names: Vec<DnsName>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    proofs: Vec<StoredProof>,
    key: Option<Zeroizing<String>>,
}

#[derive(Deserialize, Serialize)]
struct StoredProof {
    challenge: DnsName,
    fqdn: DnsName,
    values: Vec<String>,
}

impl StoredProof {
    fn of(proof: &Proof) -> Option<Self> {
        match proof.clone() {
            Proof::Txt { challenge, fqdn, values } => Some(Self { challenge, fqdn, values }),
            Proof::Http { .. } => None,
        }
    }

    fn proof(self) -> Proof {
        Proof::Txt { challenge: self.challenge, fqdn: self.fqdn, values: self.values }
    }
}

const VERSION: u32 = 1;

/// Why a stored progress cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProgressError {
    /// Not what [`Progress::encode`] wrote.
    #[error("the stored progress cannot be read")]
    Unreadable,
    /// Written by a newer version.
    #[error("the stored progress has version {0}, this program reads {VERSION}")]
    Version(u32),
}

impl Progress {
    pub(crate) fn new(durable: Durable) -> Self {
        Self { durable, view: None }
    }

    /// Which request it belongs to.
    #[must_use]
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.durable.fingerprint
    }

    /// When the order was placed.
    #[must_use]
    pub fn started(&self) -> Timestamp {
        self.durable.started
    }

    /// Whether `other` is stored as the same bytes, so that nothing needs to be written.
    #[must_use]
    pub fn is_stored_by(&self, other: &Self) -> bool {
        // The key and the names are set once per order and never change.
        self.durable.order == other.durable.order
            && self.durable.fingerprint == other.durable.fingerprint
            && self.durable.proofs == other.durable.proofs
    }

    /// The proofs of the order that are stored with it.
    #[must_use]
    pub fn proofs(&self) -> &[Proof] {
        &self.durable.proofs
    }

    /// The bytes to store. They hold the private key.
    ///
    /// # Errors
    /// Never in practice: the fields can always be serialized.
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, ProgressError> {
        let durable = &self.durable;
        let stored = Stored {
            version: VERSION,
            fingerprint: durable.fingerprint.clone(),
            order: durable.order.clone(),
            account: durable.account.clone(),
            started: durable.started,
            names: durable.names.clone(),
            proofs: durable.proofs.iter().filter_map(StoredProof::of).collect(),
            key: durable.key.as_ref().map(PrivateKey::pem),
        };
        serde_json::to_vec(&stored).map(Zeroizing::new).map_err(|_| ProgressError::Unreadable)
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// See [`ProgressError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ProgressError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version } =
            serde_json::from_slice(bytes).map_err(|_| ProgressError::Unreadable)?;
        if version != VERSION {
            return Err(ProgressError::Version(version));
        }
        let stored: Stored =
            serde_json::from_slice(bytes).map_err(|_| ProgressError::Unreadable)?;
        let key = stored
            .key
            .map(|text| PrivateKey::from_pem(&text))
            .transpose()
            .map_err(|_| ProgressError::Unreadable)?;
        Ok(Self::new(Durable {
            fingerprint: stored.fingerprint,
            order: stored.order,
            account: stored.account,
            started: stored.started,
            names: stored.names,
            proofs: stored.proofs.into_iter().map(StoredProof::proof).collect(),
            key,
        }))
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress(…)")
    }
}
