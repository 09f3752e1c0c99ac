//! The table of the plan: each row is a sentence.

mod rate_limits;

use super::{
    backoff::Backoff,
    fixtures::{POLICY, want},
    renewal_window::RenewalWindow,
    suggested::Suggested,
    *,
};
use crate::model::{
    bundle::Leaf,
    cert_id::CertId,
    key::PrivateKey,
    reason::Reason,
    request::{Extras, Fingerprint, Refusal, Request, Subject},
};

const DAY: SignedDuration = SignedDuration::from_hours(24);

fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

/// A Certificate for example.org with a valid certificate: 90 days, half of them left.
struct Given {
    want: Want,
    have: Have,
}

fn given() -> Given {
    let leaf = Leaf {
        digest: crate::model::bundle::LeafDigest::of(b"leaf"),
        serial: "0a0b".into(),
        not_before: now() - DAY * 45,
        not_after: now() + DAY * 45,
        names: ["example.org".parse().unwrap()].into(),
        public_key: PrivateKey::generate(crate::model::key::KeyType::P256)
            .unwrap()
            .public_key()
            .to_vec(),
        is_ca: false,
        is_self_issued: false,
        id: None,
    };
    let stored = Stored {
        leaf,
        fingerprint: Some(Fingerprint::stored("wanted")),
        requested_at: now() - DAY * 45,
        revoked: false,
        layout_is_current: true,
        suggested: None,
        record: Record::Found,
    };
    Given { want: want(), have: Have::new(SecretState::Holds(stored)) }
}

impl Given {
    fn refused(mut self) -> Self {
        self.want.request = Err(Refusal::Empty);
        self
    }
    fn of_another_class(mut self) -> Self {
        self.have.responsible = false;
        self
    }
    fn with_rival(mut self) -> Self {
        self.have.rival = Some("default/elder".into());
        self
    }
    fn issuer(mut self, state: IssuerState) -> Self {
        self.have.issuer = state;
        self
    }
    fn with_progress(self) -> Self {
        self.with_progress_for("wanted")
    }
    fn with_progress_for(mut self, fingerprint: &str) -> Self {
        self.have.running =
            Some(Running { fingerprint: Fingerprint::stored(fingerprint), not_before: None });
        self
    }
    fn not_before(mut self, time: Timestamp) -> Self {
        if let Some(running) = &mut self.have.running {
            running.not_before = Some(time);
        }
        self
    }
    fn secret(mut self, state: SecretState) -> Self {
        self.have.secret = state;
        self
    }
    fn stored(mut self, change: impl FnOnce(&mut Stored)) -> Self {
        if let SecretState::Holds(stored) = &mut self.have.secret {
            change(stored);
        }
        self
    }
    fn expires_in(self, left: SignedDuration) -> Self {
        self.stored(|stored| stored.leaf.not_after = now() + left)
    }
    /// A certificate of 90 days with this remaining lifetime.
    fn of_90_days_with_left(self, left: SignedDuration) -> Self {
        self.stored(|stored| {
            stored.leaf.not_after = now() + left;
            stored.leaf.not_before = now() + left - DAY * 90;
            stored.requested_at = stored.leaf.not_before;
        })
    }
    fn suggested(self, from: SignedDuration, to: SignedDuration) -> Self {
        self.stored(|stored| {
            let certificate: CertId = serde_json::from_value(serde_json::json!("a.b")).unwrap();
            stored.leaf.id = Some(certificate.clone());
            let window = (now() + from, now() + to);
            stored.suggested = Some(Box::new(Suggested::new(certificate, window, None)));
        })
    }
    /// A window from 11:15 on for an hour; its first half is over now.
    fn on(mut self, day: &str) -> Self {
        let hour = SignedDuration::from_hours(1);
        self.want.renewal_windows =
            vec![RenewalWindow::new(&[day.to_owned()], "11:15", hour, None).unwrap()];
        self
    }
    fn limited(mut self, wait: SignedDuration) -> Self {
        self.have.admission.rate_limit =
            RateLimit::Estimated { time: now() + wait, why: "why".to_owned() };
        self
    }
    /// Issued again three times, the last time just now.
    fn repeated(mut self) -> Self {
        self.have.reissued =
            [2, 1, 0].map(|hours| now() - SignedDuration::from_hours(hours)).into();
        self
    }
    /// The last issued certificate is newer than the one in the Secret.
    fn put_back(mut self) -> Self {
        self.have.last_issued = Some(now());
        self
    }
    fn wanted_as_ca(mut self, is_ca: bool) -> Self {
        let request = self.want.request.as_mut().unwrap();
        request.extras = Some(Extras { is_ca, ..Extras::default() });
        self
    }
    fn revoked(self) -> Self {
        self.stored(|stored| stored.revoked = true)
    }
    fn renew(mut self) -> Self {
        self.want.renew = true;
        self
    }
    fn renewed_after(mut self, time: Timestamp) -> Self {
        self.want.renewed_after = Some(time);
        self
    }
    fn renew_before(mut self, window: SignedDuration) -> Self {
        self.want.renew_before = Some(window);
        self
    }
    fn backing_off_for(mut self, wait: SignedDuration) -> Self {
        self.have.backoff =
            Some(Backoff { until: now() + wait, interval: wait, failures: backoff::step(wait) });
        self
    }
    fn quota_open_in(mut self, wait: SignedDuration) -> Self {
        self.have.admission.quota = Quota::Until { time: now() + wait, per_day: 1 };
        self
    }
    fn without_slot(mut self) -> Self {
        self.have.admission.slot = Slot::Taken;
        self
    }
    /// The status records a certificate for the request, under this fingerprint.
    fn recorded(mut self, fingerprint: &str) -> Self {
        self.have.recorded_fingerprint = Some(Fingerprint::stored(fingerprint));
        self
    }
    /// Another Certificate has this for the same request: 90 days, all of them left.
    fn shared(mut self, change: impl FnOnce(&mut Stored)) -> Self {
        let SecretState::Holds(mut other) = given().have.secret else { unreachable!() };
        other.leaf.serial = "0c0d".into();
        other.leaf.digest = crate::model::bundle::LeafDigest::of(b"other");
        other.requested_at = now();
        (other.leaf.not_before, other.leaf.not_after) = (now(), now() + DAY * 90);
        change(&mut other);
        self.have.shared.held = Some(other);
        self
    }
    fn ordered_by_another(mut self, wait: SignedDuration) -> Self {
        self.have.shared.ordered =
            Some(Ordered { by: "default/other".into(), until: now() + wait });
        self
    }
    fn missing(self) -> Self {
        self.secret(SecretState::Missing)
    }
    fn labelled(self, fingerprint: Option<&str>) -> Self {
        self.stored(|stored| stored.fingerprint = fingerprint.map(Fingerprint::stored))
    }
    fn wants(mut self, change: impl FnOnce(&mut Request)) -> Self {
        self.want.request.as_mut().map(change).unwrap();
        self
    }
    /// Of a CA whose key is ours, with this lifetime.
    fn lasting(self, duration: SignedDuration) -> Self {
        let extras = crate::model::request::Extras { duration, ..Default::default() };
        self.wants(|request| request.extras = Some(extras))
    }
    fn wants_key(mut self, kind: crate::model::key::KeyType) -> Self {
        if let Ok(Request { subject: Subject::Names { key, .. }, .. }) = &mut self.want.request {
            *key = crate::model::request::KeyChoice::Asked(kind);
        }
        self
    }
    fn plan(&self) -> Plan {
        plan(&self.want, &self.have, &POLICY, now())
    }
}

#[test]
fn each_row_about_sharing_has_its_action_and_reason() {
    use crate::model::key::KeyType;
    use Action::{Hold, Keep, Resume, Share, Start};
    let minute = SignedDuration::from_mins(1);
    let due = || given().of_90_days_with_left(DAY * 2);
    let of_90_days = |stored: &mut Stored, left: SignedDuration| {
        stored.leaf.not_after = now() + left;
        stored.leaf.not_before = now() + left - DAY * 90;
        stored.requested_at = stored.leaf.not_before;
    };
    let rows: Vec<(&str, Given, Action, Reason)> = vec![
        ("another has it", given().missing().shared(|_| {}), Share, Reason::SecretMissing),
        ("another has it, and nothing is needed", given().shared(|_| {}), Keep, Reason::Ready),
        (
            "another has it, and the quota is exhausted",
            given().missing().shared(|_| {}).quota_open_in(minute),
            Share,
            Reason::SecretMissing,
        ),
        (
            "another has it, and all slots are taken",
            given().missing().shared(|_| {}).without_slot(),
            Share,
            Reason::SecretMissing,
        ),
        (
            "another has it, and the last try failed",
            given().missing().shared(|_| {}).backing_off_for(minute),
            Share,
            Reason::SecretMissing,
        ),
        (
            "another has it, but its issuer is gone",
            given().missing().shared(|_| {}).issuer(IssuerState::Missing("why".into())),
            Hold,
            Reason::IssuerMissing,
        ),
        (
            "another has it, and an order of its own runs",
            given().missing().shared(|_| {}).with_progress(),
            Resume,
            Reason::Issuing,
        ),
        (
            "another has one that was revoked",
            given().missing().shared(|s| s.revoked = true),
            Start,
            Reason::SecretMissing,
        ),
        (
            "another has one that is due for renewal",
            given().missing().shared(|s| of_90_days(s, DAY)),
            Start,
            Reason::SecretMissing,
        ),
        (
            "another has one that has expired",
            given().missing().shared(|s| s.leaf.not_after = now()),
            Start,
            Reason::SecretMissing,
        ),
        (
            "another has one that would be renewed at once",
            given().missing().shared(|_| {}).renew_before(DAY * 80).shared(|s| {
                s.leaf.not_before = now() - DAY * 11;
                s.leaf.not_after = now() + DAY * 79;
                s.requested_at = s.leaf.not_before;
            }),
            Start,
            Reason::SecretMissing,
        ),
        (
            "another has one with one name more",
            given().missing().shared(|s| {
                s.leaf.names.insert("other.example.org".parse().unwrap());
            }),
            Start,
            Reason::SecretMissing,
        ),
        (
            "another has one with another kind of key",
            given().missing().wants_key(KeyType::Rsa2048).shared(|_| {}),
            Start,
            Reason::SecretMissing,
        ),
        (
            "another has a self-signed one",
            given().missing().shared(|s| s.leaf.is_self_issued = true),
            Start,
            Reason::SecretMissing,
        ),
        (
            "the CA asks for renewal, and another has the same one",
            given().suggested(-minute * 2, -minute).shared(|s| {
                let SecretState::Holds(own) = given().have.secret else { unreachable!() };
                *s = own;
            }),
            Start,
            Reason::RenewalDue,
        ),
        (
            "the CA asks for renewal, and another was renewed first",
            given().suggested(-minute * 2, -minute).shared(|_| {}),
            Share,
            Reason::RenewalDue,
        ),
        (
            "another has one of an unknown profile",
            given().missing().wants(|it| it.acme.profile = Some("short".into())).shared(|_| {}),
            Start,
            Reason::SecretMissing,
        ),
        (
            "another has one of an unknown chain",
            given().missing().wants(|it| it.acme.preferred_chain = Some("R".into())).shared(|_| {}),
            Start,
            Reason::SecretMissing,
        ),
        (
            "another has one that lasts as long as is asked for",
            given().missing().lasting(DAY * 90 + SignedDuration::from_secs(1)).shared(|_| {}),
            Share,
            Reason::SecretMissing,
        ),
        (
            "another has one that lasts longer than is asked for",
            given().missing().lasting(DAY * 60).shared(|_| {}),
            Start,
            Reason::SecretMissing,
        ),
        (
            "another has one that does not last as long as is asked for",
            given().missing().lasting(DAY * 120).shared(|_| {}),
            Start,
            Reason::SecretMissing,
        ),
        ("another was renewed first", due().shared(|_| {}), Share, Reason::RenewalDue),
        ("another is as old", due().shared(|s| of_90_days(s, DAY * 2)), Start, Reason::RenewalDue),
        (
            "a renewal is asked for, and another has one that is older",
            given().renewed_after(now()).shared(|s| s.requested_at = now() - minute),
            Start,
            Reason::RenewalDemanded,
        ),
        (
            "a renewal is asked for, and another was renewed since",
            given().renewed_after(now() - minute).shared(|_| {}),
            Share,
            Reason::RenewalDemanded,
        ),
        (
            "a renewal is asked for now",
            given().renew().shared(|_| {}),
            Start,
            Reason::RenewalDemanded,
        ),
        (
            "revoked, and another has it: no new one was requested",
            given().revoked().shared(|_| {}),
            Hold,
            Reason::Revoked,
        ),
        (
            "another has ordered it",
            given().missing().ordered_by_another(minute),
            Hold,
            Reason::SameRequest,
        ),
        (
            "another has ordered it long ago",
            given().missing().ordered_by_another(SignedDuration::ZERO),
            Start,
            Reason::SecretMissing,
        ),
        ("another renews it", due().ordered_by_another(minute), Hold, Reason::SameRequest),
        (
            "another renews it, and one more was renewed",
            due().shared(|_| {}).ordered_by_another(minute),
            Share,
            Reason::RenewalDue,
        ),
    ];
    for (name, given, action, reason) in rows {
        let plan = given.plan();
        assert_eq!((plan.action, plan.reason), (action, reason), "{name}");
        let looks =
            matches!(action, Action::Share | Action::Start) || reason == Reason::SameRequest;
        assert_eq!(plan.wants_new, looks && !given.want.renew, "{name}");
    }
}

#[test]
fn a_key_that_must_not_be_used_again_is_not_shared() {
    let mut given = given().missing().shared(|_| {});
    given.want.new_key_after = Some(now() + DAY);
    assert_eq!(given.plan().action, Action::Start);
    given.want.new_key_after = Some(now());
    assert_eq!(given.plan().action, Action::Share);
}

#[test]
fn each_row_of_the_table_has_its_action_reason_and_readiness() {
    use crate::model::key::KeyType;
    use Action::{Hold, Keep, Refuse, Resume, Rewrite, Start};
    let not_ready = || IssuerState::NotReady("why".into());
    let missing = || IssuerState::Missing("why".into());
    let refuses = || IssuerState::Refuses("why".into());
    let no_solver = || IssuerState::NoSolver("why".into());
    let minute = SignedDuration::from_mins(1);
    let rows: Vec<(&str, Given, Action, Reason, bool)> = vec![
        ("all is well", given(), Keep, Reason::Ready, true),
        (
            "another manager's",
            given().of_another_class().refused(),
            Hold,
            Reason::OtherClass,
            false,
        ),
        ("an impossible spec", given().refused(), Refuse, Reason::SpecRefused, false),
        (
            "an impossible spec with a running order",
            given().refused().with_progress(),
            Refuse,
            Reason::SpecRefused,
            false,
        ),
        (
            "an older Certificate has the Secret",
            given().with_rival(),
            Refuse,
            Reason::SecretConflict,
            true,
        ),
        (
            "the Secret is immutable",
            given().secret(SecretState::NotWritable("why".into())),
            Refuse,
            Reason::SecretNotWritable,
            false,
        ),
        (
            "no issuer, but nothing is needed from it",
            given().issuer(missing()),
            Keep,
            Reason::Ready,
            true,
        ),
        (
            "no issuer",
            given().issuer(missing()).secret(SecretState::Missing),
            Hold,
            Reason::IssuerMissing,
            false,
        ),
        (
            "an issuer that is not ready",
            given().issuer(not_ready()).secret(SecretState::Missing),
            Hold,
            Reason::IssuerNotReady,
            false,
        ),
        (
            "an issuer that is not ready, and renewal is due",
            given().issuer(not_ready()).expires_in(DAY),
            Hold,
            Reason::IssuerNotReady,
            true,
        ),
        (
            "an issuer that refuses this, and nothing is needed from it",
            given().issuer(refuses()),
            Keep,
            Reason::Ready,
            true,
        ),
        (
            "an issuer that refuses this",
            given().issuer(refuses()).secret(SecretState::Missing),
            Hold,
            Reason::IssuerRefuses,
            false,
        ),
        (
            "the issuer's quota is exhausted",
            given().quota_open_in(minute).secret(SecretState::Missing),
            Hold,
            Reason::QuotaExhausted,
            false,
        ),
        (
            "the issuer's quota is exhausted and renewal is due",
            given().quota_open_in(minute).expires_in(DAY * 10),
            Hold,
            Reason::QuotaExhausted,
            true,
        ),
        (
            "the issuer's quota is exhausted and the certificate is about to end",
            given().quota_open_in(minute).expires_in(DAY),
            Start,
            Reason::RenewalDue,
            true,
        ),
        (
            "the issuer's quota is exhausted, and nothing is needed",
            given().quota_open_in(minute),
            Keep,
            Reason::Ready,
            true,
        ),
        (
            "the issuer's quota is exhausted, and an order runs",
            given().quota_open_in(minute).with_progress(),
            Resume,
            Reason::Issuing,
            true,
        ),
        (
            "the issuer's quota goes on now, but all slots are taken",
            given().quota_open_in(SignedDuration::ZERO).without_slot().secret(SecretState::Missing),
            Hold,
            Reason::Queued,
            false,
        ),
        (
            "no place for proofs",
            given().issuer(no_solver()).secret(SecretState::Missing),
            Hold,
            Reason::SolverNotReady,
            false,
        ),
        (
            "an order runs and its issuer is gone",
            given().issuer(missing()).with_progress(),
            Hold,
            Reason::IssuerMissing,
            true,
        ),
        (
            "an order runs",
            given().secret(SecretState::Missing).with_progress(),
            Resume,
            Reason::Issuing,
            false,
        ),
        (
            "an order runs although the Secret is fine",
            given().with_progress(),
            Resume,
            Reason::Issuing,
            true,
        ),
        (
            "an order runs during back-off",
            given().with_progress().backing_off_for(minute),
            Resume,
            Reason::Issuing,
            true,
        ),
        (
            "an order runs and all slots are taken",
            given().with_progress().without_slot(),
            Resume,
            Reason::Issuing,
            true,
        ),
        (
            "an order runs that had a transient error",
            given().with_progress().not_before(now() + minute),
            Hold,
            Reason::Issuing,
            true,
        ),
        (
            "an order runs that had a transient error a while ago",
            given().with_progress().not_before(now()),
            Resume,
            Reason::Issuing,
            true,
        ),
        (
            "a window nearly as long as a certificate lives that was just issued",
            given()
                .stored(|s| {
                    s.leaf.not_before = now() - SignedDuration::from_hours(1);
                    s.leaf.not_after = s.leaf.not_before + DAY * 90;
                    s.requested_at = now();
                })
                .renew_before(DAY * 90 - SignedDuration::from_hours(1)),
            Keep,
            Reason::Ready,
            true,
        ),
        (
            "an order runs for an earlier request",
            given().with_progress_for("old").secret(SecretState::Missing),
            Start,
            Reason::SecretMissing,
            false,
        ),
        (
            "an order runs for an earlier request, and the Secret is fine",
            given().with_progress_for("old"),
            Keep,
            Reason::Ready,
            true,
        ),
        ("no Secret", given().secret(SecretState::Missing), Start, Reason::SecretMissing, false),
        (
            "a corrupt Secret",
            given().secret(SecretState::Unusable("why".into())),
            Start,
            Reason::SecretUnusable,
            false,
        ),
        (
            "a Secret for another request",
            given().stored(|s| s.fingerprint = Some(Fingerprint::stored("other"))),
            Start,
            Reason::SecretMismatch,
            true,
        ),
        (
            "a CA certificate, and no CA is requested any more",
            given().stored(|s| s.leaf.is_ca = true).wanted_as_ca(false),
            Start,
            Reason::SecretMismatch,
            false,
        ),
        (
            "no CA certificate, and a CA is requested",
            given().wanted_as_ca(true),
            Start,
            Reason::SecretMismatch,
            false,
        ),
        ("no CA, as asked for", given().wanted_as_ca(false), Keep, Reason::Ready, true),
        (
            "a Secret without a label",
            given().stored(|s| s.fingerprint = None),
            Start,
            Reason::SecretMismatch,
            true,
        ),
        (
            "a Secret without a label, put back for a Certificate that had one",
            given().labelled(None).recorded("wanted"),
            Rewrite,
            Reason::LayoutOutdated,
            true,
        ),
        (
            "the same, nearly at its end",
            given().labelled(None).recorded("wanted").expires_in(DAY),
            Start,
            Reason::RenewalDue,
            true,
        ),
        (
            "the same, revoked",
            given().labelled(None).recorded("wanted").revoked(),
            Hold,
            Reason::Revoked,
            false,
        ),
        (
            "a Secret without a label and with one name more",
            given().labelled(None).recorded("wanted").stored(|s| {
                s.leaf.names.insert("other.example.org".parse().unwrap());
            }),
            Start,
            Reason::SecretMismatch,
            true,
        ),
        (
            "a Secret without a label and with another kind of key",
            given().labelled(None).recorded("wanted").wants_key(KeyType::Rsa2048),
            Start,
            Reason::SecretMismatch,
            false,
        ),
        (
            "a Secret without a label whose certificate is self-signed",
            given().labelled(None).recorded("wanted").stored(|s| s.leaf.is_self_issued = true),
            Start,
            Reason::SecretMismatch,
            true,
        ),
        (
            "names in another order than when the certificate was issued",
            given().labelled(Some("ordered")).recorded("ordered"),
            Rewrite,
            Reason::LayoutOutdated,
            true,
        ),
        (
            "names in another order, and the Secret is for something else yet",
            given().labelled(Some("other")).recorded("ordered"),
            Start,
            Reason::SecretMismatch,
            true,
        ),
        (
            "no issuer, and names in another order",
            given().issuer(missing()).labelled(Some("ordered")).recorded("ordered"),
            Rewrite,
            Reason::LayoutOutdated,
            true,
        ),
        (
            "a certificate for other names under the right label",
            given().stored(|s| s.leaf.names.clear()),
            Start,
            Reason::SecretMismatch,
            false,
        ),
        (
            "a certificate with the kind of key that is asked for",
            given().wants_key(KeyType::P256),
            Keep,
            Reason::Ready,
            true,
        ),
        (
            "a certificate with another kind of key",
            given().wants_key(KeyType::Rsa2048),
            Start,
            Reason::SecretMismatch,
            false,
        ),
        ("revoked", given().revoked(), Hold, Reason::Revoked, false),
        (
            "revoked and near its end",
            given().revoked().expires_in(DAY),
            Hold,
            Reason::Revoked,
            false,
        ),
        (
            "revoked, and renewal is asked for",
            given().revoked().renew(),
            Start,
            Reason::RenewalDemanded,
            false,
        ),
        ("renewal is asked for", given().renew(), Start, Reason::RenewalDemanded, true),
        (
            "renewal after an instant is asked for",
            given().renewed_after(now() - DAY),
            Start,
            Reason::RenewalDemanded,
            true,
        ),
        (
            "renewed since the requested instant",
            given().renewed_after(now() - DAY * 50),
            Keep,
            Reason::Ready,
            true,
        ),
        (
            "renewal in the future is asked for",
            given().renewed_after(now() + DAY),
            Keep,
            Reason::Ready,
            true,
        ),
        (
            "inside the renewal window",
            given().of_90_days_with_left(DAY * 27),
            Start,
            Reason::RenewalDue,
            true,
        ),
        (
            "outside the renewal window",
            given().of_90_days_with_left(DAY * 31),
            Keep,
            Reason::Ready,
            true,
        ),
        (
            "inside a window of its own",
            given().renew_before(DAY * 46),
            Start,
            Reason::RenewalDue,
            true,
        ),
        (
            "outside a window of its own",
            given().renew_before(DAY).expires_in(DAY * 2),
            Keep,
            Reason::Ready,
            true,
        ),
        ("expired", given().expires_in(-DAY), Start, Reason::RenewalDue, false),
        (
            "a six-day certificate in a thirty-day window",
            given().stored(|s| s.leaf.not_before = now()).expires_in(DAY * 6),
            Keep,
            Reason::Ready,
            true,
        ),
        (
            "a window as long as the certificate lives",
            given().renew_before(DAY * 90),
            Keep,
            Reason::Ready,
            true,
        ),
        (
            "labels differ",
            given().stored(|s| s.layout_is_current = false),
            Rewrite,
            Reason::LayoutOutdated,
            true,
        ),
        (
            "a layout change needs no issuer",
            given()
                .issuer(IssuerState::Missing("no such issuer".into()))
                .stored(|s| s.layout_is_current = false),
            Rewrite,
            Reason::LayoutOutdated,
            true,
        ),
        (
            "the last try failed",
            given().secret(SecretState::Missing).backing_off_for(minute),
            Hold,
            Reason::BackingOff,
            false,
        ),
        (
            "the last try failed long ago",
            given().secret(SecretState::Missing).backing_off_for(-minute),
            Start,
            Reason::SecretMissing,
            false,
        ),
        (
            "the last renewal failed",
            given().expires_in(DAY).backing_off_for(minute),
            Hold,
            Reason::BackingOff,
            true,
        ),
        (
            "a failure does not stop a layout change",
            given().stored(|s| s.layout_is_current = false).backing_off_for(minute),
            Rewrite,
            Reason::LayoutOutdated,
            true,
        ),
        (
            "too many orders",
            given().secret(SecretState::Missing).without_slot(),
            Hold,
            Reason::Queued,
            false,
        ),
        (
            "too many orders do not matter if nothing is needed",
            given().without_slot(),
            Keep,
            Reason::Ready,
            true,
        ),
    ];
    for (row, given, action, reason, ready) in rows {
        let plan = given.plan();
        assert_eq!(
            (plan.action, plan.reason, plan.ready),
            (action, reason, ready),
            "{row}: {plan:?}"
        );
    }
}

#[test]
fn the_next_plan_is_at_the_renewal_the_end_of_the_backoff_or_in_a_day() {
    let soon = SignedDuration::from_mins(5);
    assert_eq!(given().plan().look_again, now() + DAY);
    assert_eq!(
        given().renew_before(DAY * 30).expires_in(DAY * 30 + soon).plan().look_again,
        now() + soon
    );
    assert_eq!(given().renewed_after(now() + soon).plan().look_again, now() + soon);
    assert_eq!(given().revoked().renewed_after(now() + soon).plan().look_again, now() + soon);
    assert_eq!(
        given().secret(SecretState::Missing).backing_off_for(soon).plan().look_again,
        now() + soon
    );
}

#[test]
fn an_order_is_ended_when_it_is_unwanted_or_cannot_be_advanced() {
    let state = || "why".to_owned();
    for (row, given, gives_up) in [
        ("it runs", given().with_progress(), false),
        ("it had a transient error", given().with_progress().not_before(now() + DAY), false),
        (
            "its issuer is not ready",
            given().with_progress().issuer(IssuerState::NotReady(state())),
            false,
        ),
        ("there is none", given().issuer(IssuerState::Missing(state())), false),
        ("its issuer is gone", given().with_progress().issuer(IssuerState::Missing(state())), true),
        ("another manager's by now", given().with_progress().of_another_class(), true),
        ("the specification is refused by now", given().with_progress().refused(), true),
        ("something else is wanted", given().with_progress_for("old"), true),
        (
            "another request, and its issuer is not ready",
            given().with_progress_for("old").expires_in(DAY).issuer(IssuerState::NotReady(state())),
            true,
        ),
    ] {
        assert_eq!(given.plan().gives_up, gives_up, "{row}");
    }
}

#[test]
fn every_plan_is_repeated_within_a_day() {
    for given in [given(), given().refused(), given().revoked(), given().without_slot()] {
        assert!(given.plan().look_again <= now() + DAY);
    }
}

#[test]
fn the_message_of_a_used_up_quota_names_the_time() {
    let plan =
        given().quota_open_in(SignedDuration::from_mins(90)).secret(SecretState::Missing).plan();
    assert_eq!(plan.look_again, now() + SignedDuration::from_mins(90));
    assert!(plan.message.starts_with("request quota exhausted."), "{}", plan.message);
    assert!(plan.message.contains("2026-11-22T13:30:00Z"), "{}", plan.message);
}

#[test]
fn a_certificate_of_upstreams_own_issuer_for_a_signing_request_stays() {
    // Upstream certifies a key of its own there; a public CA never does.
    let maker = PrivateKey::generate(crate::model::key::KeyType::P256).unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["example.org".into()]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let csr = params.serialize_request(&maker.signer().unwrap()).unwrap().pem().unwrap();
    for (extras, action) in
        [(None, Action::Start), (Some(crate::model::request::Extras::default()), Action::Keep)]
    {
        let mut given = given();
        let request = given.want.request.as_mut().unwrap();
        let csr = crate::model::request::Csr::from_pem(csr.as_bytes()).unwrap();
        request.subject = Subject::Csr(csr);
        request.extras = extras;
        assert_eq!(given.plan().action, action);
    }
}

#[test]
fn each_rule_of_renewal_has_its_row() {
    use Action::{Hold, Keep, Start};
    let hour = SignedDuration::from_hours(1);
    let rows: Vec<(&str, Given, Action, Reason)> = vec![
        ("the CA's window is past", given().suggested(-hour * 2, -hour), Start, Reason::RenewalDue),
        ("the CA's window is to come", given().suggested(hour, hour * 2), Keep, Reason::Ready),
        (
            "by age it would be due, and the CA says later",
            given().of_90_days_with_left(DAY * 20).suggested(DAY, DAY * 2),
            Keep,
            Reason::Ready,
        ),
        (
            "the CA says later, and the Certificate asks for now",
            given().of_90_days_with_left(DAY * 20).suggested(DAY, DAY * 2).renew_before(DAY * 20),
            Start,
            Reason::RenewalDue,
        ),
        (
            "the CA says later than the last twentieth",
            given().of_90_days_with_left(DAY * 4).suggested(DAY, DAY * 2),
            Start,
            Reason::RenewalDue,
        ),
        (
            "the renewal information is for another certificate",
            given()
                .suggested(-hour * 2, -hour)
                .stored(|stored| stored.leaf.id = serde_json::from_str("\"c.d\"").ok()),
            Keep,
            Reason::Ready,
        ),
        (
            "the CA's window ends before it starts",
            given().suggested(-hour, -hour * 2),
            Keep,
            Reason::Ready,
        ),
        (
            "due, and its day is tomorrow",
            given().of_90_days_with_left(DAY * 20).on("Mon"),
            Keep,
            Reason::Ready,
        ),
        (
            "due, and its hour is now",
            given().of_90_days_with_left(DAY * 20).on("Sun"),
            Start,
            Reason::RenewalDue,
        ),
        (
            "about to end, and its day is tomorrow",
            given().of_90_days_with_left(DAY * 4).on("Mon"),
            Start,
            Reason::RenewalDue,
        ),
        (
            "requested, and its day is tomorrow",
            given().renew().on("Mon"),
            Start,
            Reason::RenewalDemanded,
        ),
        (
            "due, and our limits are reached",
            given().of_90_days_with_left(DAY * 20).limited(DAY),
            Hold,
            Reason::RateLimited,
        ),
        (
            "about to end, and our limits are reached",
            given().of_90_days_with_left(DAY * 4).limited(DAY),
            Start,
            Reason::RenewalDue,
        ),
        (
            "about to end, and another client removes the result",
            given().of_90_days_with_left(DAY * 4).repeated().put_back(),
            Hold,
            Reason::LoopSuspected,
        ),
        (
            "ended long ago, and our limits are reached",
            given().of_90_days_with_left(-DAY * 6).limited(DAY),
            Hold,
            Reason::RateLimited,
        ),
    ];
    for (row, given, action, reason) in rows {
        let plan = given.plan();
        assert_eq!((plan.action, plan.reason), (action, reason), "{row}: {plan:?}");
    }
}

#[test]
fn a_waiting_certificate_is_planned_again_when_it_becomes_urgent() {
    let minute = SignedDuration::from_mins(1);
    let almost = || given().of_90_days_with_left(DAY * 90 / 20 + minute);
    for given in [
        almost().backing_off_for(DAY),
        almost().quota_open_in(DAY),
        almost().limited(DAY),
        almost().on("Thu"),
    ] {
        let plan = given.plan();
        assert!(plan.look_again <= now() + minute, "{plan:?}");
    }
    // Then the wait of a day is an hour.
    let late = given().of_90_days_with_left(DAY * 4);
    assert_eq!(late.backing_off_for(DAY).plan().look_again, now() + SignedDuration::from_hours(1));
}

#[test]
fn an_order_names_the_replaced_certificate_of_the_same_request() {
    let hour = SignedDuration::from_hours(1);
    let held = || given().suggested(-hour * 2, -hour);
    for (row, given, replaces) in [
        ("a renewal", held(), true),
        ("a renewal that is asked for", held().renew(), true),
        ("the certificate has ended", held().expires_in(-DAY), true),
        ("nothing is ordered", given().suggested(hour, hour * 2), false),
        ("it is not time yet", held().backing_off_for(hour), false),
        (
            "another request, perhaps of another issuer",
            held().stored(|it| it.fingerprint = Some(Fingerprint::stored("other"))),
            false,
        ),
        (
            "the third try failed",
            {
                let mut it = held().backing_off_for(-hour);
                it.have.backoff.as_mut().unwrap().failures = 3;
                it
            },
            false,
        ),
    ] {
        let plan = given.plan();
        assert_eq!(plan.replaces.is_some(), replaces, "{row}: {plan:?}");
    }
}

#[test]
fn a_certificate_without_a_record_is_neither_urgent_nor_replaced_beyond_a_small_budget() {
    let hour = SignedDuration::from_hours(1);
    let late = || given().of_90_days_with_left(DAY * 4);
    let of = |given: Given, record| given.stored(|it| it.record = record);
    let limited = |record| of(late().limited(DAY), record);
    for (row, given, urgent, action) in [
        ("there is a record", limited(Record::Found), true, Action::Start),
        ("there is none", limited(Record::Missing), false, Action::Hold),
        ("there is none, and no limit", of(late(), Record::Missing), false, Action::Start),
        (
            "there is none, and the budget is not used up",
            {
                let mut it = limited(Record::Missing);
                it.have.admission.may_skip_limits = true;
                it
            },
            true,
            Action::Start,
        ),
    ] {
        let plan = given.plan();
        assert_eq!((plan.urgent, plan.action), (urgent, action), "{row}: {plan:?}");
        assert!(!plan.needs_record, "{row}");
    }
    let held = || given().suggested(-hour * 2, -hour);
    assert_eq!(of(held(), Record::Missing).plan().replaces, None);
    for (row, given, needed) in [
        ("about to end", of(late(), Record::Unknown), true),
        ("about to end, and limits are reached", limited(Record::Unknown), true),
        ("an order that names its predecessor", of(held(), Record::Unknown), true),
        ("nothing is due", of(given(), Record::Unknown), false),
        (
            "a renewal like any other",
            of(given().of_90_days_with_left(DAY * 20), Record::Unknown),
            false,
        ),
    ] {
        assert_eq!(given.plan().needs_record, needed, "{row}");
    }
}

#[test]
fn the_message_of_a_renewal_names_the_cas_explanation() {
    let hour = SignedDuration::from_hours(1);
    let given = given().suggested(-hour * 2, -hour).stored(|stored| {
        stored.suggested.as_mut().unwrap().explanation_url = Some("https://ca/why".into());
    });
    assert_eq!(given.plan().message, "the CA asks for renewal, see https://ca/why");
}
