//! The thread that renews the Lease and serves the administration port. It has its own runtime and
//! connections, so that busy workers cannot block it.
//!
//! A stuck leader must not keep the Lease: if a heartbeat is older than `/healthz` allows, the Lease is
//! released.

use std::{convert::Infallible, net::TcpListener, sync::Arc, time::Duration};

use anyhow::Context;
use tokio::{
    sync::{Notify, oneshot, watch},
    time::{interval, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    admin::{Admin, Authorizer, HeartbeatState},
    clusters::Clusters,
    fence::Fence,
    leader::{self, Election, LeaseSettings},
};

/// Deadline to release the Lease. After that, it expires by itself.
const RELEASE_DEADLINE: Duration = Duration::from_secs(5);
/// How often the heartbeats are checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The handle of the thread. The thread ends with [`Self::stop`] or when the handle is dropped.
pub struct LeaseThread {
    candidate: Option<Candidate>,
    stop: CancellationToken,
    /// `None` after the result was received.
    ended: Option<oneshot::Receiver<anyhow::Result<()>>>,
}

/// The configuration of the thread.
pub struct LeaseThreadConfig {
    /// The Lease to acquire after [`Candidate::acquire`]; `None` for no election.
    pub lease: Option<LeaseSettings>,
    /// Opened while this process leads.
    pub fence: Fence,
    /// Creates the client for the Lease.
    pub clusters: Clusters,
    /// The pages of the administration port.
    pub admin: Admin,
    /// Whether readers of `/metrics` need a token.
    pub metrics_authorization: bool,
    /// The administration port, if it is enabled.
    pub port: Option<TcpListener>,
}

/// Connects the rest of the process with the election.
#[derive(Clone)]
pub struct Candidate {
    requested: Arc<Notify>,
    state: watch::Receiver<Candidacy>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Candidacy {
    Waits,
    Leads,
    Lost(String),
}

impl LeaseThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no thread or no random bits for the identity.
    pub fn start(config: LeaseThreadConfig) -> anyhow::Result<Self> {
        let (sender, state) = watch::channel(Candidacy::Waits);
        let requested = Arc::new(Notify::new());
        let candidate = Candidate { requested: requested.clone(), state };
        let has_lease = config.lease.is_some();
        let (done, ended) = oneshot::channel();
        let stop = CancellationToken::new();
        let stop_requested = stop.clone();
        let identity = leader::identity()?;
        let run = move || {
            let _ = done.send(run(config, identity, &requested, &sender, &stop_requested));
        };
        std::thread::Builder::new()
            .name("lease".to_owned())
            .spawn(run)
            .context("cannot start the lease thread")?;
        Ok(Self { candidate: has_lease.then_some(candidate), stop, ended: Some(ended) })
    }

    /// The candidate; `None` without election.
    #[must_use]
    pub fn candidate(&self) -> Option<Candidate> {
        self.candidate.clone()
    }

    /// Closes the fence, releases the Lease, and stops the thread. Waits for that with a deadline.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Some(ended) = self.ended.take()
            && timeout(RELEASE_DEADLINE + CHECK_INTERVAL, ended).await.is_err()
        {
            tracing::warn!("cannot release the lease in time: it expires by itself");
        }
    }

    /// Waits until the thread ends without [`Self::stop`].
    ///
    /// # Errors
    /// Always.
    pub async fn failed(&mut self) -> anyhow::Result<Infallible> {
        let Some(ended) = &mut self.ended else { return std::future::pending().await };
        let result = ended.await;
        self.ended = None;
        match result {
            Ok(Ok(())) | Err(_) => anyhow::bail!("the lease thread has ended"),
            Ok(Err(error)) => Err(error.context("the lease thread failed")),
        }
    }
}

impl Drop for LeaseThread {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Candidate {
    /// Takes part in the election and waits until this process leads.
    pub async fn acquire(&self) {
        self.requested.notify_one();
        let mut state = self.state.clone();
        if state.wait_for(|it| *it != Candidacy::Waits).await.is_err() {
            // `LeaseThread::failed` reports the end of the thread.
            std::future::pending::<()>().await;
        }
    }

    /// Waits until this process loses the leadership. The [`Fence`] closes independently of this.
    ///
    /// # Errors
    /// Always, with the reason.
    pub async fn lost(self) -> anyhow::Result<()> {
        let mut state = self.state;
        match state.wait_for(|it| matches!(it, Candidacy::Lost(_))).await.as_deref() {
            Ok(Candidacy::Lost(why)) => {
                anyhow::bail!("{why}; this process becomes a candidate again after its restart")
            }
            Ok(Candidacy::Waits | Candidacy::Leads) | Err(_) => {
                anyhow::bail!("the lease thread has ended")
            }
        }
    }
}

fn run(
    config: LeaseThreadConfig,
    identity: String,
    requested: &Notify,
    state: &watch::Sender<Candidacy>,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let LeaseThreadConfig { lease, fence, clusters, mut admin, metrics_authorization, port } =
        config;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let heartbeats = admin.heartbeats.clone();
    runtime.block_on(async {
        // The tasks of a client run on the runtime where it is created.
        let election = lease
            .map(|lease| Election::new(clusters.lease_client(), lease, identity, fence.clone()));
        // A standby is scraped, too, and only the client of the Lease may create reviews there.
        if metrics_authorization {
            admin.authorizer = Some(Authorizer::new(clusters.lease_client()));
        }
        tokio::select! {
            failed = serve(admin, port) => return failed.map(|never| match never {}),
            () = lead(election.as_ref(), &heartbeats, requested, state) => {}
            () = stop.cancelled() => {}
        }
        fence.close();
        if let Some(election) = election
            && timeout(RELEASE_DEADLINE, election.release()).await.is_err()
        {
            tracing::warn!("cannot release the lease in time: it expires by itself");
        }
        Ok(())
    })
}

async fn serve(admin: Admin, port: Option<TcpListener>) -> anyhow::Result<Infallible> {
    let Some(port) = port else { return std::future::pending().await };
    port.set_nonblocking(true)?;
    let port = tokio::net::TcpListener::from_std(port).context("administration port")?;
    match admin.serve(port).await {}
}

/// Acquires the Lease on request and renews it until it is lost. Then waits for the end of the process.
async fn lead(
    election: Option<&Election>,
    heartbeats: &HeartbeatState,
    requested: &Notify,
    state: &watch::Sender<Candidacy>,
) {
    let Some(election) = election else { return std::future::pending().await };
    requested.notified().await;
    election.acquire().await;
    state.send_replace(Candidacy::Leads);
    let why = tokio::select! {
        lost = election.keep() => lost.to_string(),
        stuck = stuck(heartbeats) => stuck,
    };
    state.send_replace(Candidacy::Lost(why));
    std::future::pending::<()>().await;
}

/// Waits until a heartbeat is too old.
async fn stuck(heartbeats: &HeartbeatState) -> String {
    let mut checks = interval(CHECK_INTERVAL);
    loop {
        checks.tick().await;
        let health = heartbeats.examine();
        if !health.is_alive() {
            return format!("the lease is released: {}", health.to_string().replace('\n', "; "));
        }
    }
}
