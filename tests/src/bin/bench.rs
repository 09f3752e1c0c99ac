//! `make bench`: measures how fast certificates are issued, the cost, and the possible maximum.
//!
//! `N` certificates (200 by default) are created, and the clock runs until the last Secret is
//! written. Then a plain loop sends the same ACME requests and API writes: the baseline.
//!
//! `make bench RESPONDER=1` measures the DNS responder instead.
//! `make bench SCALE=10000` measures the memory of that many steady certificates instead.

use std::{
    env, fs,
    io::Write as _,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, api::ListParams};
use serde_json::json;
use tests::{
    Look,
    baseline::Baseline,
    eventually, janitor, locate,
    manager::Usage,
    metrics::Writes,
    namespace::Namespace,
    pebble::{Pebble, PebbleOptions},
    responder_bench::Responder,
    run, steady,
    test_env::{TestEnv, TestEnvOptions},
};

/// Memory of one steady certificate with its Secret, of 10,000.
const MAX_BYTES: f64 = 5.0 * 1024.0;
const DEADLINE: Duration = Duration::from_secs(300);
/// Published names, queries, and mutated datagrams of the benchmark of the responder.
const RESPONDER_ENTRIES: usize = 100;
const DNSPERF_SECONDS: u32 = 10;
const MUTATED: usize = 1_000_000;
/// Requests in flight of a `kubectl create` with many files, and parallel certificates of the
/// baseline.
const CONCURRENCY: usize = 20;

fn main() -> ExitCode {
    let ended = match (env::var("SCALE"), env::var("RESPONDER")) {
        (Ok(count), _) => run(scale(count)).map_err(anyhow::Error::from),
        (_, Ok(_)) => run(responder()).map_err(anyhow::Error::from),
        (Err(_), Err(_)) => run(bench()).map_err(anyhow::Error::from),
    };
    let cleaned = janitor::finish();
    match ended.and_then(|value| cleaned.map(|()| value)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
async fn responder() -> Result<bool> {
    line("==> starting the responder on one processor")?;
    let responder = Responder::start(RESPONDER_ENTRIES).await?;
    responder.pin(0)?;
    line("==> querying it with dnsperf")?;
    let rate = responder.queries_per_second(DNSPERF_SECONDS)?;
    line(&format!("==> sending {MUTATED} mutated datagrams"))?;
    let began = Instant::now();
    let flood = responder.flood(MUTATED).await?;
    line(&format!("\n{} of {MUTATED} answered in {:.1?}\n", flood.answered, began.elapsed()))?;
    let kib = flood.growth as f64 / 1024.0;
    let passed = [
        limit("queries per second on a core", rate, Limit::AtLeast(20_000.0))?,
        limit("amplification, one value", responder.amplification().await?, Limit::AtMost(5.0))?,
        limit("amplification, mutated queries", flood.amplification, Limit::AtMost(10.0))?,
        limit("growth of memory, KiB", kib, Limit::AtMost(1024.0))?,
    ];
    Ok(passed.iter().all(|passed| *passed))
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
async fn scale(count: String) -> Result<bool> {
    let count: usize = count.parse().context("SCALE")?;
    ensure!(count > 0, "SCALE is 0");
    line(&format!("==> issuing {count} certificates, and restarting the manager"))?;
    let steady = steady::measure(count).await?;
    let (issued, started) = steady.each(count);
    let mib = |usage: &Usage| usage.anonymous as f64 / f64::from(1 << 20);
    line(&format!(
        "\n{count} certificates Ready after {:.1?}; memory in MiB: empty {:.1}, after issuing {:.1}, \
         after a restart {:.1}",
        steady.took,
        mib(&steady.empty),
        mib(&steady.issued),
        mib(&steady.started)
    ))?;
    let passed = [
        limit("bytes each after issuing", issued as f64, Limit::AtMost(MAX_BYTES))?,
        limit("bytes each after a restart", started as f64, Limit::AtMost(MAX_BYTES))?,
    ];
    Ok(passed.iter().all(|passed| *passed))
}

async fn bench() -> Result<bool> {
    let count = env::var("N").map_or(Ok(200), |count| count.parse()).context("N")?;
    ensure!(count > 0, "N is 0");
    let pebble = PebbleOptions { nonce_reject: 0, ..PebbleOptions::default() };
    line("==> starting the test environment")?;
    let env = TestEnv::with_issuer(TestEnvOptions { pebble: pebble.clone(), ..Default::default() })
        .await?;
    line(&format!("==> issuing {count} certificates"))?;
    let measured = measure(&env, count).await?;
    line("==> the same requests by a bare loop")?;
    let plane = &env.control_plane;
    let bare = Pebble::start(&pebble, plane.data(), plane.logs()).await?;
    let namespace = Namespace::new(&env, "baseline").await?;
    let baseline = Baseline {
        client: plane.client(),
        pebble: &bare,
        namespace: &namespace.name,
        count,
        concurrency: CONCURRENCY,
        // Includes the writes of the benchmark itself: the loop creates the certificates, too.
        writes: &measured.all_writes,
    };
    let baseline_took = baseline.run().await?;
    let baseline_requests: u64 = bare.requests()?.values().sum();
    report(&measured, baseline_took, baseline_requests, count)
}

/// Time and cost of the issuance.
struct Measured {
    took: Duration,
    cpu: Duration,
    usage: Usage,
    writes: Writes,
    all_writes: Writes,
    acme_requests: u64,
}

async fn measure(env: &TestEnv, count: usize) -> Result<Measured> {
    let namespace = Namespace::new(env, "bench").await?;
    let cpu_before = env.manager_usage().await?.cpu;
    let writes_before = env.control_plane.writes().await?;
    let requests = || anyhow::Ok(env.pebble.requests()?.values().sum::<u64>());
    let requests_before = requests()?;
    let began = Instant::now();
    futures::stream::iter(0..count)
        .map(|number| {
            let namespace = namespace.clone();
            async move { namespace.simple(&format!("bench-{number}")).await.map(drop) }
        })
        .buffer_unordered(CONCURRENCY)
        .try_collect::<()>()
        .await?;
    until_secrets(env, &namespace.name, count).await?;
    let took = began.elapsed();
    // The writes after the last Secret count as well: status and cleanup.
    namespace.until_all_ready(count, DEADLINE).await?;
    env.until_nothing_is_left(DEADLINE).await?;
    let all_writes = env.control_plane.writes().await?.since(&writes_before);
    let own = count as u64;
    let usage = env.stop_manager().await?;
    Ok(Measured {
        took,
        cpu: usage.cpu.saturating_sub(cpu_before),
        usage,
        writes: all_writes.without("APPLY", "certificates", own),
        all_writes,
        acme_requests: requests()? - requests_before,
    })
}

async fn until_secrets(env: &TestEnv, namespace: &str, count: usize) -> Result<()> {
    let secrets = Api::<Secret>::namespaced(env.control_plane.client(), namespace);
    // Lists one object and the remaining count, so that the checks do not distort the measurement.
    let one = ListParams::default().limit(1);
    eventually(DEADLINE, "all Secrets are written", || async {
        env.check_manager().await?;
        let found = secrets.list_metadata(&one).await?;
        let more = found.metadata.remaining_item_count.map_or(Ok(0), usize::try_from)?;
        let found = found.items.len() + more;
        Ok(if found >= count { Look::Done(()) } else { Look::NotYet(format!("{found}")) })
    })
    .await
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn report(
    measured: &Measured,
    baseline: Duration,
    baseline_requests: u64,
    count: usize,
) -> Result<bool> {
    let each = count as f64;
    let rate = each / measured.took.as_secs_f64();
    let baseline_rate = each / baseline.as_secs_f64();
    let cpu = measured.cpu.as_secs_f64() * 1000.0 / each;
    let writes = measured.writes.total() as f64 / each;
    let requests = measured.acme_requests as f64 / each;
    let memory = measured.usage.peak_memory as f64 / f64::from(1 << 20);
    line(&format!("\n{count} certificates in {:.2} s", measured.took.as_secs_f64()))?;
    line(&format!("writes: {}", measured.writes))?;
    line(&format!(
        "baseline: {baseline_rate:.1} certificates/s with {:.2} ACME requests each; \
         the manager reaches {:.0} % of it\n",
        baseline_requests as f64 / each,
        100.0 * rate / baseline_rate
    ))?;
    let passed = [
        limit("certificates per second", rate, Limit::AtLeast(20.0))?,
        limit("CPU ms per certificate", cpu, Limit::AtMost(10.0))?,
        limit("ACME requests per certificate", requests, Limit::AtMost(8.0))?,
        limit("peak memory, MiB", memory, Limit::AtMost(60.0))?,
    ];
    line(&format!("      {:32} {writes:8.2}", "API writes per certificate"))?;
    let numbers = json!({
        "certificates_per_second": rate,
        "baseline_certificates_per_second": baseline_rate,
        "manager_cpu_ms_per_certificate": cpu,
        "api_writes_per_certificate": writes,
        "acme_requests_per_certificate": requests,
        "manager_peak_rss_mib": memory,
    });
    let file = locate::profile()?.with_file_name("bench.json");
    fs::write(&file, format!("{numbers:#}\n"))?;
    line(&format!("\nwritten to {}", file.display()))?;
    Ok(passed.iter().all(|passed| *passed))
}

#[derive(Clone, Copy)]
enum Limit {
    AtLeast(f64),
    AtMost(f64),
}

fn limit(what: &str, value: f64, limit: Limit) -> Result<bool> {
    let (passed, text) = match limit {
        Limit::AtLeast(least) => (value >= least, format!("at least {least}")),
        Limit::AtMost(most) => (value <= most, format!("at most {most}")),
    };
    let verdict = if passed { "pass" } else { "FAIL" };
    line(&format!("{verdict}  {what:32} {value:8.2}   ({text})"))?;
    Ok(passed)
}

fn line(text: &str) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}
