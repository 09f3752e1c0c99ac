//! The kubeconfig of each cluster, with fallbacks for clusters without one.

use std::env;

use anyhow::bail;

use super::{
    kubeconfig::{KUBECONFIG, Kubeconfig},
    settings::ClusterSettings,
};
use crate::runtime::role::Role;

/// Defaults that the environment provides.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Environment {
    /// Whether `KUBECONFIG` is set.
    pub kubeconfig: bool,
    /// Whether the process runs in a pod.
    pub cluster: bool,
}

impl Environment {
    pub(super) fn detect() -> Self {
        let set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        Self { kubeconfig: set(KUBECONFIG), cluster: set("KUBERNETES_SERVICE_HOST") }
    }
}

/// The kubeconfig of each role, in the order of [`Role::ALL`].
///
/// # Errors
/// When the default cluster has none.
pub(super) fn resolve(
    settings: &ClusterSettings,
    environment: Environment,
) -> anyhow::Result<[Kubeconfig; 4]> {
    let of = |role| settings.of(role).kubeconfig.clone();
    let default = match of(Role::Default) {
        Some(named) => named,
        None if environment.kubeconfig => Kubeconfig::Environment,
        None if environment.cluster => Kubeconfig::InCluster,
        None => bail!(
            "no cluster: set --kubeconfig or KUBECONFIG, or run inside a cluster with a service account"
        ),
    };
    let source = of(Role::Source).unwrap_or_else(|| default.clone());
    let dns = of(Role::Dns).unwrap_or_else(|| default.clone());
    let target = of(Role::Target).unwrap_or_else(|| source.clone());
    Ok([default, source, dns, target])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::clusters::settings::ClusterOptions;

    #[test]
    fn unset_kubeconfigs_fall_back() {
        let options =
            |text| ClusterOptions { kubeconfig: Kubeconfig::parse(text), ..Default::default() };
        // Flags, KUBECONFIG, in a pod; default, source, dns, target
        for (flags, kubeconfig, cluster, expected) in [
            (["", "", "", ""], true, true, Some(["ENVIRONMENT"; 4])),
            (["", "", "", ""], false, true, Some(["IN-CLUSTER"; 4])),
            (["", "", "", ""], false, false, None),
            (["", "s", "d", "t"], false, false, None),
            (["k", "", "", ""], true, true, Some(["k"; 4])),
            (["k", "s", "", ""], true, true, Some(["k", "s", "k", "s"])),
            (["k", "", "d", ""], true, true, Some(["k", "k", "d", "k"])),
            (["k", "", "", "t"], true, true, Some(["k", "k", "k", "t"])),
            (["", "s", "", ""], false, true, Some(["IN-CLUSTER", "s", "IN-CLUSTER", "s"])),
            (["k", "IN-CLUSTER", "", ""], true, true, Some(["k", "IN-CLUSTER", "k", "IN-CLUSTER"])),
            (
                ["IN-CLUSTER", "", "ENVIRONMENT", ""],
                true,
                true,
                Some(["IN-CLUSTER", "IN-CLUSTER", "ENVIRONMENT", "IN-CLUSTER"]),
            ),
        ] {
            let [default, source, dns, target] = flags.map(options);
            let settings = ClusterSettings { default, source, dns, target };
            let resolved = resolve(&settings, Environment { kubeconfig, cluster }).ok();
            let expected = expected.map(|all| all.map(|text| Kubeconfig::parse(text).unwrap()));
            assert_eq!(resolved, expected, "{flags:?} {kubeconfig} {cluster}");
        }
    }
}
