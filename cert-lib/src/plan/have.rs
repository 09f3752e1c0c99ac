//! The observed state of a certificate.

use jiff::Timestamp;

use super::{backoff::Backoff, stored::Stored};
use crate::model::request::Fingerprint;

/// The observed state of a certificate.
#[derive(Clone, Debug)]
pub struct Have {
    /// Whether this manager is responsible.
    pub responsible: bool,
    /// The older Certificate that owns the same Secret, as `namespace/name`.
    pub rival: Option<String>,
    /// The issuer.
    pub issuer: IssuerState,
    /// The running order of this certificate, if any.
    pub running: Option<Running>,
    /// The Secret.
    pub secret: SecretState,
    /// The fingerprint of the last issued certificate for the same request: as it is now, or with
    /// its names in another order or spelling. It comes from the status of the Certificate, which
    /// its owner can change. So it only counts for a certificate that matches in all other
    /// respects.
    pub recorded_fingerprint: Option<Fingerprint>,
    /// What other owners have for the same request, if it was looked up: see [`Plan::wants_new`](super::Plan::wants_new).
    pub shared: Shared,
    /// State of the last failure. Only counts while the specification is the one that failed.
    pub backoff: Option<Backoff>,
    /// When the certificate was issued again recently, oldest first, as far as that may be a
    /// [loop](super::reissue_loop).
    pub reissued: Vec<Timestamp>,
    /// `notBefore` of the last issued certificate, if known.
    pub last_issued: Option<Timestamp>,
    /// Whether a new order is admitted.
    pub admission: Admission,
}

impl Have {
    /// This Secret, an issuer that is ready, and no limits.
    #[must_use]
    pub fn new(secret: SecretState) -> Self {
        Self {
            responsible: true,
            rival: None,
            issuer: IssuerState::Ready,
            running: None,
            secret,
            recorded_fingerprint: None,
            shared: Shared::default(),
            backoff: None,
            reissued: Vec::new(),
            last_issued: None,
            admission: Admission::default(),
        }
    }

    /// Whether the Secret holds an older certificate than the last issued one: another client
    /// restored it.
    #[must_use]
    pub fn holds_older_certificate(&self) -> bool {
        let SecretState::Holds(stored) = &self.secret else { return false };
        self.last_issued.is_some_and(|last| last > stored.leaf.not_before)
    }
}

/// The state of the issuer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum IssuerState {
    /// It is ready.
    Ready,
    /// It is not ready; the text says why.
    NotReady(String),
    /// It does not exist; the text names it.
    Missing(String),
    /// It refuses this request; the text says why.
    Refuses(String),
    /// It is ready, but the solver of its proofs is not available; the text says why.
    NoSolver(String),
}

/// A running order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Running {
    /// The fingerprint of its request.
    pub fingerprint: Fingerprint,
    /// The end of the wait after a transient error.
    pub not_before: Option<Timestamp>,
}

/// The state of the Secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SecretState {
    /// It does not exist.
    Missing,
    /// It must not or cannot be written; the text says why and what to do.
    NotWritable(String),
    /// It holds no usable certificate; the text says why.
    Unusable(String),
    /// It holds a certificate and, unless a signing request was used, the matching key.
    Holds(Stored),
}

/// Certificates and orders of other owners with an equivalent request. One certificate serves them
/// all, because a CA counts each of several for the same names.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Shared {
    /// The certificate of another owner.
    pub held: Option<Stored>,
    /// The order of another owner.
    pub ordered: Option<Ordered>,
}

/// An order of another owner.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ordered {
    /// Its owner, for messages.
    pub by: String,
    /// How long its certificate is worth waiting for.
    pub until: Timestamp,
}

/// Whether a new order is admitted. The default admits every order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Admission {
    /// Whether the quota of the issuer allows one more request.
    pub quota: Quota,
    /// Whether the CA's limits allow one more order.
    pub rate_limit: RateLimit,
    /// Whether an order slot is free.
    pub slot: Slot,
    /// Whether a certificate near its end may skip limits without a record of its issuance.
    pub may_skip_limits: bool,
}

/// Whether an order slot is free.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Slot {
    /// One is free.
    #[default]
    Free,
    /// All are taken.
    Taken,
}

/// Whether the quota of the issuer allows one more request.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Quota {
    /// It does, or the issuer has no quota.
    #[default]
    Open,
    /// Not before an instant.
    Until {
        /// The instant at which the quota serves this certificate, if known.
        time: Timestamp,
        /// Requests per day.
        per_day: i64,
    },
}

/// Whether a limit of the CA delays a new order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum RateLimit {
    /// No limit applies.
    #[default]
    Off,
    /// Our own [estimate](super::limits) allows no new order yet.
    Estimated {
        /// The end of the wait, if known.
        time: Timestamp,
        /// The limit, for messages.
        why: String,
    },
    /// The CA refuses new orders. Nothing overrides this.
    Imposed {
        /// The end of the wait.
        time: Timestamp,
        /// The limit, for messages.
        why: String,
    },
}
