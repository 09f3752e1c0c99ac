//! Does what was decided. Everything here can be repeated after a crash.

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
    decide::{Change, SourceState, finalizer},
    feedback::Feedback,
    owned_certificates::OwnedCertificate,
    sync::Clusters,
};
use crate::{
    api::{Certificate, CertificateCluster, ObjectKey},
    runtime::errors::{self, brief},
};

/// What could not be done.
#[derive(Debug)]
pub struct Failure {
    what: String,
    why: String,
    /// Whether the API server refused it, so that somebody must change something.
    pub is_refusal: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.what, self.why)
    }
}

/// Does things for one object.
pub(super) struct Act<'a> {
    pub(super) clusters: &'a Clusters,
    pub(super) situation: &'a SourceState<'a>,
    pub(super) feedback: &'a Feedback,
}

impl Act<'_> {
    pub(super) async fn run(&self, change: &Change) -> Result<(), Failure> {
        match change {
            Change::AddFinalizer => self.set_finalizer(true).await,
            Change::RemoveFinalizer => self.set_finalizer(false).await,
            Change::Create(certificate) => self.create(certificate).await,
            Change::Patch(slave, patch) => self.patch(slave, patch).await,
            Change::Delete(slave) => self.delete(slave).await,
        }
    }

    async fn create(&self, certificate: &Certificate) -> Result<(), Failure> {
        let key = ObjectKey::of(certificate);
        let api: Api<Certificate> = Api::namespaced(self.clusters.source.clone(), &key.namespace);
        match api.create(&PostParams::default(), certificate).await {
            Ok(_) => {}
            // We made it before and do not know of it yet; the watch tells what it is like.
            Err(error) if is(&error, 409) => return self.check_owner(&api, certificate).await,
            Err(error) => return Err(failure(format!("create Certificate {key}"), &error)),
        }
        tracing::info!(source = %self.situation.key, "created certificate object {key}");
        if let Some(object) = self.situation.object {
            let note = format!("created certificate object {key}");
            self.feedback.done(self.situation.key, object, &note);
            let secret = certificate.spec.secret_ref.clone().unwrap_or_default();
            let secret = ObjectKey::new(
                secret.namespace.unwrap_or_default(),
                secret.name.unwrap_or_default(),
            );
            self.feedback.expect(self.situation.key, secret);
        }
        Ok(())
    }

    /// Whether the Certificate that has the name of ours is ours.
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
        let why = "one of this name belongs to somebody else; delete or rename it".to_owned();
        Err(Failure { what: what(), why, is_refusal: true })
    }

    async fn patch(&self, slave: &OwnedCertificate, patch: &Value) -> Result<(), Failure> {
        let patched = self
            .certificates(slave)
            .patch(&slave.key.object.name, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        match patched {
            Ok(_) => {
                tracing::info!(source = %self.situation.key, "updated certificate object {}", slave.key);
                Ok(())
            }
            // The watch tells.
            Err(error) if is(&error, 404) => Ok(()),
            Err(error) => Err(failure(format!("update Certificate {}", slave.key), &error)),
        }
    }

    async fn delete(&self, slave: &OwnedCertificate) -> Result<(), Failure> {
        // Exactly what was seen: whatever changed meanwhile may belong to somebody else now.
        let preconditions = Preconditions {
            uid: Some(slave.uid.clone()),
            resource_version: Some(slave.resource_version.clone()),
        };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match self.certificates(slave).delete(&slave.key.object.name, &params).await {
            Ok(_) => {}
            Err(error) if is(&error, 404) => return Ok(()),
            Err(error) => return Err(failure(format!("delete Certificate {}", slave.key), &error)),
        }
        tracing::info!(source = %self.situation.key, "deleted certificate object {}", slave.key);
        if let Some(object) = self.situation.object {
            let note = format!("deleted certificate object {}", slave.key.object);
            self.feedback.done(self.situation.key, object, &note);
        }
        Ok(())
    }

    /// Puts our finalizer on the object, or takes it away.
    async fn set_finalizer(&self, present: bool) -> Result<(), Failure> {
        let (Some(object), key) = (self.situation.object, self.situation.key) else {
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
        let ours = finalizer(key, self.situation.settings);
        let mut finalizers = found.finalizers().to_vec();
        if finalizers.contains(&ours) == present {
            return Ok(());
        }
        if present {
            finalizers.push(ours);
        } else {
            finalizers.retain(|name| *name != ours);
        }
        // The list is replaced as a whole, so nobody may have changed it meanwhile.
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

    fn certificates(&self, slave: &OwnedCertificate) -> Api<Certificate> {
        let client: &Client = match (slave.key.cluster, &self.clusters.target) {
            (CertificateCluster::Target, Some(target)) => target,
            _ => &self.clusters.source,
        };
        Api::namespaced(client.clone(), &slave.key.object.namespace)
    }
}

fn is(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}

fn failure(what: String, error: &kube::Error) -> Failure {
    // A conflict is settled by looking again, and a server in trouble by waiting.
    // What is missing is a namespace or a definition, which somebody must make.
    let is_refusal = errors::is_refusal(error) || is(error, 404);
    Failure { what, why: brief(error), is_refusal }
}
