use serde_json::{Value, json};

use super::*;

#[expect(clippy::needless_pass_by_value, reason = "literals of JSON read better so")]
fn trimmed(spec: Value) -> Certificate {
    let metadata = json!({
        "name": "a", "labels": {"team": "web", "cert.gardener.cloud/hash": "h"},
        "annotations": {"example.org/large": "x", "gardener.cloud/operation": "reconcile"},
        "finalizers": ["other", well_known::SECRET_FINALIZER, "x".repeat(9_000)],
    });
    let object = json!({
        "apiVersion": "cert.gardener.cloud/v1alpha1", "kind": "Certificate",
        "metadata": metadata, "spec": spec,
    });
    let mut certificate = serde_json::from_value(object).unwrap();
    trim(&mut certificate);
    certificate
}

#[test]
fn labels_and_annotations_of_the_secret_are_bounded_and_stay_refused() {
    let pairs = |count: usize, text: &str| -> BTreeMap<String, String> {
        (0..count).map(|it| (format!("l{it:06}"), text.to_owned())).collect()
    };
    let allowed = json!({
        "secretLabels": pairs(MAX_PAIRS, "x"),
        "secretAnnotations": pairs(MAX_PAIRS, &"ä".repeat(1_000)),
    });
    assert_eq!(serde_json::to_value(trimmed(allowed.clone()).spec).unwrap(), allowed);
    let spec = json!({
        "secretLabels": pairs(51_000, "x"),
        "secretAnnotations": pairs(3, &"ä".repeat(100_000)),
    });
    let many = trimmed(spec).spec;
    assert_eq!(many.secret_labels.unwrap().len(), MAX_PAIRS + 1);
    let bytes: usize = many.secret_annotations.unwrap().values().map(String::len).sum();
    assert!((MAX_PAIRS_BYTES + 1..MAX_PAIRS_BYTES + 5).contains(&bytes), "{bytes}");
    let name = trimmed(json!({"secretLabels": {"n".repeat(90_000): ""}})).spec.secret_labels;
    assert_eq!(name.unwrap().keys().map(String::len).collect::<Vec<_>>(), [MAX_TEXT]);
}

#[test]
fn only_read_annotations_and_a_bounded_number_of_owners_are_kept() {
    let owner = |number: usize| OwnerReference {
        uid: number.to_string(),
        controller: Some(number == 900),
        ..OwnerReference::default()
    };
    let entries = |names: &[&str]| -> BTreeMap<String, String> {
        names.iter().map(|name| ((*name).to_owned(), "x".repeat(9_000))).collect()
    };
    let mut certificate =
        Certificate::new("a", super::super::certificate::CertificateSpec::default());
    let metadata = &mut certificate.metadata;
    metadata.labels = Some(entries(&["x.gardener.cloud/a", "cert.gardener.cloud/of-mine"]));
    metadata.annotations = Some(entries(&[well_known::OWNERS, well_known::CLASS]));
    let mut owners: Vec<_> = (0..1_000).map(owner).collect();
    owners[0].name = "x".repeat(9_000);
    metadata.owner_references = Some(owners);
    trim(&mut certificate);
    let metadata = certificate.metadata;
    assert_eq!(metadata.labels, Some(BTreeMap::new()));
    let left = BTreeMap::from([(well_known::CLASS.to_owned(), "x".repeat(MAX_TEXT))]);
    assert_eq!(metadata.annotations, Some(left));
    let owners = metadata.owner_references.unwrap();
    assert_eq!((owners.len(), owners[0].uid.as_str()), (MAX_OWNERS + 2, "1"));
    assert_eq!(owners.last().unwrap().uid, "900");
}

#[test]
fn allowed_values_are_unchanged_and_others_stay_refused() {
    let names: Vec<String> = (0..100).map(|it| format!("h{it}.x.test")).collect();
    let spec = json!({"commonName": "x.test", "dnsNames": names, "uris": ["spiffe://x/y"]});
    let kept = trimmed(spec.clone());
    assert_eq!(serde_json::to_value(&kept.spec).unwrap(), spec);
    let ours = |map: Option<std::collections::BTreeMap<String, String>>| -> Vec<String> {
        map.unwrap_or_default().into_keys().collect()
    };
    assert_eq!(ours(kept.metadata.labels), ["cert.gardener.cloud/hash"]);
    assert_eq!(ours(kept.metadata.annotations), ["gardener.cloud/operation"]);
    assert_eq!(kept.metadata.finalizers, Some(vec![well_known::SECRET_FINALIZER.to_owned()]));

    let many = trimmed(json!({"dnsNames": vec!["a"; 300_000]})).spec.dns_names.unwrap();
    assert_eq!(many.len(), MAX_ELEMENTS);
    let long = trimmed(json!({"uris": vec!["x".repeat(100_000); 10]})).spec.uris.unwrap();
    assert_eq!(long.iter().map(String::len).collect::<Vec<_>>(), [100_000, 100_000]);
    let huge = trimmed(json!({"uris": ["ä".repeat(1_000_000)], "profile": "p".repeat(9_000)}));
    assert_eq!(huge.spec.uris.unwrap()[0].len(), MAX_BYTES);
    assert_eq!(huge.spec.profile.unwrap().len(), MAX_TEXT);
}

#[test]
fn status_and_references_are_bounded() {
    let long = "ä".repeat(100_000);
    let many = vec![long.clone(); 2_000];
    let condition = |type_: &str| {
        json!({
            "type": type_, "status": long, "reason": long, "message": long,
            "lastTransitionTime": long,
        })
    };
    let store = json!({"create": true, "passwordSecretRef": {"secretName": long, "key": long}});
    let object = json!({
        "apiVersion": "cert.gardener.cloud/v1alpha1", "kind": "Certificate",
        "metadata": {"name": "a", "generateName": long},
        "spec": {
            "issuerRef": {"name": long, "namespace": long},
            "secretRef": {"name": long, "namespace": long},
            "keystores": {"jks": store, "pkcs12": store},
            "additionalOutputFormats": vec![json!({"type": "DER"}); 5_000],
        },
        "status": {
            "state": long, "message": long, "commonName": long, "lastPendingTimestamp": long,
            "issuanceDate": long, "renewalDate": long, "expirationDate": long,
            "dnsNames": many, "reissued": many,
            "issuerRef": {"cluster": long, "name": long, "namespace": long},
            "renewalInfo": {
                "certificate": long, "windowStart": long, "windowEnd": long, "selected": long,
                "explanationURL": long,
            },
            "backoff": {"recheckAfter": long, "recheckInterval": long},
            "conditions": [condition("a"), condition("b"), condition("Ready")],
        },
    });
    let mut certificate: Certificate = serde_json::from_value(object).unwrap();
    trim(&mut certificate);
    let text = serde_json::to_string(&certificate).unwrap();
    assert!(text.len() < 128 << 10, "{} bytes", text.len());
    let status = certificate.status.unwrap();
    assert_eq!(status.message.unwrap().len(), MAX_MESSAGE);
    let kinds = status.conditions.unwrap().into_iter().map(|condition| condition.type_);
    assert_eq!(kinds.collect::<Vec<_>>(), ["Ready", "a"]);
    assert_eq!(certificate.spec.additional_output_formats.unwrap().len(), 1);
}
