//! The thread that renews the lease and serves the administration port. Runtime and connections are its own, so that
//! passes which hold all workers cannot starve it.
//!
//! A lease that is kept although nothing works would be worse than none: where a controller has not been polled for as
//! long as `/healthz` allows, the lease is given up.

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

/// The lease is given back within this, or it runs out by itself.
const FAREWELL: Duration = Duration::from_secs(5);
/// How often the heartbeats are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The thread. It ends when this is dropped, or by [`Self::stop`].
pub struct LeaseThread {
    candidate: Option<Candidate>,
    stop: CancellationToken,
    /// `None` once it is known.
    ended: Option<oneshot::Receiver<anyhow::Result<()>>>,
}

/// What the thread does.
pub struct Duties {
    /// The lease to take, when [`Candidate::acquire`] asks for it; `None` for no election.
    pub lease: Option<LeaseSettings>,
    /// Opened while this process leads.
    pub fence: Fence,
    /// For the lease's own connection.
    pub clusters: Clusters,
    /// What the port tells.
    pub admin: Admin,
    /// Whether the port asks the default cluster who may read `/metrics`.
    pub metrics_authorization: bool,
    /// The administration port, where there is one.
    pub port: Option<TcpListener>,
}

/// How the rest of the process takes part in the election.
#[derive(Clone)]
pub struct Candidate {
    wanted: Arc<Notify>,
    standing: watch::Receiver<Candidacy>,
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
    /// When the system gives no thread or no random bits for our name.
    pub fn start(duties: Duties) -> anyhow::Result<Self> {
        let (tell, standing) = watch::channel(Candidacy::Waits);
        let wanted = Arc::new(Notify::new());
        let candidate = Candidate { wanted: wanted.clone(), standing };
        let has_lease = duties.lease.is_some();
        let (done, ended) = oneshot::channel();
        let stop = CancellationToken::new();
        let asked_to_stop = stop.clone();
        let identity = leader::identity()?;
        let run = move || {
            let _ = done.send(run(duties, identity, &wanted, &tell, &asked_to_stop));
        };
        std::thread::Builder::new()
            .name("lease".to_owned())
            .spawn(run)
            .context("cannot start the thread that keeps the lease")?;
        Ok(Self { candidate: has_lease.then_some(candidate), stop, ended: Some(ended) })
    }

    /// For the election; `None` where there is none.
    #[must_use]
    pub fn candidate(&self) -> Option<Candidate> {
        self.candidate.clone()
    }

    /// Closes the fence, gives the lease back, and ends the thread. Waits for that, but not for long.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Some(ended) = self.ended.take()
            && timeout(FAREWELL + LOOK, ended).await.is_err()
        {
            tracing::warn!("the lease was not given back in time, it runs out by itself");
        }
    }

    /// Waits until the thread ends although nobody has stopped it, which is an error.
    ///
    /// # Errors
    /// Always.
    pub async fn failed(&mut self) -> anyhow::Result<Infallible> {
        let Some(ended) = &mut self.ended else { return std::future::pending().await };
        let result = ended.await;
        self.ended = None;
        match result {
            Ok(Ok(())) | Err(_) => anyhow::bail!("the thread that keeps the lease ended"),
            Ok(Err(error)) => Err(error.context("the thread that keeps the lease failed")),
        }
    }
}

impl Drop for LeaseThread {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Candidate {
    /// Asks for the lease and waits until this process leads.
    pub async fn acquire(&self) {
        self.wanted.notify_one();
        let mut standing = self.standing.clone();
        if standing.wait_for(|it| *it != Candidacy::Waits).await.is_err() {
            // The end of the thread is told elsewhere.
            std::future::pending::<()>().await;
        }
    }

    /// Waits until this process leads no more. The [`Fence`] does not wait for it.
    ///
    /// # Errors
    /// Always, with the reason.
    pub async fn lost(self) -> anyhow::Result<()> {
        let mut standing = self.standing;
        match standing.wait_for(|it| matches!(it, Candidacy::Lost(_))).await.as_deref() {
            Ok(Candidacy::Lost(why)) => {
                anyhow::bail!("{why}; after a restart this process stands for election again")
            }
            Ok(Candidacy::Waits | Candidacy::Leads) | Err(_) => {
                anyhow::bail!("the thread that keeps the lease ended")
            }
        }
    }
}

fn run(
    duties: Duties,
    identity: String,
    wanted: &Notify,
    tell: &watch::Sender<Candidacy>,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let Duties { lease, fence, clusters, mut admin, metrics_authorization, port } = duties;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let heartbeats = admin.heartbeats.clone();
    runtime.block_on(async {
        // Made here: the tasks of a client run where it was made.
        let election = lease
            .map(|lease| Election::new(clusters.lease_client(), lease, identity, fence.clone()));
        // Standbys are scraped, too, and the client of the lease is the one that may ask then.
        if metrics_authorization {
            admin.authorizer = Some(Authorizer::new(clusters.lease_client()));
        }
        tokio::select! {
            failed = serve(admin, port) => return failed.map(|never| match never {}),
            () = lead(election.as_ref(), &heartbeats, wanted, tell) => {}
            () = stop.cancelled() => {}
        }
        fence.close();
        if let Some(election) = election
            && timeout(FAREWELL, election.release()).await.is_err()
        {
            tracing::warn!("the lease was not given back in time, it runs out by itself");
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

/// Leads when it is asked to, until that is lost; then waits for the end of the process.
async fn lead(
    election: Option<&Election>,
    heartbeats: &HeartbeatState,
    wanted: &Notify,
    tell: &watch::Sender<Candidacy>,
) {
    let Some(election) = election else { return std::future::pending().await };
    wanted.notified().await;
    election.acquire().await;
    tell.send_replace(Candidacy::Leads);
    let why = tokio::select! {
        lost = election.keep() => lost.to_string(),
        stuck = stuck(heartbeats) => stuck,
    };
    tell.send_replace(Candidacy::Lost(why));
    std::future::pending::<()>().await;
}

/// Waits until a heart stands still.
async fn stuck(heartbeats: &HeartbeatState) -> String {
    let mut looks = interval(LOOK);
    loop {
        looks.tick().await;
        let health = heartbeats.examine();
        if !health.is_alive() {
            return format!("the lease is given up: {}", health.to_string().replace('\n', "; "));
        }
    }
}
