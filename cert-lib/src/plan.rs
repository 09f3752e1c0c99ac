//! THE decision: what to do about a certificate, from what is wanted, what there is, and the time.
//!
//! [`plan`] takes values and returns a value. It asks the checks of [`checks`] in their order, the
//! first that has something to say wins, and nothing else in the project decides. Renewal, forced
//! renewal, back-off, a changed issuer are rows there and never paths of their own.

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

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Want {
    /// The request, or why there is none.
    pub request: Result<Request, Refusal>,
    /// `spec.renew`: a new certificate, now.
    pub renew: bool,
    /// `spec.ensureRenewedAfter`: one that was requested after this instant.
    pub renewed_after: Option<Timestamp>,
    /// The key of a certificate that was requested before this instant is not certified again: that
    /// certificate is about to be revoked.
    pub new_key_after: Option<Timestamp>,
    /// `spec.renewBefore`: how long before its end a certificate is renewed.
    pub renew_before: Option<SignedDuration>,
    /// `spec.renewBeforePercentage`: the same in hundredths of the certificate's life.
    pub renew_before_percentage: Option<u8>,
    /// `spec.renewalWindows`: when it may be renewed; at any time where there are none.
    pub renewal_windows: Vec<RenewalWindow>,
}

impl Want {
    /// A certificate for this request, renewed when the policy says.
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

    /// Whether the key of this certificate is not to be certified again.
    #[must_use]
    pub fn gives_up_key(&self, stored: &Stored) -> bool {
        self.new_key_after.is_some_and(|after| stored.requested_at < after)
    }
}

/// What there is.
#[derive(Clone, Debug)]
pub struct Have {
    /// Whether this manager is responsible.
    pub responsible: bool,
    /// The Certificate that owns the same Secret and was there before, as `namespace/name`.
    pub rival: Option<String>,
    /// The issuer.
    pub issuer: IssuerState,
    /// The order that runs for this certificate, if any.
    pub running: Option<Running>,
    /// The Secret.
    pub secret: SecretState,
    /// The fingerprint of what was issued last for the owner, where that was for the same request: as
    /// it is now, or with its names in another order or spelling. What a Certificate says of itself,
    /// so it is believed of a certificate that fits in all other respects only.
    pub recorded_fingerprint: Option<Fingerprint>,
    /// What other owners have of the same request, as far as somebody looked: see [`Plan::wants_new`].
    pub shared: Shared,
    /// What is left of the last failure. Counts only while the specification is the one that failed.
    pub backoff: Option<Backoff>,
    /// Whether the issuer may be asked for one more certificate today.
    pub quota: Quota,
    /// When the certificate was issued again lately, the latest last, as far as that
    /// [may be a loop](repeats).
    pub reissued: Vec<Timestamp>,
    /// The first instant of the certificate that was issued last, as far as is known.
    pub last_issued: Option<Timestamp>,
    /// Whether the CA's limits let one more order through.
    pub rate_limit: RateLimit,
    /// Whether one more order may run.
    pub slot: Slot,
    /// Whether a certificate that is about to end is urgent although there is no record of it.
    pub may_skip_limits: bool,
}

impl Have {
    /// This Secret, an issuer that is ready, and nothing that holds anybody back.
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
            quota: Quota::Open,
            reissued: Vec::new(),
            last_issued: None,
            rate_limit: RateLimit::Off,
            slot: Slot::Free,
            may_skip_limits: false,
        }
    }

    /// Whether the Secret holds an older certificate than the one that was issued last: somebody put it
    /// back.
    #[must_use]
    pub fn is_put_back(&self) -> bool {
        let SecretState::Holds(stored) = &self.secret else { return false };
        self.last_issued.is_some_and(|last| last > stored.leaf.not_before)
    }
}

/// What is known of the issuer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum IssuerState {
    /// It can issue.
    Ready,
    /// It cannot issue yet, or not any more; the text says why.
    NotReady(String),
    /// There is none of that name; the text names it.
    Missing(String),
    /// It may not issue this; the text says why.
    Refuses(String),
    /// It could issue, but there is no place to publish proofs in; the text says which.
    NoSolver(String),
}

/// A running order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Running {
    /// What was asked for when it was placed.
    pub fingerprint: Fingerprint,
    /// After a hiccup: not to be touched before.
    pub not_before: Option<Timestamp>,
}

/// What is known of the Secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SecretState {
    /// There is none.
    Missing,
    /// It must not or cannot be written; the text says why and what to do.
    NotWritable(String),
    /// It holds nothing of use; the text says why.
    Unusable(String),
    /// It holds a certificate and, unless the key is somebody else's, the matching key.
    Holds(Stored),
}

/// A certificate in a Secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stored {
    /// What the certificate says.
    pub leaf: Leaf,
    /// What it was issued for, as the Secret's label says.
    pub fingerprint: Option<Fingerprint>,
    /// When it was requested; falls back to an estimate from `notBefore`.
    pub requested_at: Timestamp,
    /// Whether it was revoked.
    pub revoked: bool,
    /// Whether labels and entries are as asked for.
    pub layout_is_current: bool,
    /// What its CA says about its renewal, as far as it was asked.
    pub suggested: Option<Box<Suggested>>,
    /// Whether it is known that its issuer issued it.
    pub record: Record,
}

/// Whether there is a record, where only we write, that the issuer issued a certificate. Anybody can put
/// one of his own making into a Secret: that is neither urgent nor one that an order replaces.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Record {
    /// It was not looked for. It counts as found, and a plan that [relies on it](Plan::needs_record) must
    /// not be carried out.
    Unknown,
    /// There is one.
    Found,
    /// There is none.
    Missing,
}

impl Stored {
    /// What its renewal depends on.
    #[must_use]
    pub fn serving(&self) -> ServingCertificate<'_> {
        let Self { leaf, requested_at, suggested, .. } = self;
        ServingCertificate { leaf, requested_at: *requested_at, suggested: suggested.as_deref() }
    }
}

/// What other owners have whose request is the same in all that it says about the certificate. One
/// certificate serves them all: a CA counts each of several for the same names.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Shared {
    /// The certificate of one of them.
    pub held: Option<Stored>,
    /// The order of one of them.
    pub ordered: Option<Ordered>,
}

/// An order of another owner.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ordered {
    /// Whose it is, for people.
    pub by: String,
    /// How long its certificate is worth waiting for.
    pub until: Timestamp,
}

/// Whether one more order may run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Slot {
    /// Yes.
    Free,
    /// As many run already as may run at once.
    Taken,
}

/// Whether the issuer may be asked for one more certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Quota {
    /// Yes, or nobody counts.
    Open,
    /// Not before.
    Until {
        /// The instant at which it is this certificate's turn, as far as is known.
        time: Timestamp,
        /// How many the issuer may be asked for in a day.
        per_day: i64,
    },
}

/// Whether a limit of the CA holds a new order back.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RateLimit {
    /// None does.
    Off,
    /// By our own [picture](limits) of them, no new order before.
    Estimated {
        /// When it lets go, as far as is known.
        time: Timestamp,
        /// What is the matter, for people.
        why: String,
    },
    /// The CA itself said so: nothing overrides that.
    Imposed {
        /// When it takes orders again.
        time: Timestamp,
        /// What it limits, for people.
        why: String,
    },
}

/// What holds for all certificates.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// How long before its end a certificate of 90 days or more is renewed, unless it says so itself.
    pub renewal_window: SignedDuration,
    /// The same in hundredths of its life, for all certificates; counts more than the window.
    pub renew_before_percentage: Option<u8>,
}

/// What to do, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Plan {
    /// What to do.
    pub action: Action,
    /// Why.
    pub reason: Reason,
    /// The reason in words, for a person.
    pub message: String,
    /// Whether the running order, if there is one, leads nowhere any more: it must be ended first.
    pub gives_up: bool,
    /// The certificate of the same issuer that a new order replaces (RFC 9773 section 5).
    pub replaces: Option<CertId>,
    /// Whether a new certificate cannot wait: no budget of ours stands in its way.
    pub urgent: bool,
    /// Whether this depends on a record that was [not looked for](Record::Unknown).
    pub needs_record: bool,
    /// Whether a new certificate is needed that another owner may have: it is worth looking, and
    /// planning again with [`Have::shared`].
    pub wants_new: bool,
    /// Whether the Secret serves as it is: it holds an unexpired certificate for what is asked for.
    pub ready: bool,
    /// When to plan again if nothing changes before.
    pub look_again: Timestamp,
}

/// What to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// All is well.
    Keep,
    /// Place an order. A running one for something else is given up first.
    Start,
    /// Take the certificate and key that another owner has for the same request: no order.
    Share,
    /// Take the running order further.
    Resume,
    /// The certificate is right, the Secret around it is not: write the Secret again.
    Rewrite,
    /// Wait for something.
    Hold,
    /// Nothing can be done until somebody changes the specification or the Secret.
    Refuse,
}

/// Longest time without a look, so that a missed event costs a day at most.
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
    // What another owner has depends on no record of what is replaced.
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

/// Whether the certificate of another owner for the same request is as good as a new one.
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
