//! The roles of clusters, and the reachability of a cluster.

use jiff::Timestamp;

/// The role of a cluster.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Role {
    /// See [`DefaultCluster`](super::clusters::DefaultCluster).
    Default,
    /// See [`SourceCluster`](super::clusters::SourceCluster).
    Source,
    /// See [`DnsCluster`](super::clusters::DnsCluster).
    Dns,
    /// See [`TargetCluster`](super::clusters::TargetCluster).
    Target,
}

impl Role {
    /// All roles. A role falls back only to roles before it.
    pub const ALL: [Self; 4] = [Self::Default, Self::Source, Self::Dns, Self::Target];

    /// The name in logs, metrics and cluster ids.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Source => "source",
            Self::Dns => "dns",
            Self::Target => "target",
        }
    }

    /// The flag for the kubeconfig, which is also the prefix of the other flags.
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

/// Whether an API server responds.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Reachability {
    /// No call has ended yet.
    #[default]
    Unknown,
    /// The server responds and accepts our credentials.
    Reachable,
    /// The server responds and refuses all requests.
    Refused {
        /// Time of the first such response.
        since: Timestamp,
        /// The last response.
        why: String,
    },
    /// The server does not respond.
    Away {
        /// Time of the first such call.
        since: Timestamp,
        /// The last error.
        why: String,
    },
}
