//! Locations: the control plane's binaries, the manager, the files of the checkout.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use tokio::sync::OnceCell;

use crate::processes::output;

/// The root of the checkout.
#[must_use]
pub fn checkout() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_owned()
}

/// Reads a file of the checkout.
///
/// # Errors
/// It is missing.
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

/// The directory of the control plane's binaries. Builds them on the first use, which takes
/// minutes.
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

/// A tool that only some tests need, one of those in `controlplane/tool`. Builds or installs it on
/// the first use, which takes minutes.
///
/// # Errors
/// The build failed.
pub fn tool(name: &str) -> Result<PathBuf> {
    run_script("tool", &[name]).with_context(|| format!("{name} could not be built"))
}

/// The definitions of Gateway API and Istio, as YAML. Fetches them on the first use.
///
/// # Errors
/// They could not be fetched.
pub fn gateway_definitions() -> Result<Vec<String>> {
    let directory = run_script("tool", &["gateway-crds"])?;
    let mut files =
        fs::read_dir(&directory)?.map(|file| Ok(file?.path())).collect::<Result<Vec<PathBuf>>>()?;
    files.sort();
    files.iter().map(|file| Ok(fs::read_to_string(file)?)).collect()
}

fn build() -> Result<PathBuf> {
    run_script("build", &[]).context("the control plane could not be built")
}

/// Runs a script that prints a path on its last line.
fn run_script(name: &str, arguments: &[&str]) -> Result<PathBuf> {
    let script = checkout().join("tests/controlplane").join(name);
    let output = output(Command::new(&script).args(arguments).stderr(Stdio::inherit()))
        .with_context(|| format!("cannot run {}", script.display()))?;
    ensure!(output.status.success(), "{} failed", script.display());
    let stdout = String::from_utf8(output.stdout)?;
    let last = stdout.lines().last().context("the script names no path")?;
    Ok(PathBuf::from(last))
}

/// The definition of DNSEntry, as YAML.
///
/// # Errors
/// The control plane could not be built.
pub async fn dns_entry_definition() -> Result<String> {
    let crds = binaries().await?.with_file_name("crds");
    Ok(fs::read_to_string(crds.join("dns.gardener.cloud_dnsentries.yaml"))?)
}
