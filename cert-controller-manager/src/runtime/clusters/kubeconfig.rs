//! Where kubeconfigs are, which one a cluster has that names none, and what they contain.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use aws_lc_rs::digest::{Context as Hash, SHA256};
use kube::{Config, config::KubeConfigOptions};

use super::{ClusterSettings, Role};

/// Where a kubeconfig is.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Kubeconfig {
    /// In a file.
    Path(PathBuf),
    /// There is none: the service account of the pod that we run in.
    InCluster,
    /// In the files that the environment variable `KUBECONFIG` lists.
    Environment,
}

impl Kubeconfig {
    /// As flags name it: a path, `IN-CLUSTER` or `ENVIRONMENT`; the empty text names none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" => None,
            "IN-CLUSTER" => Some(Self::InCluster),
            "ENVIRONMENT" => Some(Self::Environment),
            path => Some(Self::Path(path.into())),
        }
    }

    /// Reads it, with the files that it names.
    pub(super) async fn load(&self) -> anyhow::Result<Loaded> {
        let what = || self.to_string();
        if *self == Self::InCluster {
            let config = Config::incluster().with_context(what)?;
            return Ok(Loaded { config, digest: None });
        }
        // The digest comes first: what changes in between is read again.
        let here = self.clone();
        let (digest, file) = tokio::task::spawn_blocking(move || {
            Ok::<_, anyhow::Error>((here.digest()?, here.read()?))
        })
        .await
        .context("reading")?
        .with_context(what)?;
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(file, &options).await.with_context(what)?;
        Ok(Loaded { config, digest: Some(digest) })
    }

    /// What its files contain now; `None` for what needs no reading again: kube reads the token and
    /// the authority of a service account by itself.
    pub(super) async fn look(&self) -> anyhow::Result<Option<Digest>> {
        if *self == Self::InCluster {
            return Ok(None);
        }
        let here = self.clone();
        let digest = tokio::task::spawn_blocking(move || here.digest()).await.context("reading")?;
        Ok(Some(digest.with_context(|| self.to_string())?))
    }

    fn digest(&self) -> anyhow::Result<Digest> {
        let mut hash = Hash::new(&SHA256);
        for path in self.paths() {
            add(&mut hash, &path)?;
        }
        for path in named(&self.read()?) {
            add(&mut hash, Path::new(&path))?;
        }
        Ok(hash.finish().as_ref().to_vec())
    }

    fn paths(&self) -> Vec<PathBuf> {
        match self {
            Self::Path(path) => vec![path.clone()],
            Self::InCluster => Vec::new(),
            Self::Environment => env::var_os(KUBECONFIG)
                .map(|list| env::split_paths(&list).collect())
                .unwrap_or_default(),
        }
    }

    fn read(&self) -> anyhow::Result<kube::config::Kubeconfig> {
        let mut read = kube::config::Kubeconfig::default();
        for path in self.paths().iter().filter(|path| !path.as_os_str().is_empty()) {
            read = read.merge(kube::config::Kubeconfig::read_from(path)?)?;
        }
        Ok(read)
    }
}

impl std::fmt::Display for Kubeconfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => write!(f, "kubeconfig {}", path.display()),
            Self::InCluster => f.write_str("service account of this pod"),
            Self::Environment => f.write_str("kubeconfig that KUBECONFIG names"),
        }
    }
}

/// A kubeconfig that was read.
pub(super) struct Loaded {
    pub(super) config: Config,
    /// Of all that was read; see [`Kubeconfig::look`].
    pub(super) digest: Option<Digest>,
}

pub(super) type Digest = Vec<u8>;

fn add(hash: &mut Hash, path: &Path) -> anyhow::Result<()> {
    let content = std::fs::read(path).with_context(|| path.display().to_string())?;
    hash.update(&content.len().to_be_bytes());
    hash.update(&content);
    Ok(())
}

/// The files that a kubeconfig names: certificates, keys and tokens.
fn named(file: &kube::config::Kubeconfig) -> Vec<String> {
    let clusters = file.clusters.iter().filter_map(|it| it.cluster.as_ref());
    let authorities = clusters.filter_map(|it| it.certificate_authority.clone());
    let users = file.auth_infos.iter().filter_map(|it| it.auth_info.as_ref());
    let credentials = users
        .flat_map(|it| [&it.client_certificate, &it.client_key, &it.token_file])
        .filter_map(Clone::clone);
    authorities.chain(credentials).collect()
}

/// What there is where no kubeconfig is named.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Surroundings {
    /// `KUBECONFIG` is set.
    pub kubeconfig: bool,
    /// We run in a pod.
    pub cluster: bool,
}

impl Surroundings {
    pub(super) fn look() -> Self {
        let set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        Self { kubeconfig: set(KUBECONFIG), cluster: set("KUBERNETES_SERVICE_HOST") }
    }
}

/// The kubeconfig of each role, in the order of [`Role::ALL`].
///
/// # Errors
/// When there is none for the default cluster.
pub(super) fn resolve(
    settings: &ClusterSettings,
    surroundings: Surroundings,
) -> anyhow::Result<[Kubeconfig; 4]> {
    let of = |role| settings.of(role).kubeconfig.clone();
    let default = match of(Role::Default) {
        Some(named) => named,
        None if surroundings.kubeconfig => Kubeconfig::Environment,
        None if surroundings.cluster => Kubeconfig::InCluster,
        None => bail!(
            "no cluster: give --kubeconfig, set KUBECONFIG, or run inside a cluster with a service account"
        ),
    };
    let source = of(Role::Source).unwrap_or_else(|| default.clone());
    let dns = of(Role::Dns).unwrap_or_else(|| default.clone());
    let target = of(Role::Target).unwrap_or_else(|| source.clone());
    Ok([default, source, dns, target])
}

const KUBECONFIG: &str = "KUBECONFIG";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::clusters::ClusterOptions;

    #[test]
    fn what_is_not_named_falls_back() {
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
            let resolved = resolve(&settings, Surroundings { kubeconfig, cluster }).ok();
            let expected = expected.map(|all| all.map(|text| Kubeconfig::parse(text).unwrap()));
            assert_eq!(resolved, expected, "{flags:?} {kubeconfig} {cluster}");
        }
    }
}
