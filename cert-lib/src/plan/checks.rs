//! The checks of the plan, in their order. Each is one question; the first that has an answer wins.

use std::cell::OnceCell;

use jiff::{SignedDuration, Timestamp};

use super::{
    Action, Have, IssuerState, Ordered, Policy, Quota, RateLimit, Record, SecretState, Shared,
    Slot, Stored, Want,
    reissue_loop::{self, ReissueLoop},
    renewal::{self, Cause, Due},
};
use crate::model::{
    cert_id::CertId,
    key::KeyType,
    reason::Reason,
    request::{KeyChoice, Request, Subject},
};

/// Everything that a check may look at.
pub(super) struct Snapshot<'a> {
    want: &'a Want,
    have: &'a Have,
    policy: &'a Policy,
    now: Timestamp,
    /// What several checks ask for is found out once.
    due: OnceCell<Option<Due>>,
    covers: OnceCell<bool>,
}

/// What a check says.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) action: Action,
    pub(super) reason: Reason,
    pub(super) message: String,
    pub(super) look_again: Option<Timestamp>,
}

type Check = fn(&Snapshot<'_>) -> Option<Verdict>;

/// The order is part of the behaviour: what a person must mend comes before what we can do, and a
/// running order comes before any thought of a new one.
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

/// An issuer that becomes ready wakes its Certificates; this is for a wake-up that was missed.
const ISSUER_LOOK: SignedDuration = SignedDuration::from_mins(10);
/// Whoever leaves calls the next; this is for a call that was missed.
const LINE_LOOK: SignedDuration = SignedDuration::from_mins(1);
const FOREIGN_LOOK: SignedDuration = SignedDuration::from_mins(1);
/// After so many failures in a row the predecessor is under suspicion.
const DOUBTS: u32 = 3;

pub(super) fn first(snapshot: &Snapshot<'_>) -> Verdict {
    CHECKS.iter().find_map(|check| check(snapshot)).unwrap_or_else(|| keep(snapshot))
}

/// Stands before every new order, and before all that holds one back: the certificate of another owner
/// for the same request costs nothing, and one that is ordered is waited for.
///
/// A renewal that is demanded gets a certificate that was requested after the demand, by whomever.
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
        "Certificate {by} asks for the same, and its order runs: its certificate is taken when it is there"
    );
    let soon = snapshot.now.saturating_add(LINE_LOOK).unwrap_or(*until);
    let look_again = Some(soon.min(*until));
    Some(Verdict { look_again, ..hold(Reason::SameRequest, message) })
}

/// Stands before every new order: back-off, then the issuer's quota, what the CA said of its limits,
/// the suspicion of a loop, our own picture of the CA's limits, and the number of orders at once.
///
/// Where a certificate is about to end, we wait for an hour at most after a failure, and neither
/// the issuer's quota nor our own picture of the CA's limits counts: the CA itself may know better.
pub(super) fn admit(snapshot: &Snapshot<'_>, start: Verdict) -> Verdict {
    let emergency = is_urgent(snapshot, &start);
    if let Some(backoff) = &snapshot.have.backoff {
        let until = if emergency { renewal::cap_for_emergency(backoff) } else { backoff.until };
        if snapshot.now < until {
            return Verdict {
                action: Action::Hold,
                reason: Reason::BackingOff,
                message: String::new(),
                look_again: Some(snapshot.or_emergency(until)),
            };
        }
    }
    if let Quota::Until { time, per_day } = snapshot.have.quota
        && snapshot.now < time
        && !emergency
    {
        return Verdict {
            look_again: Some(snapshot.or_emergency(time)),
            ..hold(Reason::QuotaExhausted, exhausted(time, per_day))
        };
    }
    let suspected = || suspected(snapshot, &start);
    if let Some(verdict) = imposed_limit(snapshot).or_else(suspected) {
        return verdict;
    }
    if let Some(verdict) = estimated_limit(snapshot).filter(|_| !emergency) {
        return verdict;
    }
    if snapshot.have.slot == Slot::Taken {
        // Without a number: each step forward would be a write.
        let message = "waiting in line, as many orders of this issuer run as may run at once";
        let look_again = snapshot.now.saturating_add(LINE_LOOK).ok();
        return Verdict { look_again, ..hold(Reason::Queued, message.to_owned()) };
    }
    start
}

/// Whether a new certificate cannot wait.
pub(super) fn is_urgent(snapshot: &Snapshot<'_>, verdict: &Verdict) -> bool {
    let starts = verdict.action == Action::Start && verdict.reason == Reason::RenewalDue;
    starts && snapshot.is_emergency()
}

/// Whether what is to be done depends on a record that was not looked for.
pub(super) fn needs_record(snapshot: &Snapshot<'_>, verdict: &Verdict) -> bool {
    let is_unknown = snapshot.stored().is_some_and(|it| it.record == Record::Unknown);
    is_unknown && (is_urgent(snapshot, verdict) || replaces(snapshot, verdict).is_some())
}

fn imposed_limit(snapshot: &Snapshot<'_>) -> Option<Verdict> {
    match &snapshot.have.rate_limit {
        RateLimit::Imposed { time, why } => limited(snapshot, *time, *time, why),
        RateLimit::Estimated { .. } | RateLimit::Off => None,
    }
}

fn estimated_limit(snapshot: &Snapshot<'_>) -> Option<Verdict> {
    match &snapshot.have.rate_limit {
        RateLimit::Estimated { time, why } => {
            limited(snapshot, *time, snapshot.or_emergency(*time), why)
        }
        RateLimit::Imposed { .. } | RateLimit::Off => None,
    }
}

fn limited(
    snapshot: &Snapshot<'_>,
    until: Timestamp,
    look_again: Timestamp,
    why: &str,
) -> Option<Verdict> {
    (snapshot.now < until).then(|| Verdict {
        look_again: Some(look_again),
        ..hold(Reason::RateLimited, why.to_owned())
    })
}

/// Somebody undoes what was issued, or demands a renewal, again and again. Whoever puts an old Secret
/// back each time makes a renewal due each time, and so does whoever can make a CA's window lie in the
/// past.
fn suspected(snapshot: &Snapshot<'_>, start: &Verdict) -> Option<Verdict> {
    let ReissueLoop { times, until } = reissue_loop::suspected(&snapshot.have.reissued)?;
    let is_put_back = snapshot.have.is_put_back();
    let until = match (start.reason, snapshot.stored()) {
        // What was revoked serves nobody.
        (_, Some(stored)) if stored.revoked => return None,
        (Reason::RenewalDemanded, Some(stored)) if is_new_date(snapshot, stored, times) => {
            return None;
        }
        (Reason::RenewalDue | Reason::RenewalDemanded, Some(stored)) if !is_put_back => {
            until.min(reissue_loop::is_settled(stored))
        }
        _ => until,
    };
    let second = Timestamp::from_second(until.as_second()).unwrap_or(until);
    (snapshot.now < until).then(|| Verdict {
        look_again: Some(until),
        ..hold(
            Reason::LoopSuspected,
            format!(
                "the certificate was issued again {times} times in two days because the Secret was gone \
                 or held something else each time, or was to be renewed at once: somebody deletes or \
                 overwrites it, changes the Certificate to and fro, or sets renew again and again, or \
                 ensureRenewedAfter. It is not requested again before {second}"
            ),
        )
    })
}

/// Whether a renewal is demanded by a date, which is fulfilled once, or by a revocation, which waits for
/// nothing. Whoever sets another date with each sync of a tool is in a loop, too.
fn is_new_date(snapshot: &Snapshot<'_>, stored: &Stored, times: usize) -> bool {
    let want = snapshot.want;
    let is_condemned =
        want.new_key_after.is_some_and(|after| after <= snapshot.now) && want.gives_up_key(stored);
    !snapshot.have.is_put_back() && (is_condemned || !want.renew && times < reissue_loop::MANY)
}

/// Upstream's first words, and what it does not say: when it goes on.
fn exhausted(time: Timestamp, per_day: i64) -> String {
    let second = Timestamp::from_second(time.as_second()).unwrap_or(time);
    format!(
        "request quota exhausted. It goes on at {second}. Up to {per_day} requests per day are \
         allowed. To change the quota, set requestsPerDayQuota in the issuer"
    )
}

/// An order is kept while it is for what is wanted and somebody can take it further, be it later.
pub(super) fn gives_up(snapshot: &Snapshot<'_>, verdict: &Verdict) -> bool {
    let Some(running) = &snapshot.have.running else { return false };
    let is_wanted = snapshot.request().is_some_and(|it| it.fingerprint == running.fingerprint);
    let can_go_on = match verdict.action {
        Action::Resume => true,
        Action::Hold => !matches!(
            verdict.reason,
            Reason::OtherClass | Reason::IssuerMissing | Reason::IssuerRefuses
        ),
        // Its certificate may be signed already, and somebody is about to make room for it.
        Action::Refuse => {
            matches!(verdict.reason, Reason::SecretConflict | Reason::SecretNotWritable)
        }
        Action::Keep | Action::Start | Action::Share | Action::Rewrite => false,
    };
    !(is_wanted && can_go_on)
}

/// The certificate that a new order replaces: one of the same issuer for the same request. Where
/// the third try in a row failed it is left out, in case that it is what the CA does not like.
pub(super) fn replaces(snapshot: &Snapshot<'_>, verdict: &Verdict) -> Option<CertId> {
    let (stored, request) = (snapshot.stored()?, snapshot.request()?);
    let is_ours = stored.fingerprint.as_ref() == Some(&request.fingerprint);
    let failed = snapshot.have.backoff.is_some_and(|it| it.failures >= DOUBTS);
    let is_issued = stored.record != Record::Missing;
    let wanted = verdict.action == Action::Start && is_ours && is_issued && !failed;
    wanted.then(|| stored.leaf.id.clone()).flatten()
}

impl<'a> Snapshot<'a> {
    pub(super) fn new(want: &'a Want, have: &'a Have, policy: &'a Policy, now: Timestamp) -> Self {
        Self { want, have, policy, now, due: OnceCell::new(), covers: OnceCell::new() }
    }

    /// Whether somebody who uses the Secret now is served.
    pub(super) fn serves(&self) -> bool {
        let is_valid = |it: &Stored| !it.revoked && it.leaf.not_after > self.now;
        self.stored().is_some_and(is_valid) && self.covers()
    }

    /// Whether the certificate is about to end, and it is one that counts.
    fn is_emergency(&self) -> bool {
        let is_emergency = |it: &Stored| {
            (it.record != Record::Missing || self.have.may_skip_limits)
                && renewal::is_emergency(&it.leaf, it.requested_at, self.now)
        };
        self.stored().is_some_and(is_emergency)
    }

    /// `time`, or when the certificate is about to end if that comes before.
    fn or_emergency(&self, time: Timestamp) -> Timestamp {
        let last = self.stored().map(|it| renewal::emergency_start(&it.leaf, it.requested_at));
        last.filter(|last| *last > self.now).map_or(time, |last| last.min(time))
    }

    fn due(&self) -> Option<&Due> {
        let due = |it: &Stored| renewal::due(&it.serving(), self.want, self.policy, self.now);
        self.due.get_or_init(|| self.stored().map(due)).as_ref()
    }

    /// Whether the certificate, if there is one, is one for the request.
    fn covers(&self) -> bool {
        let both = || self.stored().zip(self.request());
        *self.covers.get_or_init(|| both().is_some_and(|(stored, request)| covers(stored, request)))
    }

    /// Whether the certificate of another owner, which was issued for the same request, is as good as a
    /// new one.
    ///
    /// The one that is to be replaced is no such certificate, whoever else has it. Nor is one whose profile
    /// and chain were chosen: it does not say by which.
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

    /// Whether the certificate was issued for the request, as the Secret says. A Secret that says
    /// nothing, because somebody put it back from files, and one that says what the same request was
    /// before its names were put into another order, is believed where the owner had such a
    /// certificate and this one has exactly the names. One that nobody signed is no such certificate.
    fn was_issued_for(&self, stored: &Stored, request: &Request) -> bool {
        let says = stored.fingerprint.as_ref();
        if says == Some(&request.fingerprint) {
            return true;
        }
        let noted = self.have.recorded_fingerprint.as_ref();
        let is_noted = noted.is_some_and(|noted| says.is_none_or(|says| says == noted));
        let is_signed = !stored.leaf.is_self_issued || request.extras.is_some();
        is_noted && is_signed && has_exactly(stored, request) && self.covers()
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
    let message = format!(
        "the Secret belongs to Certificate {rival}, which was there before: choose another secretName"
    );
    Some(refuse(Reason::SecretConflict, message))
}

fn secret_not_writable(snapshot: &Snapshot<'_>) -> Option<Verdict> {
    match &snapshot.have.secret {
        // Nobody tells us when a Secret that is not ours changes.
        SecretState::NotWritable(why) => Some(Verdict {
            look_again: snapshot.now.saturating_add(FOREIGN_LOOK).ok(),
            ..refuse(Reason::SecretNotWritable, why.clone())
        }),
        SecretState::Missing | SecretState::Unusable(_) | SecretState::Holds(_) => None,
    }
}

/// An order that runs goes on even when its issuer's status flickers only if the issuer is there at
/// all: without it nobody can sign. Holding loses nothing, the progress stays stored. A certificate
/// that serves and needs nothing is not disturbed.
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
    let look_again = snapshot.now.saturating_add(ISSUER_LOOK).ok();
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

/// A revoked certificate is not replaced by itself: whoever revoked it says what comes next, and may
/// have said it for a later time.
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

/// Why somebody wants a new certificate now. A demand for the future waits for its time.
fn demand(snapshot: &Snapshot<'_>) -> Option<&'static str> {
    if snapshot.want.renew {
        return Some("a renewal was asked for");
    }
    let after = snapshot.want.renewed_after.filter(|after| *after <= snapshot.now)?;
    (snapshot.stored()?.requested_at < after).then_some("a renewal after an instant was asked for")
}

/// Whether no issuer is needed: what is around a certificate can be put in order without one.
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

/// Whether the certificate has all names, the kind of key and the power that is asked for. More names
/// than that (a CA may add `www.`) are no reason to issue again. The fingerprint says nothing of
/// `isCA`, as upstream's does not, but nobody may go on as a CA who is not to be one.
fn covers(stored: &Stored, request: &Request) -> bool {
    let key_fits = match &request.subject {
        Subject::Names { key: KeyChoice::Free(_), .. } => true,
        Subject::Names { key: KeyChoice::Asked(kind), .. } => {
            KeyType::of_public_key(&stored.leaf.public_key) == Some(*kind)
        }
        // Upstream's own issuers certify a key of theirs for somebody else's signing request. That
        // certificate stays until it is renewed.
        Subject::Csr(_) if request.extras.is_some() => true,
        Subject::Csr(csr) => csr.public_key == stored.leaf.public_key,
    };
    let extras = request.extras.as_ref();
    let power_fits = extras.is_none_or(|extras| extras.is_ca == stored.leaf.is_ca);
    key_fits && power_fits && request.each_name().all(|name| stored.leaf.names.contains(name))
}

/// Whether the certificate has the names that are asked for and no others.
fn has_exactly(stored: &Stored, request: &Request) -> bool {
    stored.leaf.names == request.each_name().cloned().collect()
}

/// Whether the certificate lasts as long as is asked for, where that is up to us.
fn lasts_as_asked(stored: &Stored, request: &Request) -> bool {
    let lifetime = stored.leaf.not_after.duration_since(stored.leaf.not_before);
    let is_asked = |duration: SignedDuration| {
        // A certificate says whole seconds.
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
