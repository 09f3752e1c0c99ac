//! The state of a source object from which its changes are decided. Values only.

use super::{
    extract::{DesiredCertificate, Extracted},
    key::SourceKey,
    object::Object,
    owned_certificates::OwnedCertificate,
};
use crate::{
    api::{ObjectKey, well_known},
    config::SourceSettings,
};

/// A source object and its Certificates.
pub struct SourceState<'a> {
    /// The key of the source object.
    pub key: &'a SourceKey,
    /// The source object; `None` only if it is certainly absent.
    pub object: Option<&'a Object>,
    /// The desired certificates; empty if the object is absent.
    pub extracted: &'a Extracted,
    /// The Certificates that the object owns.
    pub owned: &'a [OwnedCertificate],
    /// Whether the target is a separate cluster.
    pub has_target: bool,
    /// The configuration of the source controllers.
    pub settings: &'a SourceSettings,
}

impl SourceState<'_> {
    /// The Secret of the Certificate.
    pub(super) fn secret(&self, certificate: &DesiredCertificate) -> ObjectKey {
        let elsewhere = self.settings.target_namespace.as_ref().filter(|_| self.has_target);
        match elsewhere {
            Some(namespace) => ObjectKey::new(namespace, &certificate.secret.name),
            None => certificate.secret.clone(),
        }
    }

    /// Whether the source object has our finalizer.
    pub(super) fn has_finalizer(&self, object: &Object) -> bool {
        object.finalizers.contains(&finalizer(self.key, self.settings))
    }
}

/// Our finalizer for objects of this kind. It contains the class unless that is the default.
#[must_use]
pub fn finalizer(key: &SourceKey, settings: &SourceSettings) -> String {
    let plain = key.kind.row().finalizer;
    match settings.classes.main() {
        well_known::DEFAULT_CLASS => plain.to_owned(),
        class => format!("{class}.{plain}"),
    }
}
