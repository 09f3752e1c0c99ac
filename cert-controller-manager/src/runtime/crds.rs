//! Deploys our custom resource definitions, each to the clusters that need it.
//!
//! An annotation says who maintains a definition. One that is missing is created; one that is
//! there is updated only where its maintainer is us or accepted, because whoever else deploys it
//! would set it back. Clusters do not wait for each other, and nobody waits for this: a watch finds
//! a kind when it is there ([`follow`](super::follow)). Only the leader deploys.
//!
//! The definition of DNSEntry is somebody else's. Where our responder runs and there is none, we
//! create a small one; one that is there is never touched.

mod decide;
mod dns_entry;

use std::time::Duration;

use anyhow::{Context, bail};
use futures::future::try_join_all;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client, CustomResourceExt, ResourceExt, api::PostParams};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use self::decide::{Act, annotate, decide};
use crate::{
    api::{Certificate, CertificateRevocation, Issuer, well_known},
    runtime::{
        clusters::{ClusterOptions, ClusterSettings, Clusters, Role},
        errors::brief,
        fence::NotLeading,
    },
};

/// Whose custom resource definitions we update.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CrdSettings {
    /// Our name on them (`--maintainer`).
    pub maintainer: String,
    /// Others whose definitions we update; [`UNMANAGED`] is those without a name.
    pub accepted_maintainers: Vec<String>,
    /// Update whatever name is on them (`--force-crd-update`).
    pub force_update: bool,
}

impl Default for CrdSettings {
    fn default() -> Self {
        Self {
            maintainer: well_known::FIELD_MANAGER.to_owned(),
            accepted_maintainers: Vec::new(),
            force_update: false,
        }
    }
}

/// Annotation on definitions: who maintains them.
pub const MAINTAINER: &str = "crds.gardener.cloud/maintainer";
/// Stands for definitions without [`MAINTAINER`] in `--accepted-maintainers`.
pub const UNMANAGED: &str = "UNMANAGED";

/// How long a definition may take until it is served.
const SERVED: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What else needs definitions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scope {
    /// Whether Issuers may be on the target cluster.
    pub target_issuers: bool,
    /// Whether our responder runs, which needs DNSEntries.
    pub responder: bool,
}

/// Which definitions of ours a cluster needs.
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

/// Deploys what each cluster needs, and waits until it is served. One that is away is tried again
/// until it is back, while the others go on.
///
/// # Errors
/// When an API server refuses a definition that is not there: the message names the flag with which
/// somebody else is trusted to deploy it.
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
            dns_entry::create_where_absent(clusters.client(Role::Dns), rules).await;
        }
        Ok(())
    };
    futures::future::try_join(try_join_all(all), entries).await?;
    Ok(())
}

/// Creates the definition of DNSEntry for the command `answer`, where there is none.
pub async fn deploy_dns_entry(client: Client) {
    dns_entry::create_where_absent(client, &CrdSettings::default()).await;
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
        let wanted = annotate(definition, self.options, self.rules);
        let mut pause = FIRST_PAUSE;
        loop {
            match self.once(&api, &name, &wanted).await {
                Ok(()) => break,
                Err(error) if NotLeading::is(&error) => return Ok(()),
                Err(kube::Error::Api(status)) if self.is_final(status.code) => {
                    // Without the right to look, a watch tells whether it is there.
                    if status.code == 403 && !matches!(api.get_opt(&name).await, Ok(None)) {
                        warn!("{}", self.advice(&name, &status.message));
                        return Ok(());
                    }
                    bail!(self.advice(&name, &status.message));
                }
                Err(error) => warn!("the CRD {name} cannot be deployed yet: {}", brief(&error)),
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        let served = timeout(SERVED, async {
            while !is_established(&api, &name).await {
                sleep(Duration::from_millis(50)).await;
            }
        });
        served.await.with_context(|| format!("the CRD {name} was deployed but is not served"))
    }

    /// Looks, decides, and does it.
    async fn once(
        &self,
        api: &Api<CustomResourceDefinition>,
        name: &str,
        wanted: &CustomResourceDefinition,
    ) -> Result<(), kube::Error> {
        let found = api.get_opt(name).await?;
        let params = PostParams {
            field_manager: Some(well_known::FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        match decide(found.as_ref(), wanted, self.options, self.rules) {
            Act::Create => {
                api.create(&params, wanted).await?;
                info!("created the CRD {name} in the cluster {}", self.role.name());
            }
            Act::Update(updated) => {
                api.replace(name, &params, &updated).await?;
                info!("updated the CRD {name} in the cluster {}", self.role.name());
            }
            Act::Keep => debug!("the CRD {name} is up to date"),
            Act::Leave(owner) => info!(
                "the CRD {name} in the cluster {} is left as it is: {owner} maintains it; \
                 --accepted-maintainers or --force-crd-update would allow to update it",
                self.role.name()
            ),
        }
        Ok(())
    }

    /// Conflicts and overload pass, credentials are renewed, and a proxy says that it does not find
    /// a server that is away.
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
