//! Deploys our CustomResourceDefinitions to the clusters that need them. Only the leader deploys.
//!
//! A missing definition is created. An existing one is updated only if its maintainer annotation
//! contains our name or an accepted one, because another maintainer would revert the update. Clusters
//! are independent of each other, and watches find a kind when it is served ([`watch`](super::watch)).
//!
//! The definition of DNSEntry belongs to external-dns-management. If it is missing and our responder
//! runs, a small one is created. An existing one is never changed.

mod decide;
mod dns_entry;
mod settings;

use std::time::Duration;

use anyhow::{Context, bail};
use futures::future::try_join_all;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client, CustomResourceExt, ResourceExt, api::PostParams};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

pub use self::settings::{CrdSettings, MAINTAINER, UNMANAGED};
use self::{
    decide::{Act, annotate, decide},
    settings::{FIRST_PAUSE, MAX_PAUSE},
};
use crate::{
    api::{Certificate, CertificateRevocation, Issuer, well_known},
    runtime::{
        clusters::{ClusterOptions, ClusterSettings, Clusters},
        errors::brief,
        fence::NotLeading,
        role::Role,
    },
};

/// Deadline for a definition to be served.
const SERVED: Duration = Duration::from_secs(30);
/// Features that need more definitions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scope {
    /// Whether Issuers may be on the target cluster.
    pub target_issuers: bool,
    /// Whether the responder runs, which needs DNSEntries.
    pub responder: bool,
}

/// Our definitions that a cluster needs.
#[must_use]
pub fn needed(
    clusters: &Clusters,
    role: Role,
    target_issuers: bool,
) -> Vec<CustomResourceDefinition> {
    let certificates = || vec![Certificate::crd(), CertificateRevocation::crd()];
    match role {
        Role::Default => vec![Issuer::crd()],
        Role::Source => certificates(),
        Role::Dns => Vec::new(),
        Role::Target => {
            let certificates = (!clusters.target_is_source()).then(certificates);
            let issuers = (target_issuers && !clusters.same(role, Role::Default)).then(Issuer::crd);
            certificates.into_iter().flatten().chain(issuers).collect()
        }
    }
}

/// Deploys the definitions to all clusters and waits until they are served. An unreachable cluster is
/// retried without delaying the others.
///
/// # Errors
/// When an API server refuses to create a missing definition; the message names the flag that
/// disables the deployment.
pub async fn deploy(
    clusters: &Clusters,
    settings: &ClusterSettings,
    rules: &CrdSettings,
    scope: Scope,
) -> anyhow::Result<()> {
    let mut all = Vec::new();
    for role in Role::ALL {
        let options = settings.of(role);
        if !options.deploy_crds {
            continue;
        }
        for definition in needed(clusters, role, scope.target_issuers) {
            let one = Deployment { client: clusters.client(role), role, options, rules };
            all.push(one.deploy(definition));
        }
    }
    let entries = async {
        if scope.responder && settings.of(Role::Dns).deploy_crds {
            let flag = "--dns.disable-deploy-crds";
            dns_entry::create_if_missing(clusters.client(Role::Dns), rules, flag).await;
        }
        Ok(())
    };
    futures::future::try_join(try_join_all(all), entries).await?;
    Ok(())
}

/// Creates the definition of DNSEntry for the command `answer`, if it is missing.
pub async fn deploy_dns_entry(client: Client) {
    let flag = "answer --disable-deploy-crds";
    dns_entry::create_if_missing(client, &CrdSettings::default(), flag).await;
}

struct Deployment<'a> {
    client: Client,
    role: Role,
    options: &'a ClusterOptions,
    rules: &'a CrdSettings,
}

impl Deployment<'_> {
    async fn deploy(self, definition: CustomResourceDefinition) -> anyhow::Result<()> {
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let name = definition.name_any();
        let desired = annotate(definition, self.options, self.rules);
        let mut pause = FIRST_PAUSE;
        loop {
            match self.deploy_once(&api, &name, &desired).await {
                Ok(()) => break,
                Err(error) if NotLeading::is(&error) => return Ok(()),
                Err(kube::Error::Api(status)) if self.is_final(status.code) => {
                    // Without the right to read definitions, the watch finds out whether the kind exists.
                    if status.code == 403 && !matches!(api.get_opt(&name).await, Ok(None)) {
                        warn!("{}", self.advice(&name, &status.message));
                        return Ok(());
                    }
                    bail!(self.advice(&name, &status.message));
                }
                Err(error) => warn!("cannot deploy the CRD {name} yet: {}", brief(&error)),
            }
            sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
        let served = timeout(SERVED, async {
            while !is_established(&api, &name).await {
                sleep(Duration::from_millis(50)).await;
            }
        });
        served.await.with_context(|| format!("the CRD {name} was deployed but is not served"))
    }

    /// Reads, compares, and writes.
    async fn deploy_once(
        &self,
        api: &Api<CustomResourceDefinition>,
        name: &str,
        desired: &CustomResourceDefinition,
    ) -> Result<(), kube::Error> {
        let found = api.get_opt(name).await?;
        let params = PostParams {
            field_manager: Some(well_known::FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        match decide(found.as_ref(), desired, self.options, self.rules) {
            Act::Create => {
                api.create(&params, desired).await?;
                info!("created the CRD {name} in the cluster {}", self.role.name());
            }
            Act::Update(updated) => {
                api.replace(name, &params, &updated).await?;
                info!("updated the CRD {name} in the cluster {}", self.role.name());
            }
            Act::Keep => debug!("the CRD {name} is up to date"),
            Act::Leave(owner) => info!(
                "the CRD {name} in the cluster {} stays unchanged: its maintainer is {owner}; \
                 set --accepted-maintainers or --force-crd-update to update it",
                self.role.name()
            ),
        }
        Ok(())
    }

    /// Whether a retry is useless. Conflicts and overload pass, credentials are renewed, and a proxy may
    /// return 404 for an unreachable server.
    const fn is_final(&self, code: u16) -> bool {
        code >= 400 && code < 500 && !matches!(code, 401 | 404 | 408 | 409 | 429)
    }

    fn advice(&self, name: &str, why: &str) -> String {
        format!(
            "cannot deploy the CRD {name} to the cluster {}; deploy it yourself and start with \
             {}.disable-deploy-crds: {why}",
            self.role.name(),
            self.role.flag(),
        )
    }
}

async fn is_established(api: &Api<CustomResourceDefinition>, name: &str) -> bool {
    let Ok(definition) = api.get(name).await else { return false };
    let conditions = definition.status.and_then(|status| status.conditions).unwrap_or_default();
    conditions.iter().any(|it| it.type_ == "Established" && it.status == "True")
}
