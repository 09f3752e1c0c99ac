//! Which Certificate places the order for several equal requests.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use crate::api::{CertificateKey, IssuerKey};

/// How long a Certificate that is about to place an order blocks equal requests.
const CLAIM_DURATION: SignedDuration = SignedDuration::from_mins(1);

/// Certificates that are about to place an order, by request and issuer. Closes the gap until the
/// order is stored.
#[derive(Debug, Default)]
pub struct OrderClaims(Mutex<HashMap<(u64, IssuerKey), (CertificateKey, Timestamp)>>);

impl OrderClaims {
    /// Claims the order for `key`, unless another Certificate has a valid claim. The claim ends
    /// with [`release`](Self::release) or after [`CLAIM_DURATION`].
    pub(super) fn take(
        &self,
        (hash, issuer): (u64, &IssuerKey),
        key: &CertificateKey,
        now: Timestamp,
        is_valid: impl Fn(&CertificateKey) -> bool,
    ) -> bool {
        let mut claims = self.0.lock();
        claims.retain(|_, (_, since)| is_fresh(*since, now));
        let held = claims.entry((hash, issuer.clone())).or_insert_with(|| (key.clone(), now));
        if held.0 != *key && !is_valid(&held.0) {
            *held = (key.clone(), now);
        }
        held.0 == *key
    }

    /// Releases the claim of `key`: its order is stored or has failed.
    pub(super) fn release(&self, key: &CertificateKey) {
        let mut claims = self.0.lock();
        claims.retain(|_, (holder, _)| holder != key);
    }

    /// The Certificate with the claim, and the end of its claim.
    pub(super) fn holder(
        &self,
        hash: u64,
        issuer: &IssuerKey,
        now: Timestamp,
    ) -> Option<(CertificateKey, Timestamp)> {
        let claims = self.0.lock();
        let (holder, since) = claims.get(&(hash, issuer.clone()))?;
        let until = since.saturating_add(CLAIM_DURATION).unwrap_or(*since);
        is_fresh(*since, now).then(|| (holder.clone(), until))
    }
}

fn is_fresh(since: Timestamp, now: Timestamp) -> bool {
    now.duration_since(since) < CLAIM_DURATION
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{CertificateCluster, ObjectKey};

    #[test]
    fn one_of_several_equal_requests_places_the_order_for_a_minute() {
        let claims = OrderClaims::default();
        let key = |name: &str| {
            CertificateKey::new(CertificateCluster::Source, ObjectKey::new("ns", name))
        };
        let issuer = |name: &str| IssuerKey::Default(name.to_owned());
        let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
        let (a, b) = (issuer("a"), issuer("b"));
        let take = |number, issuer, name: &str, second| {
            claims.take((number, issuer), &key(name), at(second), |_| true)
        };
        assert!(take(1, &a, "first", 0));
        assert!(!take(1, &a, "second", 1));
        assert!(take(1, &a, "first", 30), "it may try again");
        assert_eq!(claims.holder(1, &a, at(1)), Some((key("first"), at(60))));
        assert!(take(2, &a, "second", 1), "for something else");
        assert!(take(1, &b, "second", 1), "by another issuer");
        assert_eq!(claims.holder(1, &a, at(60)), None);
        assert!(take(1, &a, "second", 60));
        assert!(claims.take((1, &a), &key("third"), at(61), |_| false), "who had it is gone");
        claims.release(&key("third"));
        assert!(take(1, &a, "fourth", 62), "its order has ended");
    }
}
