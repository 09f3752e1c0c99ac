//! Summary of a Secret. Pure.

use cert_lib::model::bundle::{Bundle, Leaf};
use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::ResourceExt;

use super::{
    layout::{self, Layout},
    pairs::Pairs,
};
use crate::api::{
    secret::{digest_label, entry, has_void_mark, is_revoked, noted_request},
    well_known,
};

/// Summary of a Secret, without its data and its private key.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Resource version that was read.
    pub resource_version: String,
    /// Type of the Secret; immutable.
    pub kind: String,
    /// Whether the API server refuses changes of the data.
    pub immutable: bool,
    /// The labels that the manager uses.
    pub(super) known_labels: Vec<(&'static str, String)>,
    /// Hashes of all labels.
    pub(super) labels: Pairs,
    /// Whether the certificate was revoked.
    pub revoked: bool,
    /// Whether there is a revocation annotation for another certificate.
    pub has_void_mark: bool,
    /// Whether the Secret has the label with the digest of its certificate.
    pub has_digest_label: bool,
    /// Owners in the same namespace.
    pub(super) owners: Vec<OwnerReference>,
    /// Owners in another namespace or cluster, from the annotation.
    pub(super) foreign_owners: Option<String>,
    /// Whether the Secret has data.
    pub(super) is_filled: bool,
    /// Realm of the manager that wrote the Secret; `None` if the annotation is missing.
    pub(super) realm: Option<Box<str>>,
    /// When the certificate was requested.
    pub(super) requested_at: Option<Timestamp>,
    /// Whether there is a private key; it matches the certificate.
    pub(super) has_key: bool,
    /// The certificate, or why it cannot be used.
    pub(super) leaf: Result<Leaf, String>,
    /// Entries other than certificate and key.
    pub(super) layout: Layout,
}

impl Facts {
    /// notAfter of the certificate; `None` if there is none.
    #[must_use]
    pub fn not_after(&self) -> Option<Timestamp> {
        self.leaf.as_ref().ok().map(|leaf| leaf.not_after)
    }

    /// Whether there is a revocation annotation, for this or another certificate.
    #[must_use]
    pub fn is_marked_revoked(&self) -> bool {
        self.revoked || self.has_void_mark
    }

    /// The value of a label in [`KNOWN_LABELS`].
    #[must_use]
    pub fn label(&self, name: &str) -> Option<&str> {
        self.known_labels.iter().find(|(label, _)| *label == name).map(|(_, value)| value.as_str())
    }
}

/// The labels that the manager uses.
const KNOWN_LABELS: [&str; 3] = [well_known::HASH, well_known::CERTIFICATE, well_known::BACKUP];
/// Maximum number of owner references that are stored.
const MAX_OWNERS: usize = 64;

/// Summarizes a Secret.
#[must_use]
pub fn facts(secret: &Secret) -> Facts {
    let annotations = secret.annotations();
    let bundle = bundle(secret);
    let known_label = |name| secret.labels().get(name).map(|value| (name, value.clone()));
    Facts {
        resource_version: secret.resource_version().unwrap_or_default(),
        kind: secret.type_.clone().unwrap_or_default(),
        immutable: secret.immutable == Some(true),
        known_labels: KNOWN_LABELS.into_iter().filter_map(known_label).collect(),
        labels: Pairs::of(secret.labels()),
        revoked: is_revoked(secret),
        has_void_mark: has_void_mark(secret),
        has_digest_label: bundle.as_ref().is_ok_and(|it| has_digest_label(secret, &it.leaf)),
        owners: secret.owner_references().iter().take(MAX_OWNERS).cloned().collect(),
        foreign_owners: annotations.get(well_known::OWNERS).filter(|it| it.len() <= 4_096).cloned(),
        is_filled: secret.data.as_ref().is_some_and(|data| !data.is_empty()),
        realm: annotations.get(well_known::REALM).map(|text| bounded(text)),
        requested_at: noted_request(secret),
        has_key: !entry(secret, "tls.key").is_empty(),
        layout: layout::of(secret, bundle.as_ref().ok()),
        leaf: bundle.map(|bundle| bundle.leaf),
    }
}

fn has_digest_label(secret: &Secret, leaf: &Leaf) -> bool {
    secret.labels().get(well_known::DIGEST).is_some_and(|text| *text == digest_label(&leaf.digest))
}

/// The realm, bounded in size. A longer one is replaced by a value that matches no manager.
fn bounded(text: &str) -> Box<str> {
    if text.len() <= 4_096 { text.into() } else { "".into() }
}

/// Certificate, chain and key of a Secret, or why they cannot be used.
pub(in crate::certificates) fn bundle(secret: &Secret) -> Result<Bundle, String> {
    let key = Some(entry(secret, "tls.key")).filter(|key| !key.is_empty());
    Bundle::from_pem(entry(secret, "tls.crt"), key)
        .map_err(|error| format!("the Secret cannot be used: {error}"))
}

/// The leaf certificate of a Secret, if it has one.
#[must_use]
pub fn leaf(secret: &Secret) -> Option<Leaf> {
    Bundle::from_pem(entry(secret, "tls.crt"), None).ok().map(|bundle| bundle.leaf)
}
