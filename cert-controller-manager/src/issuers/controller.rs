//! State and dependencies of the controller, and its clients.

use std::sync::Arc;

use cert_lib::{
    clock::Clock,
    issue::{KeyGenerator, acme::Timing},
    net::Http,
};
use kube::{Api, Client};

use super::{limits::CaRegistry, nameservers::Precheck, record::IssuerRecords, registry::Registry};
use crate::{
    api::{Classes, Issuer, IssuerKey},
    runtime::{
        clusters::{DefaultCluster, TargetCluster},
        events::EventRecorder,
        metrics::Metrics,
        queue::Shared,
    },
    solvers::{dns_server::DnsServers, registry::SolverRegistry},
};

/// State and dependencies of the controller.
pub struct Controller {
    /// The default cluster.
    pub cluster: DefaultCluster,
    /// The issuer namespace of the default cluster.
    pub namespace: String,
    /// The target cluster, if its Issuers are served.
    pub target: Option<TargetCluster>,
    /// Daily quota of ACME issuers without their own.
    pub default_quota: i64,
    /// Rate limits of the CAs.
    pub limits: CaRegistry,
    /// Classes to serve.
    pub classes: Classes,
    /// All issuers, for the other controllers.
    pub registry: Arc<Registry>,
    /// HTTP client for CAs of Issuers in the issuer namespace.
    pub http: Arc<dyn Http>,
    /// HTTP client for CAs of tenants' Issuers; by default limited to public addresses.
    pub tenants_http: Arc<dyn Http>,
    /// Source of the current time.
    pub clock: Arc<dyn Clock>,
    /// Creates private keys of certificates.
    pub keys: Arc<dyn KeyGenerator>,
    /// Publish proofs.
    pub solvers: Arc<SolverRegistry>,
    /// Name servers for the checks of proofs.
    pub precheck: Precheck,
    /// Builds solvers of DNS servers.
    pub dns_servers: DnsServers,
    /// Timeouts of challenges.
    pub timing: Timing,
    /// Whether to deactivate authorizations after each order.
    pub deactivate_authorizations: bool,
    /// Events on Issuers of the default cluster.
    pub events: EventRecorder,
    /// Events on Issuers of the target cluster.
    pub target_events: Option<EventRecorder>,
    /// Issuers that need a pass.
    pub queue: Shared<IssuerKey>,
    /// Receives each issuer that has changed.
    pub changed: tokio::sync::mpsc::UnboundedSender<IssuerKey>,
    /// Metrics.
    pub metrics: Metrics,
    /// What this process knows of each issuer.
    pub records: IssuerRecords,
}

impl Controller {
    /// The client for the cluster of the Issuer.
    pub(super) fn client(&self, key: &IssuerKey) -> &Client {
        match (key, &self.target) {
            (IssuerKey::Target(_), Some(target)) => &target.0,
            (IssuerKey::Target(_) | IssuerKey::Default(_), _) => &self.cluster.0,
        }
    }

    pub(super) fn api(&self, key: &IssuerKey) -> Api<Issuer> {
        let namespace = match key {
            IssuerKey::Default(_) => &self.namespace,
            IssuerKey::Target(object) => &object.namespace,
        };
        Api::namespaced(self.client(key).clone(), namespace)
    }

    pub(super) fn events(&self, key: &IssuerKey) -> &EventRecorder {
        match (key, &self.target_events) {
            (IssuerKey::Target(_), Some(events)) => events,
            (IssuerKey::Target(_) | IssuerKey::Default(_), _) => &self.events,
        }
    }
}
