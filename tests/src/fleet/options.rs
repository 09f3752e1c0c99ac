//! Options of a fleet.

use cert_controller_manager::access::Cluster;

use crate::{controlplane::Audit, pebble::PebbleOptions};

/// The API server of each logical cluster: indices from 0, without a gap.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Layout {
    /// Issuers, account keys, orders in progress, the lease.
    pub default: usize,
    /// Certificates and their sources.
    pub source: usize,
    /// Challenge DNSEntries.
    pub dns: usize,
    /// Certificate Secrets.
    pub target: usize,
}

impl Layout {
    /// All logical clusters in one.
    pub const ONE: Self = Self { default: 0, source: 0, dns: 0, target: 0 };
    /// One of the operator and one of the customer.
    pub const TWO: Self = Self { default: 0, source: 1, dns: 0, target: 1 };
    /// As [`Layout::TWO`], with the certificate Secrets in a third one.
    pub const THREE: Self = Self { default: 0, source: 1, dns: 0, target: 2 };
    /// Each logical cluster in one of its own.
    pub const FOUR: Self = Self { default: 0, source: 1, dns: 2, target: 3 };

    /// The API server of this logical cluster.
    #[must_use]
    pub fn of(&self, cluster: Cluster) -> usize {
        match cluster {
            Cluster::Default => self.default,
            Cluster::Source => self.source,
            Cluster::Dns => self.dns,
            Cluster::Target => self.target,
        }
    }

    /// Number of API servers.
    #[must_use]
    pub fn planes(&self) -> usize {
        1 + Cluster::ALL.iter().map(|cluster| self.of(*cluster)).max().unwrap_or_default()
    }

    /// The logical clusters of this API server.
    #[must_use]
    pub fn roles(&self, plane: usize) -> Vec<Cluster> {
        Cluster::ALL.into_iter().filter(|cluster| self.of(*cluster) == plane).collect()
    }
}

/// The rights of a manager.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Access {
    /// All rights, through the group `system:masters`.
    #[default]
    Everything,
    /// The rights of the access table, in each cluster.
    Granted,
    /// None, until the test grants some.
    Nothing,
}

/// Options of a fleet.
#[derive(Clone, Debug)]
pub struct FleetOptions {
    /// The API server of each logical cluster.
    pub layout: Layout,
    /// Number of managers.
    pub managers: usize,
    /// Their rights.
    pub access: Access,
    /// The requests that the API servers record.
    pub audit: Audit,
    /// The CA; its `dns` is filled in.
    pub pebble: PebbleOptions,
    /// Further arguments for all managers.
    pub arguments: Vec<String>,
    /// Further arguments per manager: the first is for manager 0.
    pub arguments_of: Vec<Vec<String>>,
    /// Whether the managers serve HTTP, at [`super::Fleet::http_port`].
    pub http: bool,
    /// Whether the managers do not run until [`super::Fleet::restart`].
    pub idle: bool,
    /// One user for all managers, instead of one each.
    pub user: Option<String>,
    /// Whether the test, and not the manager, creates the definitions of Issuer and Certificate.
    pub definitions: bool,
    /// API servers that are not started; see [`super::Fleet::plane`] to start them.
    pub away: Vec<usize>,
}

impl Default for FleetOptions {
    fn default() -> Self {
        Self {
            layout: Layout::ONE,
            managers: 1,
            access: Access::default(),
            audit: Audit::Writes,
            pebble: PebbleOptions::default(),
            arguments: Vec::new(),
            arguments_of: Vec::new(),
            http: false,
            idle: false,
            user: None,
            definitions: false,
            away: Vec::new(),
        }
    }
}

impl FleetOptions {
    /// Managers with the rights of the access table only, and API servers that record every
    /// request: see [`super::Fleet::forbidden`].
    #[must_use]
    pub fn least_rights(layout: Layout) -> Self {
        Self { layout, access: Access::Granted, audit: Audit::All, ..Self::default() }
    }

    /// The user of a manager.
    pub(super) fn user(&self, number: usize) -> String {
        self.user.clone().unwrap_or_else(|| super::Fleet::user(number))
    }

    /// The users of all managers.
    pub(super) fn users(&self) -> Vec<String> {
        let mut users: Vec<String> = (0..self.managers).map(|number| self.user(number)).collect();
        users.dedup();
        users
    }
}
