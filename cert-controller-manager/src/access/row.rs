//! A permission of the manager.

use std::fmt;

/// The logical clusters, which may be the same cluster.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Cluster {
    /// Issuers, account keys, running orders and the lease. Trusted.
    Default,
    /// Certificates and source objects. Not trusted.
    Source,
    /// Challenge DNSEntries.
    Dns,
    /// Certificate Secrets.
    Target,
}

impl Cluster {
    /// All clusters, in the order of the documentation.
    pub const ALL: [Self; 4] = [Self::Default, Self::Source, Self::Dns, Self::Target];
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::Source => "source",
            Self::Dns => "dns",
            Self::Target => "target",
        })
    }
}

/// A role in a cluster. Each role is granted separately, so that an operator can leave out roles for
/// disabled features.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Part {
    /// Issuers and their Secrets.
    Issuers,
    /// The lease of the leader.
    Lease,
    /// Certificates and source objects.
    Objects,
    /// Challenge records.
    Entries,
    /// The DNS responder, only for `--answer-dns` and the command `answer`.
    Answer,
    /// Secrets of certificates.
    Secrets,
    /// Issuers on target, only for `--allow-target-issuers`.
    TargetIssuers,
    /// CustomResourceDefinitions; not needed with `--<cluster>.disable-deploy-crds`.
    Definitions,
    /// The id of the cluster.
    Identity,
    /// Reviews of readers of metrics, only for `--metrics-authorization`.
    MetricsAuthorization,
}

impl Part {
    /// The suffix of the name of the role.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Issuers => "issuers",
            Self::Lease => "lease",
            Self::Objects => "objects",
            Self::Entries => "entries",
            Self::Answer => "answer",
            Self::Secrets => "secrets",
            Self::TargetIssuers => "target-issuers",
            Self::Definitions => "definitions",
            Self::Identity => "identity",
            Self::MetricsAuthorization => "metrics-authorization",
        }
    }

    /// The namespaces of the role.
    #[must_use]
    pub fn scope(self) -> RoleScope {
        match self {
            Self::Issuers => RoleScope::IssuerNamespace,
            Self::Lease => RoleScope::LeaseNamespace,
            Self::Entries | Self::Answer => RoleScope::DnsNamespace,
            Self::Identity => RoleScope::KubeSystem,
            Self::Objects
            | Self::Secrets
            | Self::TargetIssuers
            | Self::Definitions
            | Self::MetricsAuthorization => RoleScope::Everywhere,
        }
    }
}

/// The namespaces of a role: a ClusterRole, or a Role in one namespace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RoleScope {
    /// All namespaces.
    Everywhere,
    /// `--issuer-namespace`
    IssuerNamespace,
    /// `--namespace`
    LeaseNamespace,
    /// `--dns-namespace`, or all namespaces if it is not set
    DnsNamespace,
    /// `kube-system`
    KubeSystem,
}

impl fmt::Display for RoleScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Everywhere => "all",
            Self::IssuerNamespace => "`--issuer-namespace`",
            Self::LeaseNamespace => "`--namespace`",
            Self::DnsNamespace => "`--dns-namespace`, else all",
            Self::KubeSystem => "kube-system",
        })
    }
}

/// Restriction to names of objects.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Names {
    /// No restriction.
    Any,
    /// The lease of the leader.
    Lease,
    /// These names.
    These(&'static [&'static str]),
}

/// A permission of the manager.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Cluster.
    pub cluster: Cluster,
    /// Role.
    pub part: Part,
    /// API group, empty for core.
    pub group: &'static str,
    /// Plural, with its subresource.
    pub resource: &'static str,
    /// Names of the objects.
    pub names: Names,
    /// Verbs, separated by spaces.
    pub verbs: &'static str,
    /// Reason.
    pub why: &'static str,
}
