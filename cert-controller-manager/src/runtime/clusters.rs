//! Clients of the four logical clusters. Each cluster has its own type, so that a request cannot go
//! to the wrong one. Equal kubeconfigs share one client and one connection.
//!
//! Creating the clients does not connect, so a cluster may be unreachable at the start or later. The
//! calls determine the [`Reachability`] of each cluster. A changed kubeconfig is read again and
//! the clients stay the same. Writes pass the [`Fence`].
//!
//! Not here: the ids of clusters ([`identity`](super::identity)).

mod bucket;
mod connection;
mod credentials;
mod dial;
mod fallback;
mod health;
mod kubeconfig;
mod member;
mod metadata;
mod plugin;
mod settings;
mod stack;
mod tls;

use std::sync::Arc;

use anyhow::Context;
use futures::future::try_join_all;
use kube::Client;
use tokio::sync::watch;

pub use self::{
    fallback::Environment,
    kubeconfig::{Kubeconfig, check as check_kubeconfig},
    metadata::of_metadata,
    settings::{ClusterOptions, ClusterSettings},
};
use self::{fallback::resolve, member::Member};
use crate::runtime::{
    fence::Fence,
    metrics::Metrics,
    role::{Reachability, Role},
};

/// Contains Issuers, account keys and the progress of orders. Trusted.
#[derive(Clone)]
pub struct DefaultCluster(pub Client);
/// Contains Certificates. Not trusted.
#[derive(Clone)]
pub struct SourceCluster(pub Client);
/// Contains DNSEntries for challenges.
#[derive(Clone)]
pub struct DnsCluster(pub Client);
/// Contains the Secrets of Certificates.
#[derive(Clone)]
pub struct TargetCluster(pub Client);

/// The clients of all clusters.
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
    /// In the order of [`Role::ALL`]; roles may share a member.
    members: [Arc<Member>; 4],
}

impl Clusters {
    /// Reads the kubeconfigs and creates the clients. Does not connect yet.
    ///
    /// # Errors
    /// When a kubeconfig is missing or invalid; the message names the flag and the file.
    pub async fn connect(settings: &ClusterSettings, fence: &Fence) -> anyhow::Result<Self> {
        let kubeconfigs = resolve(settings, Environment::detect())?;
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

    /// A client of the default cluster for the Lease only. It has its own connection, and the fence does
    /// not check its requests. Its socket still sends nothing after a permission has expired.
    #[must_use]
    pub fn lease_client(&self) -> Client {
        self.member(Role::Default).lease_client()
    }

    /// Starts to count calls. Calls of roles that share a client count for the first role.
    pub fn count(&self, metrics: &Metrics) {
        self.distinct().iter().for_each(|member| member.count(metrics));
    }

    /// Whether two roles share a client: the same API server with the same credentials. One watch
    /// serves both roles then.
    #[must_use]
    pub fn same(&self, one: Role, other: Role) -> bool {
        Arc::ptr_eq(self.member(one), self.member(other))
    }

    /// Whether target and source have the same API server in their kubeconfigs, possibly with different
    /// credentials.
    #[must_use]
    pub fn target_is_source(&self) -> bool {
        self.member(Role::Target).server() == self.member(Role::Source).server()
    }

    /// All roles with the same API server as this role, in the order of [`Role::ALL`].
    #[must_use]
    pub fn roles_of_server(&self, role: Role) -> Vec<Role> {
        let server = self.member(role).server();
        Role::ALL.into_iter().filter(|other| self.member(*other).server() == server).collect()
    }

    /// The reachability of all clusters.
    #[must_use]
    pub fn health(&self) -> Vec<(Role, Reachability)> {
        Role::ALL.map(|role| (role, self.reachability(role).borrow().clone())).into()
    }

    /// Subscribes to the reachability of a cluster.
    #[must_use]
    pub fn reachability(&self, role: Role) -> watch::Receiver<Reachability> {
        self.member(role).reachability()
    }

    /// Reads all kubeconfigs and applies changes. [`Self::run`] calls this every ten seconds. An invalid
    /// kubeconfig is logged, and the previous one stays in use.
    ///
    /// # Errors
    /// See [`Self::run`].
    pub async fn check_kubeconfigs(&self) -> anyhow::Result<()> {
        for member in self.distinct() {
            member.check_kubeconfigs().await?;
        }
        Ok(())
    }

    /// Reloads changed kubeconfigs and probes unreachable clusters. Returns only with an error.
    ///
    /// # Errors
    /// When a kubeconfig names another server: the caches belong to the old one, so the process must
    /// restart.
    pub async fn run(self) -> anyhow::Result<()> {
        let members = self.distinct();
        let reload = try_join_all(members.iter().map(|member| member.reload_kubeconfigs()));
        let probe = try_join_all(members.iter().map(|member| member.probe_while_unreachable()));
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
