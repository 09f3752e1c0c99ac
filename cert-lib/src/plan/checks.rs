//! The checks of the plan, in their order. The first check with a result decides.

mod admission;

pub(super) use admission::admit;

use std::cell::OnceCell;

use jiff::{SignedDuration, Timestamp};

use super::{
    decision::Action,
    have::{Have, IssuerState, Ordered, SecretState, Shared},
    renewal::{self, Cause, Due},
    stored::{Record, Stored},
    want::{Policy, Want},
};
use crate::model::{
    cert_id::CertId,
    key::KeyType,
    reason::Reason,
    request::{KeyChoice, Request, Subject},
};

/// The inputs of the checks.
pub(super) struct Snapshot<'a> {
    want: &'a Want,
    have: &'a Have,
    policy: &'a Policy,
    now: Timestamp,
    /// Computed once for several checks.
    due: OnceCell<Option<Due>>,
    covers: OnceCell<bool>,
}

/// The result of a check.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) action: Action,
    pub(super) reason: Reason,
    pub(super) message: String,
    pub(super) look_again: Option<Timestamp>,
}

type Check = fn(&Snapshot<'_>) -> Option<Verdict>;

/// The order is part of the behavior: problems that a user must fix come before actions of ours,
/// and a running order comes before a new one.
const CHECKS: [Check; 13] = [
    not_our_class,
    spec_refused,
    rival_owns_secret,
    secret_not_writable,
    issuer_missing_or_not_ready,
    order_running,
    secret_missing,
    secret_unusable,
    names_key_or_issuer_differ,
    revoked,
    renewal_demanded,
    renewal_due,
    layout_differs,
];

/// An issuer that becomes ready triggers its Certificates; this covers a missed trigger.
const ISSUER_RECHECK: SignedDuration = SignedDuration::from_mins(10);
/// A released slot triggers the next Certificate; this covers a missed trigger.
const SLOT_RECHECK: SignedDuration = SignedDuration::from_mins(1);
const SECRET_RECHECK: SignedDuration = SignedDuration::from_mins(1);
/// After this number of failures in a row, an order no longer names the certificate that it
/// replaces.
const MAX_FAILURES_WITH_REPLACES: u32 = 3;

pub(super) fn first(snapshot: &Snapshot<'_>) -> Verdict {
    CHECKS.iter().find_map(|check| check(snapshot)).unwrap_or_else(|| keep(snapshot))
}

/// Runs before every new order and before all limits: sharing the certificate of another owner for
/// the same request costs nothing, and its running order is awaited.
///
/// A requested renewal accepts a certificate that was requested later, by any owner.
pub(super) fn share(snapshot: &Snapshot<'_>, start: &Verdict) -> Option<Verdict> {
    if start.action != Action::Start || snapshot.want.renew {
        return None;
    }
    let Shared { held, ordered } = &snapshot.have.shared;
    if held.as_ref().is_some_and(|other| snapshot.can_take(other)) {
        let (reason, message) = (start.reason, start.message.clone());
        return Some(Verdict { action: Action::Share, reason, message, look_again: None });
    }
    let Ordered { by, until } = ordered.as_ref().filter(|it| snapshot.now < it.until)?;
    let message = format!(
        "an order of Certificate {by} for the same request is running; its certificate is shared when it is issued"
    );
    let soon = snapshot.now.saturating_add(SLOT_RECHECK).unwrap_or(*until);
    let look_again = Some(soon.min(*until));
    Some(Verdict { look_again, ..hold(Reason::SameRequest, message) })
}

/// Whether a new certificate is urgent.
pub(super) fn is_urgent(snapshot: &Snapshot<'_>, verdict: &Verdict) -> bool {
    let starts = verdict.action == Action::Start && verdict.reason == Reason::RenewalDue;
    starts && snapshot.is_emergency()
}

/// Whether the plan depends on a record that was not looked up.
pub(super) fn needs_record(snapshot: &Snapshot<'_>, verdict: &Verdict) -> bool {
    let is_unknown = snapshot.stored().is_some_and(|it| it.record == Record::Unknown);
    is_unknown && (is_urgent(snapshot, verdict) || replaces(snapshot, verdict).is_some())
}

/// An order is kept while it matches the request and can still be advanced, now or later.
pub(super) fn gives_up(snapshot: &Snapshot<'_>, verdict: &Verdict) -> bool {
    let Some(running) = &snapshot.have.running else { return false };
    let is_wanted = snapshot.request().is_some_and(|it| it.fingerprint == running.fingerprint);
    let can_go_on = match verdict.action {
        Action::Resume => true,
        Action::Hold => !matches!(
            verdict.reason,
            Reason::OtherClass | Reason::IssuerMissing | Reason::IssuerRefuses
        ),
        // Its certificate may be signed already, and a user may fix the Secret soon.
        Action::Refuse => {
            matches!(verdict.reason, Reason::SecretConflict | Reason::SecretNotWritable)
        }
        Action::Keep | Action::Start | Action::Share | Action::Rewrite => false,
    };
    !(is_wanted && can_go_on)
}

/// The certificate that a new order replaces: one of the same issuer for the same request. After
/// three failures in a row it is left out, because it may be what the CA rejects.
pub(super) fn replaces(snapshot: &Snapshot<'_>, verdict: &Verdict) -> Option<CertId> {
    let (stored, request) = (snapshot.stored()?, snapshot.request()?);
    let is_ours = stored.fingerprint.as_ref() == Some(&request.fingerprint);
    let failed = snapshot.have.backoff.is_some_and(|it| it.failures >= MAX_FAILURES_WITH_REPLACES);
    let is_issued = stored.record != Record::Missing;
    let wanted = verdict.action == Action::Start && is_ours && is_issued && !failed;
    wanted.then(|| stored.leaf.id.clone()).flatten()
}

impl<'a> Snapshot<'a> {
    pub(super) fn new(want: &'a Want, have: &'a Have, policy: &'a Policy, now: Timestamp) -> Self {
        Self { want, have, policy, now, due: OnceCell::new(), covers: OnceCell::new() }
    }

    /// Whether the Secret holds a valid certificate for the request.
    pub(super) fn serves(&self) -> bool {
        let is_valid = |it: &Stored| !it.revoked && it.leaf.not_after > self.now;
        self.stored().is_some_and(is_valid) && self.covers()
    }

    /// Whether the certificate is near its end, and was issued by its issuer.
    fn is_emergency(&self) -> bool {
        let is_emergency = |it: &Stored| {
            (it.record != Record::Missing || self.have.admission.may_skip_limits)
                && renewal::is_emergency(&it.leaf, it.requested_at, self.now)
        };
        self.stored().is_some_and(is_emergency)
    }

    /// `time`, or the start of the emergency if that is earlier.
    fn or_emergency(&self, time: Timestamp) -> Timestamp {
        let last = self.stored().map(|it| renewal::emergency_start(&it.leaf, it.requested_at));
        last.filter(|last| *last > self.now).map_or(time, |last| last.min(time))
    }

    fn due(&self) -> Option<&Due> {
        let due = |it: &Stored| renewal::due(&it.serving(), self.want, self.policy, self.now);
        self.due.get_or_init(|| self.stored().map(due)).as_ref()
    }

    /// Whether the certificate, if there is one, matches the request.
    fn covers(&self) -> bool {
        let both = || self.stored().zip(self.request());
        *self.covers.get_or_init(|| both().is_some_and(|(stored, request)| covers(stored, request)))
    }

    /// Whether the certificate of another owner for the same request can be shared.
    ///
    /// The certificate that must be replaced cannot be shared. A request with a profile or a
    /// preferred chain cannot share, because a certificate does not show how it was requested.
    pub(super) fn can_take(&self, other: &Stored) -> bool {
        let Some(request) = self.request() else { return false };
        let is_same = self.stored().is_some_and(|own| own.leaf.digest == other.leaf.digest)
            && names_key_or_issuer_differ(self).is_none();
        let is_chosen = request.acme.profile.is_some() || request.acme.preferred_chain.is_some();
        let demanded = self.want.renewed_after.filter(|after| *after <= self.now);
        let is_new_enough = demanded.is_none_or(|after| other.requested_at >= after)
            && !self.want.gives_up_key(other);
        let is_revoked =
            other.revoked || self.stored().is_some_and(|own| own.revoked && own.leaf == other.leaf);
        let due = renewal::due(&other.serving(), self.want, self.policy, self.now).at;
        let is_signed = !other.leaf.is_self_issued || request.extras.is_some();
        is_new_enough
            && !is_same
            && !is_chosen
            && lasts_as_asked(other, request)
            && !is_revoked
            && is_signed
            && self.now < due.min(other.leaf.not_after)
            && has_exactly(other, request)
            && covers(other, request)
    }

    /// Whether the certificate was issued for the request. The label of the Secret says so. A
    /// Secret may lack the label (restored from a backup) or have the fingerprint of the same names
    /// in another order. It then counts if the owner had such a certificate and this one has
    /// exactly the names. A self-signed certificate never counts.
    fn was_issued_for(&self, stored: &Stored, request: &Request) -> bool {
        let stored_fingerprint = stored.fingerprint.as_ref();
        if stored_fingerprint == Some(&request.fingerprint) {
            return true;
        }
        let recorded = self.have.recorded_fingerprint.as_ref();
        let is_recorded = recorded.is_some_and(|recorded| {
            stored_fingerprint.is_none_or(|stored_fingerprint| stored_fingerprint == recorded)
        });
        let is_signed = !stored.leaf.is_self_issued || request.extras.is_some();
        is_recorded && is_signed && has_exactly(stored, request) && self.covers()
    }

    fn request(&self) -> Option<&'a Request> {
        self.want.request.as_ref().ok()
    }

    fn stored(&self) -> Option<&'a Stored> {
        match &self.have.secret {
            SecretState::Holds(stored) => Some(stored),
            SecretState::Missing | SecretState::NotWritable(_) | SecretState::Unusable(_) => None,
        }
    }
}

fn not_our_class(snapshot: &Snapshot<'_>) -> Option<Verdict> {
    (!snapshot.have.responsible).then(|| hold(Reason::OtherClass, String::new()))
}

fn spec_refused(snapshot: &Snapshot<'_>) -> Option<Verdict> {
    let refusal = snapshot.want.request.as_ref().err()?;
    Some(refuse(Reason::SpecRefused, refusal.to_string()))
}

fn rival_owns_secret(snapshot: &Snapshot<'_>) -> Option<Verdict> {
    let rival = snapshot.have.rival.as_ref()?;
    let message =
        format!("the Secret belongs to the older Certificate {rival}: choose another secretName");
    Some(refuse(Reason::SecretConflict, message))
}

fn secret_not_writable(snapshot: &Snapshot<'_>) -> Option<Verdict> {
    match &snapshot.have.secret {
        // Other Secrets are not watched, so their changes are polled.
        SecretState::NotWritable(why) => Some(Verdict {
            look_again: snapshot.now.saturating_add(SECRET_RECHECK).ok(),
            ..refuse(Reason::SecretNotWritable, why.clone())
        }),
        SecretState::Missing | SecretState::Unusable(_) | SecretState::Holds(_) => None,
    }
}

/// A running order continues while its issuer is temporarily not ready, but needs the issuer to
/// exist. Holding loses nothing, because the progress is stored. A certificate that needs nothing
/// is left alone.
fn issuer_missing_or_not_ready(snapshot: &Snapshot<'_>) -> Option<Verdict> {
    let (reason, message) = match &snapshot.have.issuer {
        IssuerState::Ready => return None,
        IssuerState::NotReady(why) => (Reason::IssuerNotReady, why.clone()),
        IssuerState::Missing(why) => (Reason::IssuerMissing, why.clone()),
        IssuerState::Refuses(why) => (Reason::IssuerRefuses, why.clone()),
        IssuerState::NoSolver(why) => (Reason::SolverNotReady, why.clone()),
    };
    let idle = snapshot.have.running.is_none();
    if idle && needs_nothing(snapshot) {
        return None;
    }
    let look_again = snapshot.now.saturating_add(ISSUER_RECHECK).ok();
    Some(Verdict { look_again, ..hold(reason, message) })
}

fn order_running(snapshot: &Snapshot<'_>) -> Option<Verdict> {
    let running = snapshot.have.running.as_ref()?;
    if running.fingerprint != snapshot.request()?.fingerprint {
        return None;
    }
    let pause = running.not_before.filter(|time| *time > snapshot.now);
    let action = if pause.is_some() { Action::Hold } else { Action::Resume };
    Some(Verdict { action, reason: Reason::Issuing, message: String::new(), look_again: pause })
}

fn secret_missing(snapshot: &Snapshot<'_>) -> Option<Verdict> {
    matches!(snapshot.have.secret, SecretState::Missing)
        .then(|| start(Reason::SecretMissing, "there is no Secret yet"))
}

fn secret_unusable(snapshot: &Snapshot<'_>) -> Option<Verdict> {
    match &snapshot.have.secret {
        SecretState::Unusable(why) => Some(start(Reason::SecretUnusable, why)),
        SecretState::Missing | SecretState::NotWritable(_) | SecretState::Holds(_) => None,
    }
}

fn names_key_or_issuer_differ(snapshot: &Snapshot<'_>) -> Option<Verdict> {
    let (stored, request) = (snapshot.stored()?, snapshot.request()?);
    if !snapshot.was_issued_for(stored, request) {
        return Some(start(Reason::SecretMismatch, "the Secret was issued for another request"));
    }
    (!snapshot.covers()).then(|| {
        start(
            Reason::SecretMismatch,
            "the certificate in the Secret has other names or another key, or isCA was changed",
        )
    })
}

/// A revoked certificate is not replaced at once: the user who revoked it decides when, which may
/// be later.
fn revoked(snapshot: &Snapshot<'_>) -> Option<Verdict> {
    let demanded = demand(snapshot).is_some();
    (snapshot.stored()?.revoked && !demanded).then(|| Verdict {
        look_again: snapshot.want.renewed_after.filter(|after| *after > snapshot.now),
        ..hold(Reason::Revoked, "certificate has been revoked".to_owned())
    })
}

fn renewal_demanded(snapshot: &Snapshot<'_>) -> Option<Verdict> {
    demand(snapshot).map(|why| start(Reason::RenewalDemanded, why))
}

fn renewal_due(snapshot: &Snapshot<'_>) -> Option<Verdict> {
    let due = snapshot.due().filter(|due| due.at <= snapshot.now)?;
    let Due { at, why } = due;
    let end = snapshot.stored()?.leaf.not_after;
    let message = match why {
        Cause::Age | Cause::LastResort => {
            format!("the certificate ends at {end}, renewal was due at {at}")
        }
        Cause::Ca(None) => format!("the CA asks for renewal, which was due at {at}"),
        Cause::Ca(Some(url)) => format!("the CA asks for renewal, see {url}"),
    };
    Some(start(Reason::RenewalDue, &message))
}

fn layout_differs(snapshot: &Snapshot<'_>) -> Option<Verdict> {
    let (stored, request) = (snapshot.stored()?, snapshot.request()?);
    let is_current =
        stored.layout_is_current && stored.fingerprint.as_ref() == Some(&request.fingerprint);
    (!is_current).then(|| Verdict {
        action: Action::Rewrite,
        reason: Reason::LayoutOutdated,
        message: String::new(),
        look_again: None,
    })
}

fn keep(snapshot: &Snapshot<'_>) -> Verdict {
    let renewal = snapshot.due().map(|due| due.at);
    let demanded = snapshot.want.renewed_after.filter(|after| *after > snapshot.now);
    Verdict {
        action: Action::Keep,
        reason: Reason::Ready,
        message: String::new(),
        look_again: renewal.into_iter().chain(demanded).min(),
    }
}

/// Why a new certificate is requested now. A date in the future waits.
fn demand(snapshot: &Snapshot<'_>) -> Option<&'static str> {
    if snapshot.want.renew {
        return Some("a renewal was asked for");
    }
    let after = snapshot.want.renewed_after.filter(|after| *after <= snapshot.now)?;
    (snapshot.stored()?.requested_at < after).then_some("a renewal after an instant was asked for")
}

/// Whether no issuer is needed: the layout of a Secret can be fixed without one.
fn needs_nothing(snapshot: &Snapshot<'_>) -> bool {
    const NEEDS: [Check; 5] = [
        secret_missing,
        secret_unusable,
        names_key_or_issuer_differ,
        renewal_demanded,
        renewal_due,
    ];
    revoked(snapshot).is_some() || NEEDS.iter().all(|check| check(snapshot).is_none())
}

/// Whether the certificate has all requested names, the kind of key and `isCA`. Additional names (a
/// CA may add `www.`) do not matter. As in upstream, the fingerprint does not include `isCA`; a
/// certificate that is a CA against the request must still be replaced.
fn covers(stored: &Stored, request: &Request) -> bool {
    let key_fits = match &request.subject {
        Subject::Names { key: KeyChoice::Free(_), .. } => true,
        Subject::Names { key: KeyChoice::Asked(kind), .. } => {
            KeyType::of_public_key(&stored.leaf.public_key) == Some(*kind)
        }
        // Upstream's own issuers certify a key of their own for a signing request. Such a
        // certificate stays until it is renewed.
        Subject::Csr(_) if request.extras.is_some() => true,
        Subject::Csr(csr) => csr.public_key == stored.leaf.public_key,
    };
    let extras = request.extras.as_ref();
    let power_fits = extras.is_none_or(|extras| extras.is_ca == stored.leaf.is_ca);
    key_fits && power_fits && request.each_name().all(|name| stored.leaf.names.contains(name))
}

/// Whether the certificate has the requested names and no others.
fn has_exactly(stored: &Stored, request: &Request) -> bool {
    stored.leaf.names == request.each_name().cloned().collect()
}

/// Whether the certificate has the requested lifetime, where we decide on it.
fn lasts_as_asked(stored: &Stored, request: &Request) -> bool {
    let lifetime = stored.leaf.not_after.duration_since(stored.leaf.not_before);
    let is_asked = |duration: SignedDuration| {
        // Certificates have a resolution of one second.
        lifetime.saturating_sub(duration).abs() <= SignedDuration::from_secs(1)
    };
    request.extras.as_ref().is_none_or(|extras| is_asked(extras.duration))
}

fn start(reason: Reason, message: &str) -> Verdict {
    Verdict { action: Action::Start, reason, message: message.to_owned(), look_again: None }
}

fn hold(reason: Reason, message: String) -> Verdict {
    Verdict { action: Action::Hold, reason, message, look_again: None }
}

fn refuse(reason: Reason, message: String) -> Verdict {
    Verdict { action: Action::Refuse, reason, message, look_again: None }
}
