//! Converts what an extractor reads of an object into what the index keeps. Pure.

use kube::core::ObjectMeta;

use super::{
    annotations::{self, Annotations, PURPOSE, PURPOSE_LABEL},
    entry::Entries,
    key::Kind,
    kinds::RequestedBy,
    object::{Object, RawObject},
};
use crate::api::well_known;

/// Maximum number of our finalizers: one for each manager that shares the cluster.
const MAX_FINALIZERS: usize = 8;

/// Whether an object requests certificates.
#[must_use]
pub fn requests_certificate(kind: Kind, labelled: bool, annotations: &Annotations) -> bool {
    match kind.row().requested_by {
        RequestedBy::Purpose => {
            labelled || annotations.get(PURPOSE).is_some_and(|value| value == "managed")
        }
        // Its extractor returns no entry without the annotation.
        RequestedBy::SecretName => true,
    }
}

/// Converts an object of `kind`.
#[must_use]
pub fn keep(kind: Kind, raw: RawObject) -> Object {
    let RawObject { version, metadata, entries, parent, listeners_from } = raw;
    let mut annotations = metadata.annotations.as_ref().map(annotations::keep).unwrap_or_default();
    let labels = metadata.labels.as_ref();
    let labelled =
        labels.and_then(|all| all.get(PURPOSE_LABEL)).is_some_and(|value| value == "managed-cert");
    // Most objects of a cluster request no certificate, and only their class is kept, so that their
    // size does not matter. A ListenerSet may inherit the request from its Gateway. A Gateway
    // passes on its annotations even if it requests nothing itself.
    let has_no_secret =
        kind.row().requested_by == RequestedBy::SecretName && entries == Entries::default();
    let requests =
        parent.is_some() || (requests_certificate(kind, labelled, &annotations) && !has_no_secret);
    if !requests && !kind.is_parent() {
        annotations.retain(|name, _| name == well_known::CLASS);
    }
    Object {
        version,
        finalizers: finalizers(kind, &metadata),
        deleting: metadata.deletion_timestamp.is_some(),
        uid: metadata.uid.unwrap_or_default(),
        annotations,
        labelled,
        entries: if requests { entries } else { Entries::default() },
        parent,
        listeners_from,
    }
}

/// The finalizers of this product.
fn finalizers(kind: Kind, metadata: &ObjectMeta) -> Vec<String> {
    let all = metadata.finalizers.iter().flatten();
    let ours = all.filter(|name| name.ends_with(kind.row().finalizer));
    ours.take(MAX_FINALIZERS).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::source::{Foreign, IngressSpec};

    #[test]
    fn only_the_class_is_kept_of_an_object_that_requests_nothing() {
        let hosts: Vec<String> = (0..1_000).map(|number| format!("h{number}.test")).collect();
        let of = |purpose: &str| {
            let object = serde_json::json!({
                "metadata": {"namespace": "ns", "name": "o", "uid": "u", "annotations": {
                    "cert.gardener.cloud/purpose": purpose, "cert.gardener.cloud/class": "mine",
                    "cert.gardener.cloud/dnsnames": "a.test",
                }},
                "spec": {"tls": [{"hosts": hosts, "secretName": "s"}]},
            });
            let object: Foreign<IngressSpec> = serde_json::from_value(object).unwrap();
            let kept = keep(Kind::Ingress, RawObject::of(object, "v1"));
            (kept.entries.as_slice().len(), kept.annotations.into_keys().collect::<Vec<_>>())
        };
        let class = "cert.gardener.cloud/class".to_owned();
        assert_eq!(of("x"), (0, vec![class]));
        assert_eq!((of("managed").0, of("managed").1.len()), (1, 3));
    }
}
