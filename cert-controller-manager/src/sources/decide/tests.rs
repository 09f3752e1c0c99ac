use std::{slice::from_ref, sync::Arc};

use super::*;
use crate::{
    api::{CertificateKey, ClusterId},
    config::SourceSettings,
    sources::{
        annotations::Options,
        entry::{Entries, NamespaceFilter},
        extract::Extracted,
        key::{Kind, SourceKey},
        names::NameList,
        owned_certificates::OwnerScope,
    },
};

fn key() -> SourceKey {
    SourceKey { kind: Kind::Ingress, object: ObjectKey::new("ns", "Web") }
}

fn object() -> Object {
    Object {
        version: "v1",
        uid: "uid".into(),
        annotations: BTreeMap::new(),
        labelled: false,
        finalizers: Vec::new(),
        deleting: false,
        entries: Entries::default(),
        parent: None,
        listeners_from: NamespaceFilter::Nowhere,
    }
}

fn domains(names: &[&str]) -> Arc<NameList> {
    Arc::new(names.iter().copied().collect())
}

fn extracted(names: &[&str]) -> Extracted {
    let certificates = names.iter().map(|name| DesiredCertificate {
        secret: ObjectKey::new("ns", *name),
        domains: domains(&[&format!("{name}.x"), "b.x"]),
        options: Arc::default(),
    });
    Extracted { responsible: true, certificates: certificates.collect(), ..Extracted::default() }
}

fn settings() -> SourceSettings {
    SourceSettings::default()
}

/// The Certificate for the Secret of this name, as the watch delivers it.
fn owned_certificate(name: &str, cluster: CertificateCluster) -> OwnedCertificate {
    let (key, object, desired) = (key(), object(), extracted(&[name]));
    let settings = settings();
    let state = SourceState {
        key: &key,
        object: Some(&object),
        extracted: &desired,
        owned: &[],
        has_target: false,
        settings: &settings,
    };
    let mut certificate = state.certificate(&object, &desired.certificates[0]);
    if cluster == CertificateCluster::Target {
        certificate.metadata.owner_references = None;
        let owners = "source:networking.k8s.io/Ingress/ns/Web".to_owned();
        let annotations = certificate.metadata.annotations.as_mut().unwrap();
        annotations.remove(SOURCE_CLASS);
        annotations.insert(crate::api::owners::OWNERS.to_owned(), owners);
    }
    certificate.metadata.uid = Some(format!("uid of {name}"));
    OwnedCertificate::of(&certificate, cluster, &scope(None)).unwrap()
}

fn source() -> ClusterId {
    ClusterId { id: "source".into(), former: vec!["before".into()] }
}

fn scope(collected_in: Option<&str>) -> OwnerScope {
    OwnerScope { cluster: source(), collected_in: collected_in.map(str::to_owned) }
}

#[test]
fn an_annotation_may_name_owners_in_other_namespaces_only_in_the_target_namespace() {
    let claim = |namespace: &str, cluster, collected_in| {
        let mut certificate = Certificate::new("claim", CertificateSpec::default());
        certificate.metadata.namespace = Some(namespace.to_owned());
        let owner = "source:networking.k8s.io/Ingress/ns/Web".to_owned();
        let annotation = (crate::api::owners::OWNERS.to_owned(), owner);
        certificate.metadata.annotations = Some([annotation].into());
        OwnedCertificate::of(&certificate, cluster, &scope(collected_in)).is_some()
    };
    assert!(
        claim("ns", CertificateCluster::Source, None)
            && claim("ns", CertificateCluster::Target, Some("vault"))
    );
    assert!(
        !claim("thief", CertificateCluster::Source, None)
            && !claim("thief", CertificateCluster::Target, Some("vault"))
    );
    assert!(claim("vault", CertificateCluster::Target, Some("vault")));
    assert!(!claim("vault", CertificateCluster::Source, Some("vault")));
}

#[test]
fn a_certificate_with_too_many_owner_references_is_not_owned() {
    let one = owned_certificate("a", CertificateCluster::Source);
    let owners = |count| {
        let mut certificate = Certificate::new("claim", CertificateSpec::default());
        certificate.metadata.namespace = Some("ns".to_owned());
        certificate.metadata.owner_references =
            Some(one.references.iter().cycle().take(count).cloned().collect());
        OwnedCertificate::of(&certificate, CertificateCluster::Source, &scope(None))
            .map(|owned_certificate| owned_certificate.references.len())
    };
    assert_eq!((owners(1), owners(64), owners(65)), (Some(1), Some(64), None));
}

/// One line for each change.
fn decided(
    object: Option<&Object>,
    desired: &Extracted,
    owned: &[OwnedCertificate],
) -> Vec<String> {
    let (key, settings) = (key(), settings());
    let has_target = owned
        .iter()
        .any(|owned_certificate| owned_certificate.key.cluster == CertificateCluster::Target);
    let state = SourceState {
        key: &key,
        object,
        extracted: desired,
        owned,
        has_target,
        settings: &settings,
    };
    let line = |change| match change {
        Change::AddFinalizer => "finalizer".to_owned(),
        Change::RemoveFinalizer => "no finalizer".to_owned(),
        Change::Create(certificate) => {
            let secret = certificate.spec.secret_ref.unwrap();
            format!("create {}/{}", secret.namespace.unwrap(), secret.name.unwrap())
        }
        Change::Patch(owned_certificate, patch) => {
            format!("patch {}: {patch}", owned_certificate.secret.unwrap())
        }
        Change::Delete(owned_certificate) => {
            format!("delete {}", owned_certificate.secret.unwrap())
        }
    };
    decide(&state).changes.into_iter().map(line).collect()
}

#[test]
fn certificates_are_created_kept_and_deleted_as_desired() {
    let object = object();
    let (a, b) = (
        owned_certificate("a", CertificateCluster::Source),
        owned_certificate("b", CertificateCluster::Source),
    );
    let nothing: [&str; 0] = [];
    let there = Some(&object);
    assert_eq!(decided(there, &extracted(&["a"]), &[]), ["create ns/a"]);
    assert_eq!(decided(there, &extracted(&["a"]), from_ref(&a)), nothing);
    assert_eq!(decided(there, &extracted(&["a"]), &[a.clone(), b.clone()]), ["delete ns/b"]);
    assert_eq!(decided(there, &extracted(&[]), from_ref(&a)), ["delete ns/a"]);
    assert_eq!(decided(None, &Extracted::default(), from_ref(&a)), ["delete ns/a"]);
    let going = OwnedCertificate { deleting: true, ..a };
    assert_eq!(decided(there, &extracted(&[]), &[going]), nothing);
}

#[test]
fn a_recreated_object_keeps_its_certificates() {
    let back = Object { uid: "uid of its second life".into(), ..object() };
    let (there, a) = (Some(&back), owned_certificate("a", CertificateCluster::Source));
    let a = OwnedCertificate { resource_version: "7".into(), ..a };
    let lines = decided(there, &extracted(&["a"]), from_ref(&a));
    let [line] = &lines[..] else { panic!("{lines:?}") };
    let patch: Value = serde_json::from_str(line.strip_prefix("patch ns/a: ").unwrap()).unwrap();
    let owner = json!([{
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "Web",
        "uid": back.uid, "controller": true,
    }]);
    let desired = json!({ "uid": "uid of a", "resourceVersion": "7", "ownerReferences": owner });
    assert_eq!(patch, json!({ "metadata": desired }));
    // No adoption if the Secret is no longer desired, or if the object or the Certificate is deleted.
    assert_eq!(decided(there, &extracted(&["b"]), from_ref(&a)), ["delete ns/a", "create ns/b"]);
    let going = OwnedCertificate { deleting: true, ..a.clone() };
    assert_eq!(decided(there, &extracted(&["a"]), &[going]), ["create ns/a"]);
    // A Certificate with the new uid exists already.
    let mut made = a.clone();
    made.key =
        CertificateKey::new(made.key.cluster, ObjectKey::new(&made.key.object.namespace, "z"));
    made.owners[0].1 = Some(back.uid.clone());
    let both = [a.clone(), made];
    assert_eq!(decided(there, &extracted(&["a"]), &both), ["delete ns/a"]);
    // Owners that others added stay.
    let mut shared = a;
    let other =
        OwnerReference { kind: "Team".into(), name: "blue".into(), ..OwnerReference::default() };
    shared.references.push(other);
    let [line] = &decided(there, &extracted(&["a"]), &[shared])[..] else { panic!() };
    assert!(line.contains("Team") && line.contains("its second life"), "{line}");
}

#[test]
fn only_differences_are_patched() {
    let object = object();
    let (mut desired, a) = (extracted(&["a"]), owned_certificate("a", CertificateCluster::Source));
    desired.certificates[0].domains = domains(&["c.x"]);
    let renew_before = Some("720h0m0s".into());
    desired.certificates[0].options = Arc::new(Options { renew_before, ..Options::default() });
    let patch = r#"{"spec":{"commonName":"c.x","renewBefore":"720h0m0s","dnsNames":null},"metadata":{"uid":"uid of a"}}"#;
    assert_eq!(decided(Some(&object), &desired, &[a]), [format!("patch ns/a: {patch}")]);
}

#[test]
fn an_invalid_or_long_first_name_is_not_used_as_common_name() {
    let long = format!("{}.x", "a".repeat(63));
    for (first, common_name) in
        [("a.x", true), ("*.x", true), (&long, false), ("\"a.x", false), ("a.x\nb.x", false)]
    {
        let mut desired = extracted(&["a"]).certificates.remove(0);
        desired.domains = domains(&[first, "b.x"]);
        let spec = spec(&desired);
        assert_eq!(spec.common_name.is_some(), common_name, "{first}");
        assert_eq!(spec.dns_names.unwrap().contains(&first.to_owned()), !common_name);
    }
}

#[test]
fn an_object_gets_two_hundred_certificates_and_keeps_those_it_has() {
    let names: Vec<String> = (0..1_000).map(|number| format!("s{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (key, settings, object, desired) = (key(), settings(), object(), extracted(&names));
    // The existing ones are at the end of the list, as if new ones were inserted before them.
    for (there, made, left_out) in
        [(0, 200, Some(800)), (150, 50, Some(800)), (300, 0, Some(700)), (1_000, 0, None)]
    {
        let owned: Vec<_> = names[1_000 - there..]
            .iter()
            .map(|name| owned_certificate(name, CertificateCluster::Source))
            .collect();
        let state = SourceState {
            key: &key,
            object: Some(&object),
            extracted: &desired,
            owned: &owned,
            has_target: false,
            settings: &settings,
        };
        let decision = decide(&state);
        let all_made = decision.changes.iter().all(|it| matches!(it, Change::Create(_)));
        assert_eq!((decision.changes.len(), all_made), (made, true), "{there} are there");
        let left_out_text = decision.problem.as_deref().and_then(|text| text.split_once(' '));
        let count = left_out_text.map(|(count, _)| count.parse().unwrap());
        assert_eq!(count, left_out, "{there} are there");
    }
}

#[test]
fn certificates_of_an_unreadable_object_stay_unchanged() {
    let object = object();
    let held = Extracted { responsible: true, held: true, ..Extracted::default() };
    let (here, there) = (
        owned_certificate("a", CertificateCluster::Source),
        owned_certificate("a", CertificateCluster::Target),
    );
    assert_eq!(decided(Some(&object), &held, from_ref(&here)), [""; 0]);
    assert_eq!(decided(Some(&object), &held, from_ref(&there)), ["finalizer"]);
    let deleting = Object {
        deleting: true,
        finalizers: vec!["cert.gardener.cloud/ingress-cert".to_owned()],
        ..object
    };
    assert_eq!(decided(Some(&deleting), &held, from_ref(&there)), ["delete ns/a"]);
}

#[test]
fn the_name_is_deterministic_and_different_for_other_objects() {
    let (key, mut settings, desired) = (key(), settings(), extracted(&["a", "b"]));
    settings.target_name_prefix = "p-".into();
    settings.target_namespace = Some("t".into());
    settings.target_class = Some("c".into());
    let certificate = |uid: &str, has_target| {
        let object = Object { uid: uid.into(), ..object() };
        let state = SourceState {
            key: &key,
            object: Some(&object),
            extracted: &desired,
            owned: &[],
            has_target,
            settings: &settings,
        };
        state.certificate(&object, &desired.certificates[0])
    };
    let name = |one: Certificate| one.metadata.name.unwrap();
    assert!(name(certificate("u", false)).starts_with("web-ingress-"));
    assert_eq!(name(certificate("u", false)), name(certificate("u", false)));
    assert_ne!(name(certificate("u", false)), name(certificate("v", false)));
    let has_target = certificate("u", true);
    assert_eq!(has_target.spec.secret_ref.clone().unwrap().namespace.as_deref(), Some("t"));
    assert_eq!(has_target.metadata.namespace.as_deref(), Some("ns"));
    assert_eq!(has_target.metadata.annotations.as_ref().unwrap()["cert.gardener.cloud/class"], "c");
    assert!(name(has_target).starts_with("p-web-ingress-"));
}

#[test]
fn a_truncated_name_is_valid() {
    let (settings, object, desired) = (settings(), object(), extracted(&["a"]));
    for length in 225..=253 {
        for filler in [".a", "a.", "a-", "a"] {
            let name: String = filler.chars().cycle().skip(1).take(length - 1).collect();
            let name = format!("a{name}").trim_end_matches(['.', '-']).to_owned();
            let key = SourceKey { kind: Kind::Ingress, object: ObjectKey::new("ns", name) };
            let state = SourceState {
                key: &key,
                object: Some(&object),
                extracted: &desired,
                owned: &[],
                has_target: false,
                settings: &settings,
            };
            let made = state.certificate(&object, &desired.certificates[0]);
            let made = made.metadata.name.unwrap();
            let ends = |label: &str| label.starts_with('-') || label.ends_with('-');
            let is_valid = made.split('.').all(|label| !label.is_empty() && !ends(label));
            assert!(is_valid && made.len() <= 253, "{made}");
        }
    }
}

#[test]
fn a_certificate_on_target_is_protected_by_a_finalizer() {
    let finalizers = vec!["cert.gardener.cloud/ingress-cert".to_owned()];
    let (bare, guarded) = (object(), Object { finalizers: finalizers.clone(), ..object() });
    let deleting = Object { deleting: true, ..guarded.clone() };
    let a = owned_certificate("a", CertificateCluster::Target);
    let (here, nothing) = (owned_certificate("a", CertificateCluster::Source), [""; 0]);
    assert_eq!(decided(Some(&bare), &extracted(&["a"]), from_ref(&a)), ["finalizer"]);
    assert_eq!(decided(Some(&guarded), &extracted(&["a"]), from_ref(&a)), nothing);
    assert_eq!(decided(Some(&guarded), &extracted(&["a"]), from_ref(&here)), ["no finalizer"]);
    assert_eq!(decided(Some(&deleting), &extracted(&[]), from_ref(&a)), ["delete ns/a"]);
    assert_eq!(decided(Some(&deleting), &extracted(&[]), &[]), ["no finalizer"]);
    let unguarded = Object { deleting: true, ..bare };
    assert_eq!(decided(Some(&unguarded), &extracted(&[]), &[here]), nothing);
    let foreign = Extracted::default();
    assert_eq!(decided(Some(&guarded), &foreign, &[a]), ["delete ns/a"]);
}

#[test]
fn only_the_creator_deletes_a_certificate_when_the_class_changes() {
    let object = object();
    let ours = owned_certificate("a", CertificateCluster::Source);
    let mut upstreams = ours.clone();
    upstreams.annotations.remove(SOURCE_CLASS);
    let mut anothers = ours.clone();
    anothers.annotations.insert(SOURCE_CLASS.into(), "other".into());
    let foreign = Extracted::default();
    for (owned_certificate, deleted) in [(ours, true), (upstreams, false), (anothers, false)] {
        assert_eq!(decided(Some(&object), &foreign, &[owned_certificate]).len() == 1, deleted);
    }
}

#[test]
fn certificates_of_other_owners_are_not_kept() {
    let object = object();
    let mut before = owned_certificate("a", CertificateCluster::Source);
    before.owners[0].1 = Some("another uid".into());
    assert_eq!(decided(Some(&object), &extracted(&["b"]), &[before])[0], "delete ns/a");
    let mut shared = owned_certificate("b", CertificateCluster::Source);
    shared.owners.push((SourceKey { kind: Kind::Service, ..key() }, None));
    assert_eq!(decided(Some(&object), &extracted(&[]), &[shared]), [""; 0]);
}

#[test]
fn owners_with_a_former_cluster_id_are_rewritten() {
    let mut a = owned_certificate("a", CertificateCluster::Target);
    a.migrated = crate::api::owners::migrate("before:networking.k8s.io/Ingress/ns/Web", &source());
    let lines = decided(Some(&object()), &extracted(&["a"]), &[a]);
    assert!(lines[1].contains("source:networking.k8s.io/Ingress/ns/Web"), "{lines:?}");
    assert_eq!(
        CertificateKey::new(CertificateCluster::Target, ObjectKey::new("a", "b")).to_string(),
        "target:a/b"
    );
}
