//! Helm, with the chart of this checkout.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{
    locate,
    objects::documents,
    processes::{output, scratch},
};

/// The helm binary with a home directory of its own.
pub struct Helm {
    binary: PathBuf,
    home: PathBuf,
    chart: PathBuf,
}

impl Helm {
    /// Finds it. Built on the first use, which takes minutes.
    ///
    /// # Errors
    /// It could not be built.
    pub fn find() -> Result<Self> {
        let chart = locate::checkout().join("charts/cert-controller-manager");
        Ok(Self { binary: locate::tool("helm")?, home: scratch()?, chart })
    }

    /// `helm lint --strict` with these values.
    ///
    /// # Errors
    /// The chart or the values are invalid.
    pub fn lint(&self, values: &Value) -> Result<String> {
        let mut command = self.command(&["lint", "--strict"]);
        command.arg(&self.chart).arg("--values").arg(self.values(values)?);
        run(&mut command)
    }

    /// The objects of the chart, as the release `release` in this namespace.
    ///
    /// # Errors
    /// The values are refused; the message is helm's.
    pub fn template(&self, namespace: &str, values: &Value) -> Result<Vec<Value>> {
        let mut command = self.command(&["template", "release", "--namespace", namespace]);
        command.arg(&self.chart).arg("--values").arg(self.values(values)?);
        documents(&run(&mut command)?)
    }

    /// Installs the release `release` into this namespace, which is created.
    ///
    /// # Errors
    /// The values are refused, or an object is.
    pub fn install(&self, kubeconfig: &Path, namespace: &str, values: &Value) -> Result<String> {
        let arguments = ["install", "release", "--create-namespace", "--namespace", namespace];
        let mut command = self.command(&arguments);
        command.arg(&self.chart).arg("--values").arg(self.values(values)?);
        run(command.env("KUBECONFIG", kubeconfig))
    }

    /// Upgrades the release `release` in this namespace, to these values only.
    ///
    /// # Errors
    /// The values are refused, an object is, or the chart asks for a decision.
    pub fn upgrade(&self, kubeconfig: &Path, namespace: &str, values: &Value) -> Result<String> {
        let mut command = self.command(&["upgrade", "release", "--namespace", namespace]);
        command.arg(&self.chart).arg("--values").arg(self.values(values)?);
        run(command.env("KUBECONFIG", kubeconfig))
    }

    /// Uninstalls the release `release` from this namespace.
    ///
    /// # Errors
    /// An object is left.
    pub fn uninstall(&self, kubeconfig: &Path, namespace: &str) -> Result<String> {
        let mut command = self.command(&["uninstall", "release", "--namespace", namespace]);
        run(command.env("KUBECONFIG", kubeconfig))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        for kind in ["CACHE", "CONFIG", "DATA"] {
            command.env(format!("HELM_{kind}_HOME"), self.home.join(kind));
        }
        command.env_remove("KUBECONFIG").args(arguments);
        command
    }

    fn values(&self, values: &Value) -> Result<PathBuf> {
        let file = self.home.join("values.json");
        fs::write(&file, values.to_string())?;
        Ok(file)
    }
}

fn run(command: &mut Command) -> Result<String> {
    let output = output(command.stderr(Stdio::piped())).context("cannot run helm")?;
    if !output.status.success() {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        bail!("{}{}", text(&output.stdout), text(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}
