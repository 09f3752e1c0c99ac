//! Watches the health of a manager during an attack: memory, processor time, the lease, and gaps of
//! `/healthz`.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use http::StatusCode;
use tokio::task::JoinHandle;

use crate::{
    fleet::Fleet,
    manager::Usage,
    scrape::{Scrape, page},
};

/// Bounds between [`HealthWatch::watch`] and [`HealthWatch::check`].
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Growth of the peak resident memory, in bytes.
    pub memory: u64,
    /// Processor time.
    pub cpu: Duration,
    /// Longest gap of `/healthz`.
    pub silence: Duration,
}

/// Watches one manager of a fleet that serves HTTP.
pub struct HealthWatch<'a> {
    fleet: &'a Fleet,
    manager: usize,
    before: Usage,
    started: f64,
    holder: Option<String>,
    silence: Arc<Mutex<Duration>>,
    probe: JoinHandle<()>,
}

impl<'a> HealthWatch<'a> {
    /// Starts to watch.
    ///
    /// # Errors
    /// The manager does not run or serves no HTTP.
    pub async fn watch(fleet: &'a Fleet, manager: usize) -> Result<Self> {
        let port = fleet.http_port(manager)?;
        let silence = Arc::new(Mutex::new(Duration::ZERO));
        let longest = Arc::clone(&silence);
        let probe = tokio::spawn(async move {
            let mut answered = Instant::now();
            let mut ticks = tokio::time::interval(Duration::from_millis(100));
            loop {
                ticks.tick().await;
                let healthy = matches!(page(port, "/healthz").await, Ok((StatusCode::OK, _)));
                let silent = answered.elapsed();
                let mut longest = longest.lock().unwrap_or_else(PoisonError::into_inner);
                *longest = silent.max(*longest);
                if healthy {
                    answered = Instant::now();
                }
            }
        });
        Ok(Self {
            before: fleet.usage(manager).await?,
            started: started(fleet, manager).await?,
            holder: fleet.lease_holder("default").await?,
            fleet,
            manager,
            silence,
            probe,
        })
    }

    /// Ends the watch, prints the usage and checks the bounds: the same process still leads and
    /// stayed within them.
    ///
    /// # Errors
    /// It did not.
    pub async fn check(self, what: &str, bounds: Bounds) -> Result<()> {
        let Bounds { memory, cpu, silence } = bounds;
        self.fleet.check().await?;
        let after = self.fleet.usage(self.manager).await?;
        let grown = after.peak_memory.saturating_sub(self.before.resident);
        let used = after.cpu.saturating_sub(self.before.cpu);
        let silent = *self.silence.lock().unwrap_or_else(PoisonError::into_inner);
        let mib = grown >> 20;
        print_line(&format!(
            "{what}: {mib} MiB more at most, {used:.1?} of CPU, silent for {silent:.1?}"
        ));
        ensure!(grown <= memory, "{what}: used {mib} MiB more than before");
        ensure!(used <= cpu, "{what}: used {used:?} of CPU");
        ensure!(silent <= silence, "{what}: /healthz was silent for {silent:?}");
        let same = started(self.fleet, self.manager).await? - self.started;
        ensure!(same.abs() < 1.0, "{what}: the process was replaced");
        let holder = self.fleet.lease_holder("default").await?;
        ensure!(holder == self.holder, "{what}: {:?} led, now {holder:?}", self.holder);
        Ok(())
    }
}

impl Drop for HealthWatch<'_> {
    fn drop(&mut self) {
        self.probe.abort();
    }
}

/// When the process started, in seconds since 1970.
async fn started(fleet: &Fleet, manager: usize) -> Result<f64> {
    let metrics: Scrape = fleet.metrics(manager).await?;
    metrics.value("process_start_time_seconds", &[]).context("no process_start_time_seconds")
}

#[expect(clippy::print_stderr, reason = "figures of a test are printed")]
fn print_line(line: &str) {
    eprintln!("{line}");
}
