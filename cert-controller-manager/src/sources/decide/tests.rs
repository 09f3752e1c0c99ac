use std::{slice::from_ref, sync::Arc};

use super::*;
use crate::{
    api::{CertificateKey, ClusterId},
    sources::{
        annotations::Options,
        kind::Kind,
        names::NameList,
        object::{Entries, NamespaceFilter},
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

fn want(names: &[&str]) -> Extracted {
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

/// The Certificate that would be made for the Secret of this name, as the watch brings it.
fn slave(name: &str, home: CertificateCluster) -> OwnedCertificate {
    let (key, object, wanted) = (key(), object(), want(&[name]));
    let settings = settings();
    let situation = SourceState {
        key: &key,
        object: Some(&object),
        extracted: &wanted,
        slaves: &[],
        apart: false,
        settings: &settings,
    };
    let mut certificate = situation.certificate(&object, &wanted.certificates[0]);
    if home == CertificateCluster::Target {
        certificate.metadata.owner_references = None;
        let owners = "source:networking.k8s.io/Ingress/ns/Web".to_owned();
        let annotations = certificate.metadata.annotations.as_mut().unwrap();
        annotations.remove(SOURCE_CLASS);
        annotations.insert(crate::api::owners::OWNERS.to_owned(), owners);
    }
    certificate.metadata.uid = Some(format!("uid of {name}"));
    OwnedCertificate::of(&certificate, home, &masters(None)).unwrap()
}

fn source() -> ClusterId {
    ClusterId { id: "source".into(), former: vec!["before".into()] }
}

fn masters(collected_in: Option<&str>) -> OwnerScope {
    OwnerScope { cluster: source(), collected_in: collected_in.map(str::to_owned) }
}

#[test]
fn an_annotation_names_owners_elsewhere_only_where_the_operator_collects_certificates() {
    let claim = |namespace: &str, home, collected_in| {
        let mut certificate = Certificate::new("claim", CertificateSpec::default());
        certificate.metadata.namespace = Some(namespace.to_owned());
        let owner = "source:networking.k8s.io/Ingress/ns/Web".to_owned();
        let annotation = (crate::api::owners::OWNERS.to_owned(), owner);
        certificate.metadata.annotations = Some([annotation].into());
        OwnedCertificate::of(&certificate, home, &masters(collected_in)).is_some()
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
fn a_certificate_with_too_many_owner_references_belongs_to_nobody() {
    let one = slave("a", CertificateCluster::Source);
    let owners = |count| {
        let mut certificate = Certificate::new("claim", CertificateSpec::default());
        certificate.metadata.namespace = Some("ns".to_owned());
        certificate.metadata.owner_references =
            Some(one.references.iter().cycle().take(count).cloned().collect());
        OwnedCertificate::of(&certificate, CertificateCluster::Source, &masters(None))
            .map(|slave| slave.references.len())
    };
    assert_eq!((owners(1), owners(64), owners(65)), (Some(1), Some(64), None));
}

/// What is decided, a line for each.
fn decided(
    object: Option<&Object>,
    wanted: &Extracted,
    slaves: &[OwnedCertificate],
) -> Vec<String> {
    let (key, settings) = (key(), settings());
    let apart = slaves.iter().any(|slave| slave.key.cluster == CertificateCluster::Target);
    let situation =
        SourceState { key: &key, object, extracted: wanted, slaves, apart, settings: &settings };
    let line = |change| match change {
        Change::AddFinalizer => "finalizer".to_owned(),
        Change::RemoveFinalizer => "no finalizer".to_owned(),
        Change::Create(certificate) => {
            let secret = certificate.spec.secret_ref.unwrap();
            format!("create {}/{}", secret.namespace.unwrap(), secret.name.unwrap())
        }
        Change::Patch(slave, patch) => format!("patch {}: {patch}", slave.secret.unwrap()),
        Change::Delete(slave) => format!("delete {}", slave.secret.unwrap()),
    };
    decide(&situation).changes.into_iter().map(line).collect()
}

#[test]
fn certificates_are_made_kept_and_deleted_with_what_is_wanted() {
    let object = object();
    let (a, b) = (slave("a", CertificateCluster::Source), slave("b", CertificateCluster::Source));
    let nothing: [&str; 0] = [];
    let there = Some(&object);
    assert_eq!(decided(there, &want(&["a"]), &[]), ["create ns/a"]);
    assert_eq!(decided(there, &want(&["a"]), from_ref(&a)), nothing);
    assert_eq!(decided(there, &want(&["a"]), &[a.clone(), b.clone()]), ["delete ns/b"]);
    assert_eq!(decided(there, &want(&[]), from_ref(&a)), ["delete ns/a"]);
    assert_eq!(decided(None, &Extracted::default(), from_ref(&a)), ["delete ns/a"]);
    let going = OwnedCertificate { deleting: true, ..a };
    assert_eq!(decided(there, &want(&[]), &[going]), nothing);
}

#[test]
fn an_object_that_came_back_with_another_uid_keeps_its_certificates() {
    let back = Object { uid: "uid of its second life".into(), ..object() };
    let (there, a) = (Some(&back), slave("a", CertificateCluster::Source));
    let a = OwnedCertificate { resource_version: "7".into(), ..a };
    let lines = decided(there, &want(&["a"]), from_ref(&a));
    let [line] = &lines[..] else { panic!("{lines:?}") };
    let patch: Value = serde_json::from_str(line.strip_prefix("patch ns/a: ").unwrap()).unwrap();
    let owner = json!([{
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "Web",
        "uid": back.uid, "controller": true,
    }]);
    let wanted = json!({ "uid": "uid of a", "resourceVersion": "7", "ownerReferences": owner });
    assert_eq!(patch, json!({ "metadata": wanted }));
    // Not where it asks for it no more, or goes, or where the Certificate goes.
    assert_eq!(decided(there, &want(&["b"]), from_ref(&a)), ["delete ns/a", "create ns/b"]);
    let going = OwnedCertificate { deleting: true, ..a.clone() };
    assert_eq!(decided(there, &want(&["a"]), &[going]), ["create ns/a"]);
    // One was made already for its second life.
    let mut made = a.clone();
    made.key.object.name = "z".into();
    made.owners[0].1 = Some(back.uid.clone());
    let both = [a.clone(), made];
    assert_eq!(decided(there, &want(&["a"]), &both), ["delete ns/a"]);
    // An owner that somebody else added stays.
    let mut shared = a;
    let other =
        OwnerReference { kind: "Team".into(), name: "blue".into(), ..OwnerReference::default() };
    shared.references.push(other);
    let [line] = &decided(there, &want(&["a"]), &[shared])[..] else { panic!() };
    assert!(line.contains("Team") && line.contains("its second life"), "{line}");
}

#[test]
fn only_what_differs_is_patched() {
    let object = object();
    let (mut wanted, a) = (want(&["a"]), slave("a", CertificateCluster::Source));
    wanted.certificates[0].domains = domains(&["c.x"]);
    let renew_before = Some("720h0m0s".into());
    wanted.certificates[0].options = Arc::new(Options { renew_before, ..Options::default() });
    let patch = r#"{"spec":{"commonName":"c.x","renewBefore":"720h0m0s","dnsNames":null},"metadata":{"uid":"uid of a"}}"#;
    assert_eq!(decided(Some(&object), &wanted, &[a]), [format!("patch ns/a: {patch}")]);
}

#[test]
fn a_first_name_that_is_too_long_or_no_name_is_no_common_name() {
    let long = format!("{}.x", "a".repeat(63));
    for (first, common_name) in
        [("a.x", true), ("*.x", true), (&long, false), ("\"a.x", false), ("a.x\nb.x", false)]
    {
        let mut wanted = want(&["a"]).certificates.remove(0);
        wanted.domains = domains(&[first, "b.x"]);
        let spec = spec(&wanted);
        assert_eq!(spec.common_name.is_some(), common_name, "{first}");
        assert_eq!(spec.dns_names.unwrap().contains(&first.to_owned()), !common_name);
    }
}

#[test]
fn an_object_gets_two_hundred_certificates_and_keeps_those_it_has() {
    let names: Vec<String> = (0..1_000).map(|number| format!("s{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (key, settings, object, wanted) = (key(), settings(), object(), want(&names));
    // What is there is at the end of the list, as where others were put before it.
    for (there, made, left_out) in
        [(0, 200, Some(800)), (150, 50, Some(800)), (300, 0, Some(700)), (1_000, 0, None)]
    {
        let slaves: Vec<_> = names[1_000 - there..]
            .iter()
            .map(|name| slave(name, CertificateCluster::Source))
            .collect();
        let situation = SourceState {
            key: &key,
            object: Some(&object),
            extracted: &wanted,
            slaves: &slaves,
            apart: false,
            settings: &settings,
        };
        let decision = decide(&situation);
        let all_made = decision.changes.iter().all(|it| matches!(it, Change::Create(_)));
        assert_eq!((decision.changes.len(), all_made), (made, true), "{there} are there");
        let said = decision.complaint.as_deref().and_then(|text| text.split_once(' '));
        let count = said.map(|(count, _)| count.parse().unwrap());
        assert_eq!(count, left_out, "{there} are there");
    }
}

#[test]
fn what_an_object_has_that_cannot_be_read_stays_as_it_is() {
    let object = object();
    let held = Extracted { responsible: true, held: true, ..Extracted::default() };
    let (here, there) =
        (slave("a", CertificateCluster::Source), slave("a", CertificateCluster::Target));
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
fn the_name_is_the_same_at_every_try_and_another_for_another_object() {
    let (key, mut settings, wanted) = (key(), settings(), want(&["a", "b"]));
    settings.target_name_prefix = "p-".into();
    settings.target_namespace = Some("t".into());
    settings.target_class = Some("c".into());
    let certificate = |uid: &str, apart| {
        let object = Object { uid: uid.into(), ..object() };
        let situation = SourceState {
            key: &key,
            object: Some(&object),
            extracted: &wanted,
            slaves: &[],
            apart,
            settings: &settings,
        };
        situation.certificate(&object, &wanted.certificates[0])
    };
    let name = |one: Certificate| one.metadata.name.unwrap();
    assert!(name(certificate("u", false)).starts_with("web-ingress-"));
    assert_eq!(name(certificate("u", false)), name(certificate("u", false)));
    assert_ne!(name(certificate("u", false)), name(certificate("v", false)));
    let apart = certificate("u", true);
    assert_eq!(apart.spec.secret_ref.clone().unwrap().namespace.as_deref(), Some("t"));
    assert_eq!(apart.metadata.namespace.as_deref(), Some("ns"));
    assert_eq!(apart.metadata.annotations.as_ref().unwrap()["cert.gardener.cloud/class"], "c");
    assert!(name(apart).starts_with("p-web-ingress-"));
}

#[test]
fn the_name_is_valid_whatever_is_at_the_cut() {
    let (settings, object, wanted) = (settings(), object(), want(&["a"]));
    for length in 225..=253 {
        for filler in [".a", "a.", "a-", "a"] {
            let name: String = filler.chars().cycle().skip(1).take(length - 1).collect();
            let name = format!("a{name}").trim_end_matches(['.', '-']).to_owned();
            let key = SourceKey { kind: Kind::Ingress, object: ObjectKey::new("ns", name) };
            let situation = SourceState {
                key: &key,
                object: Some(&object),
                extracted: &wanted,
                slaves: &[],
                apart: false,
                settings: &settings,
            };
            let made = situation.certificate(&object, &wanted.certificates[0]);
            let made = made.metadata.name.unwrap();
            let ends = |label: &str| label.starts_with('-') || label.ends_with('-');
            let is_valid = made.split('.').all(|label| !label.is_empty() && !ends(label));
            assert!(is_valid && made.len() <= 253, "{made}");
        }
    }
}

#[test]
fn a_certificate_on_target_is_kept_and_guarded_by_a_finalizer() {
    let finalizers = vec!["cert.gardener.cloud/ingress-cert".to_owned()];
    let (bare, guarded) = (object(), Object { finalizers: finalizers.clone(), ..object() });
    let deleting = Object { deleting: true, ..guarded.clone() };
    let a = slave("a", CertificateCluster::Target);
    let (here, nothing) = (slave("a", CertificateCluster::Source), [""; 0]);
    assert_eq!(decided(Some(&bare), &want(&["a"]), from_ref(&a)), ["finalizer"]);
    assert_eq!(decided(Some(&guarded), &want(&["a"]), from_ref(&a)), nothing);
    assert_eq!(decided(Some(&guarded), &want(&["a"]), from_ref(&here)), ["no finalizer"]);
    assert_eq!(decided(Some(&deleting), &want(&[]), from_ref(&a)), ["delete ns/a"]);
    assert_eq!(decided(Some(&deleting), &want(&[]), &[]), ["no finalizer"]);
    let unguarded = Object { deleting: true, ..bare };
    assert_eq!(decided(Some(&unguarded), &want(&[]), &[here]), nothing);
    let foreign = Extracted::default();
    assert_eq!(decided(Some(&guarded), &foreign, &[a]), ["delete ns/a"]);
}

#[test]
fn who_changes_the_class_is_cleaned_up_by_whom_it_was_made_by() {
    let object = object();
    let ours = slave("a", CertificateCluster::Source);
    let mut upstreams = ours.clone();
    upstreams.annotations.remove(SOURCE_CLASS);
    let mut anothers = ours.clone();
    anothers.annotations.insert(SOURCE_CLASS.into(), "other".into());
    let foreign = Extracted::default();
    for (slave, deleted) in [(ours, true), (upstreams, false), (anothers, false)] {
        assert_eq!(decided(Some(&object), &foreign, &[slave]).len() == 1, deleted);
    }
}

#[test]
fn certificates_of_other_objects_are_not_taken_for_ours() {
    let object = object();
    let mut before = slave("a", CertificateCluster::Source);
    before.owners[0].1 = Some("another uid".into());
    assert_eq!(decided(Some(&object), &want(&["b"]), &[before])[0], "delete ns/a");
    let mut shared = slave("b", CertificateCluster::Source);
    shared.owners.push((SourceKey { kind: Kind::Service, ..key() }, None));
    assert_eq!(decided(Some(&object), &want(&[]), &[shared]), [""; 0]);
}

#[test]
fn owners_with_a_former_id_of_the_cluster_are_written_anew() {
    let mut a = slave("a", CertificateCluster::Target);
    a.migrated = crate::api::owners::migrate("before:networking.k8s.io/Ingress/ns/Web", &source());
    let lines = decided(Some(&object()), &want(&["a"]), &[a]);
    assert!(lines[1].contains("source:networking.k8s.io/Ingress/ns/Web"), "{lines:?}");
    assert_eq!(
        CertificateKey { cluster: CertificateCluster::Target, object: ObjectKey::new("a", "b") }
            .to_string(),
        "target:a/b"
    );
}
