//! Tests of the conversion.

use kube::ResourceExt;
use serde_json::{Value, json};

use super::*;
use crate::{
    api::{CertificateCluster, IssuerKey, ObjectKey, issuer::IssuerKind},
    issuers::{
        query::issuer_query,
        selection::{Candidate, Rules, select},
    },
};

fn selection(name: &str, kind: IssuerKind) -> Selection {
    Selection { key: IssuerKey::Default(name.into()), kind: Some(kind), refusal: None }
}

fn settings() -> CertificateSettings {
    CertificateSettings::default()
}

fn want_of(certificate: &Certificate, issuer: &Selection) -> Want {
    let key = CertificateKey::new(CertificateCluster::Source, ObjectKey::of(certificate));
    want(&key, certificate, &settings(), issuer, &SecretGrants::new(vec![]))
}

fn certificate(spec: &Value) -> Certificate {
    serde_json::from_value(json!({
        "apiVersion": "cert.gardener.cloud/v1alpha1", "kind": "Certificate",
        "metadata": { "namespace": "ns", "name": "cert", "uid": "0123456789" },
        "spec": spec,
    }))
    .unwrap()
}

fn refusal(spec: &Value) -> String {
    want_of(&certificate(spec), &selection("pebble", IssuerKind::Acme))
        .request
        .unwrap_err()
        .to_string()
}

#[test]
fn the_fingerprint_is_the_one_that_upstream_computes() {
    // Recorded from upstream's binary.
    let spec = json!({
        "commonName": "simple.example.com",
        "dnsNames": ["foo.example.com", "bar.example.com"],
        "issuerRef": { "name": "pebble" },
    });
    let want = want_of(&certificate(&spec), &selection("pebble", IssuerKind::Acme));
    assert_eq!(
        want.request.unwrap().fingerprint.as_str(),
        "e4dfb85b9829993ee8e8096dbe545f105fcff0cfdc05b2117c3096b7"
    );
}

/// Request times have a resolution of one second: a request in the same second would be too old.
#[test]
fn a_fractional_renewal_time_is_rounded_up_to_the_next_second() {
    for (text, wanted) in [
        ("2026-11-22T10:00:00Z", "2026-11-22T10:00:00Z"),
        ("2026-11-22T10:00:00.5Z", "2026-11-22T10:00:01Z"),
        ("2026-11-22T11:00:00.000001+01:00", "2026-11-22T10:00:01Z"),
    ] {
        let spec = json!({ "commonName": "a.example", "ensureRenewedAfter": text });
        let want = want_of(&certificate(&spec), &selection("pebble", IssuerKind::Acme));
        assert_eq!(want.renewed_after, Some(wanted.parse().unwrap()), "{text}");
    }
}

#[test]
fn new_key_after_is_read_from_the_annotation_and_rounded_up() {
    let mut object = certificate(&json!({ "commonName": "a.example" }));
    let annotate =
        |text: &str| Some([(well_known::NEW_KEY_AFTER.to_owned(), text.to_owned())].into());
    for (text, after) in [
        ("2026-11-22T10:00:00Z", Some("2026-11-22T10:00:00Z")),
        ("2026-11-22T10:00:00.5Z", Some("2026-11-22T10:00:01Z")),
        ("some day", None),
    ] {
        object.metadata.annotations = annotate(text);
        let want = want_of(&object, &selection("pebble", IssuerKind::Acme));
        assert_eq!(want.new_key_after, after.map(|time| time.parse().unwrap()), "{text}");
    }
}

#[test]
fn a_specification_that_cannot_be_fulfilled_is_refused_with_a_reason() {
    let names: Vec<String> = (0..100).map(|i| format!("n{i}.example.org")).collect();
    let long = format!("{}.example.org", vec!["a".repeat(50); 5].join("."));
    let csr = |text: &str| json!({ "csr": data(text.as_bytes()) });
    let uris: Vec<String> = (0..1_001).map(|i| format!("urn:n{i}")).collect();
    for (spec, message) in [
        (json!({}), "either domains or csr must be specified"),
        (
            json!({ "commonName": "a.example", "csr": data(b"x") }),
            "cannot specify both commonName and csr",
        ),
        (json!({ "dnsNames": names }), "invalid number of DNS names: 100 (max 99)"),
        (json!({ "commonName": "a".repeat(65) }), "the Common Name is limited to 64 characters"),
        (json!({ "dnsNames": [long] }), "longer than 253"),
        (
            json!({ "commonName": "*.*.example.org" }),
            "a wildcard is allowed as the whole first label only",
        ),
        (json!({ "dnsNames": ["10.1.2.3"] }), "10.1.2.3 is an IP address"),
        (json!({ "dnsNames": ["a.example", "A.example"] }), "duplicate domain: a.example"),
        (csr("no pem"), "parsing CSR failed: it is not PEM"),
        (csr(&"x".repeat(65_537)), "parsing CSR failed: it is longer than 65536 bytes"),
        (json!({ "commonName": "a.example", "uris": uris }), "at most 1000 names"),
        (
            json!({ "commonName": "a.example", "emailAddresses": ["x".repeat(65_537)] }),
            "have 1 names with 65537 bytes",
        ),
        (
            json!({ "commonName": "a.example", "renewBefore": "4m" }),
            "renewBefore must be at least 5 minutes",
        ),
        (
            json!({ "commonName": "a.example", "renewBefore": "-1h0m0s" }),
            "renewBefore must be at least 5 minutes (-1h0m0s)",
        ),
        (
            json!({ "commonName": "a.example", "renewBefore": "soon" }),
            "renewBefore: \"soon\" is no duration",
        ),
        (
            json!({ "commonName": "a.example", "renewBeforePercentage": 0 }),
            "renewBeforePercentage must be between 1 and 99 (0)",
        ),
        (
            json!({ "commonName": "a.example", "renewBeforePercentage": -200 }),
            "renewBeforePercentage must be between 1 and 99 (-200)",
        ),
        (
            json!({ "commonName": "a.example", "renewalWindows": [
                { "start": "22:00", "duration": "6h" },
                { "start": "22:00", "duration": "6h", "timeZone": "Europe/Nowhere" },
            ] }),
            "renewalWindows[1].timeZone: \"Europe/Nowhere\" is not known",
        ),
        (
            json!({ "commonName": "a.example", "renewalWindows": [
                { "start": "22:00", "duration": "25h" },
            ] }),
            "renewalWindows[0].duration: must be longer than nothing and a day at most",
        ),
        (
            json!({ "commonName": "a.example", "renewalWindows": [
                { "start": "22:00", "duration": "a night" },
            ] }),
            "renewalWindows[0].duration: \"a night\" is no duration",
        ),
        (json!({ "commonName": "a.example", "duration": "48h" }), "duration cannot be set"),
        (json!({ "commonName": "a.example", "isCA": false }), "isCA cannot be set"),
        (
            json!({ "commonName": "a.example", "secretName": "x?dryRun=All" }),
            "is not a valid Secret name",
        ),
        (
            json!({ "commonName": "a.example", "secretName": "Web_TLS" }),
            "is not a valid Secret name",
        ),
        (
            json!({ "commonName": "a.example", "secretLabels": { "cert.gardener.cloud/hash": "x" } }),
            "is set by the manager",
        ),
        (
            json!({ "commonName": "a.example", "secretLabels": { "a": "b c" } }),
            "secretLabels: \"a\"",
        ),
        (
            json!({ "commonName": "a.example", "ensureRenewedAfter": "9999-12-31T23:59:59Z" }),
            "ensureRenewedAfter",
        ),
        (
            json!({ "commonName": "a.example", "secretName": "a", "secretRef": { "name": "b" } }),
            "conflicting names in secretRef.Name and secretName: b != a",
        ),
        (
            json!({ "dnsNames": [long_name(238)] }),
            "is too long for DNS01: with _acme-challenge. before it, it has more than 253",
        ),
        (
            json!({ "commonName": "a.example", "secretRef": { "name": "b", "namespace": "other" } }),
            "--allow-cross-namespace-secrets",
        ),
    ] {
        let text = refusal(&spec);
        assert!(text.contains(message), "{spec}: {text}");
    }
}

fn long_name(length: usize) -> String {
    let labels = format!("{}.example", ["a"; 4].map(|a| a.repeat(50)).join("."));
    format!("{}.{labels}", "b".repeat(length - labels.len() - 1))
}

#[test]
fn a_name_too_long_for_a_challenge_record_is_refused_by_acme_issuers_only() {
    for (length, kind, refused) in [
        (237, IssuerKind::Acme, false),
        (238, IssuerKind::Acme, true),
        (253, IssuerKind::Acme, true),
        (253, IssuerKind::Ca, false),
    ] {
        let certificate = certificate(&json!({ "dnsNames": [long_name(length)] }));
        let request = want_of(&certificate, &selection("issuer", kind)).request;
        assert_eq!(request.is_err(), refused, "{length} {kind:?}");
    }
}

#[test]
fn a_later_change_of_secret_name_does_not_conflict_with_the_written_secret_ref() {
    let spec = json!({
        "commonName": "a.example", "secretName": "new",
        "secretRef": { "name": "old", "namespace": "ns" },
    });
    let mut certificate = certificate(&spec);
    let issuer = selection("pebble", IssuerKind::Acme);
    assert!(want_of(&certificate, &issuer).request.is_err(), "both were written by a person");
    certificate.labels_mut().insert(well_known::HASH.to_owned(), "any".to_owned());
    assert!(want_of(&certificate, &issuer).request.is_ok());
    assert_eq!(certificate.secret_key().name, "new");
}

fn data(bytes: &[u8]) -> Value {
    serde_json::to_value(k8s_openapi::ByteString(bytes.to_vec())).unwrap()
}

fn fixture() -> Vec<Value> {
    let text = include_str!("../../../../tests/fixtures/adoption/objects.json");
    let list: Value = serde_json::from_str(text).unwrap();
    list["items"].as_array().unwrap().clone()
}

#[test]
fn certificates_of_upstream_have_the_fingerprint_in_their_hash_label() {
    let of_kind = |kind: &str| {
        let all = fixture().into_iter();
        all.filter(|item| item["kind"] == kind).collect::<Vec<_>>()
    };
    let candidates: Vec<Candidate> = of_kind("Issuer")
        .into_iter()
        .map(|item| {
            let issuer: crate::api::Issuer = serde_json::from_value(item).unwrap();
            Candidate::new(IssuerKey::Default(issuer.name_any()), &issuer.spec)
        })
        .collect();
    let rules =
        Rules { namespace: "default".into(), default_issuer: "pebble".into(), ..Rules::default() };
    let certificates = of_kind("Certificate");
    assert_eq!(certificates.len(), 10);
    for item in certificates {
        let certificate: Certificate = serde_json::from_value(item).unwrap();
        let name = certificate.name_any();
        let selection = select(&rules, &candidates, &issuer_query(&certificate, &settings()));
        let want = want_of(&certificate, &selection);
        let request = want.request.unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
        let label = certificate.labels().get(well_known::HASH).map(String::as_str);
        assert_eq!(Some(request.fingerprint.as_str()), label, "{name}");
        // The issuer of the stored certificate is kept without a configured default issuer.
        let used = issuer_query(&certificate, &settings()).current.map(|key| key.to_string());
        assert_eq!(used, certificate.status.unwrap().issuer_ref.map(|it| it.name), "{name}");
    }
}

#[test]
fn ca_and_self_signed_issuers_accept_more_fields_and_refuse_with_upstream_messages() {
    for (kind, spec, wanted) in [
        (
            IssuerKind::Ca,
            json!({ "commonName": "My CA", "isCA": true, "duration": "43800h" }),
            None,
        ),
        (IssuerKind::Ca, json!({ "commonName": "a.example" }), None),
        (
            IssuerKind::Ca,
            json!({ "commonName": "a.example", "duration": "1439h" }),
            Some("certificate duration must be at least 1440h0m0s"),
        ),
        (
            IssuerKind::Ca,
            json!({ "commonName": "a.example", "ipAddresses": ["1.2.3"] }),
            Some("invalid IP address in 'spec.IPAddresses': 1.2.3"),
        ),
        (
            IssuerKind::Ca,
            json!({ "commonName": "a.example", "uris": ["x"] }),
            Some("invalid URI in 'spec.URIs'"),
        ),
        (
            IssuerKind::SelfSigned,
            json!({ "commonName": "a.example" }),
            Some("self signed certificates must set 'spec.isCA: true'"),
        ),
        (
            IssuerKind::SelfSigned,
            json!({ "dnsNames": ["a.example"], "isCA": true }),
            Some("common name must be set"),
        ),
        (IssuerKind::SelfSigned, json!({ "commonName": "My CA", "isCA": true }), None),
        (IssuerKind::Acme, json!({ "commonName": "My CA" }), Some("invalid domain")),
    ] {
        let want = want_of(&certificate(&spec), &selection("x", kind));
        match (want.request, wanted) {
            (Ok(request), None) => assert!(request.extras.is_some(), "{spec}"),
            (Err(refusal), Some(part)) => {
                assert!(refusal.to_string().contains(part), "{spec}: {refusal}");
            }
            (request, wanted) => panic!("{kind:?} {spec}: {request:?}, not {wanted:?}"),
        }
    }
}

#[test]
fn order_options_are_read_from_the_specification() {
    let spec = json!({
        "commonName": "a.example.org", "ipAddresses": ["10.0.0.2", "2001:db8::1", "10.0.0.2"],
        "preferredChain": "ISRG Root X1", "followCNAME": true, "profile": "shortlived",
    });
    let acme = |spec: &Value, kind| {
        want_of(&certificate(spec), &selection("x", kind)).request.unwrap().acme
    };
    let options = acme(&spec, IssuerKind::Acme);
    assert_eq!(options.profile.as_deref(), Some("shortlived"));
    assert_eq!(options.preferred_chain.as_deref(), Some("ISRG Root X1"));
    assert!(options.follow_cname);
    let addresses: Vec<String> = options.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.0.0.2", "2001:db8::1"]);
    // As in upstream: addresses need a profile, and other issuers do not use order options.
    for (profile, kind) in [(json!(null), IssuerKind::Acme), (json!("x"), IssuerKind::Ca)] {
        let mut spec = spec.clone();
        spec["profile"] = profile;
        assert!(acme(&spec, kind).addresses.is_empty());
    }
    let nothing = json!({ "commonName": "a.example.org", "preferredChain": "", "profile": "" });
    let options = acme(&nothing, IssuerKind::Acme);
    assert_eq!(
        (options.profile, options.preferred_chain, options.follow_cname),
        (None, None, false)
    );
}

#[test]
fn a_certificate_for_ip_addresses_alone_needs_a_profile() {
    let spec = json!({ "ipAddresses": ["10.0.0.2"], "profile": "shortlived" });
    let request = want_of(&certificate(&spec), &selection("x", IssuerKind::Acme)).request.unwrap();
    assert_eq!((request.names().len(), request.acme.addresses.len()), (0, 1));
    assert_eq!(
        refusal(&json!({ "ipAddresses": ["10.0.0.2"] })),
        "either domains or csr must be specified"
    );
}

#[test]
fn an_unknown_issuer_refuses_nothing() {
    let spec = json!({ "commonName": "My CA", "isCA": true, "duration": "1h" });
    let unknown = Selection { kind: None, ..selection("x", IssuerKind::Ca) };
    assert!(want_of(&certificate(&spec), &unknown).request.is_ok());
}

#[test]
fn the_current_issuer_is_the_one_that_issued_the_same_request() {
    let item = fixture().into_iter().find(|item| item["metadata"]["name"] == "web-ingress-nxcld");
    let mut certificate: Certificate = serde_json::from_value(item.unwrap()).unwrap();
    assert_eq!(
        issuer_query(&certificate, &settings()).current,
        Some(IssuerKey::Default("pebble".into()))
    );
    let elsewhere = CertificateSettings { issuer_namespace: "other".to_owned(), ..settings() };
    assert_eq!(issuer_query(&certificate, &elsewhere).current, None);
    certificate.spec.common_name = Some("another.example.com".into());
    assert_eq!(issuer_query(&certificate, &settings()).current, None);
}
