//! Resource usage of the manager with many idle Ingresses.

use std::{
    env,
    io::Write as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use cert_controller_manager::access::Cluster;
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use tests::{
    audit::Request,
    fleet::{Fleet, options::FleetOptions},
    manager::Usage,
    namespace::Namespace,
    run,
    steady::{certificate_authority, until_quiet, until_ready},
};

const INGRESSES: usize = 1_000;
const ENTRIES: usize = 3;
/// The number of namespaces, and the number of parallel creations.
const NAMESPACES: usize = 10;
const AT_ONCE: usize = 20;
const OBSERVED: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;
/// One percent of a core.
const CPU: Duration = Duration::from_millis(600);
/// Without the program file, which is larger in a debug build than in a release.
const MEMORY: u64 = 80 * MIB;

/// `INGRESSES` overrides the number.
fn count() -> Result<usize> {
    env::var("INGRESSES").map_or(Ok(INGRESSES), |count| count.parse()).context("INGRESSES")
}

/// The writes of the manager in the API server's audit log.
fn writes(fleet: &Fleet) -> Result<Vec<Request>> {
    let all = fleet.plane(Cluster::Source).audit()?;
    // The leader renews its lease every two seconds.
    let ours =
        |one: &Request| one.user == Fleet::user(0) && one.is_write() && !one.is_about_lease();
    Ok(all.into_iter().filter(ours).collect())
}

fn ingress(namespace: &Namespace, number: usize) -> Value {
    let host = |entry: usize| format!("host-{number}-{entry}.{}", namespace.domain);
    let tls =
        |entry| json!({"hosts": [host(entry)], "secretName": format!("web-{number}-{entry}")});
    let rule = |entry| {
        let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
        let path = json!({"path": "/", "pathType": "Prefix", "backend": backend});
        json!({"host": host(entry), "http": {"paths": [path]}})
    };
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {
            "name": format!("web-{number}"),
            "annotations": {
                "cert.gardener.cloud/purpose": "managed",
                "cert.gardener.cloud/issuer": "own-ca",
            },
        },
        "spec": {
            "tls": (0..ENTRIES).map(tls).collect::<Vec<_>>(),
            "rules": (0..ENTRIES).map(rule).collect::<Vec<_>>(),
        },
    })
}

async fn create(namespaces: &[Namespace], count: usize) -> Result<()> {
    futures::stream::iter(0..count)
        .map(|number| async move {
            let namespace = &namespaces[number % namespaces.len()];
            namespace.apply(&ingress(namespace, number)).await.map(drop)
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// Measures the resource usage during a minute without writes.
async fn observe(fleet: &Fleet) -> Result<(Duration, Usage)> {
    let (written, before) = (writes(fleet)?.len(), fleet.usage(0).await?);
    // Not a wait for a condition: nothing may be written in this time.
    tokio::time::sleep(OBSERVED).await;
    let after = fleet.usage(0).await?;
    let more = writes(fleet)?.split_off(written);
    ensure!(more.is_empty(), "written in {OBSERVED:?}: {more:#?}");
    Ok((after.cpu.saturating_sub(before.cpu), after))
}

#[test]
fn a_thousand_idle_ingresses_with_three_certificates_each_need_no_requests() {
    run(async {
        let fleet = Fleet::start(FleetOptions { http: true, ..FleetOptions::default() }).await?;
        let mut namespaces = Vec::new();
        for number in 0..NAMESPACES {
            namespaces.push(Namespace::in_fleet(&fleet, &format!("many-{number}")).await?);
        }
        certificate_authority(&fleet, &namespaces[0]).await?;
        let (count, empty, began) = (count()?, fleet.usage(0).await?, Instant::now());
        create(&namespaces, count).await?;
        let created = began.elapsed();
        until_ready(&fleet, 1 + ENTRIES * count).await?;
        let ready = began.elapsed();
        until_quiet(&fleet).await?;
        let issued = fleet.usage(0).await?;
        let all = writes(&fleet)?.len();
        let (cpu, usage) = observe(&fleet).await?;

        // The same after a restart: a new leader only lists the objects.
        fleet.stop(0).await?;
        fleet.restart(0).await?;
        until_ready(&fleet, 1 + ENTRIES * count).await?;
        until_quiet(&fleet).await?;
        let started = fleet.usage(0).await?;
        ensure!(writes(&fleet)?.len() == all, "a new process wrote: {:#?}", &writes(&fleet)?[all..]);

        let certificates = ENTRIES * count;
        let each = |bytes: u64| bytes / certificates as u64;
        let mib = |bytes: u64| bytes as f64 / MIB as f64;
        writeln!(
            std::io::stderr(),
            "SCALE {certificates} certificates: created in {created:.1?}, Ready after {ready:.1?}, \
             {:.2} writes and {:.2} ms each; a minute: no write, {cpu:?} CPU; memory in MiB: \
             empty {:.1}, peak {:.1}, resident {:.1} (anonymous {:.1}), after a start {:.1} \
             (anonymous {:.1}, peak {:.1}, {:.2} ms each); bytes per certificate: {} after issuing, {} after a start",
            all as f64 / certificates as f64,
            (issued.cpu - empty.cpu).as_secs_f64() * 1e3 / certificates as f64,
            mib(empty.anonymous),
            mib(usage.peak_memory),
            mib(usage.resident),
            mib(usage.anonymous),
            mib(started.resident),
            mib(started.anonymous),
            mib(started.peak_memory),
            started.cpu.as_secs_f64() * 1e3 / certificates as f64,
            each(usage.anonymous.saturating_sub(empty.anonymous)),
            each(started.anonymous.saturating_sub(empty.anonymous)),
        )?;
        ensure!(cpu < CPU, "{cpu:?} CPU in {OBSERVED:?}");
        for usage in [usage, started] {
            let file = usage.resident - usage.anonymous;
            let peak = usage.peak_memory.saturating_sub(file);
            ensure!(peak < MEMORY, "{:.1} MiB without the program itself", mib(peak));
        }
        Ok(())
    })
    .unwrap();
}
