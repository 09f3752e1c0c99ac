//! The permissions of the manager in each logical cluster. The chart's roles, the reference and tests
//! are generated from this table.
//!
//! A row contains only what the code needs. Reading is `get list watch`. Server-side apply is `patch`,
//! and `create` if the object may be new. Only the lease and our definitions need `update`.

mod roles;
mod sources;
mod table;

use std::fmt;

pub use roles::{GrantedRole, Scope, roles};
pub use table::table;

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

impl Row {
    /// Whether another row differs only in its resources.
    fn is_like(&self, other: &Self) -> bool {
        let key = |row: &Self| (row.cluster, row.part, row.group, row.names, row.verbs, row.why);
        key(self) == key(other)
    }
}

/// Rows that differ only in their resources, as one.
struct Merged {
    row: Row,
    resources: Vec<&'static str>,
}

/// The rows of a cluster.
fn rows(cluster: Cluster) -> Vec<Merged> {
    let mut all: Vec<Merged> = Vec::new();
    for row in table().into_iter().filter(|row| row.cluster == cluster) {
        match all.iter_mut().find(|known| known.row.is_like(&row)) {
            Some(known) => known.resources.push(row.resource),
            None => all.push(Merged { row, resources: vec![row.resource] }),
        }
    }
    all
}

/// Renders the table as Markdown.
#[must_use]
pub fn markdown() -> String {
    use fmt::Write as _;
    let mut text = HEAD.to_owned();
    for cluster in Cluster::ALL {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n## {cluster}\n\n{COLUMNS}");
        for Merged { row, resources } in rows(cluster) {
            let group = if row.group.is_empty() { "" } else { " of " };
            let names = match row.names {
                Names::Any => String::new(),
                Names::Lease => " (the lease)".to_owned(),
                Names::These(names) => format!(" ({})", names.join(", ")),
            };
            let resources = format!("{}{group}{}{names}", resources.join(", "), row.group);
            let (part, scope) = (row.part.name(), row.part.scope());
            let verbs = row.verbs.replace(' ', ", ");
            let _ = writeln!(text, "| {part} | {scope} | {resources} | {verbs} | {} |", row.why);
        }
    }
    text
}

const HEAD: &str = "\
<!-- Generated by `cert-controller-manager generate access`. Do not edit. -->
# Access

The permissions of the manager in each of its four logical clusters. If several of them are the same
cluster, it needs the union. The chart grants the permissions in the cluster where it is installed;
`cert-controller-manager generate roles` prints the roles for the other clusters.
";
const COLUMNS: &str = "\
| role | namespaces | resources | verbs | why |
|---|---|---|---|---|
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_reason_and_valid_verbs() {
        for row in table() {
            assert!(!row.why.is_empty() && !row.why.contains('|'), "{row:?}");
            for verb in row.verbs.split(' ') {
                let known = ["get", "list", "watch", "create", "update", "patch", "delete"];
                assert!(known.contains(&verb), "{row:?}");
            }
        }
    }

    #[test]
    fn no_permission_is_granted_twice_in_one_role() {
        let table = table();
        for (index, row) in table.iter().enumerate() {
            let key = |row: &Row| (row.cluster, row.part, row.group, row.resource, row.names);
            let other = table[index + 1..].iter().find(|other| key(other) == key(row));
            assert!(other.is_none(), "{row:?} and {other:?} grant the same");
        }
    }

    /// The source is not trusted, so the manager must not read credentials there.
    #[test]
    fn secrets_and_issuers_are_not_read_on_source() {
        for row in table().iter().filter(|row| row.cluster == Cluster::Source) {
            assert!(!row.resource.contains("secrets") && !row.resource.contains("issuers"));
        }
    }

    #[test]
    fn the_reference_contains_every_cluster_and_reason() {
        let text = markdown();
        assert!(table().iter().all(|row| text.contains(row.why)));
        assert!(Cluster::ALL.iter().all(|cluster| text.contains(&format!("\n## {cluster}\n"))));
    }
}
