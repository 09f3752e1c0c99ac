//! Where things are: the control plane's binaries, the manager, the files of the checkout.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use tokio::sync::OnceCell;

/// The root of the checkout.
#[must_use]
pub fn checkout() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_owned()
}

/// Reads a file of the checkout.
///
/// # Errors
/// It is not there.
pub fn read(path: &str) -> Result<String> {
    fs::read_to_string(checkout().join(path)).with_context(|| format!("cannot read {path}"))
}

/// The directory that cargo builds into with the profile of this program.
///
/// # Errors
/// This program was not built by cargo.
pub fn profile() -> Result<PathBuf> {
    let executable = env::current_exe()?;
    let mut directory = executable.parent().context("this program has no directory")?;
    if directory.ends_with("deps") {
        directory = directory.parent().context("deps has no parent")?;
    }
    Ok(directory.to_owned())
}

/// The name of this program without the hash that cargo appends to tests.
pub(crate) fn program() -> Result<String> {
    let executable = env::current_exe()?;
    let name = executable.file_stem().context("this program has no name")?.to_string_lossy();
    let plain = match name.rsplit_once('-') {
        Some((plain, hash)) if hash.len() == 16 => plain,
        Some(_) | None => &name,
    };
    Ok(plain.to_owned())
}

/// The manager's binary, built with the same profile.
///
/// # Errors
/// It has not been built.
pub fn manager() -> Result<PathBuf> {
    let binary = profile()?.join("cert-controller-manager");
    ensure!(
        binary.is_file(),
        "{} is missing: run `cargo build -p cert-controller-manager` first, or `make test`",
        binary.display()
    );
    Ok(binary)
}

/// The directory of the control plane's binaries. Builds them when that has not happened yet, which
/// takes minutes.
///
/// # Errors
/// The build failed.
pub async fn binaries() -> Result<&'static Path> {
    static DIRECTORY: OnceCell<PathBuf> = OnceCell::const_new();
    let directory = DIRECTORY.get_or_try_init(|| async {
        tokio::task::spawn_blocking(build).await.context("the build was interrupted")?
    });
    Ok(directory.await?)
}

fn build() -> Result<PathBuf> {
    let script = checkout().join("tests/controlplane/build");
    let output = Command::new(&script)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {}", script.display()))?;
    ensure!(output.status.success(), "the control plane could not be built");
    let stdout = String::from_utf8(output.stdout)?;
    let last = stdout.lines().last().context("the build names no directory")?;
    Ok(PathBuf::from(last))
}

/// The definition of DNSEntry, as YAML.
///
/// # Errors
/// The control plane could not be built.
pub async fn dns_entry_definition() -> Result<String> {
    foreign_definition("dns.gardener.cloud_dnsentries.yaml").await
}

/// Definitions of foreign resources that the control plane's build has fetched, as YAML.
///
/// # Errors
/// The control plane could not be built, or there is no such file.
pub async fn foreign_definition(file: &str) -> Result<String> {
    let path = binaries().await?.with_file_name("crds").join(file);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}
