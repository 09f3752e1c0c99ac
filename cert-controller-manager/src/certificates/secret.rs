//! The certificate Secret: reads and renders it. Pure, except for [`cache`], [`keystores`] and
//! [`mod@write`].

pub mod cache;
mod facts;
pub mod keystore_problem;
pub mod keystores;
pub mod layout;
pub mod metadata;
pub mod options;
pub mod pairs;
pub mod write;

use std::collections::BTreeMap;

use cert_lib::{
    model::{
        bundle::Bundle,
        key::{Encoding, KeyError},
        request::Fingerprint,
    },
    plan::{Record, SecretState, Stored},
};
use jiff::Timestamp;
use k8s_openapi::{
    ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::api::ObjectMeta;

pub(super) use self::facts::bundle;
pub use self::facts::{Facts, facts, leaf};
use self::{
    keystores::KeystoreState,
    layout::{COMBINED, DER, STORES},
    options::SecretOptions,
};
use super::ownership::{self, SecretOwnership};
use crate::api::{
    ObjectKey, Realm,
    secret::{assumed_request, digest_label, entry},
    time::seconds,
    well_known,
};

/// Type of new Secrets.
pub const TLS: &str = "kubernetes.io/tls";

/// What a Certificate requires of its Secret.
#[derive(Debug)]
pub struct Expectation<'a> {
    /// Requested layout.
    pub options: &'a SecretOptions,
    /// State of the keystores.
    pub keystores: &'a KeystoreState,
    /// Whether the certificate is for a signing request, so that the manager has no private key.
    pub key_is_elsewhere: bool,
    /// How the Secret must belong to the Certificate.
    pub ownership: &'a SecretOwnership,
    /// Whether other Secrets must not be overwritten. This holds if the Certificate is in another
    /// cluster or namespace: its author may have no rights on the Secrets there.
    pub only_certificate_secrets: bool,
}

/// The state of a Secret for the plan.
#[must_use]
pub fn state(key: &ObjectKey, facts: Option<&Facts>, expected: &Expectation<'_>) -> SecretState {
    let Some(facts) = facts else { return SecretState::Missing };
    if facts.label(well_known::BACKUP).is_some() {
        return SecretState::NotWritable(format!(
            "Secret {key} is a backup: change spec.secretName"
        ));
    }
    if expected.only_certificate_secrets && facts.is_filled && !is_certificate_secret(facts) {
        return SecretState::NotWritable(format!(
            "Secret {key} exists and is not a certificate Secret: delete it, label it {}=true, or change spec.secretName",
            well_known::CERTIFICATE
        ));
    }
    if facts.immutable {
        return SecretState::NotWritable(format!(
            "Secret {key} is immutable: delete it or change spec.secretName"
        ));
    }
    match &facts.leaf {
        Ok(_) if !facts.has_key && !expected.key_is_elsewhere => {
            SecretState::Unusable("the Secret has no private key".to_owned())
        }
        Err(why) => SecretState::Unusable(why.clone()),
        Ok(leaf) => SecretState::Holds(Stored {
            fingerprint: facts.label(well_known::HASH).map(Fingerprint::stored),
            requested_at: facts.requested_at.unwrap_or_else(|| assumed_request(leaf)),
            revoked: facts.revoked,
            layout_is_current: !facts.has_void_mark
                && has_labels(facts, &expected.options.labels)
                && facts.layout.fits(expected.options, facts.has_key)
                && *expected.keystores != KeystoreState::Outdated
                && ownership::is_owned(
                    expected.ownership,
                    &facts.owners,
                    facts.foreign_owners.as_deref(),
                ),
            suggested: None,
            record: Record::Unknown,
            leaf: leaf.clone(),
        }),
    }
}

/// The certificate of a Secret that can be shared with another Certificate.
///
/// It must be a certificate Secret of `realm` with a private key. In the same namespace the realm
/// can be missing, as after a restore from files.
#[must_use]
pub fn shareable(facts: &Facts, realm: &Realm, same_namespace: bool) -> Option<Stored> {
    let leaf = facts.leaf.as_ref().ok()?;
    let is_ours = facts.realm.as_ref().map_or(same_namespace, |text| realm.is(text));
    let is_one =
        is_certificate_secret(facts) && facts.label(well_known::BACKUP).is_none() && facts.has_key;
    (is_one && is_ours).then(|| Stored {
        fingerprint: facts.label(well_known::HASH).map(Fingerprint::stored),
        requested_at: facts.requested_at.unwrap_or_else(|| assumed_request(leaf)),
        revoked: facts.revoked,
        layout_is_current: true,
        suggested: None,
        record: Record::Unknown,
        leaf: leaf.clone(),
    })
}

fn is_certificate_secret(facts: &Facts) -> bool {
    facts.label(well_known::CERTIFICATE) == Some("true")
}

fn has_labels(facts: &Facts, labels: &BTreeMap<String, String>) -> bool {
    is_certificate_secret(facts) && labels.iter().all(|(name, value)| facts.labels.has(name, value))
}

/// Certificate and key in the form in which they are written.
#[derive(Debug)]
pub struct Body<'a> {
    /// The parsed certificate.
    pub bundle: &'a Bundle,
    /// `tls.crt`
    chain: Vec<u8>,
    /// `tls.key`; empty if the manager has no key.
    key: Vec<u8>,
    /// `ca.crt`; empty if there is no CA certificate.
    pub ca: Vec<u8>,
}

impl<'a> Body<'a> {
    /// The contents for a new certificate.
    ///
    /// # Errors
    /// When the key does not support the encoding.
    pub fn from_bundle(bundle: &'a Bundle, encoding: Encoding) -> Result<Self, KeyError> {
        let key = bundle.key.as_ref().map(|key| key.pem_in(encoding)).transpose()?;
        Ok(Self {
            bundle,
            chain: bundle.certificate_pem().into_bytes(),
            key: key.map(|key| key.as_bytes().to_vec()).unwrap_or_default(),
            ca: bundle.issuers_pem().into_bytes(),
        })
    }

    /// The contents of an existing Secret. Only the encoding of the key changes, if one is
    /// requested. A missing `ca.crt` is added from the chain.
    ///
    /// # Errors
    /// When the key does not support the encoding.
    pub fn from_secret(
        secret: &Secret,
        bundle: &'a Bundle,
        encoding: Option<Encoding>,
    ) -> Result<Self, KeyError> {
        let bytes = |name: &str| entry(secret, name).to_vec();
        let key = match (encoding, &bundle.key) {
            (Some(encoding), Some(key)) => key.pem_in(encoding)?.as_bytes().to_vec(),
            (Some(_) | None, _) => bytes("tls.key"),
        };
        let ca = match bytes("ca.crt") {
            // `kubectl create secret tls` writes no ca.crt.
            none if none.is_empty() => bundle.issuers_pem().into_bytes(),
            ca => ca,
        };
        Ok(Self { bundle, chain: bytes("tls.crt"), key, ca })
    }
}

/// Everything that a rendered Secret contains.
#[derive(Debug)]
pub struct Content<'a> {
    /// Certificate, chain and key.
    pub body: Body<'a>,
    /// Fingerprint of the request.
    pub fingerprint: &'a Fingerprint,
    /// When the certificate was requested.
    pub requested_at: Timestamp,
    /// Realm of this manager.
    pub realm: &'a Realm,
    /// Requested layout.
    pub options: &'a SecretOptions,
    /// The keystores.
    pub stores: Vec<(&'static str, ByteString)>,
    /// Whether the keystores are for an older certificate, because new ones could not be created.
    pub keystores_are_outdated: bool,
    /// Type of the existing Secret.
    pub kind: Option<&'a str>,
    /// How the Secret must belong to the Certificate.
    pub ownership: &'a SecretOwnership,
}

/// Renders the Secret for server-side apply.
#[must_use]
pub fn render(key: &ObjectKey, content: &Content<'_>) -> Secret {
    let data = data(content);
    let mut annotations = content.options.annotations.clone();
    annotations.insert(well_known::REQUESTED_AT.to_owned(), seconds(content.requested_at));
    annotations.insert(well_known::REALM.to_owned(), content.realm.as_str().to_owned());
    if data.keys().any(|name| STORES.contains(&name.as_str())) {
        let profile = content.options.stores.profile.unwrap_or_default();
        let note = if content.keystores_are_outdated {
            "outdated".to_owned()
        } else {
            layout::note(profile, &data)
        };
        annotations.insert(well_known::KEYSTORES.to_owned(), note);
    }
    if let SecretOwnership::Finalizer(owner) = content.ownership {
        annotations.insert(well_known::OWNERS.to_owned(), owner.clone());
    }
    let kind = content.kind.filter(|kind| !kind.is_empty()).unwrap_or(TLS);
    Secret {
        metadata: ObjectMeta {
            namespace: Some(key.namespace.clone()),
            name: Some(key.name.clone()),
            labels: Some(labels(content)),
            annotations: Some(annotations),
            owner_references: owners(content.ownership),
            ..ObjectMeta::default()
        },
        type_: Some(kind.to_owned()),
        data: Some(data),
        ..Secret::default()
    }
}

fn data(content: &Content<'_>) -> BTreeMap<String, ByteString> {
    let Body { bundle, chain, key, ca } = &content.body;
    let mut data = BTreeMap::new();
    let mut add = |name: &str, bytes: Vec<u8>| data.insert(name.to_owned(), ByteString(bytes));
    if let Some(private) = &bundle.key {
        if content.options.combined {
            add(COMBINED, layout::combined(key, chain));
        }
        if content.options.der {
            add(DER, private.pkcs8().to_vec());
        }
    }
    add("tls.crt", chain.clone());
    add("tls.key", key.clone());
    if !ca.is_empty() {
        add("ca.crt", ca.clone());
    }
    content.stores.iter().for_each(|(name, bytes)| {
        add(name, bytes.0.clone());
    });
    data
}

fn owners(ownership: &SecretOwnership) -> Option<Vec<OwnerReference>> {
    match ownership {
        SecretOwnership::OwnerReferences(owners) => Some(owners.clone()),
        SecretOwnership::None | SecretOwnership::Finalizer(_) => None,
    }
}

fn labels(content: &Content<'_>) -> BTreeMap<String, String> {
    let mut labels = content.options.labels.clone();
    labels.insert(well_known::CERTIFICATE.to_owned(), "true".to_owned());
    labels.insert(well_known::HASH.to_owned(), content.fingerprint.as_str().to_owned());
    labels.insert(well_known::DIGEST.to_owned(), digest_label(&content.body.bundle.leaf.digest));
    labels
}

#[cfg(test)]
mod tests {
    use kube::ResourceExt;

    use super::*;
    use crate::api::ClusterId;

    fn pair(realm: Option<&str>, revoked: bool) -> Secret {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let data = [("tls.crt", pem), ("tls.key", key.serialize_pem())];
        let data = data.map(|(name, text)| (name.to_owned(), ByteString(text.into_bytes())));
        let mut secret = Secret { data: Some(data.into()), ..Secret::default() };
        secret.labels_mut().insert(well_known::CERTIFICATE.to_owned(), "true".to_owned());
        let revoked = revoked.then_some((well_known::REVOKED, "true"));
        for (name, text) in realm.map(|realm| (well_known::REALM, realm)).into_iter().chain(revoked)
        {
            secret.annotations_mut().insert(name.to_owned(), text.to_owned());
        }
        secret
    }

    #[test]
    fn a_shareable_secret_has_our_realm_or_is_in_the_same_namespace_without_one() {
        let realm = Realm::new("class", &ClusterId { id: "one".into(), former: vec![] });
        for (text, near, found) in [
            (Some("class@one"), true, true),
            (Some("class@one"), false, true),
            (None, true, true),
            (None, false, false),
            (Some("class@two"), true, false),
            (Some(""), true, false),
        ] {
            let facts = facts(&pair(text, false));
            assert_eq!(shareable(&facts, &realm, near).is_some(), found, "{text:?} {near}");
        }
    }

    #[test]
    fn only_the_digest_label_of_the_whole_certificate_counts() {
        let (secret, other) = (pair(None, false), pair(None, false));
        let label = |of: &Secret| digest_label(&leaf(of).unwrap().digest);
        assert_eq!(label(&secret).len(), 56);
        for (text, found) in [
            (Some(label(&secret)), true),
            (Some(label(&other)), false),
            (Some(label(&secret)[..32].to_owned()), false),
            (Some(String::new()), false),
            (None, false),
        ] {
            let mut secret = secret.clone();
            secret
                .labels_mut()
                .extend(text.clone().map(|text| (well_known::DIGEST.to_owned(), text)));
            assert_eq!(facts(&secret).has_digest_label, found, "{text:?}");
        }
    }

    #[test]
    fn the_write_that_replaces_a_revoked_certificate_voids_the_revocation_mark() {
        for revoked in [true, false] {
            let before = facts(&pair(None, revoked));
            let mut new = pair(None, false);
            write::void_mark(&mut new, Some(&before));
            let about = new.annotations().get(well_known::REVOKED_CERTIFICATE).map(String::as_str);
            assert_eq!(about, revoked.then_some(well_known::REPLACED));
        }
    }
}
