//! Reports Certificates, running orders and Secrets to the metrics at scrape time.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::reconcile::Controller;
use crate::{
    api::{Certificate, IssuerKey, ObjectKey, is_served},
    runtime::metrics::{CertificateEntry, Inventory, SecretCounts},
};

impl Inventory for Controller {
    fn certificates(&self, visit: &mut dyn FnMut(&CertificateEntry<'_>)) {
        let now = self.clock.now();
        self.index.each(|certificate| {
            if is_served(certificate, &self.settings.classes) {
                let issuer = self.used_issuer(certificate);
                visit(&self.entry(certificate, &issuer, now));
            }
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

impl Controller {
    /// The issuer in the status; the default issuer if the status has none.
    fn used_issuer(&self, certificate: &Certificate) -> IssuerKey {
        let used = certificate.status.as_ref().and_then(|status| status.issuer_ref.as_ref());
        match used {
            Some(used) if used.cluster.as_deref() == Some("target") => {
                IssuerKey::Target(ObjectKey::new(&used.namespace, &used.name))
            }
            Some(used) => IssuerKey::Default(used.name.clone()),
            None => IssuerKey::Default(self.settings.default_issuer.clone()),
        }
    }

    fn entry<'a>(
        &self,
        certificate: &'a Certificate,
        issuer: &'a IssuerKey,
        now: Timestamp,
    ) -> CertificateEntry<'a> {
        let status = certificate.status.as_ref();
        let time = |text: Option<&String>| text.and_then(|text| text.parse().ok());
        let not_after = time(status.and_then(|status| status.expiration_date.as_ref()));
        let left = not_after.map(|end: Timestamp| end.duration_since(now));
        let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let ready = conditions.iter().find(|condition| condition.type_ == "Ready");
        CertificateEntry {
            namespace: certificate.metadata.namespace.as_deref().unwrap_or_default(),
            name: certificate.metadata.name.as_deref().unwrap_or_default(),
            issuer,
            state: status.map_or("", |status| status.state.as_str()),
            reason: ready.map_or("", |condition| condition.reason.as_str()),
            not_after,
            renewal_at: time(status.and_then(|status| status.renewal_date.as_ref())),
            overdue: left.is_some_and(|left| left < self.settings.renewal_overdue_window),
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
