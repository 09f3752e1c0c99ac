//! Tests of the order of admission and of its limits.

use std::collections::VecDeque;

use cert_lib::clock::Manual;

use super::{Priority::*, *};
use crate::{
    api::{CertificateCluster, ObjectKey},
    runtime::queue::Queue,
};

impl OrderSlots {
    /// Number of used slots of an issuer.
    pub(in crate::certificates) fn running(&self, issuer: &IssuerKey) -> usize {
        self.0.issuers.lock().get(issuer).map_or(0, |slots| slots.taken.len())
    }
}

fn key(namespace: &str, name: &str) -> CertificateKey {
    CertificateKey::new(CertificateCluster::Source, ObjectKey::new(namespace, name))
}

/// Slots, the places that Certificates hold, and the queue that wakes them.
struct SlotsCase {
    slots: OrderSlots,
    woken: Shared<CertificateKey>,
    places: HashMap<CertificateKey, Place>,
}

fn given(max_running: usize) -> SlotsCase {
    let woken = Shared::<CertificateKey>::new(Queue::default());
    let clock = Arc::new(Manual::at("2026-11-22T12:00:00Z".parse().unwrap()));
    let slots = OrderSlots::new(max_running, clock, woken.clone());
    SlotsCase { slots, woken, places: HashMap::new() }
}

fn issuer(name: &str) -> IssuerKey {
    IssuerKey::Default(name.to_owned())
}

impl SlotsCase {
    fn check(&self, key: &CertificateKey, priority: Priority) -> Slot {
        self.slots.check(&issuer("ca"), &key.tenant(), priority, self.places.get(key))
    }

    /// Takes a slot or waits for one, as a pass does. Returns whether it has a slot.
    fn enter(&mut self, key: &CertificateKey, priority: Priority) -> bool {
        let checked = self.check(key, priority);
        let place = self.places.remove(key);
        let place = self.slots.enter(&issuer("ca"), key, priority, place);
        let has_slot = place.has_slot();
        assert_eq!(has_slot, checked == Slot::Free, "{key}");
        self.places.insert(key.clone(), place);
        has_slot
    }

    /// Ends an order. Returns the Certificates that got a slot.
    fn end(&mut self, key: &CertificateKey) -> Vec<CertificateKey> {
        self.places.remove(key).expect("it has a place");
        let woken: Vec<_> = std::iter::from_fn(|| self.woken.try_next()).collect();
        assert!(woken.iter().all(|key| self.places[key].has_slot()));
        woken
    }
}

#[test]
fn namespaces_take_turns_and_each_is_served_first_come_first_served() {
    let mut slots = given(1);
    assert!(slots.enter(&key("a", "0"), Normal));
    for name in ["1", "2", "3"] {
        assert!(!slots.enter(&key("a", name), Normal));
    }
    assert!(!slots.enter(&key("b", "1"), Normal));
    let (mut order, mut finished) = (Vec::new(), key("a", "0"));
    while let [next] = slots.end(&finished).as_slice() {
        order.push(next.to_string());
        finished = next.clone();
    }
    assert_eq!(order, ["b/1", "a/1", "a/2", "a/3"]);
}

#[test]
fn a_certificate_that_stops_waiting_passes_its_slot_on() {
    let mut slots = given(1);
    for name in ["0", "1", "2"] {
        slots.enter(&key("a", name), Normal);
    }
    assert_eq!(slots.end(&key("a", "0")), [key("a", "1")]);
    assert_eq!(slots.check(&key("a", "1"), Normal), Slot::Free, "its slot is reserved");
    assert_eq!(slots.check(&key("a", "3"), Normal), Slot::Taken);
    assert_eq!(slots.end(&key("a", "1")), [key("a", "2")]);
    assert!(slots.end(&key("a", "2")).is_empty());
    assert!(slots.slots.0.issuers.lock().is_empty());
}

#[test]
fn a_waiting_certificate_keeps_its_place_until_its_issuer_or_priority_changes() {
    let mut slots = given(1);
    slots.enter(&key("a", "0"), Normal);
    slots.enter(&key("a", "1"), Normal);
    slots.enter(&key("a", "2"), Normal);
    slots.enter(&key("a", "1"), Normal);
    assert_eq!(slots.end(&key("a", "0")), [key("a", "1")]);
    let place = slots.places.remove(&key("a", "1"));
    let elsewhere = slots.slots.enter(&issuer("other"), &key("a", "1"), Normal, place);
    assert!(elsewhere.has_slot(), "issuers have separate slots");
    assert_eq!(slots.woken.try_next(), Some(key("a", "2")), "it gave its slot back");
}

#[test]
fn a_resumed_order_takes_a_slot_above_the_limit() {
    let mut slots = given(1);
    let resumed = ["1", "2"].map(|name| slots.slots.resume(&issuer("ca"), &key("a", name)));
    assert!(resumed.iter().all(Place::has_slot));
    assert!(!slots.enter(&key("b", "1"), Normal));
    let [first, second] = resumed;
    drop(first);
    assert!(slots.woken.try_next().is_none());
    drop(second);
    assert_eq!(slots.woken.try_next(), Some(key("b", "1")));
}

#[test]
fn namespaces_with_the_same_name_in_two_clusters_are_separate_tenants() {
    let mut slots = given(4);
    let at_target =
        |name| CertificateKey::new(CertificateCluster::Target, ObjectKey::new("web", name));
    for number in 0..100 {
        slots.enter(&key("web", &number.to_string()), Normal);
    }
    assert!(slots.enter(&at_target("a"), Normal));
    assert!(!slots.enter(&at_target("b"), Normal));
    assert_eq!(slots.end(&key("web", "0")), [at_target("b")]);
}

/// faults.md 60
#[test]
fn a_thousand_failing_domains_of_one_namespace_leave_slots_for_another() {
    for max_running in [2, 3, 4, 8, 100] {
        let mut slots = given(max_running);
        let running = (0..1_000)
            .filter(|number| slots.enter(&key("failing", &number.to_string()), Normal))
            .count();
        assert!(running < max_running, "{running} of {max_running}");
        let mut started: VecDeque<_> = (0..10)
            .map(|number| key("good", &number.to_string()))
            .filter(|key| slots.enter(key, Normal))
            .collect();
        assert!(!started.is_empty(), "at least one order starts immediately");
        // No failing order ends, so the slot of each finished good order goes to the next good one.
        let mut turns = 0;
        while let Some(done) = started.pop_front() {
            turns += 1;
            for next in slots.end(&done) {
                assert_eq!(next.object.namespace, "good", "{max_running}");
                started.push_back(next);
            }
        }
        assert_eq!(turns, 10, "{max_running}");
    }
}

/// faults.md 60
#[test]
fn retries_use_at_most_half_of_the_slots_and_are_served_last() {
    let mut slots = given(8);
    let bad = |number: u32| key(&format!("bad-{}", number % 100), &number.to_string());
    let running = (0..1_000).filter(|it| slots.enter(&bad(*it), Retry)).count();
    assert_eq!(running, 4);
    let good: Vec<_> = (0..6).map(|number| key("good", &number.to_string())).collect();
    let running: Vec<_> = good.iter().filter(|key| slots.enter(key, Normal)).collect();
    assert_eq!(running.len(), 4);
    assert_eq!(slots.end(running[0]), [good[4].clone()]);
}

#[test]
fn a_retry_is_served_after_three_normal_orders() {
    let mut slots = given(1);
    slots.enter(&key("a", "0"), Normal);
    for number in 0..9 {
        slots.enter(&key("good", &number.to_string()), Normal);
    }
    slots.enter(&key("b", "failed"), Retry);
    let (mut finished, mut order) = (key("a", "0"), Vec::new());
    while let [next] = slots.end(&finished).as_slice() {
        order.push(next.object.namespace.clone());
        finished = next.clone();
    }
    assert_eq!(order.iter().position(|namespace| namespace == "b"), Some(2), "{order:?}");
    assert_eq!(order.len(), 10);
}

#[test]
fn one_namespace_alone_uses_three_quarters_of_the_slots() {
    let mut slots = given(100);
    let all: Vec<_> = (0..200).map(|number| key("a", &number.to_string())).collect();
    assert_eq!(all.iter().filter(|key| slots.enter(key, Normal)).count(), 75);
    assert_eq!(slots.end(&all[0]).len(), 1, "the next of the same namespace");
}
