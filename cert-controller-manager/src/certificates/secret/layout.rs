//! What a Secret holds besides certificate and key, and whether that is what is asked for. Pure.

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

/// Key, then chain.
pub const COMBINED: &str = "tls-combined.pem";
/// The key in binary PKCS#8.
pub const DER: &str = "key.der";
/// Keystores and truststores.
pub const JKS: &str = "keystore.jks";
/// See [`JKS`].
pub const JKS_TRUST: &str = "truststore.jks";
/// See [`JKS`].
pub const PKCS12: &str = "keystore.p12";
/// See [`JKS`].
pub const PKCS12_TRUST: &str = "truststore.p12";
/// All of these.
pub const EXTRA: [&str; 6] = [COMBINED, DER, JKS, JKS_TRUST, PKCS12, PKCS12_TRUST];
/// Those that are keystores.
pub const STORES: [&str; 4] = [JKS, JKS_TRUST, PKCS12, PKCS12_TRUST];

/// What is remembered of a Secret's extra entries: none of their content.
#[derive(Clone, Debug)]
pub struct Layout {
    encoding: Option<Encoding>,
    /// The extra entries that are there; the first two only where they are of this key and chain.
    present: Vec<&'static str>,
    /// The extra entries that a manager like us has written, by what the API server says.
    ours: Vec<&'static str>,
    /// Whether there is a CA to trust.
    has_ca: bool,
    note: KeystoreNote,
    /// Stands for those that are not reserved.
    annotations: Pairs,
}

/// What the annotation on a Secret says about its keystores.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum KeystoreNote {
    /// Nothing: upstream made them, or nobody.
    Missing,
    /// They were made for another certificate, or somebody has changed them.
    Outdated,
    /// They were made for this certificate, with these ciphers.
    Current(Profile),
}

/// What a Secret has; `bundle` is what can be read of it.
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

/// Annotations that are not for a Certificate to set.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    name.starts_with("cert.gardener.cloud/")
        || name == well_known::OWNERS
        || name == "kubectl.kubernetes.io/last-applied-configuration"
}

impl Layout {
    /// Whether everything but the keystores is as asked for, and nothing of ours is superfluous. Only
    /// what is asked for in so many words counts: what upstream wrote stays as it is.
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

    /// The entries of ours that nobody asks for.
    #[must_use]
    pub fn unwanted_keys(&self, options: &SecretOptions, has_key: bool) -> Vec<&'static str> {
        let wanted = wanted_keys(options, self.has_ca, has_key);
        self.ours.iter().copied().filter(|name| !wanted.contains(name)).collect()
    }

    /// Whether the keystores are there and, as far as that can be told without their password, the
    /// right ones.
    #[must_use]
    pub fn has_stores(&self, options: &KeystoreOptions) -> bool {
        let is_for_this_certificate = match self.note {
            // Ciphers count where they are named.
            KeystoreNote::Missing => options.profile.is_none(),
            KeystoreNote::Outdated => false,
            KeystoreNote::Current(profile) => options.profile.is_none_or(|it| it == profile),
        };
        is_for_this_certificate
            && stores(options, self.has_ca).iter().all(|name| self.present.contains(name))
    }
}

/// The extra entries that a Secret is to have.
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

/// The keystores that a Secret is to have. Without a CA there is nothing to trust.
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

/// What [`COMBINED`] holds.
#[must_use]
pub fn combined(key: &[u8], chain: &[u8]) -> Vec<u8> {
    let line: &[u8] = if key.ends_with(b"\n") { b"" } else { b"\n" };
    [key, line, chain].concat()
}

/// The entries that were written by a manager of our name, which upstream has, too. Those of others
/// are not ours to remove.
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

/// What the annotation says of keystores that were made for this certificate: the ciphers, which
/// they are, and a digest of what they were made from and of them. None of it helps to guess a
/// password: whoever can compare it has the keystores.
#[must_use]
pub fn note(profile: Profile, data: &BTreeMap<String, ByteString>) -> String {
    let bits = STORES.iter().zip([1, 2, 4, 8]).filter(|(name, _)| data.contains_key(**name));
    note_of(profile, bits.map(|(_, bit)| bit).sum(), data)
}

/// Others may have put a keystore of their own beside ours: `which` counts, in the order of
/// [`STORES`].
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
