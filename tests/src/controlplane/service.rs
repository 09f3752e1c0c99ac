//! The Service of the API server itself, stored before the server starts.
//!
//! Without it the server creates the Service `kubernetes` after it reports ready. Sometimes its
//! repair loop sees the Service before its address and writes an Event, which tests that count
//! Events do not expect.

use std::time::Duration;

use anyhow::{Context as _, Result};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::Request;
use kube::{Client, Config};
use serde_json::{Value, json};

use crate::{Look, eventually, processes::Process};

/// The uid of the Service `kubernetes` in every control plane.
pub const UID: &str = "00000000-0000-4000-8000-000000000001";

const NAMESPACE: &str = "default";
const NAME: &str = "kubernetes";
const ADDRESS: &str = "10.0.0.1";
const DEADLINE: Duration = Duration::from_secs(30);

/// Waits until etcd answers, and stores the Service and its address there, through the JSON gateway
/// of etcd.
///
/// # Errors
/// etcd ended, or does not answer in time.
pub(super) async fn store(etcd: &mut Process, url: &str) -> Result<()> {
    let client = Client::try_from(Config::new(url.parse()?))?;
    for (key, object) in [
        (format!("/registry/services/specs/{NAMESPACE}/{NAME}"), service()),
        (format!("/registry/ipaddresses/{ADDRESS}"), address()),
    ] {
        let value = BASE64_STANDARD.encode(object.to_string());
        let put = json!({"key": BASE64_STANDARD.encode(&key), "value": value}).to_string();
        eventually(DEADLINE, &format!("etcd stores {key}"), || {
            let ended = etcd.check();
            async {
                ended?;
                let request = Request::post("/v3/kv/put").body(put.clone().into_bytes())?;
                Ok(match client.request_text(request).await {
                    Ok(_) => Look::Done(()),
                    Err(error) => Look::NotYet(error.to_string()),
                })
            }
        })
        .await
        .context("the control plane cannot start")?;
    }
    Ok(())
}

fn service() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": NAME,
            "namespace": NAMESPACE,
            "uid": UID,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": ADDRESS,
            "clusterIPs": [ADDRESS],
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "internalTrafficPolicy": "Cluster",
            "sessionAffinity": "None",
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": 443}],
        },
        "status": {"loadBalancer": {}},
    })
}

fn address() -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IPAddress",
        "metadata": {
            "name": ADDRESS,
            "uid": "00000000-0000-4000-8000-000000000002",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {
                "ipaddress.kubernetes.io/ip-family": "IPv4",
                "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
            },
        },
        "spec": {
            "parentRef": {"resource": "services", "namespace": NAMESPACE, "name": NAME},
        },
    })
}
