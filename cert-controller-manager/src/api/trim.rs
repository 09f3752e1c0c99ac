//! What is kept of a Certificate that is larger than any that is issued. Its writer decides how large
//! it is, and all Certificates are kept in memory: a list of a megabyte of short texts takes ten
//! times as much.
//!
//! Nothing here makes a refused Certificate an accepted one: of a list that is cut, more is left than
//! is allowed, and so of a text.

use super::Certificate;

/// So many elements of a list are kept; fewer are allowed.
const MAX_ELEMENTS: usize = 1_001;
/// About so many bytes of a list are kept; fewer are allowed.
const MAX_BYTES: usize = 128 << 10;
/// So many bytes of a text are kept: longer than any name or duration.
const MAX_TEXT: usize = 4 << 10;
/// So many bytes of a signing request are kept; fewer are allowed.
const MAX_CSR: usize = 128 << 10;
/// All marks that are read have this in their names.
const OURS: &str = "gardener.cloud/";

/// Cuts what is longer than allowed, and drops labels and annotations that nobody here reads.
pub fn trim(certificate: &mut Certificate) {
    let metadata = &mut certificate.metadata;
    for marks in [&mut metadata.labels, &mut metadata.annotations].into_iter().flatten() {
        marks.retain(|name, _| name.contains(OURS));
    }
    let spec = &mut certificate.spec;
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
    if let Some(csr) = &mut spec.csr {
        csr.0.truncate(MAX_CSR);
        csr.0.shrink_to_fit();
    }
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

fn cut(text: &mut String, length: usize) {
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
