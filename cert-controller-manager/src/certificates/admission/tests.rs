//! Tests of tickets and permits, with an issuer without a quota.

use cert_lib::{clock::Manual, plan::Slot};

use super::*;
use crate::{
    api::{CertificateCluster, ObjectKey},
    runtime::queue::Queue,
};

impl Admission {
    /// Number of running orders of an issuer.
    pub(in crate::certificates) fn running(&self, issuer: &IssuerKey) -> usize {
        self.slots.running(issuer)
    }
}

fn now() -> Timestamp {
    "2026-11-30T12:00:00Z".parse().unwrap()
}

fn order(namespace: &str) -> NewOrder {
    let key = CertificateKey::new(CertificateCluster::Source, ObjectKey::new(namespace, "site"));
    let issuer = IssuerKey::Default("ca".to_owned());
    let (tenant, priority) = (key.tenant(), Priority::Normal);
    NewOrder { certificate: key, tenant, issuer, priority, quota: None, counted: None }
}

async fn acquire(admission: &Admission, order: &NewOrder) -> Permit {
    admission.acquire(order, None, Urgency::Normal, now()).await.unwrap().ok().unwrap()
}

#[tokio::test]
async fn a_waiting_certificate_gets_the_slot_of_a_dropped_permit() {
    let woken = Shared::<CertificateKey>::new(Queue::default());
    let admission = Admission::new(1, Arc::new(Manual::at(now())), woken.clone());
    let (first, second) = (order("a"), order("b"));
    let permit = acquire(&admission, &first).await;
    assert_eq!(admission.check(&second, None, now()).slot, Slot::Taken);
    let ticket = admission.wait(&second, Reason::Queued, None, now());
    assert_eq!(woken.try_next(), None);
    drop(permit);
    assert_eq!(woken.try_next(), Some(second.certificate.clone()));
    assert_eq!(admission.check(&second, ticket.as_ref(), now()).slot, Slot::Free);
    assert_eq!(admission.check(&first, None, now()).slot, Slot::Taken, "it is reserved");
    let acquired = admission.acquire(&second, ticket, Urgency::Normal, now()).await.unwrap();
    assert!(acquired.is_ok());
}

/// Without a wake-up, it would hold the slot unused until its next regular pass.
#[tokio::test]
async fn a_certificate_that_gets_a_slot_while_it_joins_the_queue_is_woken() {
    let woken = Shared::<CertificateKey>::new(Queue::default());
    let admission = Admission::new(1, Arc::new(Manual::at(now())), woken.clone());
    let (first, second) = (order("a"), order("b"));
    let permit = acquire(&admission, &first).await;
    assert_eq!(admission.check(&second, None, now()).slot, Slot::Taken);
    drop(permit);
    let ticket = admission.wait(&second, Reason::Queued, None, now());
    assert_eq!(woken.try_next(), Some(second.certificate.clone()));
    assert_eq!(admission.check(&second, ticket.as_ref(), now()).slot, Slot::Free);
}

#[tokio::test]
async fn each_tenant_passes_limits_without_a_record_twice_a_day() {
    let woken = Shared::<CertificateKey>::new(Queue::default());
    let admission = Admission::new(1, Arc::new(Manual::at(now())), woken);
    let (greedy, other) = (order("greedy"), order("other"));
    let at = |hour: i64| now() + SignedDuration::from_hours(hour);
    let mut permitted = 0;
    for hour in 0..24 {
        let acquired = admission.acquire(&greedy, None, Urgency::Unrecorded, at(hour)).await;
        permitted += i32::from(acquired.unwrap().is_ok());
    }
    let may_skip = |order, hour| admission.check(order, None, at(hour)).may_skip_limits;
    assert_eq!((permitted, may_skip(&greedy, 23)), (2, false));
    assert!(may_skip(&other, 23) && may_skip(&greedy, 24));
}
