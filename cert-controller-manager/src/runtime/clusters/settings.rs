//! The configuration of the clusters.

use super::kubeconfig::Kubeconfig;
use crate::runtime::role::Role;

/// The configuration of one cluster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClusterOptions {
    /// The kubeconfig. `None` falls back: default to `KUBECONFIG` and then to the service account of
    /// the pod, source and dns to default, target to source.
    pub kubeconfig: Option<Kubeconfig>,
    /// Calls per second; 0 means no limit. If clusters share a client, the limit of the first role
    /// applies.
    pub qps: u32,
    /// Burst of calls beyond that rate.
    pub burst: u32,
    /// The id in owner annotations, instead of the id that the cluster reports.
    pub id: Option<String>,
    /// Former ids in owner annotations.
    pub migration_ids: Vec<String>,
    /// Whether our CustomResourceDefinitions are deployed.
    pub deploy_crds: bool,
    /// Whether only CustomResourceDefinitions that Gardener does not deploy are updated.
    pub conditional_deploy: bool,
    /// Whether CustomResourceDefinitions get the label that keeps them when a shoot cluster is deleted.
    pub no_cleanup_label: bool,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            kubeconfig: None,
            qps: 0,
            burst: 0,
            id: None,
            migration_ids: Vec::new(),
            deploy_crds: true,
            conditional_deploy: false,
            no_cleanup_label: false,
        }
    }
}

/// The configuration of all clusters.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ClusterSettings {
    /// `--kubeconfig`
    pub default: ClusterOptions,
    /// `--source`
    pub source: ClusterOptions,
    /// `--dns`
    pub dns: ClusterOptions,
    /// `--target`
    pub target: ClusterOptions,
}

impl ClusterSettings {
    /// Whether target and default have the same kubeconfig after fallbacks.
    #[must_use]
    pub fn target_is_default(&self) -> bool {
        let target = self.target.kubeconfig.as_ref().or(self.source.kubeconfig.as_ref());
        target.is_none() || target == self.default.kubeconfig.as_ref()
    }

    /// The configuration of the cluster with this role.
    #[must_use]
    pub const fn of(&self, role: Role) -> &ClusterOptions {
        match role {
            Role::Default => &self.default,
            Role::Source => &self.source,
            Role::Dns => &self.dns,
            Role::Target => &self.target,
        }
    }
}
