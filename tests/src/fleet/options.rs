//! What differs between one fleet and another.

use cert_controller_manager::access::Cluster;

use crate::{controlplane::Audit, pebble::PebbleOptions};

/// Which API server plays which logical cluster: indices, beginning with 0, without a gap.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Layout {
    /// Issuers, account keys, orders under way, the lease.
    pub default: usize,
    /// Certificates and what they are derived from.
    pub source: usize,
    /// Challenge DNSEntries.
    pub dns: usize,
    /// Certificate Secrets.
    pub target: usize,
}

impl Layout {
    /// Everything in one.
    pub const ONE: Self = Self { default: 0, source: 0, dns: 0, target: 0 };
    /// The one of the operator, and the one of the customer.
    pub const TWO: Self = Self { default: 0, source: 1, dns: 0, target: 1 };
    /// As [`Layout::TWO`], with the Secrets in a third.
    pub const THREE: Self = Self { default: 0, source: 1, dns: 0, target: 2 };
    /// Each in its own.
    pub const FOUR: Self = Self { default: 0, source: 1, dns: 2, target: 3 };

    /// Which API server plays this one.
    #[must_use]
    pub fn of(&self, cluster: Cluster) -> usize {
        match cluster {
            Cluster::Default => self.default,
            Cluster::Source => self.source,
            Cluster::Dns => self.dns,
            Cluster::Target => self.target,
        }
    }

    /// How many API servers there are.
    #[must_use]
    pub fn planes(&self) -> usize {
        1 + Cluster::ALL.iter().map(|cluster| self.of(*cluster)).max().unwrap_or_default()
    }

    /// The logical clusters that this API server plays.
    #[must_use]
    pub fn roles(&self, plane: usize) -> Vec<Cluster> {
        Cluster::ALL.into_iter().filter(|cluster| self.of(*cluster) == plane).collect()
    }
}

/// What a manager may do.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Access {
    /// Everything: it is in `system:masters`.
    #[default]
    Everything,
    /// What the access table says, in each cluster.
    Granted,
    /// Nothing, until the test grants something.
    Nothing,
}

/// What differs between one fleet and another.
#[derive(Clone, Debug)]
pub struct FleetOptions {
    /// Which API server plays which logical cluster.
    pub layout: Layout,
    /// How many managers there are.
    pub managers: usize,
    /// What they may do.
    pub access: Access,
    /// What the API servers record.
    pub audit: Audit,
    /// The CA; its `dns` is filled in.
    pub pebble: PebbleOptions,
    /// Further arguments for every manager.
    pub arguments: Vec<String>,
    /// Further arguments for some: the first is for manager 0.
    pub arguments_of: Vec<Vec<String>>,
    /// Whether each manager serves HTTP, on a port that [`super::Fleet::http_port`] tells.
    pub http: bool,
    /// Whether the managers do not run until [`super::Fleet::restart`].
    pub idle: bool,
    /// The user that all managers are, instead of one each.
    pub user: Option<String>,
    /// Whether Issuer and Certificate are defined by the test beforehand, not by the manager.
    pub definitions: bool,
    /// Which API servers do not run at first; see [`super::Fleet::plane`] to start them.
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
    /// Managers with no right but those of the access table, and API servers that record every
    /// request: see [`super::Fleet::forbidden`].
    #[must_use]
    pub fn least_rights(layout: Layout) -> Self {
        Self { layout, access: Access::Granted, audit: Audit::All, ..Self::default() }
    }

    /// The user that a manager is.
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
