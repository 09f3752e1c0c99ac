//! Determines the id of a cluster in owner annotations.
//!
//! Reads the ConfigMap `kube-system/cluster-identity`, which Gardener creates in each cluster, and the
//! unique uid of the namespace `kube-system`.

use std::time::Duration;

use futures::future::try_join;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{Api, Client};
use tokio::time::sleep;
use tracing::{info, warn};

use crate::{
    api::ClusterId,
    runtime::{
        clusters::{ClusterOptions, ClusterSettings, Clusters},
        errors::brief,
        role::Role,
    },
};

const SYSTEM: &str = "kube-system";
/// Name of the ConfigMap of Gardener, and of its only key.
const IDENTITY: &str = "cluster-identity";
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// Determines the id of the cluster with this role. Waits for an unreachable cluster, and skips objects
/// without permission. Roles of the same API server get the same id.
pub async fn identify(clusters: &Clusters, settings: &ClusterSettings, role: Role) -> ClusterId {
    let client = clusters.client(role);
    let mut pause = FIRST_PAUSE;
    let reported = loop {
        match read_identity(&client).await {
            Ok(reported) => break reported,
            Err(error) => {
                warn!("cannot read the id of the cluster {} yet: {}", role.name(), brief(&error));
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
    };
    let roles = clusters.roles_of_server(role);
    let options_by_role: Vec<_> = roles.into_iter().map(|role| (role, settings.of(role))).collect();
    let id = choose(&options_by_role, reported);
    info!("the id of the cluster {} is {}", role.name(), id.id);
    id
}

/// The identity that a cluster reports.
#[derive(Clone, Debug, Default)]
struct ClusterIdentity {
    identity: Option<String>,
    uid: Option<String>,
}

async fn read_identity(client: &Client) -> Result<ClusterIdentity, kube::Error> {
    let config_maps: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM);
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let (config_map, namespace) =
        try_join(async { permitted(config_maps.get_opt(IDENTITY).await) }, async {
            permitted(namespaces.get_opt(SYSTEM).await)
        })
        .await?;
    let identity = config_map.and_then(|map| map.data).and_then(|mut data| data.remove(IDENTITY));
    let identity = identity.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    Ok(ClusterIdentity { identity, uid: namespace.and_then(|namespace| namespace.metadata.uid) })
}

fn permitted<T>(answer: Result<Option<T>, kube::Error>) -> Result<Option<T>, kube::Error> {
    match answer {
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(None),
        answer => answer,
    }
}

/// The first known id of: flag, ConfigMap, uid, role. The others may be in older annotations, so they
/// become former ids.
fn choose(options_by_role: &[(Role, &ClusterOptions)], reported: ClusterIdentity) -> ClusterId {
    let flags = options_by_role.iter().filter_map(|(_, options)| options.id.clone());
    let fallbacks =
        options_by_role.iter().map(|(role, _)| format!("{}/gardener.cloud", role.name()));
    let migrated =
        options_by_role.iter().flat_map(|(_, options)| options.migration_ids.iter().cloned());
    let mut all = flags.chain(reported.identity).chain(reported.uid).chain(fallbacks);
    let id = all.next().unwrap_or_default();
    let mut former: Vec<String> = Vec::new();
    for other in migrated.chain(all) {
        if other != id && !other.is_empty() && !former.contains(&other) {
            former.push(other);
        }
    }
    ClusterId { id, former }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(id: &str, migration_ids: &[&str]) -> ClusterOptions {
        ClusterOptions {
            id: Some(id.to_owned()).filter(|id| !id.is_empty()),
            migration_ids: migration_ids.iter().map(|id| (*id).to_owned()).collect(),
            ..ClusterOptions::default()
        }
    }

    #[test]
    fn the_first_known_id_is_written_and_the_others_are_former_ids() {
        let (none, flag) = (options("", &[]), options("flag", &["old", "flag"]));
        let source = |options| vec![(Role::Source, options)];
        for (options_by_role, identity, uid, expected) in [
            (source(&none), None, None, &["source/gardener.cloud"][..]),
            (source(&none), None, Some("uid"), &["uid", "source/gardener.cloud"]),
            (source(&none), Some("shoot"), None, &["shoot", "source/gardener.cloud"]),
            (source(&none), Some("shoot"), Some("uid"), &["shoot", "uid", "source/gardener.cloud"]),
            (source(&flag), None, None, &["flag", "old", "source/gardener.cloud"]),
            (
                source(&flag),
                Some("shoot"),
                Some("uid"),
                &["flag", "old", "shoot", "uid", "source/gardener.cloud"],
            ),
            (
                vec![(Role::Default, &none), (Role::Source, &none)],
                None,
                None,
                &["default/gardener.cloud", "source/gardener.cloud"],
            ),
            (
                vec![(Role::Source, &none), (Role::Target, &flag)],
                Some("shoot"),
                None,
                &["flag", "old", "shoot", "source/gardener.cloud", "target/gardener.cloud"],
            ),
        ] {
            let text = |value: Option<&str>| value.map(ToOwned::to_owned);
            let reported = ClusterIdentity { identity: text(identity), uid: text(uid) };
            let found = choose(&options_by_role, reported);
            let all: Vec<_> = std::iter::once(&found.id).chain(&found.former).collect();
            assert_eq!(all, expected);
        }
    }
}
