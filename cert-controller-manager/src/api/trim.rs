//! Trims Certificates, because all of them are kept in memory and tenants determine their size. A list
//! of a megabyte of short strings takes ten times as much.
//!
//! A refused Certificate stays refused: a trimmed list or string is still longer than allowed.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::{
    Certificate,
    certificate::{CertificateSpec, CertificateStatus, Condition},
    well_known::{self, READ_ON_CERTIFICATES},
};

/// Maximum number of labels, and of annotations, for the Secret.
pub const MAX_PAIRS: usize = 64;
/// Maximum size of each of these maps in bytes. The API server accepts 256 KiB of annotations in an object,
/// including those of controllers.
pub const MAX_PAIRS_BYTES: usize = 192 << 10;
/// Maximum number of owners of a Certificate that is adopted for a recreated source object. A longer list
/// is trimmed, so it must not be written back.
pub const MAX_OWNERS: usize = 64;

/// Elements of a list; fewer are allowed.
const MAX_ELEMENTS: usize = 1_001;
/// Approximate bytes of a list; fewer are allowed.
const MAX_BYTES: usize = 128 << 10;
/// Bytes of a string; valid names and durations are shorter.
const MAX_TEXT: usize = 4 << 10;
/// Renewal windows; fewer are allowed.
const MAX_WINDOWS: usize = 51;
/// Bytes of a signing request; fewer are allowed.
const MAX_CSR: usize = 128 << 10;
/// Bytes of the owner annotation. A longer one is removed, because a trimmed one would name another
/// object.
const MAX_OWNERS_TEXT: usize = 4 << 10;
/// Maximum length of a valid API version: group, slash and version.
const MAX_API_VERSION: usize = 317;
/// Maximum length of a kind.
const MAX_KIND: usize = 63;
/// Maximum length of a uid.
const MAX_UID: usize = 128;
/// Bytes of a name; valid names in Kubernetes and DNS are shorter.
const MAX_NAME: usize = 256;
/// Bytes of a message in the status; we write less.
const MAX_MESSAGE: usize = 4_100;
/// Names in the status; we write fewer.
const MAX_STATUS_NAMES: usize = 128;
/// Times in the status; we write fewer.
const MAX_INSTANTS: usize = 64;
/// Conditions in the status. We write one, which comes first.
const MAX_CONDITIONS: usize = 2;
/// Bytes of a text from a CA in the status; we write less.
const MAX_CA_TEXT: usize = 16 << 10;

/// Truncates strings and lists that are longer than allowed, and removes labels, annotations and
/// finalizers that the manager does not read. Never write the remaining finalizers back.
pub fn trim(certificate: &mut Certificate) {
    trim_metadata(certificate);
    trim_spec(&mut certificate.spec);
    certificate.status.iter_mut().for_each(trim_status);
}

fn trim_metadata(certificate: &mut Certificate) {
    let metadata = &mut certificate.metadata;
    metadata.managed_fields = None;
    metadata.generate_name = None;
    metadata.self_link = None;
    if let Some(finalizers) = &mut metadata.finalizers {
        finalizers.retain(|name| name == well_known::SECRET_FINALIZER);
        finalizers.truncate(1);
        finalizers.shrink_to_fit();
    }
    for entries in [&mut metadata.labels, &mut metadata.annotations].into_iter().flatten() {
        entries.retain(|name, text| {
            READ_ON_CERTIFICATES.contains(&name.as_str())
                && (name != well_known::OWNERS || text.len() <= MAX_OWNERS_TEXT)
        });
        entries.values_mut().for_each(|text| cut(text, MAX_TEXT));
    }
    if let Some(references) = &mut metadata.owner_references {
        truncate_references(references);
    }
}

fn trim_spec(spec: &mut CertificateSpec) {
    for pairs in [&mut spec.secret_labels, &mut spec.secret_annotations].into_iter().flatten() {
        truncate_pairs(pairs);
    }
    let lists =
        [&mut spec.dns_names, &mut spec.email_addresses, &mut spec.ip_addresses, &mut spec.uris];
    lists.into_iter().flatten().for_each(truncate_list);
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
    trim_references(spec);
    // Duplicates have no effect.
    let mut kinds = Vec::new();
    if let Some(formats) = &mut spec.additional_output_formats {
        formats.retain(|format| {
            let is_new = !kinds.contains(&format.kind);
            kinds.extend(is_new.then_some(format.kind));
            is_new
        });
        formats.shrink_to_fit();
    }
    if let Some(windows) = &mut spec.renewal_windows {
        windows.truncate(MAX_WINDOWS);
        windows.shrink_to_fit();
        for window in windows {
            window.days.iter_mut().for_each(truncate_list);
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

/// Truncates names of other objects. A truncated name is not valid.
fn trim_references(spec: &mut CertificateSpec) {
    if let Some(issuer) = &mut spec.issuer_ref {
        cut(&mut issuer.name, MAX_NAME);
        issuer.namespace.iter_mut().for_each(|text| cut(text, MAX_NAME));
    }
    if let Some(secret) = &mut spec.secret_ref {
        let names = [&mut secret.name, &mut secret.namespace];
        names.into_iter().flatten().for_each(|text| cut(text, MAX_NAME));
    }
    let Some(keystores) = &mut spec.keystores else { return };
    let jks = keystores.jks.as_mut().map(|store| &mut store.password_secret_ref);
    let pkcs12 = keystores.pkcs12.as_mut().map(|store| &mut store.password_secret_ref);
    for reference in [jks, pkcs12].into_iter().flatten() {
        cut(&mut reference.secret_name, MAX_NAME);
        reference.key.iter_mut().for_each(|text| cut(text, MAX_NAME));
    }
}

/// Tenants may be able to write the status. A truncated value still differs from the correct one, so it
/// is overwritten.
fn trim_status(status: &mut CertificateStatus) {
    cut(&mut status.state, MAX_NAME);
    status.message.iter_mut().for_each(|text| cut(text, MAX_MESSAGE));
    status.common_name.iter_mut().for_each(|text| cut(text, MAX_TEXT));
    let instants = [
        &mut status.last_pending_timestamp,
        &mut status.issuance_date,
        &mut status.renewal_date,
        &mut status.expiration_date,
    ];
    instants.into_iter().flatten().for_each(|text| cut(text, MAX_NAME));
    let lists = [(&mut status.dns_names, MAX_STATUS_NAMES), (&mut status.reissued, MAX_INSTANTS)];
    for (list, most) in lists {
        if let Some(list) = list {
            list.truncate(most);
            list.shrink_to_fit();
            list.iter_mut().for_each(|text| cut(text, MAX_NAME));
        }
    }
    if let Some(issuer) = &mut status.issuer_ref {
        let names = issuer.cluster.iter_mut().chain([&mut issuer.name, &mut issuer.namespace]);
        names.for_each(|text| cut(text, MAX_NAME));
    }
    if let Some(info) = &mut status.renewal_info {
        let texts = [&mut info.window_start, &mut info.window_end, &mut info.selected];
        texts.into_iter().for_each(|text| cut(text, MAX_NAME));
        let texts = info.explanation_url.iter_mut().chain([&mut info.certificate]);
        texts.for_each(|text| cut(text, MAX_CA_TEXT));
    }
    if let Some(backoff) = &mut status.backoff {
        cut(&mut backoff.recheck_after, MAX_NAME);
        cut(&mut backoff.recheck_interval, MAX_NAME);
    }
    status.conditions.iter_mut().for_each(trim_conditions);
}

/// Keeps our condition.
fn trim_conditions(conditions: &mut Vec<Condition>) {
    conditions.sort_by_key(|condition| condition.type_ != "Ready");
    conditions.truncate(MAX_CONDITIONS);
    conditions.shrink_to_fit();
    for condition in conditions {
        cut(&mut condition.message, MAX_MESSAGE);
        let texts = [
            &mut condition.type_,
            &mut condition.status,
            &mut condition.reason,
            &mut condition.last_transition_time,
        ];
        texts.into_iter().for_each(|text| cut(text, MAX_NAME));
    }
}

/// Truncates labels or annotations, but keeps one more than allowed.
fn truncate_pairs(pairs: &mut BTreeMap<String, String>) {
    if let Some(first) = pairs.keys().nth(MAX_PAIRS + 1).cloned() {
        pairs.split_off(&first);
    }
    // A name that is too long is refused, before and after the truncation.
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

/// Truncates owners, but keeps one more than allowed and the controller. Invalid ones are removed.
fn truncate_references(references: &mut Vec<OwnerReference>) {
    let mut kept = 0_usize;
    references.retain(|one| {
        let can_exist = one.api_version.len() <= MAX_API_VERSION
            && one.kind.len() <= MAX_KIND
            && one.name.len() <= MAX_NAME
            && one.uid.len() <= MAX_UID;
        let stays = can_exist && (kept <= MAX_OWNERS || one.controller == Some(true));
        kept += usize::from(stays);
        stays
    });
    references.shrink_to_fit();
}

fn truncate_list(list: &mut Vec<String>) {
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

/// Truncates a string to at most `length` bytes.
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
mod tests;
