//! What the manager may do in each logical cluster: the table that the chart's roles, the reference
//! and the tests are made from.
//!
//! A row is a need of the code, no more: reading is `get list watch`, server-side apply is `patch`
//! and, where the object may be new, `create`. Only the lease and our definitions are updated, with
//! the resourceVersion that was looked at.

mod roles;
mod table;

use std::fmt;

pub use roles::{GrantedRole, Scope, roles};
pub use table::TABLE;

/// The logical clusters. Several may be one and the same.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Cluster {
    /// Issuers, account keys, orders under way and the lease. Trusted.
    Default,
    /// Certificates and what they are derived from. Not trusted.
    Source,
    /// Challenge DNSEntries.
    Dns,
    /// Certificate Secrets.
    Target,
}

impl Cluster {
    /// All of them, in the order of the documentation.
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

/// Which of the roles of a cluster a row belongs to. Each is granted by itself, so that an operator
/// may leave out what a flag switches off.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Part {
    /// Issuers and the Secrets beside them.
    Issuers,
    /// The lease of the leader.
    Lease,
    /// Certificates and the objects that they are derived from.
    Objects,
    /// Challenge records.
    Entries,
    /// Answering for challenge records, for `--answer-dns` or the command `answer` only.
    Answer,
    /// Secrets of certificates.
    Secrets,
    /// Issuers on target, for `--allow-target-issuers` only.
    TargetIssuers,
    /// The custom resource definitions; not needed with `--<cluster>.disable-deploy-crds`.
    Definitions,
    /// What tells one cluster from another.
    Identity,
    /// Asking who may read metrics, for `--metrics-authorization` only.
    MetricsAuthorization,
}

impl Part {
    /// The end of the role's name.
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

    /// Where it applies.
    #[must_use]
    pub fn place(self) -> Place {
        match self {
            Self::Issuers => Place::IssuerNamespace,
            Self::Lease => Place::LeaseNamespace,
            Self::Entries | Self::Answer => Place::DnsNamespace,
            Self::Identity => Place::KubeSystem,
            Self::Objects
            | Self::Secrets
            | Self::TargetIssuers
            | Self::Definitions
            | Self::MetricsAuthorization => Place::Everywhere,
        }
    }
}

/// Where a role applies: a ClusterRole, or a Role in one namespace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    /// The whole cluster.
    Everywhere,
    /// `--issuer-namespace`
    IssuerNamespace,
    /// `--namespace`
    LeaseNamespace,
    /// `--dns-namespace`, the whole cluster without it
    DnsNamespace,
    /// `kube-system`
    KubeSystem,
}

impl fmt::Display for Place {
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

/// Which objects of a resource a row is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Names {
    /// All.
    Any,
    /// The lease of the leader.
    Lease,
    /// These.
    These(&'static [&'static str]),
}

/// A need of the manager.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// In which cluster.
    pub cluster: Cluster,
    /// In which of its roles.
    pub part: Part,
    /// The API group, empty for core.
    pub group: &'static str,
    /// The plurals, separated by spaces.
    pub resources: &'static str,
    /// Which of the objects.
    pub names: Names,
    /// The verbs, separated by spaces.
    pub verbs: &'static str,
    /// What for.
    pub why: &'static str,
}

/// The table as Markdown.
#[must_use]
pub fn markdown() -> String {
    use fmt::Write as _;
    let mut text = HEAD.to_owned();
    for cluster in Cluster::ALL {
        // Writing to a text cannot fail.
        let _ = write!(text, "\n## {cluster}\n\n{COLUMNS}");
        for row in TABLE.iter().filter(|row| row.cluster == cluster) {
            let group = if row.group.is_empty() { "" } else { " of " };
            let names = match row.names {
                Names::Any => String::new(),
                Names::Lease => " (the lease)".to_owned(),
                Names::These(names) => format!(" ({})", names.join(", ")),
            };
            let resources = format!("{}{group}{}{names}", list(row.resources), row.group);
            let (part, place) = (row.part.name(), row.part.place());
            let verbs = list(row.verbs);
            let _ = writeln!(text, "| {part} | {place} | {resources} | {verbs} | {} |", row.why);
        }
    }
    text
}

fn list(words: &str) -> String {
    words.split(' ').collect::<Vec<_>>().join(", ")
}

const HEAD: &str = "\
<!-- Generated by `cert-controller-manager generate access`. Do not edit. -->
# Access

What the manager may do in each of its four logical clusters. Where several of them are one cluster,
it needs the sum. The chart grants this in the cluster that it is installed in;
`cert-controller-manager generate roles` prints the roles for the others.
";
const COLUMNS: &str = "\
| role | namespaces | resources | verbs | why |
|---|---|---|---|---|
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_plain_words_and_every_verb_is_one_of_kubernetes() {
        for row in TABLE {
            assert!(!row.why.is_empty() && !row.why.contains('|'), "{row:?}");
            for verb in row.verbs.split(' ') {
                let known = ["get", "list", "watch", "create", "update", "patch", "delete"];
                assert!(known.contains(&verb), "{row:?}");
            }
        }
    }

    #[test]
    fn nothing_is_granted_twice_in_one_role() {
        for (index, row) in TABLE.iter().enumerate() {
            for other in &TABLE[index + 1..] {
                let same =
                    (row.cluster, row.part, row.group) == (other.cluster, other.part, other.group);
                let shared = row.resources.split(' ').find(|one| {
                    other.resources.split(' ').any(|two| two == *one) && row.names == other.names
                });
                assert!(!same || shared.is_none(), "{row:?} and {other:?} share {shared:?}");
            }
        }
    }

    /// The source is not trusted, and what is granted there must not lead to what is kept elsewhere.
    #[test]
    fn no_secret_and_no_issuer_is_read_on_source() {
        let rows = TABLE.iter().filter(|row| row.cluster == Cluster::Source);
        for row in rows {
            assert!(!row.resources.contains("secrets") && !row.resources.contains("issuers"));
        }
    }

    #[test]
    fn the_reference_names_every_cluster_and_every_reason() {
        let text = markdown();
        assert!(TABLE.iter().all(|row| text.contains(row.why)));
        assert!(Cluster::ALL.iter().all(|cluster| text.contains(&format!("\n## {cluster}\n"))));
    }
}
