//! Tests of the order of admission and of its limits.

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
fn namespaces_take_turns_and_each_is_served_first_come_first_served() {
    let scheduler = OrderScheduler::new(1);
    let first = key("a", "0");
    assert_eq!(scheduler.check("ca", &first, Normal), Slot::Free);
    scheduler.enter("ca", &first, Normal);
    for name in ["1", "2", "3"] {
        assert_eq!(scheduler.wait("ca", &key("a", name), Normal), Slot::Taken);
    }
    assert_eq!(scheduler.wait("ca", &key("b", "1"), Normal), Slot::Taken);
    assert_eq!(scheduler.check("ca", &key("b", "1"), Normal), Slot::Taken);
    let mut order = Vec::new();
    let mut finished = first;
    while let [next] = scheduler.leave(&finished).as_slice() {
        assert_eq!(scheduler.check("ca", next, Normal), Slot::Free);
        scheduler.enter("ca", next, Normal);
        order.push(next.to_string());
        finished = next.clone();
    }
    assert_eq!(order, ["a/1", "b/1", "a/2", "a/3"]);
}

#[test]
fn an_admitted_certificate_that_leaves_releases_its_slot() {
    let scheduler = OrderScheduler::new(1);
    scheduler.enter("ca", &key("a", "0"), Normal);
    assert_eq!(scheduler.wait("ca", &key("a", "1"), Normal), Slot::Taken);
    assert_eq!(scheduler.wait("ca", &key("a", "2"), Normal), Slot::Taken);
    assert_eq!(scheduler.leave(&key("a", "0")), [key("a", "1")]);
    assert_eq!(scheduler.leave(&key("a", "1")), [key("a", "2")]);
}

#[test]
fn a_slot_released_between_check_and_wait_is_reserved() {
    let scheduler = OrderScheduler::new(1);
    scheduler.enter("ca", &key("a", "0"), Normal);
    assert_eq!(scheduler.check("ca", &key("a", "1"), Normal), Slot::Taken);
    assert!(scheduler.leave(&key("a", "0")).is_empty());
    assert_eq!(scheduler.wait("ca", &key("a", "1"), Normal), Slot::Free);
    assert_eq!(scheduler.check("ca", &key("a", "1"), Normal), Slot::Free);
    assert_eq!(scheduler.check("ca", &key("a", "2"), Normal), Slot::Taken);
}

#[test]
fn issuers_have_separate_slots() {
    let scheduler = OrderScheduler::new(1);
    scheduler.enter("one", &key("a", "0"), Normal);
    assert_eq!(scheduler.check("two", &key("a", "1"), Normal), Slot::Free);
}

#[test]
fn namespaces_with_the_same_name_in_two_clusters_are_separate_tenants() {
    let scheduler = OrderScheduler::new(4);
    let at_target =
        |name| CertificateKey::new(CertificateCluster::Target, ObjectKey::new("web", name));
    for number in 0..100 {
        take_slot_or_wait(&scheduler, &key("web", &number.to_string()), Normal);
    }
    assert_eq!(take_slot_or_wait(&scheduler, &at_target("a"), Normal), Slot::Free);
    assert_eq!(take_slot_or_wait(&scheduler, &at_target("b"), Normal), Slot::Taken);
    let next = scheduler.leave(&key("web", "0"));
    assert_eq!(next, [at_target("b")]);
}

/// Takes a free slot or waits for one, as a pass does.
fn take_slot_or_wait(scheduler: &OrderScheduler, key: &CertificateKey, priority: Priority) -> Slot {
    let slot = match scheduler.check("ca", key, priority) {
        Slot::Free => Slot::Free,
        Slot::Taken => scheduler.wait("ca", key, priority),
    };
    if slot == Slot::Free {
        scheduler.enter("ca", key, priority);
    }
    slot
}

/// faults.md 60
#[test]
fn a_thousand_failing_domains_of_one_namespace_leave_slots_for_another() {
    for max_running in [2, 3, 4, 8, 100] {
        let scheduler = OrderScheduler::new(max_running);
        let bad: Vec<_> = (0..1_000).map(|number| key("failing", &number.to_string())).collect();
        let running = bad
            .iter()
            .filter(|key| take_slot_or_wait(&scheduler, key, Normal) == Slot::Free)
            .count();
        assert!(running < max_running, "{running} of {max_running}");
        let mut waiting: VecDeque<_> =
            (0..10).map(|number| key("good", &number.to_string())).collect();
        waiting.retain(|key| take_slot_or_wait(&scheduler, key, Normal) == Slot::Taken);
        assert!(waiting.len() < 10, "at least one order starts immediately");
        // No failing order ends, so the slot of each finished good order goes to the next good one.
        let mut started: VecDeque<_> = (0..10)
            .map(|number| key("good", &number.to_string()))
            .filter(|key| !waiting.contains(key))
            .collect();
        let mut turns = 0;
        while let Some(done) = started.pop_front() {
            turns += 1;
            for next in scheduler.leave(&done) {
                assert_eq!(next.object.namespace, "good", "{max_running}");
                scheduler.enter("ca", &next, Normal);
                started.push_back(next);
            }
        }
        assert_eq!(turns, 10, "{max_running}");
    }
}

/// faults.md 60
#[test]
fn retries_use_at_most_half_of_the_slots_and_are_served_last() {
    let scheduler = OrderScheduler::new(8);
    let bad = |number: u32| key(&format!("bad-{}", number % 100), &number.to_string());
    let running = (0..1_000)
        .filter(|it| take_slot_or_wait(&scheduler, &bad(*it), Retry) == Slot::Free)
        .count();
    assert_eq!(running, 4);
    let good: Vec<_> = (0..6).map(|number| key("good", &number.to_string())).collect();
    let free: Vec<_> = good
        .iter()
        .filter(|key| take_slot_or_wait(&scheduler, key, Normal) == Slot::Free)
        .collect();
    assert_eq!(free.len(), 4);
    assert_eq!(scheduler.leave(free[0]), [good[4].clone()]);
}

#[test]
fn a_retry_is_served_after_three_normal_orders() {
    let scheduler = OrderScheduler::new(1);
    scheduler.enter("ca", &key("a", "0"), Normal);
    for number in 0..9 {
        scheduler.wait("ca", &key("good", &number.to_string()), Normal);
    }
    scheduler.wait("ca", &key("b", "failed"), Retry);
    let (mut finished, mut order) = (key("a", "0"), Vec::new());
    while let [next] = scheduler.leave(&finished).as_slice() {
        scheduler.enter("ca", next, Normal);
        order.push(next.object.namespace.clone());
        finished = next.clone();
    }
    assert_eq!(order.iter().position(|namespace| namespace == "b"), Some(3));
    assert_eq!(order.len(), 10);
}

#[test]
fn one_namespace_alone_uses_three_quarters_of_the_slots() {
    let scheduler = OrderScheduler::new(100);
    let all: Vec<_> = (0..200).map(|number| key("a", &number.to_string())).collect();
    let running =
        all.iter().filter(|key| take_slot_or_wait(&scheduler, key, Normal) == Slot::Free).count();
    assert_eq!(running, 75);
    assert_eq!(scheduler.leave(&all[0]).len(), 1, "the next of the same namespace");
}

/// faults.md 60
#[tokio::test]
async fn concurrent_claims_request_no_more_permits_than_slots() {
    let scheduler = OrderScheduler::new(4);
    let keys: Vec<_> = (0..60).map(|number| key(&format!("ns-{number}"), "a")).collect();
    assert!(keys.iter().all(|key| scheduler.check("ca", key, Normal) == Slot::Free));
    let requested = AtomicUsize::new(0);
    let tries = keys.iter().map(|key| {
        let permit = async {
            requested.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Ok::<_, Infallible>(Some(()))
        };
        scheduler.claim("ca", key, Normal, permit, |_| panic!("no slot is released"))
    });
    let permitted = join_all(tries).await.into_iter().flat_map(Result::unwrap).count();
    assert_eq!((requested.into_inner(), permitted), (4, 4));
}

#[tokio::test]
async fn a_slot_without_a_permit_goes_to_the_next_certificate() {
    for permit in [Ok(None), Err("the cluster is unavailable")] {
        let scheduler = OrderScheduler::new(1);
        let admitted = Mutex::new(Vec::new());
        let wake = |next| admitted.lock().unwrap().push(next);
        let permit_request = async {
            // Another Certificate is queued while this one waits for the permit.
            assert_eq!(scheduler.wait("ca", &key("b", "1"), Normal), Slot::Taken);
            permit
        };
        let outcome: Result<Option<()>, _> =
            scheduler.claim("ca", &key("a", "1"), Normal, permit_request, wake).await;
        assert_eq!(outcome, permit);
        assert_eq!(*admitted.lock().unwrap(), [key("b", "1")]);
        assert!(scheduler.leave(&key("b", "1")).is_empty());
        assert_eq!(scheduler.check("ca", &key("c", "1"), Normal), Slot::Free, "no slot is lost");
    }
}

#[test]
fn a_claim_at_a_new_issuer_releases_slot_and_queue_position_at_the_old_one() {
    let scheduler = OrderScheduler::new(1);
    let moves = [key("a", "runs"), key("a", "waits")];
    scheduler.enter("old", &moves[0], Normal);
    assert_eq!(scheduler.wait("old", &moves[1], Normal), Slot::Taken);
    assert_eq!(scheduler.wait("old", &key("b", "1"), Normal), Slot::Taken);
    let admitted = Mutex::new(Vec::new());
    for key in moves.iter().rev() {
        let permit = async { Ok::<_, Infallible>(Some(())) };
        let wake = |next| admitted.lock().unwrap().push(next);
        let claim = scheduler.claim("new", key, Normal, permit, wake);
        claim.now_or_never().unwrap().unwrap();
    }
    assert_eq!(*admitted.lock().unwrap(), [key("b", "1")]);
}

#[test]
fn leave_other_issuers_releases_their_slots_and_keeps_the_queue_position() {
    let scheduler = OrderScheduler::new(1);
    scheduler.enter("old", &key("a", "1"), Normal);
    scheduler.enter("new", &key("c", "1"), Normal);
    assert_eq!(scheduler.wait("old", &key("b", "1"), Normal), Slot::Taken);
    assert_eq!(scheduler.leave_other_issuers("new", &key("a", "1")), [key("b", "1")]);
    assert_eq!(scheduler.wait("new", &key("a", "1"), Normal), Slot::Taken);
    assert!(
        scheduler.leave_other_issuers("new", &key("a", "1")).is_empty(),
        "the queue position at this issuer stays"
    );
    assert_eq!(scheduler.leave(&key("c", "1")), [key("a", "1")]);
}

#[test]
fn a_claim_without_a_slot_waits_in_the_queue_and_requests_no_permit() {
    let scheduler = OrderScheduler::new(1);
    let (first, second) = (key("a", "1"), key("b", "1"));
    scheduler.enter("ca", &first, Normal);
    // This permit never becomes available.
    let permit = std::future::pending::<Result<Option<()>, Infallible>>();
    let claim = scheduler.claim("ca", &second, Normal, permit, |_| panic!("no slot is released"));
    assert_eq!(claim.now_or_never(), Some(Ok(None)));
    assert_eq!(scheduler.leave(&first), [second]);
}

#[test]
fn yield_slot_releases_a_reserved_slot_and_keeps_a_queue_position() {
    let scheduler = OrderScheduler::new(1);
    scheduler.enter("ca", &key("a", "0"), Normal);
    for name in ["1", "2", "3"] {
        assert_eq!(scheduler.wait("ca", &key("a", name), Normal), Slot::Taken);
    }
    assert!(scheduler.yield_slot(&key("a", "2")).is_empty());
    assert_eq!(scheduler.leave(&key("a", "0")), [key("a", "1")]);
    assert_eq!(scheduler.yield_slot(&key("a", "1")), [key("a", "2")]);
    assert_eq!(scheduler.leave(&key("a", "2")), [key("a", "3")]);
    assert!(scheduler.leave(&key("a", "3")).is_empty());
}

#[test]
fn a_certificate_with_a_running_order_needs_no_second_slot() {
    let scheduler = OrderScheduler::new(2);
    scheduler.enter("ca", &key("a", "1"), Normal);
    assert_eq!(scheduler.wait("ca", &key("a", "1"), Normal), Slot::Free);
    assert_eq!(scheduler.check("ca", &key("b", "1"), Normal), Slot::Free);
}
