//! Reports Certificates, running orders and Secrets to the metrics at scrape time.

use std::collections::BTreeSet;

use super::reconcile::Controller;
use crate::{
    api::{Certificate, IssuerKey},
    runtime::metrics::{CertificateEntry, Inventory, SecretCounts},
};

impl Inventory for Controller {
    fn certificates(&self, visit: &mut dyn FnMut(&CertificateEntry<'_>)) {
        let now = self.clock.now();
        let default_issuer = IssuerKey::Default(self.settings.default_issuer.clone());
        self.index.each(|key, summary| {
            if !self.settings.classes.serves(summary.class.as_deref()) {
                return;
            }
            let left = summary.not_after.map(|end| end.duration_since(now));
            visit(&CertificateEntry {
                namespace: &key.object.namespace,
                name: &key.object.name,
                issuer: summary.issuer.as_ref().unwrap_or(&default_issuer),
                state: summary.state,
                reason: summary.reason,
                not_after: summary.not_after,
                renewal_at: summary.renewal_at,
                overdue: left.is_some_and(|left| left < self.settings.renewal_overdue_window),
            });
        });
    }

    fn orders(&self, visit: &mut dyn FnMut(&IssuerKey, u64)) {
        for (key, issuer) in self.orders.issuers() {
            let names = self.index.get(&key).map_or(0, |certificate| challenges(&certificate));
            visit(&issuer, names);
        }
    }

    fn secrets(&self) -> SecretCounts {
        let count = self.secrets.count();
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        SecretCounts {
            total: number(count.total),
            backup: number(count.backup),
            revoked: number(count.revoked),
        }
    }
}

/// The number of names with a challenge. A wildcard name and its parent domain share one.
pub(super) fn challenges(certificate: &Certificate) -> u64 {
    let spec = &certificate.spec;
    let names = spec.common_name.iter().chain(spec.dns_names.iter().flatten());
    let names: BTreeSet<&str> = names.map(|name| name.strip_prefix("*.").unwrap_or(name)).collect();
    u64::try_from(names.len()).unwrap_or(u64::MAX)
}
