//! Whether a kind is really absent. A 404 alone does not say so: a proxy or a router in front of an
//! API server that is away says the same, and what is absent is taken for deleted.

use kube::{Client, Resource};

/// Whether the API server itself says that it has no such kind.
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
