//! The Kubernetes client of the manager as a program, for comparison with `kubectl`. Lists the
//! ConfigMaps of `default` with the kubeconfig of its argument or of the environment, and reports
//! the result.

use std::process::ExitCode;

use anyhow::Result;
use cert_controller_manager::runtime::{
    clusters::{ClusterOptions, ClusterSettings, Clusters, Kubeconfig},
    fence::Fence,
};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, api::ListParams};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match list().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_line(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn list() -> Result<()> {
    let kubeconfig = std::env::args_os().nth(1);
    let kubeconfig = kubeconfig.map_or(Kubeconfig::Environment, |it| Kubeconfig::Path(it.into()));
    let default = ClusterOptions { kubeconfig: Some(kubeconfig), ..ClusterOptions::default() };
    let settings = ClusterSettings { default, ..ClusterSettings::default() };
    let clusters = Clusters::connect(&settings, &Fence::closed()).await?;
    let maps: Api<ConfigMap> = Api::namespaced(clusters.default.0, "default");
    maps.list(&ListParams::default()).await?;
    Ok(())
}

#[expect(clippy::print_stderr, reason = "this is a program")]
fn print_line(line: &str) {
    eprintln!("{line}");
}
