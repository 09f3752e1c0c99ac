//! Entries of a Secret other than certificate and key, and whether they match the requested layout.
//! Pure.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use cert_lib::{
    keystore::pkcs12::Profile,
    model::{
        bundle::{Bundle, certificates},
        key::Encoding,
    },
};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::ResourceExt;

use super::{
    options::{KeystoreOptions, SecretOptions},
    pairs::Pairs,
};
use crate::api::{secret::entry, well_known};

/// Private key, followed by the certificate chain.
pub const COMBINED: &str = "tls-combined.pem";
/// Private key in binary PKCS#8.
pub const DER: &str = "key.der";
/// JKS keystore.
pub const JKS: &str = "keystore.jks";
/// JKS truststore.
pub const JKS_TRUST: &str = "truststore.jks";
/// PKCS#12 keystore.
pub const PKCS12: &str = "keystore.p12";
/// PKCS#12 truststore.
pub const PKCS12_TRUST: &str = "truststore.p12";
/// All optional entries.
pub const EXTRA: [&str; 6] = [COMBINED, DER, JKS, JKS_TRUST, PKCS12, PKCS12_TRUST];
/// Keystores and truststores.
pub const STORES: [&str; 4] = [JKS, JKS_TRUST, PKCS12, PKCS12_TRUST];

/// Summary of a Secret's optional entries, without their contents.
#[derive(Clone, Debug)]
pub struct Layout {
    encoding: Option<Encoding>,
    /// Optional entries that exist. [`COMBINED`] and [`DER`] are listed only if they match key and
    /// chain.
    present: Vec<&'static str>,
    /// Optional entries written by our field manager.
    ours: Vec<&'static str>,
    /// Whether `ca.crt` contains a certificate.
    has_ca: bool,
    note: KeystoreNote,
    /// Hashes of annotations that are not reserved.
    annotations: Pairs,
}

/// The annotation about the keystores.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum KeystoreNote {
    /// No annotation: the keystores are upstream's, or there are none.
    Missing,
    /// The keystores are for another certificate, or were changed.
    Outdated,
    /// The keystores are for this certificate, with these ciphers.
    Current(Profile),
}

/// The layout of a Secret; `bundle` is its parsed certificate.
pub(super) fn of(secret: &Secret, bundle: Option<&Bundle>) -> Layout {
    let key = bundle.and_then(|bundle| bundle.key.as_ref());
    let pem = entry(secret, "tls.key");
    let is_right = |name: &str| match name {
        COMBINED => entry(secret, name) == combined(pem, entry(secret, "tls.crt")),
        DER => key.is_some_and(|key| entry(secret, name) == key.pkcs8()),
        _ => true,
    };
    let is_there = |name: &&str| !entry(secret, name).is_empty() && is_right(name);
    let annotations = secret.annotations().iter();
    let annotations = annotations.filter(|(name, _)| !is_reserved(name));
    Layout {
        encoding: Encoding::of(pem),
        present: EXTRA.into_iter().filter(is_there).collect(),
        ours: ours(secret),
        has_ca: certificates(entry(secret, "ca.crt")).is_ok_and(|ca| !ca.is_empty()),
        note: read_note(secret),
        annotations: Pairs::of(annotations),
    }
}

/// Whether a Certificate must not set this annotation or label.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    name.starts_with("cert.gardener.cloud/")
        || name == well_known::OWNERS
        || name == "kubectl.kubernetes.io/last-applied-configuration"
}

impl Layout {
    /// Whether everything except the keystores matches the requested layout, and no entry of ours
    /// is unwanted. Only explicit options count, so that Secrets of upstream stay unchanged.
    #[must_use]
    pub fn fits(&self, options: &SecretOptions, has_key: bool) -> bool {
        let encoding_fits = !has_key || options.encoding.is_none_or(|it| self.encoding == Some(it));
        let is_there = |name: &str| self.present.contains(&name);
        encoding_fits
            && options.annotations.iter().all(|(name, value)| self.annotations.has(name, value))
            && (!has_key || !options.combined || is_there(COMBINED))
            && (!has_key || !options.der || is_there(DER))
            && self.unwanted_keys(options, has_key).is_empty()
    }

    /// Our entries that are not requested.
    #[must_use]
    pub fn unwanted_keys(&self, options: &SecretOptions, has_key: bool) -> Vec<&'static str> {
        let wanted = wanted_keys(options, self.has_ca, has_key);
        self.ours.iter().copied().filter(|name| !wanted.contains(name)).collect()
    }

    /// Whether the keystores exist and are for this certificate, as far as this shows without their
    /// passwords.
    #[must_use]
    pub fn has_stores(&self, options: &KeystoreOptions) -> bool {
        let is_for_this_certificate = match self.note {
            // Ciphers matter only if they are specified.
            KeystoreNote::Missing => options.profile.is_none(),
            KeystoreNote::Outdated => false,
            KeystoreNote::Current(profile) => options.profile.is_none_or(|it| it == profile),
        };
        is_for_this_certificate
            && stores(options, self.has_ca).iter().all(|name| self.present.contains(name))
    }
}

/// The requested optional entries.
fn wanted_keys(options: &SecretOptions, has_ca: bool, has_key: bool) -> Vec<&'static str> {
    if !has_key {
        return Vec::new();
    }
    let if_wanted = |wanted: bool, name| wanted.then_some(name);
    let mut all = stores(&options.stores, has_ca);
    all.extend(
        if_wanted(options.combined, COMBINED).into_iter().chain(if_wanted(options.der, DER)),
    );
    all
}

/// The requested keystores. A truststore needs a CA certificate.
#[must_use]
pub fn stores(options: &KeystoreOptions, has_ca: bool) -> Vec<&'static str> {
    [
        (JKS, options.jks.is_some()),
        (JKS_TRUST, options.jks.is_some() && has_ca),
        (PKCS12, options.pkcs12.is_some()),
        (PKCS12_TRUST, options.pkcs12.is_some() && has_ca),
    ]
    .into_iter()
    .filter_map(|(name, wanted)| wanted.then_some(name))
    .collect()
}

/// Contents of [`COMBINED`].
#[must_use]
pub fn combined(key: &[u8], chain: &[u8]) -> Vec<u8> {
    let line: &[u8] = if key.ends_with(b"\n") { b"" } else { b"\n" };
    [key, line, chain].concat()
}

/// Entries written by our field manager, which has the same name in upstream. Entries of others are
/// kept.
fn ours(secret: &Secret) -> Vec<&'static str> {
    let managed = secret.metadata.managed_fields.iter().flatten();
    let managed = managed.filter(|it| it.manager.as_deref() == Some(well_known::FIELD_MANAGER));
    let fields: Vec<_> = managed.filter_map(|it| it.fields_v1.as_ref()?.0.get("f:data")).collect();
    let is_ours = |name: &&str| fields.iter().any(|data| data.get(format!("f:{name}")).is_some());
    EXTRA.into_iter().filter(is_ours).collect()
}

fn read_note(secret: &Secret) -> KeystoreNote {
    let Some(text) = secret.annotations().get(well_known::KEYSTORES) else {
        return KeystoreNote::Missing;
    };
    let data = secret.data.clone().unwrap_or_default();
    let mut parts = text.split('.');
    let profiles = [Profile::Modern2023, Profile::LegacyDes];
    let profile = parts.next().and_then(|word| profiles.into_iter().find(|it| it.word() == word));
    let which = parts.next().and_then(|digits| u8::from_str_radix(digits, 16).ok());
    match (profile, which) {
        (Some(profile), Some(which)) if *text == note_of(profile, which, &data) => {
            KeystoreNote::Current(profile)
        }
        _ => KeystoreNote::Outdated,
    }
}

/// The annotation for keystores of this certificate: ciphers, which keystores exist, and a digest
/// of certificate and keystores. It does not help to guess a password more than the keystores
/// themselves do.
#[must_use]
pub fn note(profile: Profile, data: &BTreeMap<String, ByteString>) -> String {
    let bits = STORES.iter().zip([1, 2, 4, 8]).filter(|(name, _)| data.contains_key(**name));
    note_of(profile, bits.map(|(_, bit)| bit).sum(), data)
}

/// Only keystores in `which`, a bit set in the order of [`STORES`], are part of the digest: other
/// clients can add keystores of their own.
fn note_of(profile: Profile, which: u8, data: &BTreeMap<String, ByteString>) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    let stores = STORES.iter().zip([1, 2, 4, 8]).filter(|(_, bit)| which & bit != 0);
    for name in ["tls.crt", "ca.crt"].iter().chain(stores.map(|(name, _)| name)) {
        let value = data.get(*name).map_or(&[][..], |value| &value.0);
        context.update(&(value.len() as u64).to_be_bytes());
        context.update(value);
    }
    let digest = context.finish();
    let hex: String = digest.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{}.{which:x}.{hex}", profile.word())
}

#[cfg(test)]
mod tests;
