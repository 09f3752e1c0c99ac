//! Verifies that a kind is absent. A 404 is not sufficient: a proxy in front of an unreachable API server
//! may return it, too. All objects of an absent kind are treated as deleted.

use kube::{Client, Resource};

/// Whether the discovery of the API server does not contain the kind.
pub(super) async fn is_absent<K: Resource>(client: &Client, kind: &K::DynamicType) -> bool {
    let (group, version) = (K::group(kind), K::version(kind));
    if group.is_empty() {
        return false;
    }
    let Ok(groups) = client.list_api_groups().await else { return false };
    let found = groups.groups.iter().find(|it| it.name == group);
    if !found.is_some_and(|it| it.versions.iter().any(|it| it.version == version)) {
        return true;
    }
    let resources = client.list_api_group_resources(&format!("{group}/{version}")).await;
    resources.is_ok_and(|list| !list.resources.iter().any(|it| it.name == K::plural(kind)))
}
