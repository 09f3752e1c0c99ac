//! Applies our custom resource definitions at the start, and waits until they are served.

use std::time::Duration;

use anyhow::Context;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, CustomResourceExt, ResourceExt,
    api::{Patch, PatchParams},
};

use crate::{
    api::{Certificate, Issuer, marks},
    config::Settings,
    runtime::{clusters::Clusters, errors::brief},
};

/// How long a definition may take until it is served.
const SERVED: Duration = Duration::from_secs(30);

/// Applies the definitions that the settings do not exclude.
///
/// # Errors
/// When one is refused. A cluster that is away is waited for.
pub async fn deploy(clusters: &Clusters, settings: &Settings) -> anyhow::Result<()> {
    if settings.clusters.default.deploy_crds {
        apply(&clusters.default.0, Issuer::crd(), "--kubeconfig.disable-deploy-crds").await?;
    }
    if settings.clusters.source.deploy_crds {
        apply(&clusters.source.0, Certificate::crd(), "--source.disable-deploy-crds").await?;
    }
    Ok(())
}

async fn apply(
    client: &Client,
    definition: CustomResourceDefinition,
    flag: &str,
) -> anyhow::Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let name = definition.name_any();
    let params = PatchParams::apply(marks::FIELD_MANAGER).force();
    let mut wait = Duration::from_millis(200);
    loop {
        match api.patch(&name, &params, &Patch::Apply(&definition)).await {
            Ok(_) => break,
            Err(kube::Error::Api(status)) if status.code != 429 && status.code < 500 => {
                anyhow::bail!(
                    "cannot apply the CRD {name}, apply it yourself and start with {flag}: {}",
                    status.message
                );
            }
            Err(error) => tracing::warn!("the CRD {name} cannot be applied yet: {}", brief(&error)),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(5));
    }
    let served = tokio::time::timeout(SERVED, async {
        while !is_established(&api, &name).await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    served.await.with_context(|| format!("the CRD {name} was applied but is not served"))
}

async fn is_established(api: &Api<CustomResourceDefinition>, name: &str) -> bool {
    let Ok(definition) = api.get(name).await else { return false };
    let conditions = definition.status.and_then(|status| status.conditions).unwrap_or_default();
    conditions.iter().any(|it| it.type_ == "Established" && it.status == "True")
}
