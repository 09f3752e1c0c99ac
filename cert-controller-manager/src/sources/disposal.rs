//! Decides what happens to each Certificate of a source object. Pure.

use std::collections::HashMap;

use super::{
    annotations::SOURCE_CLASS, key::SourceKey, object::Object,
    owned_certificates::OwnedCertificate, state::SourceState,
};
use crate::api::{CertificateCluster, ObjectKey};

/// Indexes of the desired certificates, by their Secret.
type DesiredBySecret = HashMap<ObjectKey, usize>;

/// What happens to a Certificate.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Disposal {
    /// Leave unchanged.
    LeaveAlone,
    /// Leave unchanged, and keep the finalizer.
    Hold,
    /// Delete.
    Delete,
    /// It belongs to the desired certificate at this index.
    Keep(usize),
    /// Like `Keep`, but the owner has a former uid: objects get new ones when a cluster is restored.
    Adopt(usize),
}

impl SourceState<'_> {
    /// The desired certificates, by the Secret in the source object and by that of the Certificate.
    pub(super) fn desired_by_secret(&self) -> DesiredBySecret {
        let mut desired_by_secret = DesiredBySecret::new();
        for (index, certificate) in self.extracted.certificates.iter().enumerate() {
            desired_by_secret.entry(certificate.secret.clone()).or_insert(index);
            desired_by_secret.entry(self.secret(certificate)).or_insert(index);
        }
        desired_by_secret
    }

    /// What happens to `certificate`.
    pub(super) fn disposal(
        &self,
        certificate: &OwnedCertificate,
        desired_by_secret: &DesiredBySecret,
    ) -> Disposal {
        let index =
            certificate.secret.as_ref().and_then(|secret| desired_by_secret.get(secret).copied());
        // A Certificate with several owners is deleted with the last one.
        if certificate.owners.len() > 1 && index.is_none() {
            return Disposal::LeaveAlone;
        }
        let Some(object) = self.object else { return Disposal::Delete };
        let of_this = |(key, uid): &(SourceKey, Option<String>)| {
            key == self.key && uid.as_ref().is_none_or(|uid| *uid == object.uid)
        };
        if !certificate.owners.iter().any(of_this) {
            return self.disposal_of_orphan(object, certificate, index);
        }
        let on_target = certificate.key.cluster == CertificateCluster::Target;
        let has_finalizer = self.has_finalizer(object);
        if object.deleting {
            // Garbage collection deletes or orphans objects with an owner reference.
            return Disposal::delete_if(on_target || has_finalizer);
        }
        if !self.extracted.responsible {
            let made_for = certificate.annotations.get(SOURCE_CLASS);
            let is_ours = made_for.is_some_and(|class| self.settings.classes.serves(Some(class)));
            return Disposal::delete_if(is_ours || (on_target && has_finalizer));
        }
        if self.extracted.held {
            return Disposal::Hold;
        }
        index.map_or(Disposal::Delete, Disposal::Keep)
    }

    /// What happens to a Certificate whose owner has the name of `object`, but another uid.
    fn disposal_of_orphan(
        &self,
        object: &Object,
        certificate: &OwnedCertificate,
        index: Option<usize>,
    ) -> Disposal {
        match index {
            _ if !self.extracted.responsible || object.deleting || certificate.deleting => {
                Disposal::Delete
            }
            _ if self.extracted.held => Disposal::Hold,
            Some(index) => Disposal::Adopt(index),
            None => Disposal::Delete,
        }
    }
}

impl Disposal {
    fn delete_if(condition: bool) -> Self {
        if condition { Self::Delete } else { Self::LeaveAlone }
    }
}
