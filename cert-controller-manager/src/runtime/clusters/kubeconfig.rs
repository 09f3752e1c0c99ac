//! Locates, reads and validates kubeconfigs, with fallbacks for clusters without one.

mod file;
mod in_cluster;
mod node;
mod read;
mod select;

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

pub(super) use self::select::{header, token_in};
use self::{file::File, read::Reader, select::select};
use super::{ClusterSettings, Role, connection::Connection};
use crate::runtime::fence::Fence;

/// The location of a kubeconfig.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Kubeconfig {
    /// In a file.
    Path(PathBuf),
    /// The service account of the pod.
    InCluster,
    /// In the files that the environment variable `KUBECONFIG` lists.
    Environment,
}

impl Kubeconfig {
    /// Parses the value of a flag: a path, `IN-CLUSTER` or `ENVIRONMENT`; empty for none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" => None,
            "IN-CLUSTER" => Some(Self::InCluster),
            "ENVIRONMENT" => Some(Self::Environment),
            path => Some(Self::Path(path.into())),
        }
    }

    /// Reads it, and the files that it refers to.
    pub(super) async fn load(&self) -> anyhow::Result<Loaded> {
        let here = self.clone();
        tokio::task::spawn_blocking(move || here.read())
            .await
            .context("reading")?
            .with_context(|| self.to_string())
    }

    fn read(&self) -> anyhow::Result<Loaded> {
        let mut reader = Reader::new();
        let connection = match self {
            Self::Path(path) => {
                let content = reader.read(path)?;
                select(&parse(&content, path)?, &mut reader)?
            }
            Self::Environment => select(&of_environment(&mut reader)?, &mut reader)?,
            Self::InCluster => in_cluster::connection(&mut reader)?,
        };
        Ok(Loaded { connection, digest: reader.digest() })
    }
}

fn parse(content: &[u8], path: &Path) -> anyhow::Result<File> {
    File::parse(&read::text(content)?, &read::directory(path)?)
}

/// Merges the files that `KUBECONFIG` lists. Like kubectl, it skips empty parts and missing files.
fn of_environment(reader: &mut Reader) -> anyhow::Result<File> {
    let list = env::var_os(KUBECONFIG).unwrap_or_default();
    let mut merged: Option<File> = None;
    for path in env::split_paths(&list).filter(|path| !path.as_os_str().is_empty()) {
        match path.try_exists() {
            Ok(false) => reader.add_path(&path),
            Ok(true) | Err(_) => {
                let file = parse(&reader.read(&path)?, &path)
                    .with_context(|| path.display().to_string())?;
                merged = Some(merged.unwrap_or_default().merge(file));
            }
        }
    }
    merged.context("none of the files in KUBECONFIG exists")
}

/// Validates a kubeconfig without connecting. Relative paths begin at `directory`.
///
/// # Errors
/// When no client can be created from it; the message names file and field.
pub fn check(text: &str, directory: &Path) -> anyhow::Result<()> {
    let connection = select(&File::parse(text, directory)?, &mut Reader::new())?;
    let credentials = super::credentials::Credentials::new(connection.identity.clone());
    super::stack::build(&connection, &credentials, super::stack::Purpose::Calls, &Fence::closed())?;
    Ok(())
}

impl std::fmt::Display for Kubeconfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => write!(f, "kubeconfig {}", path.display()),
            Self::InCluster => f.write_str("service account of this pod"),
            Self::Environment => f.write_str("kubeconfig of the environment variable KUBECONFIG"),
        }
    }
}

/// A kubeconfig that was read.
pub(super) struct Loaded {
    pub(super) connection: Connection,
    /// Digest of all files that were read, to detect changes.
    pub(super) digest: Digest,
}

pub(super) type Digest = Vec<u8>;

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

const KUBECONFIG: &str = "KUBECONFIG";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::clusters::ClusterOptions;

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
