//! Executes the changes that [`decide`](super::decide) returns. Every change is idempotent.

use std::fmt;

use kube::{
    Api, Client, ResourceExt,
    api::{
        ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams,
        Preconditions,
    },
};
use serde_json::{Value, json};

use super::{
    controller::Clusters,
    decide::Change,
    feedback::Feedback,
    owned_certificates::OwnedCertificate,
    state::{SourceState, finalizer},
};
use crate::{
    api::{Certificate, CertificateCluster, ObjectKey},
    runtime::errors::{self, brief},
};

/// A change that failed.
#[derive(Debug)]
pub struct Failure {
    what: String,
    why: String,
    /// Whether the API server refused the change. A retry without a change by the user fails again.
    pub is_refusal: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.what, self.why)
    }
}

/// Executes changes for one source object.
pub(super) struct Act<'a> {
    pub(super) clusters: &'a Clusters,
    pub(super) state: &'a SourceState<'a>,
    pub(super) feedback: &'a Feedback,
}

impl Act<'_> {
    pub(super) async fn run(&self, change: &Change) -> Result<(), Failure> {
        match change {
            Change::AddFinalizer => self.set_finalizer(true).await,
            Change::RemoveFinalizer => self.set_finalizer(false).await,
            Change::Create(certificate) => self.create(certificate).await,
            Change::Patch(certificate, patch) => self.patch(certificate, patch).await,
            Change::Delete(certificate) => self.delete(certificate).await,
        }
    }

    async fn create(&self, certificate: &Certificate) -> Result<(), Failure> {
        let key = ObjectKey::of(certificate);
        let api: Api<Certificate> = Api::namespaced(self.clusters.source.clone(), &key.namespace);
        match api.create(&PostParams::default(), certificate).await {
            Ok(_) => {}
            // An earlier attempt may have created it before the watch delivered it.
            Err(error) if is(&error, 409) => return self.check_owner(&api, certificate).await,
            Err(error) => return Err(failure(format!("create Certificate {key}"), &error)),
        }
        tracing::info!(source = %self.state.key, "created certificate object {key}");
        if let Some(object) = self.state.object {
            let note = format!("created certificate object {key}");
            self.feedback.report_change(self.state.key, object, &note);
            let secret = certificate.spec.secret_ref.clone().unwrap_or_default();
            let secret = ObjectKey::new(
                secret.namespace.unwrap_or_default(),
                secret.name.unwrap_or_default(),
            );
            self.feedback.expect_states(self.state.key, secret);
        }
        Ok(())
    }

    /// Fails if the existing Certificate of this name has another owner.
    async fn check_owner(&self, api: &Api<Certificate>, ours: &Certificate) -> Result<(), Failure> {
        let key = ObjectKey::of(ours);
        let what = || format!("create Certificate {key}");
        let found = api.get(&key.name).await.map_err(|error| failure(what(), &error))?;
        let owner = |one: &Certificate| {
            one.owner_references()
                .iter()
                .find(|owner| owner.controller == Some(true))
                .map(|owner| owner.uid.clone())
        };
        if found.metadata.deletion_timestamp.is_none() && owner(&found) == owner(ours) {
            return Ok(());
        }
        let why = "a Certificate of this name has another owner; delete or rename it".to_owned();
        Err(Failure { what: what(), why, is_refusal: true })
    }

    async fn patch(&self, certificate: &OwnedCertificate, patch: &Value) -> Result<(), Failure> {
        let patched = self
            .certificates(certificate)
            .patch(&certificate.key.object.name, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        match patched {
            Ok(_) => {
                tracing::info!(source = %self.state.key, "updated certificate object {}", certificate.key);
                Ok(())
            }
            // The watch reports the deletion.
            Err(error) if is(&error, 404) => Ok(()),
            Err(error) => Err(failure(format!("update Certificate {}", certificate.key), &error)),
        }
    }

    async fn delete(&self, certificate: &OwnedCertificate) -> Result<(), Failure> {
        // A Certificate that changed since the watch delivered it may have another owner now.
        let preconditions = Preconditions {
            uid: Some(certificate.uid.clone()),
            resource_version: Some(certificate.resource_version.clone()),
        };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match self.certificates(certificate).delete(&certificate.key.object.name, &params).await {
            Ok(_) => {}
            Err(error) if is(&error, 404) => return Ok(()),
            Err(error) => {
                return Err(failure(format!("delete Certificate {}", certificate.key), &error));
            }
        }
        tracing::info!(source = %self.state.key, "deleted certificate object {}", certificate.key);
        if let Some(object) = self.state.object {
            let note = format!("deleted certificate object {}", certificate.key.object);
            self.feedback.report_change(self.state.key, object, &note);
        }
        Ok(())
    }

    /// Adds or removes our finalizer.
    async fn set_finalizer(&self, present: bool) -> Result<(), Failure> {
        let (Some(object), key) = (self.state.object, self.state.key) else {
            return Ok(());
        };
        let name = key.kind.name();
        let kind = GroupVersionKind::gvk(name.group, object.version, name.kind);
        let resource = ApiResource::from_gvk_with_plural(&kind, name.plural);
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.clusters.source.clone(), &key.object.namespace, &resource);
        let what = || format!("change the finalizers of {key}");
        let found = match api.get_metadata(&key.object.name).await {
            Ok(found) => found,
            Err(error) if is(&error, 404) => return Ok(()),
            Err(error) => return Err(failure(what(), &error)),
        };
        let ours = finalizer(key, self.state.settings);
        let mut finalizers = found.finalizers().to_vec();
        if finalizers.contains(&ours) == present {
            return Ok(());
        }
        if present {
            finalizers.push(ours);
        } else {
            finalizers.retain(|name| *name != ours);
        }
        // The patch replaces the whole list: the version guards against concurrent changes.
        let metadata = json!({
            "finalizers": finalizers, "uid": object.uid, "resourceVersion": found.resource_version(),
        });
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        match api.patch_metadata(&key.object.name, &PatchParams::default(), &patch).await {
            Ok(_) => Ok(()),
            Err(error) if is(&error, 404) => Ok(()),
            Err(error) => Err(failure(what(), &error)),
        }
    }

    fn certificates(&self, certificate: &OwnedCertificate) -> Api<Certificate> {
        let client: &Client = match (certificate.key.cluster, &self.clusters.target) {
            (CertificateCluster::Target, Some(target)) => target,
            _ => &self.clusters.source,
        };
        Api::namespaced(client.clone(), &certificate.key.object.namespace)
    }
}

fn is(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}

fn failure(what: String, error: &kube::Error) -> Failure {
    // Conflicts and server errors pass with a retry. A 404 means that the namespace or the
    // CustomResourceDefinition is missing, and a user must create it.
    let is_refusal = errors::is_refusal(error) || is(error, 404);
    Failure { what, why: brief(error), is_refusal }
}
