//! Annotations of Ingresses and Services by tenants → the derived Certificates.

use std::{collections::BTreeSet, time::Duration};

use cert_controller_manager::{
    api::{
        Certificate, Classes,
        source::{Foreign, IngressSpec, ServiceSpec},
    },
    certificates::syntax::is_subdomain,
    config::SourceSettings,
    sources::{
        decide::{Change, decide},
        extract::extract,
        object::Source,
        state::SourceState,
    },
};
use cert_lib::model::{name::DnsName, request};
use proptest::{
    prelude::*,
    sample::{Index, select, subsequence},
    test_runner::TestCaseError,
};
use serde_json::{Map, Value, json};

use crate::{Cost, check, check_some, kept};

/// 200 ms in a release build; a debug build is about ten times as slow.
pub const COST: Cost = Cost {
    time: Duration::from_millis(if cfg!(debug_assertions) { 2_000 } else { 200 }),
    memory: 20 << 20,
};

const ANNOTATIONS: [&str; 18] = [
    "cert.gardener.cloud/class",
    "cert.gardener.cloud/commonname",
    "cert.gardener.cloud/dnsnames",
    "dns.gardener.cloud/dnsnames",
    "cert.gardener.cloud/issuer",
    "cert.gardener.cloud/follow-cname",
    "cert.gardener.cloud/preferred-chain",
    "cert.gardener.cloud/profile",
    "cert.gardener.cloud/private-key-algorithm",
    "cert.gardener.cloud/private-key-size",
    "cert.gardener.cloud/private-key-encoding",
    "cert.gardener.cloud/secret-labels",
    "cert.gardener.cloud/renew-before",
    "cert.gardener.cloud/secretname",
    "cert.gardener.cloud/secret-namespace",
    "cert.gardener.cloud/dnsrecord-provider-type",
    "cert.gardener.cloud/dnsrecord-class",
    "cert.gardener.cloud/unknown",
];

const ATOMS: [&str; 30] = [
    "a.example.com",
    "A.Example.com.",
    "b.example.com",
    "*.example.com",
    "\"a.example.com\"",
    "'b",
    "10.0.0.9",
    "a..b",
    "-x",
    "*.*",
    "*",
    "xn--bcher-kva.example",
    "bücher.example",
    "💥",
    "\u{0}",
    "\u{a0}",
    "=",
    "a=b",
    "/",
    "../..",
    "{\"a\":[",
    "-1",
    "1h",
    "9999999999999h",
    "RSA",
    "true",
    "256",
    ":",
    ";",
    "",
];

/// Separators of names, as users write lists.
const SEPARATORS: [&str; 7] = [",", ", ", " ", "\n", "\r\n", "\t", ",,"];

/// The API server accepts 256 KiB of annotations in one object, and at least 1.5 MiB in total.
const ANNOTATION_BYTES: usize = 250_000;
const OBJECT_BYTES: usize = 2_000_000;

/// A list of atoms, sometimes repeated up to the maximal size.
fn text() -> impl Strategy<Value = String> {
    let atom = prop_oneof![
        6 => select(&ATOMS[..]).prop_map(str::to_owned),
        1 => "[ -~]{0,80}",
        1 => "[a-z]{1,63}(\\.[a-z]{1,63}){0,5}",
    ];
    let list = prop::collection::vec((atom, select(&SEPARATORS[..])), 0..6);
    (list, prop_oneof![9 => Just(1_usize), 1 => 1..20_000_usize]).prop_map(|(list, times)| {
        let once: String = list.into_iter().flat_map(|(atom, by)| [atom, by.to_owned()]).collect();
        once.repeat(times.min(ANNOTATION_BYTES / (once.len() + 1)).max(1))
    })
}

fn annotations() -> impl Strategy<Value = Value> {
    let some = subsequence(&ANNOTATIONS[..], 0..=6);
    (some, prop::collection::vec(text(), 6), any::<bool>()).prop_map(|(names, texts, managed)| {
        let mut left = ANNOTATION_BYTES;
        let mut all = Map::new();
        if managed {
            all.insert("cert.gardener.cloud/purpose".to_owned(), json!("managed"));
        }
        for (name, text) in names.into_iter().zip(texts).filter(|(_, text)| text.len() < 250_000) {
            if text.len() <= left {
                left -= text.len();
                all.insert(name.to_owned(), json!(text));
            }
        }
        Value::Object(all)
    })
}

/// `spec.tls`: a few arbitrary entries, or as many as fit.
fn tls() -> impl Strategy<Value = Value> {
    let host = prop_oneof![
        select(&ATOMS[..]).prop_map(|atom| json!(atom)),
        Just(json!("x".repeat(300))),
        Just(json!(7)),
    ];
    let secret = select(vec![json!("s"), json!("t"), json!(""), json!({}), json!("x".repeat(999))]);
    let entry = (prop::collection::vec(host, 0..5), secret)
        .prop_map(|(hosts, secret)| json!({"hosts": hosts, "secretName": secret}));
    let few = prop::collection::vec(entry, 0..5).prop_map(Value::Array);
    let many = (1..1_200_usize, 0..1_200_usize, any::<bool>())
        .prop_map(|(entries, hosts, shared)| crowd(entries, hosts, shared));
    prop_oneof![70 => few, 1 => many, 5 => select(vec![json!(null), json!("x"), json!([1, "x"])])]
}

fn crowd(entries: usize, hosts: usize, shared: bool) -> Value {
    let mut left = OBJECT_BYTES;
    let entry = |number: usize| {
        let hosts: Vec<_> = (0..hosts).map(|host| format!("h{host}.e{number}.x")).collect();
        let secret = if shared { "s".to_owned() } else { format!("s{number}") };
        json!({"hosts": hosts, "secretName": secret})
    };
    let entries = (0..entries).map(entry).take_while(|entry| {
        let size = entry.to_string().len();
        left = left.saturating_sub(size);
        left > 0
    });
    Value::Array(entries.collect())
}

fn object(annotations: &Value, spec: &Value) -> String {
    let metadata = json!({"namespace": "ns", "name": "o", "uid": "u", "annotations": annotations});
    json!({"metadata": metadata, "spec": spec}).to_string()
}

/// The Certificates of a new object, and the complaints about it.
fn made<S: Source>(text: &str) -> Result<(Vec<Certificate>, Vec<String>), TestCaseError> {
    let object: Foreign<S> = serde_json::from_str(text)
        .map_err(|error| TestCaseError::fail(format!("it cannot be read: {error}")))?;
    let (key, object) = kept(object);
    let mut extracted = extract(&key, &object, None, &[], &Classes::default());
    let settings = SourceSettings::default();
    let state = SourceState {
        key: &key,
        object: Some(&object),
        extracted: &extracted,
        owned: &[],
        has_target: false,
        settings: &settings,
    };
    let decision = decide(&state);
    let certificates = decision.changes.into_iter().filter_map(|change| match change {
        Change::Create(certificate) => Some(*certificate),
        _ => None,
    });
    let certificates = certificates.collect();
    extracted.problems.extend(decision.problem);
    Ok((certificates, extracted.problems))
}

/// Properties of every Certificate.
fn is_bounded(certificates: &[Certificate], problems: &[String]) -> Result<(), TestCaseError> {
    prop_assert!(certificates.len() <= 200, "{} Certificates", certificates.len());
    prop_assert!(problems.len() <= 22, "{problems:?}");
    for certificate in certificates {
        let spec = &certificate.spec;
        let name = certificate.metadata.name.as_deref().unwrap_or_default();
        prop_assert!(is_subdomain(name), "{name}");
        let first = spec.common_name.as_deref();
        prop_assert!(first.is_none_or(|name| name.parse::<DnsName>().is_ok()), "{first:?}");
        prop_assert!(spec.dns_names.as_ref().is_none_or(|names| names.len() <= 101));
        prop_assert!(first.is_some() || spec.dns_names.is_some(), "no name at all");
        let short = [&spec.preferred_chain, &spec.profile, &spec.renew_before];
        prop_assert!(short.into_iter().flatten().all(|text| text.len() <= 256));
        prop_assert!(spec.secret_labels.as_ref().is_none_or(|labels| labels.len() <= 64));
        let size = serde_json::to_string(certificate).map_or(0, |text| text.len());
        prop_assert!(size < 128 << 10, "{size} bytes");
    }
    Ok(())
}

#[test]
fn every_ingress_yields_few_and_small_certificates() {
    let objects = (annotations(), tls())
        .prop_map(|(annotations, tls)| object(&annotations, &json!({ "tls": tls })));
    check("Ingress", &objects, COST, |text| {
        let (certificates, problems) = made::<IngressSpec>(&text)?;
        is_bounded(&certificates, &problems)
    });
}

#[test]
fn every_service_yields_at_most_one_small_certificate() {
    let kinds = select(vec![json!("LoadBalancer"), json!("ClusterIP"), json!(1), json!(null)]);
    let objects = (annotations(), kinds)
        .prop_map(|(annotations, kind)| object(&annotations, &json!({ "type": kind })));
    check("Service", &objects, COST, |text| {
        let (certificates, problems) = made::<ServiceSpec>(&text)?;
        prop_assert!(certificates.len() <= 1);
        is_bounded(&certificates, &problems)
    });
}

/// The certificate has the requested names, or there is none.
#[test]
fn a_list_of_names_is_parsed_or_refused() {
    let good = "[a-zA-Z]{1,8}(\\.[a-z]{1,8}){1,3}\\.?";
    let token = prop_oneof![8 => good, 1 => select(&ATOMS[..]).prop_map(str::to_owned)];
    let list = prop::collection::vec((token, select(&SEPARATORS[..])), 1..120);
    let inputs = (list, any::<bool>(), any::<Index>());
    check("names", &inputs, COST, |(list, with_first, first)| {
        let tokens: Vec<&str> = list.iter().map(|(token, _)| token.as_str()).collect();
        let text: String = list.iter().flat_map(|(token, by)| [token.as_str(), by]).collect();
        let mut annotations = json!({
            "cert.gardener.cloud/secretname": "s", "cert.gardener.cloud/dnsnames": text,
        });
        let asked = tokens.iter().filter(|token| !token.trim().is_empty());
        let mut asked: Vec<&str> = asked.copied().collect();
        if with_first && !asked.is_empty() {
            let first = asked[first.index(asked.len())];
            annotations["cert.gardener.cloud/commonname"] = json!(first);
            asked.push(first);
        }
        let text = object(&annotations, &json!({"type": "LoadBalancer"}));
        let (certificates, problems) = made::<ServiceSpec>(&text)?;
        let Some(certificate) = certificates.first() else {
            prop_assert!(asked.is_empty() && !problems.is_empty(), "{text}");
            return Ok(());
        };
        let first = certificate.spec.common_name.as_deref();
        let others = certificate.spec.dns_names.as_deref().unwrap_or_default();
        let meant: Result<BTreeSet<DnsName>, _> = asked.iter().map(|name| name.parse()).collect();
        let taken = request::names(first, others).map(|others| {
            let first = first.and_then(|name| name.parse().ok());
            first.into_iter().chain(others).collect::<BTreeSet<DnsName>>()
        });
        match (meant, taken) {
            (Ok(meant), Ok(taken)) => prop_assert_eq!(meant, taken),
            (Ok(meant), Err(error)) => prop_assert!(meant.len() > 99, "{error}"),
            (Err(_), taken) => prop_assert!(taken.is_err(), "{taken:?} of {asked:?}"),
        }
        Ok(())
    });
}

/// The cost of the objects of issue 11.
#[test]
fn the_largest_objects_need_little_time_and_memory() {
    let managed = |name: &str, value: String| {
        let mut annotations = json!({"cert.gardener.cloud/purpose": "managed"});
        annotations[name] = json!(value);
        annotations
    };
    let labels: String = (0..51_000).map(|number| format!("{number:x}=,")).collect();
    let own_secrets = json!({ "tls": crowd(1_000, 1, false) });
    let long = json!("h".repeat(250));
    let mut hosts = crowd(1_000, 0, true);
    for entry in hosts.as_array_mut().into_iter().flatten() {
        entry["hosts"] = Value::Array(vec![long.clone(); 8]);
    }
    let names: String = (0..100).map(|number| format!("{}.n{number},", "n".repeat(60))).collect();
    let objects = vec![
        object(&managed("cert.gardener.cloud/secret-labels", labels), &own_secrets),
        object(&managed("cert.gardener.cloud/preferred-chain", "x".repeat(255_000)), &own_secrets),
        object(&managed("cert.gardener.cloud/dnsnames", names), &own_secrets),
        object(&managed("x", String::new()), &json!({ "tls": crowd(1_000, 140, true) })),
        object(&managed("x", String::new()), &json!({ "tls": crowd(100_000, 0, false) })),
        object(&managed("x", String::new()), &json!({ "tls": hosts })),
    ];
    check_some("largest", 40, &select(objects), COST, |text| {
        let (certificates, problems) = made::<IngressSpec>(&text)?;
        prop_assert!(!problems.is_empty() || certificates.len() == 1);
        is_bounded(&certificates, &problems)
    });
}
