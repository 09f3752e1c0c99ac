//! Who comes when, and who holds up whom.

use std::{
    convert::Infallible,
    sync::atomic::{AtomicUsize, Ordering},
};

use futures::{FutureExt, future::join_all};

use super::{Priority::*, *};
use crate::api::{CertificateCluster, ObjectKey};

fn key(namespace: &str, name: &str) -> CertificateKey {
    CertificateKey::new(CertificateCluster::Source, ObjectKey::new(namespace, name))
}

#[test]
fn namespaces_take_turns_and_those_who_came_first_go_first() {
    let gate = OrderScheduler::new(1);
    let first = key("a", "0");
    assert_eq!(gate.look("ca", &first, Normal), Slot::Free);
    gate.enter("ca", &first, Normal);
    for name in ["1", "2", "3"] {
        assert_eq!(gate.wait("ca", &key("a", name), Normal), Slot::Taken);
    }
    assert_eq!(gate.wait("ca", &key("b", "1"), Normal), Slot::Taken);
    assert_eq!(gate.look("ca", &key("b", "1"), Normal), Slot::Taken);
    let mut order = Vec::new();
    let mut leaver = first;
    while let [next] = gate.leave(&leaver).as_slice() {
        assert_eq!(gate.look("ca", next, Normal), Slot::Free);
        gate.enter("ca", next, Normal);
        order.push(next.to_string());
        leaver = next.clone();
    }
    assert_eq!(order, ["a/1", "b/1", "a/2", "a/3"]);
}

#[test]
fn one_who_is_called_and_does_not_come_lets_the_next_in() {
    let gate = OrderScheduler::new(1);
    gate.enter("ca", &key("a", "0"), Normal);
    assert_eq!(gate.wait("ca", &key("a", "1"), Normal), Slot::Taken);
    assert_eq!(gate.wait("ca", &key("a", "2"), Normal), Slot::Taken);
    assert_eq!(gate.leave(&key("a", "0")), [key("a", "1")]);
    assert_eq!(gate.leave(&key("a", "1")), [key("a", "2")]);
}

#[test]
fn a_slot_that_came_free_between_the_look_and_the_line_is_not_lost() {
    let gate = OrderScheduler::new(1);
    gate.enter("ca", &key("a", "0"), Normal);
    assert_eq!(gate.look("ca", &key("a", "1"), Normal), Slot::Taken);
    assert!(gate.leave(&key("a", "0")).is_empty());
    assert_eq!(gate.wait("ca", &key("a", "1"), Normal), Slot::Free);
    assert_eq!(gate.look("ca", &key("a", "1"), Normal), Slot::Free);
    assert_eq!(gate.look("ca", &key("a", "2"), Normal), Slot::Taken);
}

#[test]
fn issuers_have_gates_of_their_own() {
    let gate = OrderScheduler::new(1);
    gate.enter("one", &key("a", "0"), Normal);
    assert_eq!(gate.look("two", &key("a", "1"), Normal), Slot::Free);
}

#[test]
fn a_namespace_of_the_same_name_in_another_cluster_is_somebody_else() {
    let gate = OrderScheduler::new(4);
    let at_target =
        |name| CertificateKey::new(CertificateCluster::Target, ObjectKey::new("web", name));
    for number in 0..100 {
        ask(&gate, &key("web", &number.to_string()), Normal);
    }
    assert_eq!(ask(&gate, &at_target("a"), Normal), Slot::Free);
    assert_eq!(ask(&gate, &at_target("b"), Normal), Slot::Taken);
    let next = gate.leave(&key("web", "0"));
    assert_eq!(next, [at_target("b")]);
}

/// Asks for a slot as a pass does, and takes it where there is one.
fn ask(gate: &OrderScheduler, key: &CertificateKey, standing: Priority) -> Slot {
    let slot = match gate.look("ca", key, standing) {
        Slot::Free => Slot::Free,
        Slot::Taken => gate.wait("ca", key, standing),
    };
    if slot == Slot::Free {
        gate.enter("ca", key, standing);
    }
    slot
}

/// faults.md 60
#[test]
fn a_thousand_hopeless_names_of_one_namespace_leave_slots_for_another() {
    for at_once in [2, 3, 4, 8, 100] {
        let gate = OrderScheduler::new(at_once);
        let bad: Vec<_> = (0..1_000).map(|number| key("hopeless", &number.to_string())).collect();
        let running = bad.iter().filter(|key| ask(&gate, key, Normal) == Slot::Free).count();
        assert!(running < at_once, "{running} of {at_once}");
        let mut waiting: VecDeque<_> =
            (0..10).map(|number| key("good", &number.to_string())).collect();
        waiting.retain(|key| ask(&gate, key, Normal) == Slot::Taken);
        assert!(waiting.len() < 10, "at least one starts at once");
        // No hopeless order ends meanwhile: each good one that ends lets the next good one in.
        let mut started: VecDeque<_> = (0..10)
            .map(|number| key("good", &number.to_string()))
            .filter(|key| !waiting.contains(key))
            .collect();
        let mut turns = 0;
        while let Some(done) = started.pop_front() {
            turns += 1;
            for next in gate.leave(&done) {
                assert_eq!(next.object.namespace, "good", "{at_once}");
                gate.enter("ca", &next, Normal);
                started.push_back(next);
            }
        }
        assert_eq!(turns, 10, "{at_once}");
    }
}

/// faults.md 60
#[test]
fn those_that_failed_in_many_namespaces_leave_half_of_the_slots_and_come_after_the_others() {
    let gate = OrderScheduler::new(8);
    let bad = |number: u32| key(&format!("bad-{}", number % 100), &number.to_string());
    let running = (0..1_000).filter(|it| ask(&gate, &bad(*it), Retry) == Slot::Free).count();
    assert_eq!(running, 4);
    let good: Vec<_> = (0..6).map(|number| key("good", &number.to_string())).collect();
    let free: Vec<_> = good.iter().filter(|key| ask(&gate, key, Normal) == Slot::Free).collect();
    assert_eq!(free.len(), 4);
    assert_eq!(gate.leave(free[0]), [good[4].clone()]);
}

#[test]
fn those_that_failed_have_a_turn_now_and_then() {
    let gate = OrderScheduler::new(1);
    gate.enter("ca", &key("a", "0"), Normal);
    for number in 0..9 {
        gate.wait("ca", &key("good", &number.to_string()), Normal);
    }
    gate.wait("ca", &key("b", "failed"), Retry);
    let (mut leaver, mut order) = (key("a", "0"), Vec::new());
    while let [next] = gate.leave(&leaver).as_slice() {
        gate.enter("ca", next, Normal);
        order.push(next.object.namespace.clone());
        leaver = next.clone();
    }
    assert_eq!(order.iter().position(|namespace| namespace == "b"), Some(3));
    assert_eq!(order.len(), 10);
}

#[test]
fn one_namespace_alone_has_three_quarters_and_the_rest_waits_for_others() {
    let gate = OrderScheduler::new(100);
    let all: Vec<_> = (0..200).map(|number| key("a", &number.to_string())).collect();
    let running = all.iter().filter(|key| ask(&gate, key, Normal) == Slot::Free).count();
    assert_eq!(running, 75);
    assert_eq!(gate.leave(&all[0]).len(), 1, "its own next");
}

/// faults.md 60
#[tokio::test]
async fn no_more_orders_than_slots_wait_for_a_permit_though_all_saw_the_same_slot_free() {
    let gate = OrderScheduler::new(4);
    let keys: Vec<_> = (0..60).map(|number| key(&format!("ns-{number}"), "a")).collect();
    assert!(keys.iter().all(|key| gate.look("ca", key, Normal) == Slot::Free));
    let asked = AtomicUsize::new(0);
    let tries = keys.iter().map(|key| {
        let permit = async {
            asked.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Ok::<_, Infallible>(Some(()))
        };
        gate.claim("ca", key, Normal, permit, |_| panic!("nobody leaves"))
    });
    let permitted = join_all(tries).await.into_iter().flat_map(Result::unwrap).count();
    assert_eq!((asked.into_inner(), permitted), (4, 4));
}

#[tokio::test]
async fn a_slot_that_gets_no_permit_goes_to_the_next_in_line() {
    for permit in [Ok(None), Err("the cluster is away")] {
        let gate = OrderScheduler::new(1);
        let called = Mutex::new(Vec::new());
        let call = |next| called.lock().unwrap().push(next);
        let asking = async {
            // Somebody comes while it waits.
            assert_eq!(gate.wait("ca", &key("b", "1"), Normal), Slot::Taken);
            permit
        };
        let outcome: Result<Option<()>, _> =
            gate.claim("ca", &key("a", "1"), Normal, asking, call).await;
        assert_eq!(outcome, permit);
        assert_eq!(*called.lock().unwrap(), [key("b", "1")]);
        assert!(gate.leave(&key("b", "1")).is_empty());
        assert_eq!(gate.look("ca", &key("c", "1"), Normal), Slot::Free, "no slot is lost");
    }
}

#[test]
fn who_turns_to_another_issuer_gives_back_its_slot_and_its_place_in_line() {
    let gate = OrderScheduler::new(1);
    let moves = [key("a", "runs"), key("a", "waits")];
    gate.enter("old", &moves[0], Normal);
    assert_eq!(gate.wait("old", &moves[1], Normal), Slot::Taken);
    assert_eq!(gate.wait("old", &key("b", "1"), Normal), Slot::Taken);
    let called = Mutex::new(Vec::new());
    for key in moves.iter().rev() {
        let permit = async { Ok::<_, Infallible>(Some(())) };
        let call = |next| called.lock().unwrap().push(next);
        let claim = gate.claim("new", key, Normal, permit, call);
        claim.now_or_never().unwrap().unwrap();
    }
    assert_eq!(*called.lock().unwrap(), [key("b", "1")]);
}

#[test]
fn who_waits_for_another_issuer_keeps_no_slot_of_the_first() {
    let gate = OrderScheduler::new(1);
    gate.enter("old", &key("a", "1"), Normal);
    gate.enter("new", &key("c", "1"), Normal);
    assert_eq!(gate.wait("old", &key("b", "1"), Normal), Slot::Taken);
    assert_eq!(gate.turn_to("new", &key("a", "1")), [key("b", "1")]);
    assert_eq!(gate.wait("new", &key("a", "1"), Normal), Slot::Taken);
    assert!(gate.turn_to("new", &key("a", "1")).is_empty(), "it stays in line there");
    assert_eq!(gate.leave(&key("c", "1")), [key("a", "1")]);
}

#[test]
fn who_finds_no_slot_stays_in_line_and_asks_for_no_permit() {
    let gate = OrderScheduler::new(1);
    let (first, second) = (key("a", "1"), key("b", "1"));
    gate.enter("ca", &first, Normal);
    // Whoever asks for it waits for ever.
    let permit = std::future::pending::<Result<Option<()>, Infallible>>();
    let claim = gate.claim("ca", &second, Normal, permit, |_| panic!("nobody leaves"));
    assert_eq!(claim.now_or_never(), Some(Ok(None)));
    assert_eq!(gate.leave(&first), [second]);
}

#[test]
fn who_is_called_and_fails_on_the_way_lets_the_next_in_and_who_waits_keeps_its_place() {
    let gate = OrderScheduler::new(1);
    gate.enter("ca", &key("a", "0"), Normal);
    for name in ["1", "2", "3"] {
        assert_eq!(gate.wait("ca", &key("a", name), Normal), Slot::Taken);
    }
    assert!(gate.pass_on(&key("a", "2")).is_empty());
    assert_eq!(gate.leave(&key("a", "0")), [key("a", "1")]);
    assert_eq!(gate.pass_on(&key("a", "1")), [key("a", "2")]);
    assert_eq!(gate.leave(&key("a", "2")), [key("a", "3")]);
    assert!(gate.leave(&key("a", "3")).is_empty());
}

#[test]
fn who_has_an_order_and_starts_another_has_one_slot() {
    let gate = OrderScheduler::new(2);
    gate.enter("ca", &key("a", "1"), Normal);
    assert_eq!(gate.wait("ca", &key("a", "1"), Normal), Slot::Free);
    assert_eq!(gate.look("ca", &key("b", "1"), Normal), Slot::Free);
}
