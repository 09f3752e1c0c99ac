//! The [`Connection`] with the service account of the pod.

use std::{env, net::IpAddr, path::Path};

use anyhow::Context;
use http::Uri;

use super::{read::Reader, select::token_in};
use crate::runtime::clusters::connection::{Connection, Credential, Identity, Trust};

/// The directory where Kubernetes mounts the service account.
const MOUNTED: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// # Errors
/// When the process does not run in a pod with a service account.
pub(super) fn connection(reader: &mut Reader) -> anyhow::Result<Connection> {
    let variable = |name: &str| env::var(name).with_context(|| format!("{name} is not set"));
    let (host, port) = (variable("KUBERNETES_SERVICE_HOST")?, variable("KUBERNETES_SERVICE_PORT")?);
    let mounted = Path::new(MOUNTED);
    let namespace = reader.read(&mounted.join("namespace"))?;
    let path = mounted.join("token");
    token_in(&path)?;
    reader.add_path(&path);
    Ok(Connection {
        server: server(&host, &port)?,
        namespace: String::from_utf8_lossy(&namespace).trim().to_owned(),
        trust: Trust::Only(reader.read(&mounted.join("ca.crt"))?.to_vec()),
        server_name: None,
        proxy: None,
        identity: Identity {
            certificate: None,
            credential: Credential::TokenFile { path, fallback: None },
        },
        impersonation: Vec::new(),
    })
}

fn server(host: &str, port: &str) -> anyhow::Result<Uri> {
    let host = match host.parse() {
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        Ok(IpAddr::V4(_)) | Err(_) => host.to_owned(),
    };
    let url = format!("https://{host}:{port}");
    url.parse().with_context(|| format!("the address of the API server, {url:?}, is not a URL"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_of_the_api_server_is_valid_for_names_and_ip_addresses() {
        for (host, port, url) in [
            ("10.0.0.1", "443", "https://10.0.0.1:443/"),
            ("fd00::1", "6443", "https://[fd00::1]:6443/"),
            ("kubernetes.default.svc", "443", "https://kubernetes.default.svc:443/"),
        ] {
            assert_eq!(server(host, port).unwrap().to_string(), url);
        }
        assert!(server("a b", "443").is_err());
    }
}
