//! Leader election with a Lease, compatible with client-go.
//!
//! A Lease contains the holder, the time of the last renewal, and the duration. All writes have a
//! resource version, so only one of two candidates succeeds. Times in the Lease come from other
//! clocks and are not compared with ours. Each candidate measures the time since it saw the last change,
//! with a clock that includes suspend and cannot be set.
//!
//! The leader may write until *renew deadline* after the start of its last successful renewal; then the
//! [`Fence`] closes by itself. Others may take the Lease *lease duration* after they saw the last
//! change, which is later. The difference covers clock skew and bytes in transit.
//!
//! Not here: the work of the leader, and the exit of the process after it loses the Lease.

mod decide;

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::{
    Api, Client, ResourceExt,
    api::{ObjectMeta, PostParams},
};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use self::decide::{Act, Observed, claim, decide, release_spec};
use crate::runtime::{
    errors::brief,
    fence::{Fence, boottime},
};

/// Name and times of the Lease.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LeaseSettings {
    /// Name of the Lease.
    pub name: String,
    /// Namespace of the Lease, which must exist.
    pub namespace: String,
    /// How long others respect a Lease that is not renewed. Whole seconds; client-go: 15 s.
    pub duration: Duration,
    /// How long the leader may write after a renewal. Less than `duration`; client-go: 10 s.
    pub renew_deadline: Duration,
    /// How often the leader renews. Much less than `renew_deadline`; client-go: 2 s.
    pub retry_period: Duration,
}

impl LeaseSettings {
    /// The Lease `namespace/name` with the times of client-go.
    #[must_use]
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            namespace: namespace.into(),
            duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }

    /// # Errors
    /// When the times leave too little room for a renewal or for clock skew.
    pub fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.duration > self.renew_deadline && self.renew_deadline >= 2 * self.retry_period,
            "lease of {:?}, renew deadline {:?}, retry period {:?}: the lease must last longer than \
             the renew deadline, and that at least two retry periods",
            self.duration,
            self.renew_deadline,
            self.retry_period,
        );
        anyhow::ensure!(!self.retry_period.is_zero(), "the retry period of the lease is zero");
        Ok(())
    }
}

/// Why this process lost the leadership.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Lost {
    /// The Lease could not be renewed in time; with the last error.
    Expired(String),
    /// Another process holds the Lease; with its identity.
    Taken(String),
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired(why) => write!(f, "the lease was not renewed in time: {why}"),
            Self::Taken(holder) => write!(f, "{holder} has taken the lease"),
        }
    }
}

/// A candidate. See the [module](self).
pub struct Election {
    leases: Api<Lease>,
    settings: LeaseSettings,
    identity: String,
    fence: Fence,
    /// The last state of the Lease that we saw.
    observed: Mutex<Observed>,
}

/// The result of one attempt.
enum Attempt {
    /// We hold the Lease.
    Leads,
    /// Another process holds the Lease, at least for this time.
    Waits(Duration),
    /// The Lease changed at the same time.
    Outdated,
    /// The call failed, with this cause.
    Failed(String),
}

impl Election {
    /// A candidate with this [`identity()`], which opens `fence` while it leads. `client` must bypass
    /// `fence`, and its calls should not wait for each other.
    #[must_use]
    pub fn new(client: Client, settings: LeaseSettings, identity: String, fence: Fence) -> Self {
        let leases = Api::namespaced(client, &settings.namespace);
        Self { leases, settings, identity, fence, observed: Mutex::default() }
    }

    /// Whether this process leads, for the metric.
    #[must_use]
    pub fn is_leading(&self) -> bool {
        self.fence.permits()
    }

    /// Waits until this process leads. Errors are logged and retried.
    pub async fn acquire(&self) {
        info!("{} waits for the lease {}", self.identity, self.place());
        let (mut known, mut error) = (None, None);
        loop {
            let pause = match self.attempt(true).await {
                Attempt::Leads => return,
                Attempt::Waits(left) => left.min(self.settings.retry_period / 4),
                Attempt::Outdated => CONFLICT_DELAY,
                Attempt::Failed(why) => {
                    if error.replace(why.clone()) != Some(why.clone()) {
                        warn!("cannot acquire the lease {}: {why}", self.place());
                    }
                    self.settings.retry_period / 2
                }
            };
            let holder = self.observed().holder().map(ToOwned::to_owned);
            if holder != known {
                match &holder {
                    Some(holder) => info!("{holder} leads"),
                    None => info!("no process leads"),
                }
                known = holder;
            }
            sleep(pause).await;
        }
    }

    /// Renews the Lease until it is lost. The [`Fence`] closes independently of this.
    pub async fn keep(&self) -> Lost {
        let mut error = String::from("this process was stopped for too long");
        let mut pause = self.settings.retry_period;
        loop {
            // Report the loss when the permission expires, not at the next attempt.
            sleep(pause.min(self.fence.remaining())).await;
            if !self.fence.permits() {
                return self.lose(Lost::Expired(error));
            }
            let attempt = timeout(self.fence.remaining(), self.attempt(false));
            let Ok(tried) = attempt.await else { continue };
            pause = match tried {
                Attempt::Leads => self.settings.retry_period,
                Attempt::Waits(_) => {
                    let holder = self.observed().holder().unwrap_or("another process").to_owned();
                    return self.lose(Lost::Taken(holder));
                }
                Attempt::Outdated => CONFLICT_DELAY,
                Attempt::Failed(why) => {
                    warn!("cannot renew the lease {}: {why}", self.place());
                    // After the expiry, the error is a refusal of our own fence, which is not the cause.
                    if self.fence.permits() {
                        error = why;
                    }
                    self.settings.retry_period / 4
                }
            };
        }
    }

    /// Releases the Lease if we hold it, so that the next leader need not wait. No writes are permitted
    /// after this.
    pub async fn release(&self) {
        self.fence.close();
        // The second attempt is for a Lease that changed and is still ours.
        for _ in 0..2 {
            let observed = self.observed().clone();
            if !observed.ours(&self.identity) {
                return;
            }
            let Some(mut lease) = observed.lease else { return };
            lease.spec = Some(release_spec(lease.spec.as_ref(), Timestamp::now()));
            match self.call(self.leases.replace(&self.settings.name, &params(), &lease)).await {
                Ok(_) => {
                    info!("{} has released the lease {}", self.identity, self.place());
                    return;
                }
                Err(LeaseError::Conflict) => {}
                Err(error) => {
                    warn!("cannot release the lease {}: {error}", self.place());
                    return;
                }
            }
            if self.read_lease().await.is_err() {
                return;
            }
        }
    }

    fn lose(&self, lost: Lost) -> Lost {
        self.fence.close();
        lost
    }

    /// One attempt to acquire or renew the Lease. With `read_first`, reads it before. The leader does not
    /// need that: if its state is outdated, the API server refuses the write.
    async fn attempt(&self, read_first: bool) -> Attempt {
        let stale = read_first || self.observed().lease.is_none();
        if stale && let Err(error) = self.read_lease().await {
            return Attempt::Failed(error.to_string());
        }
        let (observed, began) = (self.observed().clone(), boottime());
        let previous = observed.lease.as_ref().and_then(|lease| lease.spec.as_ref());
        let act = decide(&observed, &self.identity, self.settings.duration, began);
        let spec = claim(previous, &self.identity, self.settings.duration, Timestamp::now());
        let written = match act {
            Act::Wait(left) => return Attempt::Waits(left),
            Act::Create => self.create(spec).await,
            Act::Take | Act::Renew => self.replace(observed.lease, spec).await,
        };
        match written {
            Ok(lease) => {
                let transitions = lease.spec.as_ref().and_then(|spec| spec.lease_transitions);
                self.observed().see(Some(lease), boottime());
                if !self.fence.open_until(began + self.settings.renew_deadline) {
                    return Attempt::Failed("the answer came too late".into());
                }
                match act {
                    Act::Renew => debug!("renewed the lease {}", self.place()),
                    Act::Create | Act::Take | Act::Wait(_) => {
                        let transitions = transitions.unwrap_or_default();
                        info!(transitions, "{} leads by the lease {}", self.identity, self.place());
                    }
                }
                Attempt::Leads
            }
            // A namespace is missing if the creation returns 404.
            Err(LeaseError::Missing) if act == Act::Create => {
                Attempt::Failed(format!("there is no namespace {}", self.settings.namespace))
            }
            Err(LeaseError::Conflict | LeaseError::Missing) => match self.read_lease().await {
                Ok(()) => Attempt::Outdated,
                Err(error) => Attempt::Failed(error.to_string()),
            },
            Err(error) => Attempt::Failed(error.to_string()),
        }
    }

    async fn read_lease(&self) -> Result<(), LeaseError> {
        let lease = self.call(self.leases.get_opt(&self.settings.name)).await?;
        self.observed().see(lease, boottime());
        Ok(())
    }

    async fn create(&self, spec: LeaseSpec) -> Result<Lease, LeaseError> {
        let metadata = ObjectMeta { name: Some(self.settings.name.clone()), ..Default::default() };
        let lease = Lease { metadata, spec: Some(spec) };
        self.call(self.leases.create(&params(), &lease)).await
    }

    async fn replace(&self, lease: Option<Lease>, spec: LeaseSpec) -> Result<Lease, LeaseError> {
        let mut lease = lease.unwrap_or_default();
        // Without a resource version, concurrent writes of several candidates would succeed.
        if lease.resource_version().is_none() {
            return Err(LeaseError::Conflict);
        }
        lease.spec = Some(spec);
        self.call(self.leases.replace(&self.settings.name, &params(), &lease)).await
    }

    /// A call with a deadline of a third of the renew deadline, so that there is time for a retry.
    async fn call<T>(
        &self,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, LeaseError> {
        let deadline = self.settings.renew_deadline / 3;
        match timeout(deadline, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => Err(LeaseError::Conflict),
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Err(LeaseError::Missing),
            Ok(Err(error)) => Err(LeaseError::Other(brief(&error))),
            Err(_) => Err(LeaseError::Other(format!("no answer within {deadline:?}"))),
        }
    }

    fn observed(&self) -> MutexGuard<'_, Observed> {
        self.observed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self) -> String {
        format!("{}/{}", self.settings.namespace, self.settings.name)
    }
}

/// Delay after a conflict with another writer.
const CONFLICT_DELAY: Duration = Duration::from_millis(20);

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
enum LeaseError {
    #[error("another client has changed it")]
    Conflict,
    #[error("it, or its namespace, does not exist")]
    Missing,
    #[error("{0}")]
    Other(String),
}

fn params() -> PostParams {
    PostParams { field_manager: Some(crate::api::well_known::FIELD_MANAGER.into()), dry_run: false }
}

/// A unique name for this process: the host and 64 random bits.
///
/// # Errors
/// When the system has no random bits.
pub fn identity() -> anyhow::Result<String> {
    let mut random = [0; 8];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| anyhow::anyhow!("no random bits"))?;
    let system = rustix::system::uname();
    let host = system.nodename().to_string_lossy();
    Ok(format!("{host}_{:016x}", u64::from_be_bytes(random)))
}
