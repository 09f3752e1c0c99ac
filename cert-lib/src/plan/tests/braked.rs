//! What holds an order back although the issuer would take it.

use super::*;

impl Given {
    fn brake(mut self, brake: Brake) -> Self {
        self.have.brake = brake;
        self
    }
}

fn ours(reason: Reason) -> Brake {
    Brake::Until { time: now() + DAY, reason, why: "why".into() }
}

fn by_ca() -> Brake {
    Brake::ByCa { time: now() + DAY, why: "why".into() }
}

#[test]
fn a_brake_holds_new_orders_until_its_time_and_nothing_else() {
    use Action::{Hold, Keep, Resume, Start};
    let missing = || given().secret(SecretState::Missing);
    for (what, given, action, reason) in [
        ("our limit", missing().brake(ours(Reason::RateLimited)), Hold, Reason::RateLimited),
        ("the CA's limit", missing().brake(by_ca()), Hold, Reason::RateLimited),
        ("a loop", missing().brake(ours(Reason::LoopSuspected)), Hold, Reason::LoopSuspected),
        (
            "a loop, and renewal is due",
            given().expires_in(DAY).brake(ours(Reason::LoopSuspected)),
            Hold,
            Reason::LoopSuspected,
        ),
        (
            "a loop, and somebody asks for a renewal",
            given().renew().brake(ours(Reason::LoopSuspected)),
            Hold,
            Reason::LoopSuspected,
        ),
        (
            "the CA's limit, and renewal is due",
            given().expires_in(DAY).brake(by_ca()),
            Hold,
            Reason::RateLimited,
        ),
        ("the CA's limit, and nothing is needed", given().brake(by_ca()), Keep, Reason::Ready),
        (
            "the CA's limit, and an order runs",
            missing().with_progress().brake(by_ca()),
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
    let over = Brake::ByCa { time: now(), why: "why".into() };
    assert_eq!(missing().brake(over).plan().action, Start);
}
