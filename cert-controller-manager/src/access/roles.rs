//! Renders the table as Roles and ClusterRoles.

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use kube::core::ObjectMeta;
use serde::Serialize;

use super::{
    merged::{Merged, rows},
    row::{Cluster, Names, Part, RoleScope},
};

/// Flags that the roles depend on.
#[derive(Clone, Debug)]
pub struct Scope {
    /// `--issuer-namespace`
    pub issuer_namespace: String,
    /// `--namespace`
    pub lease_namespace: String,
    /// The name of the lease.
    pub lease: String,
    /// `--dns-namespace`
    pub dns_namespace: Option<String>,
}

impl Default for Scope {
    /// The defaults of the flags.
    fn default() -> Self {
        Self {
            issuer_namespace: "default".to_owned(),
            lease_namespace: "kube-system".to_owned(),
            lease: "cert-controller-manager-controllers".to_owned(),
            dns_namespace: None,
        }
    }
}

/// A ClusterRole or Role.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum GrantedRole {
    /// For the whole cluster.
    Everywhere(ClusterRole),
    /// For one namespace.
    Namespaced(Role),
}

/// The roles for a logical cluster. Their names contain the cluster, so that the roles of several
/// logical clusters can be in one API server.
#[must_use]
pub fn roles(cluster: Cluster, scope: &Scope) -> Vec<GrantedRole> {
    let mut parts: Vec<Part> = Vec::new();
    for Merged { row, .. } in rows(cluster) {
        if !parts.contains(&row.part) {
            parts.push(row.part);
        }
    }
    parts.into_iter().map(|part| role(cluster, part, scope)).collect()
}

fn role(cluster: Cluster, part: Part, scope: &Scope) -> GrantedRole {
    let namespace = match part.scope() {
        RoleScope::Everywhere => None,
        RoleScope::IssuerNamespace => Some(scope.issuer_namespace.clone()),
        RoleScope::LeaseNamespace => Some(scope.lease_namespace.clone()),
        RoleScope::DnsNamespace => scope.dns_namespace.clone(),
        RoleScope::KubeSystem => Some("kube-system".to_owned()),
    };
    let rows = rows(cluster).into_iter().filter(|merged| merged.row.part == part);
    let rules: Vec<PolicyRule> = rows.map(|merged| rule(merged, scope)).collect();
    let metadata = ObjectMeta {
        name: Some(format!("cert-controller-manager-{cluster}-{}", part.name())),
        namespace,
        ..ObjectMeta::default()
    };
    if metadata.namespace.is_some() {
        GrantedRole::Namespaced(Role { metadata, rules: Some(rules) })
    } else {
        let rules = Some(rules);
        GrantedRole::Everywhere(ClusterRole { metadata, rules, ..ClusterRole::default() })
    }
}

fn rule(Merged { row, resources }: Merged, scope: &Scope) -> PolicyRule {
    PolicyRule {
        api_groups: Some(vec![row.group.to_owned()]),
        resources: Some(resources.into_iter().map(str::to_owned).collect()),
        resource_names: match row.names {
            Names::Any => None,
            Names::Lease => Some(vec![scope.lease.clone()]),
            Names::These(names) => Some(names.iter().map(|name| (*name).to_owned()).collect()),
        },
        verbs: row.verbs.split(' ').map(str::to_owned).collect(),
        ..PolicyRule::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(cluster: Cluster, scope: &Scope) -> Vec<String> {
        let name = |role: GrantedRole| match role {
            GrantedRole::Everywhere(role) => role.metadata.name.unwrap(),
            GrantedRole::Namespaced(Role { metadata, .. }) => {
                format!("{}/{}", metadata.namespace.unwrap(), metadata.name.unwrap())
            }
        };
        let all = roles(cluster, scope).into_iter().map(name);
        all.map(|name| name.replace("cert-controller-manager-", "")).collect()
    }

    #[test]
    fn a_role_is_in_the_namespace_of_its_flag() {
        let scope = Scope { dns_namespace: Some("dns".to_owned()), ..Scope::default() };
        assert_eq!(
            names(Cluster::Default, &scope),
            [
                "default/default-issuers",
                "kube-system/default-lease",
                "default-definitions",
                "kube-system/default-identity",
                "default-metrics-authorization"
            ]
        );
        assert_eq!(
            names(Cluster::Dns, &scope),
            ["dns/dns-entries", "dns/dns-answer", "dns-definitions", "kube-system/dns-identity"]
        );
        assert_eq!(names(Cluster::Dns, &Scope::default())[0], "dns-entries");
    }

    #[test]
    fn the_lease_is_granted_by_name() {
        let scope = Scope { lease: "mine".to_owned(), ..Scope::default() };
        let roles = serde_json::to_value(roles(Cluster::Default, &scope)).unwrap();
        assert_eq!(roles[1]["kind"], "Role");
        assert_eq!(roles[1]["rules"][1]["resourceNames"], serde_json::json!(["mine"]));
    }
}
