//! The daily budget of each tenant for urgent renewals without a record of issuance: records can be
//! lost, and tenants can put certificates of any origin into their Secrets.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use crate::api::Tenant;

const MAX_PER_DAY: usize = 2;
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// The times of urgent renewals. See the [module](self).
#[derive(Debug, Default)]
pub(super) struct EmergencyBudget(Mutex<HashMap<Tenant, Vec<Timestamp>>>);

impl EmergencyBudget {
    /// Whether the tenant has budget left.
    pub(super) fn is_left(&self, tenant: &Tenant, now: Timestamp) -> bool {
        let used = self.0.lock();
        used.get(tenant).is_none_or(|times| {
            times.iter().filter(|time| now.duration_since(**time) < DAY).count() < MAX_PER_DAY
        })
    }

    /// Uses the budget of a tenant; false if it is used up.
    pub(super) fn take(&self, tenant: &Tenant, now: Timestamp) -> bool {
        let mut used = self.0.lock();
        used.retain(|_, times| {
            times.retain(|time| now.duration_since(*time) < DAY);
            !times.is_empty()
        });
        let times = used.entry(tenant.clone()).or_default();
        let is_left = times.len() < MAX_PER_DAY;
        if is_left {
            times.push(now);
        }
        is_left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::CertificateCluster;

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + 3_600 * hour).unwrap()
    }

    #[test]
    fn each_tenant_passes_limits_without_a_record_twice_a_day() {
        let tenant = |namespace: &str| Tenant {
            cluster: CertificateCluster::Source,
            namespace: namespace.into(),
        };
        let (greedy, other) = (tenant("greedy"), tenant("other"));
        let budget = EmergencyBudget::default();
        let taken = (0..24).filter(|hour| budget.take(&greedy, at(*hour))).count();
        assert_eq!((taken, budget.is_left(&greedy, at(23))), (2, false));
        assert!(budget.is_left(&other, at(23)) && budget.is_left(&greedy, at(24)));
        assert!(budget.take(&other, at(48)));
        assert_eq!(budget.0.lock().len(), 1, "a tenant without emergencies for a day is forgotten");
    }
}
