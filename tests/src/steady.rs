//! Many Certificates of a private CA that have no work: what one of them costs.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use cert_controller_manager::access::Cluster;
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};

use crate::{
    Look, eventually,
    fleet::{Fleet, options::FleetOptions},
    manager::Usage,
    namespace::Namespace,
    objects::apply,
};

/// The number of namespaces, and the number of parallel creations.
const NAMESPACES: usize = 10;
const AT_ONCE: usize = 20;
const SOON: Duration = Duration::from_secs(30);
/// A bound for a machine with two cores that does other things too.
const SETUP: Duration = Duration::from_secs(900);
/// Without writes for this time, all work is done.
const QUIET: Duration = Duration::from_secs(10);

/// The manager with many Certificates.
#[derive(Clone, Copy, Debug)]
pub struct Steady {
    /// Before there were any.
    pub empty: Usage,
    /// After all were issued.
    pub issued: Usage,
    /// After a restart.
    pub started: Usage,
    /// The time until all were Ready.
    pub took: Duration,
}

impl Steady {
    /// Memory of each of `count` Certificates with its Secret after issuing and after a restart, in
    /// bytes.
    #[must_use]
    pub fn each(&self, count: usize) -> (u64, u64) {
        let each = |usage: &Usage| {
            usage.anonymous.saturating_sub(self.empty.anonymous) / count.max(1) as u64
        };
        (each(&self.issued), each(&self.started))
    }
}

/// Issues `count` Certificates, waits until the manager has no work, and restarts it.
///
/// # Errors
/// When something does not happen in time.
pub async fn measure(count: usize) -> Result<Steady> {
    let fleet = Fleet::start(FleetOptions { http: true, ..FleetOptions::default() }).await?;
    let mut namespaces = Vec::new();
    for number in 0..NAMESPACES {
        namespaces.push(Namespace::in_fleet(&fleet, &format!("steady-{number}")).await?);
    }
    certificate_authority(&fleet, &namespaces[0]).await?;
    until_quiet(&fleet).await?;
    let (empty, began) = (fleet.usage(0).await?, Instant::now());
    let namespaces = &namespaces;
    futures::stream::iter(0..count)
        .map(|number| async move {
            let namespace = &namespaces[number % namespaces.len()];
            let name = format!("web-{number}");
            let spec = json!({
                "commonName": format!("{name}.{}", namespace.domain),
                "secretName": format!("{name}-tls"),
                "issuerRef": {"name": "own-ca"},
            });
            namespace.certificate(&name, spec).await.map(drop)
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    until_ready(&fleet, 1 + count).await?;
    let took = began.elapsed();
    until_quiet(&fleet).await?;
    let issued = fleet.usage(0).await?;
    let written = fleet.plane(Cluster::Source).writes().await?.total();
    fleet.stop(0).await?;
    fleet.restart(0).await?;
    until_ready(&fleet, 1 + count).await?;
    until_quiet(&fleet).await?;
    let started = fleet.usage(0).await?;
    let more = fleet.plane(Cluster::Source).writes().await?.total() - written;
    // The new leader writes its lease.
    ensure!(more < count as u64 / 10, "a new process wrote {more} times");
    Ok(Steady { empty, issued, started, took })
}

/// A private CA: certificates are signed at once.
///
/// # Errors
/// When it is not ready in time.
pub async fn certificate_authority(fleet: &Fleet, namespace: &Namespace) -> Result<()> {
    let client = fleet.client(Cluster::Default);
    let issuer = |name: &str, spec: Value| {
        json!({
            "apiVersion": "cert.gardener.cloud/v1alpha1", "kind": "Issuer",
            "metadata": {"name": name}, "spec": spec,
        })
    };
    apply(&client, "default", &issuer("own-self", json!({"selfSigned": {}}))).await?;
    let root = json!({
        "commonName": "a root of ours", "isCA": true, "duration": "43800h",
        "issuerRef": {"name": "own-self"}, "secretName": "root-tls",
    });
    namespace.certificate("root", root).await?;
    namespace.until("root", "Ready", SOON).await?;
    let reference = json!({"name": "root-tls", "namespace": namespace.name});
    let spec = json!({"ca": {"privateKeySecretRef": reference}});
    apply(&client, "default", &issuer("own-ca", spec)).await.map(drop)
}

/// Waits until this number of Certificates is Ready, by the manager's metric: lists of all would be
/// the largest requests of this test.
///
/// # Errors
/// When that takes too long.
pub async fn until_ready(fleet: &Fleet, count: usize) -> Result<()> {
    eventually(SETUP, &format!("{count} Certificates are Ready"), || async {
        fleet.check().await?;
        let metrics = fleet.metrics(0).await?;
        let ready = metrics.value("cert_management_certificates", &[("state", "Ready")]);
        let found = ready.unwrap_or_default();
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let done = found >= count as f64;
        Ok(if done { Look::Done(()) } else { Look::NotYet(format!("{found}")) })
    })
    .await
}

/// Waits until nothing was written for a while.
///
/// # Errors
/// When that takes too long.
pub async fn until_quiet(fleet: &Fleet) -> Result<()> {
    let last = Mutex::new((0, Instant::now()));
    eventually(SETUP, "nothing is written any more", || async {
        fleet.check().await?;
        let count = fleet.plane(Cluster::Source).writes().await?.total();
        let mut last = last.lock().map_err(|_| anyhow::anyhow!("poisoned"))?;
        if last.0 != count {
            *last = (count, Instant::now());
        }
        let quiet = last.1.elapsed() > QUIET;
        Ok(if quiet { Look::Done(()) } else { Look::NotYet(format!("{count} writes")) })
    })
    .await
}
