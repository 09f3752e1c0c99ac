//! The decision what to do about a certificate, from the desired state, the observed state and the
//! time.
//!
//! [`plan`] takes values and returns a value. It runs the checks of [`checks`] in their order; the
//! first with a result wins. Nothing else in the project decides. Renewal, forced renewal, back-off
//! and a changed issuer are checks there, not code paths of their own.

pub mod backoff;
mod checks;
pub mod limits;
pub mod quota;
pub mod reissue_loop;
pub mod renewal;
pub mod renewal_window;

use jiff::{SignedDuration, Timestamp};

use crate::model::{
    bundle::Leaf,
    cert_id::CertId,
    reason::Reason,
    request::{Fingerprint, Refusal, Request},
};
use backoff::Backoff;
use renewal::{ServingCertificate, Suggested};
use renewal_window::RenewalWindow;

/// The desired state of a certificate.
#[derive(Clone, Debug)]
pub struct Want {
    /// The request, or why there is none.
    pub request: Result<Request, Refusal>,
    /// `spec.renew`: a new certificate now.
    pub renew: bool,
    /// `spec.ensureRenewedAfter`: a certificate that was requested after this instant.
    pub renewed_after: Option<Timestamp>,
    /// The key of a certificate that was requested before this instant is not certified again: that
    /// certificate will be revoked.
    pub new_key_after: Option<Timestamp>,
    /// `spec.renewBefore`: how long before its end a certificate is renewed.
    pub renew_before: Option<SignedDuration>,
    /// `spec.renewBeforePercentage`: the same in percent of the lifetime.
    pub renew_before_percentage: Option<u8>,
    /// `spec.renewalWindows`: when renewals are allowed; at any time if empty.
    pub renewal_windows: Vec<RenewalWindow>,
}

impl Want {
    /// A certificate for this request, renewed by the policy.
    #[must_use]
    pub fn new(request: Request) -> Self {
        Self {
            request: Ok(request),
            renew: false,
            renewed_after: None,
            new_key_after: None,
            renew_before: None,
            renew_before_percentage: None,
            renewal_windows: Vec::new(),
        }
    }

    /// Whether the key of this certificate must not be certified again.
    #[must_use]
    pub fn gives_up_key(&self, stored: &Stored) -> bool {
        self.new_key_after.is_some_and(|after| stored.requested_at < after)
    }
}

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
    /// What other owners have for the same request, if it was looked up: see [`Plan::wants_new`].
    pub shared: Shared,
    /// State of the last failure. Only counts while the specification is the one that failed.
    pub backoff: Option<Backoff>,
    /// When the certificate was issued again recently, oldest first, as far as that may be a
    /// [loop](reissue_loop).
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
    pub fn is_put_back(&self) -> bool {
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

/// A certificate in a Secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stored {
    /// The content of the certificate.
    pub leaf: Leaf,
    /// The fingerprint of its request, from the label of the Secret.
    pub fingerprint: Option<Fingerprint>,
    /// When it was requested; an estimate from `notBefore` if that is not stored.
    pub requested_at: Timestamp,
    /// Whether it was revoked.
    pub revoked: bool,
    /// Whether labels and entries are as requested.
    pub layout_is_current: bool,
    /// Renewal information of the CA, if it was fetched.
    pub suggested: Option<Box<Suggested>>,
    /// Whether there is a record that its issuer issued it.
    pub record: Record,
}

/// Whether a record, which only the manager can write, shows that the issuer issued a certificate.
/// A tenant can put a self-made certificate into a Secret. Such a certificate is never urgent, and
/// an order does not replace it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Record {
    /// The record was not looked up. It counts as found, and a plan that [relies on
    /// it](Plan::needs_record) must not be carried out.
    Unknown,
    /// There is a record.
    Found,
    /// There is no record.
    Missing,
}

impl Stored {
    /// The values that its renewal depends on.
    #[must_use]
    pub fn serving(&self) -> ServingCertificate<'_> {
        let Self { leaf, requested_at, suggested, .. } = self;
        ServingCertificate { leaf, requested_at: *requested_at, suggested: suggested.as_deref() }
    }
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
    /// Our own [estimate](limits) allows no new order yet.
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

/// Settings for all certificates.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// How long before its end a certificate of 90 days or more is renewed by default.
    pub renewal_window: SignedDuration,
    /// The same in percent of the lifetime, for all certificates; takes precedence over the window.
    pub renew_before_percentage: Option<u8>,
}

/// What to do, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Plan {
    /// What to do.
    pub action: Action,
    /// Why.
    pub reason: Reason,
    /// The message for the status.
    pub message: String,
    /// Whether the running order, if any, is obsolete and must be ended first.
    pub gives_up: bool,
    /// The certificate of the same issuer that a new order replaces (RFC 9773 section 5).
    pub replaces: Option<CertId>,
    /// Whether a new certificate is urgent: our own limits do not apply.
    pub urgent: bool,
    /// Whether the plan depends on a record that was [not looked up](Record::Unknown).
    pub needs_record: bool,
    /// Whether a new certificate is needed that another owner may have. The caller then looks for
    /// it and plans again with [`Have::shared`].
    pub wants_new: bool,
    /// Whether the Secret holds an unexpired certificate for the request.
    pub ready: bool,
    /// When to plan again at the latest.
    pub look_again: Timestamp,
}

/// What to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// Nothing to do.
    Keep,
    /// Place an order. A running one for another request is ended first.
    Start,
    /// Copy the certificate and key of another owner with the same request; no order.
    Share,
    /// Advance the running order.
    Resume,
    /// Write the Secret again: its certificate is right, its layout is not.
    Rewrite,
    /// Wait.
    Hold,
    /// A user must change the specification or the Secret.
    Refuse,
}

/// Longest time until the next plan: a missed event is noticed after a day at most.
const MAX_LOOK: SignedDuration = SignedDuration::from_hours(24);

/// Decides what to do about a certificate.
#[must_use]
pub fn plan(want: &Want, have: &Have, policy: &Policy, now: Timestamp) -> Plan {
    let snapshot = checks::Snapshot::new(want, have, policy, now);
    let verdict = checks::first(&snapshot);
    let needs_record = checks::needs_record(&snapshot, &verdict);
    let wants_new = verdict.action == Action::Start && !want.renew;
    let verdict = match (verdict.action, checks::share(&snapshot, &verdict)) {
        (Action::Start, Some(shared)) => shared,
        (Action::Start, None) => checks::admit(&snapshot, verdict),
        _ => verdict,
    };
    // Sharing a certificate does not depend on the record of the replaced one.
    let needs_record = needs_record && verdict.action != Action::Share;
    let latest = now.saturating_add(MAX_LOOK).unwrap_or(now);
    let look_again = verdict.look_again.unwrap_or(latest).min(latest);
    Plan {
        gives_up: checks::gives_up(&snapshot, &verdict),
        replaces: checks::replaces(&snapshot, &verdict),
        urgent: checks::is_urgent(&snapshot, &verdict),
        needs_record,
        action: verdict.action,
        reason: verdict.reason,
        message: verdict.message,
        wants_new,
        ready: snapshot.serves(),
        look_again,
    }
}

/// Whether the certificate of another owner for the same request can be shared.
#[must_use]
pub fn can_take(want: &Want, have: &Have, policy: &Policy, now: Timestamp, other: &Stored) -> bool {
    checks::Snapshot::new(want, have, policy, now).can_take(other)
}

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
