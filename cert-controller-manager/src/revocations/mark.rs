//! Annotates the Secrets that contain a revoked certificate.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{
    controller::Controller,
    observe,
    observed::{Backup, MAX_REVOKED},
    pass::Pass,
};
use crate::{
    api::{
        IssuerKey, ObjectKey,
        secret::{digest_label, leaf_digest},
        well_known,
    },
    runtime::{heavy::reading, pages},
};

impl Controller {
    /// Annotates all Secrets with the certificate, in all namespaces that it was issued for. The
    /// backup is the last one: its annotation means that all others are done.
    pub(super) async fn mark(
        &self,
        pass: &Pass<'_>,
        backup: &Backup,
        record: &Secret,
    ) -> kube::Result<()> {
        let own = &pass.revocation.spec.certificate_ref.namespace;
        let holders = pass.observed.holders.iter().map(|holder| &holder.secret);
        let holders = holders.filter(|key| !is_of_tenant(backup) || key.namespace == *own);
        let mut candidates: BTreeSet<ObjectKey> = holders.cloned().collect();
        let hash = record.labels().get(well_known::HASH).map_or("", String::as_str);
        // The digest label finds copies under the hash of another request.
        let labels = [(well_known::HASH, hash), (well_known::DIGEST, &digest_label(&backup.leaf))];
        let labels =
            labels.map(|(name, text)| format!("{}=true,{name}={text}", well_known::CERTIFICATE));
        for api in self.scope(pass, backup, record) {
            for same in &labels {
                let found =
                    pages::select(&api, same, MAX_REVOKED, |it| Some(ObjectKey::of(&it))).await?;
                candidates.extend(found);
            }
        }
        candidates.remove(&backup.secret);
        for key in candidates {
            let Some(secret) = self.secrets(&key.namespace).get_opt(&key.name).await? else {
                continue;
            };
            if observe::read(&secret).is_some_and(|(leaf, _)| leaf.digest == backup.leaf) {
                self.mark_one(&key, &secret).await?;
            }
        }
        self.mark_one(&backup.secret, record).await
    }

    /// The namespaces whose Secrets are annotated. For an operator's CA these are all namespaces
    /// that the backup names. A tenant's CA must affect the namespace of the Certificate only.
    fn scope(&self, pass: &Pass<'_>, backup: &Backup, record: &Secret) -> Vec<Api<Secret>> {
        let own = &pass.revocation.spec.certificate_ref.namespace;
        let is_of_tenant = is_of_tenant(backup);
        if self.settings.cross_namespace_secrets && !is_of_tenant {
            return vec![Api::all(self.target.0.clone())];
        }
        let noted = record.annotations().get(well_known::BACKUP_OF).filter(|_| !is_of_tenant);
        let noted = noted.into_iter().flat_map(|text| text.split(','));
        let noted = noted.filter_map(|tenant| self.cluster_identities.namespace_of(tenant.trim()));
        let namespaces: BTreeSet<&str> = noted.chain([own.as_str()]).take(MAX_REVOKED).collect();
        namespaces.into_iter().map(|namespace| self.secrets(namespace)).collect()
    }

    async fn mark_one(&self, key: &ObjectKey, secret: &Secret) -> kube::Result<()> {
        // The Secret may have another certificate by now, which is not revoked. Then the write
        // conflicts, and the next pass retries.
        let patch = json!({ "metadata": {
            "uid": secret.uid(),
            "resourceVersion": secret.resource_version(),
            "annotations": {
                well_known::REVOKED: "true",
                well_known::REVOKED_CERTIFICATE: reading(secret, || leaf_digest(secret)),
            },
        }});
        let api = self.secrets(&key.namespace);
        match api.patch(&key.name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn is_of_tenant(backup: &Backup) -> bool {
    backup.issuer.as_ref().and_then(IssuerKey::tenant).is_some()
}
