//! Locates, reads and validates kubeconfigs.

mod file;
mod in_cluster;
mod node;
mod read;
mod select;

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::Context;

pub(super) use self::select::{header, token_in};
use self::{file::File, read::Reader, select::select};
use super::connection::Connection;
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

/// The environment variable with kubeconfigs.
pub(super) const KUBECONFIG: &str = "KUBECONFIG";
