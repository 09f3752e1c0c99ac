//! The four logical clusters. Each is a type of its own, so that nothing meant for one can be sent
//! to another; equal kubeconfigs share one client, and with it one connection.
//!
//! A cluster may be away, at the start or later: making the clients connects to nothing, and what
//! calls meet is known per cluster as its [`Reachability`]. A kubeconfig that changes is read again,
//! and the same clients go on with it. Writes pass the [`Fence`].
//!
//! Not here: which clusters are the same by their own word ([`identity`](super::identity)).

mod bucket;
mod connection;
mod credentials;
mod dial;
mod health;
mod kubeconfig;
mod member;
mod metadata;
mod plugin;
mod stack;
mod tls;

use std::sync::Arc;

use anyhow::Context;
use futures::future::try_join_all;
use kube::Client;
use tokio::sync::watch;

use self::member::Member;
pub use self::{
    health::Reachability,
    kubeconfig::{Environment, Kubeconfig, check as check_kubeconfig},
    metadata::of_metadata,
};
use crate::runtime::{fence::Fence, metrics::Metrics};

/// Issuers, account keys and the progress of orders live here. Trusted.
#[derive(Clone)]
pub struct DefaultCluster(pub Client);
/// Certificates live here. Not trusted.
#[derive(Clone)]
pub struct SourceCluster(pub Client);
/// Challenge DNSEntries live here.
#[derive(Clone)]
pub struct DnsCluster(pub Client);
/// Certificate Secrets live here.
#[derive(Clone)]
pub struct TargetCluster(pub Client);

/// What a cluster is for.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Role {
    /// See [`DefaultCluster`].
    Default,
    /// See [`SourceCluster`].
    Source,
    /// See [`DnsCluster`].
    Dns,
    /// See [`TargetCluster`].
    Target,
}

impl Role {
    /// All of them. One falls back only to those before it.
    pub const ALL: [Self; 4] = [Self::Default, Self::Source, Self::Dns, Self::Target];

    /// Its name in logs, metrics and cluster ids.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Source => "source",
            Self::Dns => "dns",
            Self::Target => "target",
        }
    }

    /// The flag that names its kubeconfig, and with which its other flags begin.
    #[must_use]
    pub const fn flag(self) -> &'static str {
        match self {
            Self::Default => "--kubeconfig",
            Self::Source => "--source",
            Self::Dns => "--dns",
            Self::Target => "--target",
        }
    }
}

/// What is said about one cluster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClusterOptions {
    /// Where its kubeconfig is. `None` falls back: default to `KUBECONFIG` and then to the cluster
    /// that we run in, source and dns to default, target to source.
    pub kubeconfig: Option<Kubeconfig>,
    /// How many calls a second are begun in the long run; 0 does not limit them. Of clusters that
    /// share a client the first one's limit counts.
    pub qps: u32,
    /// How many calls may be begun at once beyond that.
    pub burst: u32,
    /// Its id in owner annotations, instead of the one that it tells itself.
    pub id: Option<String>,
    /// Ids that were in owner annotations before.
    pub migration_ids: Vec<String>,
    /// Whether our definitions are applied.
    pub deploy_crds: bool,
    /// Whether definitions that Gardener deploys are left alone, and all others updated.
    pub conditional_deploy: bool,
    /// Whether definitions get the label that keeps them when a shoot cluster is deleted.
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

/// What is said about the four.
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
    /// Whether target and default are one: the same kubeconfig, after fallbacks.
    #[must_use]
    pub fn target_is_default(&self) -> bool {
        let target = self.target.kubeconfig.as_ref().or(self.source.kubeconfig.as_ref());
        target.is_none() || target == self.default.kubeconfig.as_ref()
    }

    /// What is said about the cluster of this role.
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

/// The four of them.
#[derive(Clone)]
pub struct Clusters {
    /// See [`DefaultCluster`].
    pub default: DefaultCluster,
    /// See [`SourceCluster`].
    pub source: SourceCluster,
    /// See [`DnsCluster`].
    pub dns: DnsCluster,
    /// See [`TargetCluster`].
    pub target: TargetCluster,
    /// In the order of [`Role::ALL`]; several roles may have the same.
    members: [Arc<Member>; 4],
}

impl Clusters {
    /// Reads the kubeconfigs and makes the clients. Connects to nothing yet.
    ///
    /// # Errors
    /// When a kubeconfig is missing or wrong; the message names the flag and the file.
    pub async fn connect(settings: &ClusterSettings, fence: &Fence) -> anyhow::Result<Self> {
        let kubeconfigs = kubeconfig::resolve(settings, Environment::look())?;
        let mut members: Vec<Arc<Member>> = Vec::new();
        for (role, kubeconfig) in Role::ALL.into_iter().zip(kubeconfigs) {
            let loaded = kubeconfig.load().await.with_context(|| role.flag())?;
            let known = members.iter().position(|member| member.has(&kubeconfig, &loaded));
            members.push(match known {
                Some(known) => {
                    members[known].join(role, kubeconfig, loaded.digest);
                    members[known].clone()
                }
                None => Member::new(role, kubeconfig, loaded, settings.of(role), fence)
                    .with_context(|| role.flag())?,
            });
        }
        let members: [Arc<Member>; 4] =
            members.try_into().map_err(|_| anyhow::anyhow!("there are four roles"))?;
        let [default, source, dns, target] = members.each_ref().map(|member| member.client());
        Ok(Self {
            default: DefaultCluster(default),
            source: SourceCluster(source),
            dns: DnsCluster(dns),
            target: TargetCluster(target),
            members,
        })
    }

    /// The client of this role.
    #[must_use]
    pub fn client(&self, role: Role) -> Client {
        self.member(role).client()
    }

    /// A client of the default cluster for the Lease alone: nothing else waits on its connection, and
    /// the fence does not refuse its writes (but sends none of them once a permission ran out).
    #[must_use]
    pub fn lease_client(&self) -> Client {
        self.member(Role::Default).lease_client()
    }

    /// From now on calls are counted. Those of roles that share a client count for the first of them.
    pub fn count(&self, metrics: &Metrics) {
        self.distinct().iter().for_each(|member| member.count(metrics));
    }

    /// Whether two roles share a client: the same API server with the same credentials. Whoever
    /// watches the same in both needs only one watch.
    #[must_use]
    pub fn same(&self, one: Role, other: Role) -> bool {
        Arc::ptr_eq(self.member(one), self.member(other))
    }

    /// Whether the Secrets go to the cluster that the Certificates are in, as far as kubeconfigs
    /// tell: the same API server, be it with other credentials.
    #[must_use]
    pub fn target_is_source(&self) -> bool {
        self.member(Role::Target).server() == self.member(Role::Source).server()
    }

    /// All roles of the API server that has this one, in the order of [`Role::ALL`].
    #[must_use]
    pub fn roles_of_server(&self, role: Role) -> Vec<Role> {
        let server = self.member(role).server();
        Role::ALL.into_iter().filter(|other| self.member(*other).server() == server).collect()
    }

    /// Whether the cluster of each role answers.
    #[must_use]
    pub fn health(&self) -> Vec<(Role, Reachability)> {
        Role::ALL.map(|role| (role, self.reachability(role).borrow().clone())).into()
    }

    /// Whether the cluster of a role answers, from now on.
    #[must_use]
    pub fn reachability(&self, role: Role) -> watch::Receiver<Reachability> {
        self.member(role).reachability()
    }

    /// One look at all kubeconfigs, which [`Self::run`] does every ten seconds: what changed is used
    /// from now on. What is wrong is logged, and the old one is kept.
    ///
    /// # Errors
    /// See [`Self::run`].
    pub async fn check_kubeconfigs(&self) -> anyhow::Result<()> {
        for member in self.distinct() {
            member.check_kubeconfigs().await?;
        }
        Ok(())
    }

    /// Reads kubeconfigs that change, and looks for clusters that are away. Never ends but with an
    /// error.
    ///
    /// # Errors
    /// When a kubeconfig names another server now: what is known is of the old one, so the process
    /// has to start again.
    pub async fn run(self) -> anyhow::Result<()> {
        let members = self.distinct();
        let reload = try_join_all(members.iter().map(|member| member.keep_kubeconfig()));
        let probe = try_join_all(members.iter().map(|member| member.keep_looking()));
        tokio::try_join!(reload, probe)?;
        Ok(())
    }

    fn distinct(&self) -> Vec<Arc<Member>> {
        let mut members: Vec<Arc<Member>> = Vec::new();
        for member in &self.members {
            if !members.iter().any(|known| Arc::ptr_eq(known, member)) {
                members.push(member.clone());
            }
        }
        members
    }

    fn member(&self, role: Role) -> &Arc<Member> {
        &self.members[role as usize]
    }
}
