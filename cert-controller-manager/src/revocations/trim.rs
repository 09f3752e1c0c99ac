//! Bounds the size of stored CertificateRevocations. Tenants decide about the size of the objects,
//! and finished ones are kept.
//!
//! Each list of the status keeps one entry more than the limit, so that a list that is too long
//! differs from what the manager writes.

use crate::{
    api::{
        CertificateRevocation,
        revocation::{
            CertificateName, CertificateRevocationSpec, CertificateRevocationStatus,
            CertificateSecret,
        },
        trim::cut,
        well_known,
    },
    revocations::observed::MAX_REVOKED,
};

/// Maximum length of texts in the specification; longer than any name or date.
const MAX_TEXT: usize = 4 << 10;
/// Maximum length of names, dates and serial numbers in the status; longer than the manager writes.
const MAX_NAME: usize = 255;
/// Maximum length of the message.
pub(super) const MAX_MESSAGE: usize = 32 << 10;

/// Removes unused fields, and cuts lists and texts.
pub(super) fn trim(revocation: &mut CertificateRevocation) {
    let metadata = &mut revocation.metadata;
    metadata.labels = None;
    metadata.owner_references = None;
    metadata.finalizers = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.retain(|name, _| name == well_known::CLASS);
        annotations.values_mut().for_each(|text| cut(text, MAX_TEXT));
    }
    let finished = revocation.status.as_ref().and_then(|status| status.revocation_applied.clone());
    if let Some(mut finished) = finished {
        cut(&mut finished, MAX_NAME);
        revocation.spec = CertificateRevocationSpec::default();
        revocation.status = Some(CertificateRevocationStatus {
            revocation_applied: Some(finished),
            ..CertificateRevocationStatus::default()
        });
        return;
    }
    let spec = &mut revocation.spec;
    cut(&mut spec.certificate_ref.name, MAX_TEXT);
    cut(&mut spec.certificate_ref.namespace, MAX_TEXT);
    spec.qualifying_date.iter_mut().for_each(|text| cut(text, MAX_TEXT));
    revocation.status.iter_mut().for_each(trim_status);
}

fn trim_status(status: &mut CertificateRevocationStatus) {
    cut(&mut status.state, MAX_NAME);
    status.message.iter_mut().for_each(|text| cut(text, MAX_MESSAGE));
    if let Some(backoff) = &mut status.backoff {
        cut(&mut backoff.recheck_after, MAX_NAME);
        cut(&mut backoff.recheck_interval, MAX_NAME);
    }
    if let Some(objects) = &mut status.objects {
        let lists = [
            &mut objects.processing,
            &mut objects.renewed,
            &mut objects.revoked,
            &mut objects.failed,
        ];
        lists.into_iter().flatten().for_each(|list| {
            shorten(list, |CertificateName { name, namespace }| vec![name, namespace]);
        });
    }
    if let Some(secrets) = &mut status.secrets {
        let lists = [&mut secrets.processing, &mut secrets.revoked, &mut secrets.failed];
        lists.into_iter().flatten().for_each(|list| {
            shorten(list, |CertificateSecret { name, namespace, serial_number }| {
                vec![name, namespace, serial_number]
            });
        });
    }
}

fn shorten<T>(list: &mut Vec<T>, texts: impl Fn(&mut T) -> Vec<&mut String>) {
    list.truncate(MAX_REVOKED + 1);
    list.shrink_to_fit();
    list.iter_mut().flat_map(texts).for_each(|text| cut(text, MAX_NAME));
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn trimmed(mut object: Value) -> Value {
        object["apiVersion"] = json!("cert.gardener.cloud/v1alpha1");
        object["kind"] = json!("CertificateRevocation");
        let mut revocation = serde_json::from_value(object).unwrap();
        trim(&mut revocation);
        serde_json::to_value(revocation).unwrap()
    }

    fn revocation(count: usize, text: &str) -> Value {
        let name = json!({"name": text, "namespace": text});
        let secret = json!({"name": text, "namespace": text, "serialNumber": text});
        let names = |one: &Value| vec![one.clone(); count];
        json!({
            "metadata": {"name": "r", "annotations": {well_known::CLASS: text}},
            "spec": {"certificateRef": name, "qualifyingDate": text},
            "status": {
                "state": text, "message": text,
                "objects": {
                    "processing": names(&name), "renewed": names(&name),
                    "revoked": names(&name), "failed": names(&name),
                },
                "secrets": {
                    "processing": names(&secret), "revoked": names(&secret), "failed": names(&secret),
                },
                "backoff": {"recheckAfter": text, "recheckInterval": text},
            },
        })
    }

    #[test]
    fn values_within_the_limits_are_kept_and_everything_else_is_cut() {
        let usual = revocation(MAX_REVOKED, "some-text");
        let kept = trimmed(usual.clone());
        for part in ["metadata", "spec", "status"] {
            assert_eq!(kept[part], usual[part]);
        }
        let kept = trimmed(revocation(1_000, &"x".repeat(20_000)));
        let lists = ["objects", "secrets"].map(|one| kept["status"][one].as_object().unwrap());
        for list in lists.into_iter().flat_map(|lists| lists.values()) {
            assert_eq!(list.as_array().unwrap().len(), MAX_REVOKED + 1);
        }
        assert!(kept.to_string().len() < 7 * 101 * 3 * 300 + (64 << 10));

        let mut foreign = revocation(1, "a");
        foreign["metadata"]["labels"] = json!({"x.gardener.cloud/a": "b"});
        foreign["metadata"]["annotations"] = json!({"x.gardener.cloud/a": "b"});
        assert_eq!(trimmed(foreign)["metadata"], json!({"name": "r", "annotations": {}}));
    }

    #[test]
    fn of_a_finished_revocation_only_the_time_is_kept() {
        let mut finished = revocation(100, "a");
        finished["status"]["revocationApplied"] = json!("2026-11-22T10:00:00Z");
        let kept = trimmed(finished);
        let done = json!({"state": "", "revocationApplied": "2026-11-22T10:00:00Z"});
        assert_eq!(kept["status"], done);
        assert_eq!(kept["spec"]["certificateRef"], json!({"name": "", "namespace": ""}));
        assert_eq!(kept["metadata"]["annotations"][well_known::CLASS], "a", "it tells whose it is");
    }
}
