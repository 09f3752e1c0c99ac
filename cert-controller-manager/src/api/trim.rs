//! What is kept of a Certificate that is larger than any that is issued. Its writer decides how large
//! it is, and all Certificates are kept in memory: a list of a megabyte of short texts takes ten
//! times as much.
//!
//! Nothing here makes a refused Certificate an accepted one: of a list that is cut, more is left than
//! is allowed, and so of a text.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::{
    Certificate,
    marks::{self, OURS_OF_CERTIFICATES},
};

/// So many labels and so many annotations a Certificate gives to its Secret at most.
pub const MAX_PAIRS: usize = 64;
/// So many bytes they have together at most: the API server takes 256 KiB of annotations in one object,
/// and we and others have some, too.
pub const MAX_PAIRS_BYTES: usize = 192 << 10;
/// With so many owners a Certificate is adopted for an object that came back; of more only the first
/// ones are kept, so they cannot be written back.
pub const MAX_OWNERS: usize = 64;

/// So many elements of a list are kept; fewer are allowed.
const MAX_ELEMENTS: usize = 1_001;
/// About so many bytes of a list are kept; fewer are allowed.
const MAX_BYTES: usize = 128 << 10;
/// So many bytes of a text are kept: longer than any name or duration.
const MAX_TEXT: usize = 4 << 10;
/// So many renewal windows are kept; fewer are allowed.
const MAX_WINDOWS: usize = 51;
/// So many bytes of a signing request are kept; fewer are allowed.
const MAX_CSR: usize = 128 << 10;
/// Longest list of owners in an annotation; a longer one counts as none, since a cut one would name
/// another object.
const MAX_OWNERS_TEXT: usize = 4 << 10;
/// Longest text of an owner reference to something that can exist.
const MAX_REFERENCE_TEXT: usize = 512;

/// Cuts what is longer than allowed, and drops labels and annotations that the manager does not read.
pub fn trim(certificate: &mut Certificate) {
    let metadata = &mut certificate.metadata;
    for marks in [&mut metadata.labels, &mut metadata.annotations].into_iter().flatten() {
        marks.retain(|name, text| {
            OURS_OF_CERTIFICATES.contains(&name.as_str())
                && (name != marks::OWNERS || text.len() <= MAX_OWNERS_TEXT)
        });
        marks.values_mut().for_each(|text| cut(text, MAX_TEXT));
    }
    if let Some(references) = &mut metadata.owner_references {
        cut_references(references);
    }
    let spec = &mut certificate.spec;
    for pairs in [&mut spec.secret_labels, &mut spec.secret_annotations].into_iter().flatten() {
        cut_pairs(pairs);
    }
    let lists =
        [&mut spec.dns_names, &mut spec.email_addresses, &mut spec.ip_addresses, &mut spec.uris];
    lists.into_iter().flatten().for_each(cut_list);
    let texts = [
        &mut spec.common_name,
        &mut spec.secret_name,
        &mut spec.renew_before,
        &mut spec.ensure_renewed_after,
        &mut spec.profile,
        &mut spec.preferred_chain,
        &mut spec.duration,
    ];
    texts.into_iter().flatten().for_each(|text| cut(text, MAX_TEXT));
    if let Some(windows) = &mut spec.renewal_windows {
        windows.truncate(MAX_WINDOWS);
        windows.shrink_to_fit();
        for window in windows {
            window.days.iter_mut().for_each(cut_list);
            cut(&mut window.start, MAX_TEXT);
            cut(&mut window.duration, MAX_TEXT);
            window.time_zone.iter_mut().for_each(|text| cut(text, MAX_TEXT));
        }
    }
    if let Some(csr) = &mut spec.csr {
        csr.0.truncate(MAX_CSR);
        csr.0.shrink_to_fit();
    }
}

/// Leaves one more than allowed.
fn cut_pairs(pairs: &mut BTreeMap<String, String>) {
    if let Some(first) = pairs.keys().nth(MAX_PAIRS + 1).cloned() {
        pairs.split_off(&first);
    }
    // Names that are too long are refused, and stay so.
    if pairs.keys().any(|name| name.len() > MAX_TEXT) {
        *pairs = std::mem::take(pairs)
            .into_iter()
            .map(|(mut name, text)| {
                cut(&mut name, MAX_TEXT);
                (name, text)
            })
            .collect();
    }
    let mut left = MAX_PAIRS_BYTES + 4;
    for text in pairs.values_mut() {
        cut(text, left);
        left = left.saturating_sub(text.len());
    }
}

/// Leaves one more than are written back, and the controller. What cannot exist owns nothing.
fn cut_references(references: &mut Vec<OwnerReference>) {
    let mut kept = 0_usize;
    references.retain(|one| {
        let texts = [&one.api_version, &one.kind, &one.name, &one.uid];
        let can_exist = texts.iter().all(|text| text.len() <= MAX_REFERENCE_TEXT);
        let stays = can_exist && (kept <= MAX_OWNERS || one.controller == Some(true));
        kept += usize::from(stays);
        stays
    });
    references.shrink_to_fit();
}

fn cut_list(list: &mut Vec<String>) {
    let mut bytes = 0_usize;
    let fits = list.iter().take(MAX_ELEMENTS).take_while(|text| {
        let before = bytes;
        bytes = bytes.saturating_add(text.len());
        before < MAX_BYTES
    });
    let kept = fits.count();
    if kept < list.len() {
        list.truncate(kept);
        list.shrink_to_fit();
    }
    list.iter_mut().for_each(|text| cut(text, MAX_BYTES));
}

/// Leaves so many bytes of a text at most.
pub fn cut(text: &mut String, length: usize) {
    if text.len() > length {
        let mut end = length;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "literals of JSON read better so")]
    fn trimmed(spec: Value) -> Certificate {
        let metadata = json!({
            "name": "a", "labels": {"team": "web", "cert.gardener.cloud/hash": "h"},
            "annotations": {"example.org/large": "x", "gardener.cloud/operation": "reconcile"},
            "finalizers": ["other"],
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
    fn what_goes_to_the_secret_is_bounded_and_stays_refused() {
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
    fn of_marks_those_are_kept_that_are_read_and_of_owners_as_many_as_can_be() {
        let owner = |number: usize| OwnerReference {
            uid: number.to_string(),
            controller: Some(number == 900),
            ..OwnerReference::default()
        };
        let marks = |names: &[&str]| -> BTreeMap<String, String> {
            names.iter().map(|name| ((*name).to_owned(), "x".repeat(9_000))).collect()
        };
        let mut certificate =
            Certificate::new("a", super::super::certificate::CertificateSpec::default());
        let metadata = &mut certificate.metadata;
        metadata.labels = Some(marks(&["x.gardener.cloud/a", "cert.gardener.cloud/of-mine"]));
        metadata.annotations = Some(marks(&[marks::OWNERS, marks::CLASS]));
        let mut owners: Vec<_> = (0..1_000).map(owner).collect();
        owners[0].name = "x".repeat(9_000);
        metadata.owner_references = Some(owners);
        trim(&mut certificate);
        let metadata = certificate.metadata;
        assert_eq!(metadata.labels, Some(BTreeMap::new()));
        let left = BTreeMap::from([(marks::CLASS.to_owned(), "x".repeat(MAX_TEXT))]);
        assert_eq!(metadata.annotations, Some(left));
        let owners = metadata.owner_references.unwrap();
        assert_eq!((owners.len(), owners[0].uid.as_str()), (MAX_OWNERS + 2, "1"));
        assert_eq!(owners.last().unwrap().uid, "900");
    }

    #[test]
    fn what_is_allowed_stays_as_it_is_and_what_is_not_stays_refused() {
        let names: Vec<String> = (0..100).map(|it| format!("h{it}.x.test")).collect();
        let spec = json!({"commonName": "x.test", "dnsNames": names, "uris": ["spiffe://x/y"]});
        let kept = trimmed(spec.clone());
        assert_eq!(serde_json::to_value(&kept.spec).unwrap(), spec);
        let ours = |map: Option<std::collections::BTreeMap<String, String>>| -> Vec<String> {
            map.unwrap_or_default().into_keys().collect()
        };
        assert_eq!(ours(kept.metadata.labels), ["cert.gardener.cloud/hash"]);
        assert_eq!(ours(kept.metadata.annotations), ["gardener.cloud/operation"]);
        assert_eq!(kept.metadata.finalizers, Some(vec!["other".to_owned()]));

        let many = trimmed(json!({"dnsNames": vec!["a"; 300_000]})).spec.dns_names.unwrap();
        assert_eq!(many.len(), MAX_ELEMENTS);
        let long = trimmed(json!({"uris": vec!["x".repeat(100_000); 10]})).spec.uris.unwrap();
        assert_eq!(long.iter().map(String::len).collect::<Vec<_>>(), [100_000, 100_000]);
        let huge = trimmed(json!({"uris": ["ä".repeat(1_000_000)], "profile": "p".repeat(9_000)}));
        assert_eq!(huge.spec.uris.unwrap()[0].len(), MAX_BYTES);
        assert_eq!(huge.spec.profile.unwrap().len(), MAX_TEXT);
    }
}
