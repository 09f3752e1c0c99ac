//! Tests of the order between tenants and of their shares.

use super::*;

const DAY: SignedDuration = SignedDuration::from_hours(24);

fn at(hours: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + 3_600 * hours).unwrap()
}

#[test]
fn tenants_take_turns_and_each_is_served_first_come_first_served() {
    let mut queue = FairQueue::new(DAY);
    for key in ["a1", "a2", "a3", "b1"] {
        queue.join(&key[..1].to_owned(), key);
    }
    let mut served = Vec::new();
    while let Some((tenant, number)) = queue.first(at(0), |_| true) {
        queue.record(&tenant, at(0));
        served.extend(queue.leave(&tenant, number));
    }
    assert_eq!(served, ["a1", "b1", "a2", "a3"]);
}

#[test]
fn the_keys_before_a_key_are_those_that_are_served_first() {
    let mut queue = FairQueue::new(DAY);
    let numbers: Vec<u64> = (0..5).map(|_| queue.join(&"busy", ())).collect();
    queue.join(&"modest", ());
    queue.record(&"busy", at(0));
    let before = |number: usize| queue.before(&"busy", Some(numbers[number]), at(0));
    assert_eq!([before(0), before(1), before(4)], [1, 2, 5]);
    assert_eq!(queue.before(&"modest", None, at(0)), 2, "behind its own, and one of the other");
    assert_eq!(queue.before(&"new", None, at(0)), 1, "the modest tenant is first by name");
}

#[test]
fn only_permitted_tenants_are_served() {
    let mut queue = FairQueue::new(DAY);
    queue.join(&"a", 1);
    queue.join(&"b", 2);
    let (tenant, number) = queue.first(at(0), |tenant| *tenant == "b").unwrap();
    assert_eq!(queue.leave(&tenant, number), Some(2));
    assert!(queue.first(at(0), |tenant| *tenant == "b").is_none());
    assert_eq!(queue.tenants().collect::<Vec<_>>(), [&"a"]);
}

#[test]
fn usage_of_a_tenant_counts_for_the_window() {
    let mut queue: FairQueue<_, ()> = FairQueue::new(DAY);
    for _ in 0..5 {
        queue.record(&"a", at(0));
    }
    queue.record(&"b", at(0));
    for (tenant, hours, has) in
        [("a", 0, true), ("a", 23, true), ("a", 25, false), ("b", 0, false), ("c", 0, false)]
    {
        assert_eq!(queue.has_used_share(&tenant, 10, at(hours)), has, "{tenant} {hours}");
    }
    assert!(!queue.is_idle(at(23)) && queue.is_idle(at(25)));
    queue.unrecord(&"a");
    assert!(!queue.has_used_share(&"a", 10, at(0)), "four of a share of five");
}

#[test]
fn a_position_leaves_its_queue_when_it_is_dropped() {
    let queue = SharedQueue::new(DAY);
    let first = queue.join(&"a", None);
    let second = queue.join(&"a", None);
    assert_eq!(queue.before(&"a", Some(&second), at(0)), 1);
    let second = queue.join(&"a", Some(second));
    assert_eq!(queue.before(&"a", Some(&second), at(0)), 1, "the position stays");
    drop(first);
    assert_eq!(queue.before(&"a", Some(&second), at(0)), 0);
    let elsewhere = SharedQueue::new(DAY).join(&"a", Some(second));
    assert_eq!(queue.before(&"a", Some(&elsewhere), at(0)), 0, "it is in another queue now");
    assert!(queue.with(|queue| queue.is_idle(at(0))));
}
