//! What delays an order of an issuer that is ready: limits of the CA and suspected loops.

use super::*;

impl Given {
    fn rate_limit(mut self, rate_limit: RateLimit) -> Self {
        self.have.admission.rate_limit = rate_limit;
        self
    }
}

fn estimated() -> RateLimit {
    RateLimit::Estimated { time: now() + DAY, why: "why".into() }
}

fn imposed() -> RateLimit {
    RateLimit::Imposed { time: now() + DAY, why: "why".into() }
}

#[test]
fn a_limit_only_delays_new_orders_until_its_end() {
    use Action::{Hold, Keep, Resume, Start};
    let missing = || given().secret(SecretState::Missing);
    for (what, given, action, reason) in [
        ("our limit", missing().rate_limit(estimated()), Hold, Reason::RateLimited),
        ("the CA's limit", missing().rate_limit(imposed()), Hold, Reason::RateLimited),
        (
            "the CA's limit, and renewal is due",
            given().expires_in(DAY).rate_limit(imposed()),
            Hold,
            Reason::RateLimited,
        ),
        (
            "the CA's limit, and a loop",
            missing().repeated().rate_limit(imposed()),
            Hold,
            Reason::RateLimited,
        ),
        (
            "the CA's limit, and nothing is needed",
            given().rate_limit(imposed()),
            Keep,
            Reason::Ready,
        ),
        (
            "the CA's limit, and an order runs",
            missing().with_progress().rate_limit(imposed()),
            Resume,
            Reason::Issuing,
        ),
    ] {
        let plan = given.plan();
        assert_eq!((plan.action, plan.reason), (action, reason), "{what}");
        if action == Hold {
            assert_eq!((plan.message.as_str(), plan.look_again), ("why", now() + DAY), "{what}");
        }
    }
    let over = RateLimit::Imposed { time: now(), why: "why".into() };
    assert_eq!(missing().rate_limit(over).plan().action, Start);
}

/// faults.md 55
#[test]
fn a_suspected_loop_only_delays_orders_that_may_be_part_of_it() {
    use Action::{Hold, Keep, Resume, Start};
    let missing = || given().secret(SecretState::Missing).repeated();
    let due = || given().expires_in(DAY).repeated();
    let of_another =
        given().stored(|stored| stored.fingerprint = Some(Fingerprint::stored("another")));
    let young = given().suggested(-DAY, -DAY / 2).stored(|stored| {
        stored.requested_at = now() - SignedDuration::from_hours(1);
    });
    let new = || given().stored(|stored| stored.requested_at = now() - DAY / 24);
    let demanded = || given().renewed_after(now() - DAY).repeated();
    for (what, given, action, reason) in [
        ("the Secret is gone", missing(), Hold, Reason::LoopSuspected),
        (
            "it holds junk",
            given().secret(SecretState::Unusable("junk".into())).repeated(),
            Hold,
            Reason::LoopSuspected,
        ),
        ("it holds another one", of_another.repeated(), Hold, Reason::LoopSuspected),
        ("an old one was put back", due().put_back(), Hold, Reason::LoopSuspected),
        ("renewal is due", due(), Start, Reason::RenewalDue),
        ("renewal is due at once each time", young.repeated(), Hold, Reason::LoopSuspected),
        ("renew is set again", new().renew().repeated(), Hold, Reason::LoopSuspected),
        ("renew is set after days", given().renew().repeated(), Start, Reason::RenewalDemanded),
        ("a date is new", demanded(), Start, Reason::RenewalDemanded),
        ("a date, and an old one", demanded().put_back(), Hold, Reason::LoopSuspected),
        ("a date, and it is revoked", demanded().revoked(), Start, Reason::RenewalDemanded),
        (
            "renew, and it is revoked",
            given().renew().revoked().repeated(),
            Start,
            Reason::RenewalDemanded,
        ),
        ("nothing is needed", given().repeated(), Keep, Reason::Ready),
        ("an order runs", missing().with_progress(), Resume, Reason::Issuing),
        ("our limit, too", missing().rate_limit(estimated()), Hold, Reason::LoopSuspected),
    ] {
        let plan = given.plan();
        assert_eq!((plan.action, plan.reason), (action, reason), "{what}");
        if reason == Reason::LoopSuspected {
            let hour = SignedDuration::from_hours(1);
            assert_eq!(plan.look_again, now() + hour, "{what}");
            assert!(plan.message.starts_with("the certificate was issued again 3 times"), "{what}");
        }
    }
    let mut twice = missing();
    twice.have.reissued.pop();
    assert_eq!(twice.plan().action, Start, "twice is no loop");
}

#[test]
fn a_repeatedly_moved_date_waits_and_a_revocation_does_not() {
    use Action::{Hold, Start};
    let often = |mut given: Given| {
        given.have.reissued = (0..6).rev().map(|hours| now() - DAY / 24 * hours).collect();
        given.stored(|stored| stored.requested_at = now() - SignedDuration::from_secs(1))
    };
    let moved = || often(given()).renewed_after(now());
    let revoked = |mut given: Given, after| {
        given.want.new_key_after = Some(after);
        given
    };
    let of_a_day = |given: Given| {
        given.stored(|stored| {
            stored.leaf.not_before = now() - DAY / 2;
            stored.leaf.not_after = now() + DAY / 2;
            stored.requested_at = now() - DAY / 2;
        })
    };
    for (what, given, action) in [
        ("a date", moved(), Hold),
        ("renew", moved().renew(), Hold),
        ("a revocation", revoked(moved(), now()), Start),
        ("renew, and a revocation", revoked(moved().renew(), now()), Start),
        ("an instant that has not come", revoked(moved(), now() + DAY), Hold),
        ("an old one, and a revocation", revoked(moved().put_back(), now()), Hold),
        ("a date, and it lives a day", of_a_day(moved()), Start),
    ] {
        assert_eq!(given.plan().action, action, "{what}");
    }
    assert_eq!(moved().plan().look_again, now() + DAY);
}
