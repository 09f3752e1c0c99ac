//! By which id owner annotations name a cluster.
//!
//! Reads the ConfigMap `kube-system/cluster-identity`, which Gardener puts into each cluster, and the
//! uid of the namespace `kube-system`, which no other cluster has.

use std::time::Duration;

use futures::future::try_join;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{Api, Client};
use tokio::time::sleep;
use tracing::{info, warn};

use crate::{
    api::ClusterId,
    runtime::{
        clusters::{ClusterOptions, ClusterSettings, Clusters, Role},
        errors::brief,
    },
};

const SYSTEM: &str = "kube-system";
/// Name of Gardener's ConfigMap, and of its only key.
const IDENTITY: &str = "cluster-identity";
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Finds out the id of the cluster that has this role. One that is away is waited for; what we may
/// not read is done without. Roles of the same API server get the same id.
pub async fn identify(clusters: &Clusters, settings: &ClusterSettings, role: Role) -> ClusterId {
    let client = clusters.client(role);
    let mut pause = FIRST_PAUSE;
    let told = loop {
        match read_identity(&client).await {
            Ok(told) => break told,
            Err(error) => {
                warn!("the id of the cluster {} is not known yet: {}", role.name(), brief(&error));
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    };
    let roles = clusters.roles_of_server(role);
    let said: Vec<_> = roles.into_iter().map(|role| (role, settings.of(role))).collect();
    let id = choose(&said, told);
    info!("the cluster {} is {}", role.name(), id.id);
    id
}

/// What a cluster says about itself.
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

/// The first that is known: what a flag says, what the cluster says, who it is, what it is for. All
/// others may be in annotations that were written before that was known.
fn choose(said: &[(Role, &ClusterOptions)], told: ClusterIdentity) -> ClusterId {
    let flags = said.iter().filter_map(|(_, options)| options.id.clone());
    let fallbacks = said.iter().map(|(role, _)| format!("{}/gardener.cloud", role.name()));
    let migrated = said.iter().flat_map(|(_, options)| options.migration_ids.iter().cloned());
    let mut all = flags.chain(told.identity).chain(told.uid).chain(fallbacks);
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
    fn the_first_id_that_is_known_is_written_and_the_others_are_understood() {
        let (none, flag) = (options("", &[]), options("flag", &["old", "flag"]));
        let source = |options| vec![(Role::Source, options)];
        for (said, identity, uid, expected) in [
            (source(&none), None, None, &["source/gardener.cloud"][..]),
            (source(&none), None, Some("uid"), &["uid", "source/gardener.cloud"]),
            (source(&none), Some("told"), None, &["told", "source/gardener.cloud"]),
            (source(&none), Some("told"), Some("uid"), &["told", "uid", "source/gardener.cloud"]),
            (source(&flag), None, None, &["flag", "old", "source/gardener.cloud"]),
            (
                source(&flag),
                Some("told"),
                Some("uid"),
                &["flag", "old", "told", "uid", "source/gardener.cloud"],
            ),
            (
                vec![(Role::Default, &none), (Role::Source, &none)],
                None,
                None,
                &["default/gardener.cloud", "source/gardener.cloud"],
            ),
            (
                vec![(Role::Source, &none), (Role::Target, &flag)],
                Some("told"),
                None,
                &["flag", "old", "told", "source/gardener.cloud", "target/gardener.cloud"],
            ),
        ] {
            let text = |value: Option<&str>| value.map(ToOwned::to_owned);
            let told = ClusterIdentity { identity: text(identity), uid: text(uid) };
            let found = choose(&said, told);
            let all: Vec<_> = std::iter::once(&found.id).chain(&found.former).collect();
            assert_eq!(all, expected);
        }
    }
}
