//! Leader election on a Lease, as client-go does it, so that its candidates may be among ours.
//!
//! A Lease says who leads, when that was last renewed, and for how long it holds. All writes of it
//! carry the version that they were based on, so of two that want the same Lease one gets it. Times
//! in the Lease are of somebody else's clock and are only compared with each other: what counts
//! is when *we* saw it change, on a clock that nobody sets and that goes on while a machine sleeps.
//!
//! The leader may write until *renew deadline* after the start of its last renewal that was
//! answered; the [`Fence`] ends by itself then. Others may take the Lease *lease duration* after they
//! saw it change, which is later. The difference is what may be lost to unequal clocks and to
//! bytes that are on their way.
//!
//! Not here: what a leader does, and the end of the process when it leads no more.

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

use self::decide::{Act, Observed, claim, decide, give_up};
use crate::runtime::{
    errors::brief,
    fence::{Fence, boottime},
};

/// Which Lease, and how long it holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LeaseSettings {
    /// Name of the Lease.
    pub name: String,
    /// Namespace of the Lease, which has to exist.
    pub namespace: String,
    /// How long others keep away from a Lease that is not renewed. Whole seconds; client-go: 15 s.
    pub duration: Duration,
    /// How long the leader may write after a renewal. Less than `duration`; client-go: 10 s.
    pub renew_deadline: Duration,
    /// How often the leader renews. Much less than `renew_deadline`; client-go: 2 s.
    pub retry_period: Duration,
}

impl LeaseSettings {
    /// The Lease `namespace/name` with client-go's times.
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
    /// When the times do not leave the leader a try to renew, or others too little distance.
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

/// Why this process does not lead any more.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Lost {
    /// The Lease could not be renewed in time; with what went wrong last.
    Expired(String),
    /// Somebody else holds it.
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

/// One candidate. See the [module](self).
pub struct Election {
    leases: Api<Lease>,
    settings: LeaseSettings,
    identity: String,
    fence: Fence,
    /// The Lease as it was seen last.
    observed: Mutex<Observed>,
}

/// What came of one try.
enum Attempt {
    /// The Lease is ours.
    Leads,
    /// It is somebody else's, at least for so long.
    Waits(Duration),
    /// Our knowledge was old.
    Outdated,
    /// There was no usable answer; with its cause.
    Failed(String),
}

impl Election {
    /// A candidate named `identity`, see [`identity()`]. `client` must not be behind `fence`, which
    /// is opened while we lead; calls of it should not wait for each other.
    #[must_use]
    pub fn new(client: Client, settings: LeaseSettings, identity: String, fence: Fence) -> Self {
        let leases = Api::namespaced(client, &settings.namespace);
        Self { leases, settings, identity, fence, observed: Mutex::default() }
    }

    /// Whether this process leads: for the metric.
    #[must_use]
    pub fn is_leading(&self) -> bool {
        self.fence.permits()
    }

    /// Waits until this process leads. Errors are logged and tried again.
    pub async fn acquire(&self) {
        info!("{} waits for the lease {}", self.identity, self.place());
        let (mut known, mut trouble) = (None, None);
        loop {
            let pause = match self.attempt(true).await {
                Attempt::Leads => return,
                Attempt::Waits(left) => left.min(self.settings.retry_period / 4),
                Attempt::Outdated => OUTDATED,
                Attempt::Failed(why) => {
                    if trouble.replace(why.clone()) != Some(why.clone()) {
                        warn!("the lease {} cannot be had: {why}", self.place());
                    }
                    self.settings.retry_period / 2
                }
            };
            let holder = self.observed().holder().map(ToOwned::to_owned);
            if holder != known {
                match &holder {
                    Some(holder) => info!("{holder} leads"),
                    None => info!("nobody leads"),
                }
                known = holder;
            }
            sleep(pause).await;
        }
    }

    /// Renews the Lease until it is lost. The [`Fence`] does not wait for this to return.
    pub async fn keep(&self) -> Lost {
        let mut trouble = String::from("this process was stopped for too long");
        let mut pause = self.settings.retry_period;
        loop {
            // At the end of the permission the loss must be told, not at the next turn.
            sleep(pause.min(self.fence.remaining())).await;
            if !self.fence.permits() {
                return self.lose(Lost::Expired(trouble));
            }
            let attempt = timeout(self.fence.remaining(), self.attempt(false));
            let Ok(tried) = attempt.await else { continue };
            pause = match tried {
                Attempt::Leads => self.settings.retry_period,
                Attempt::Waits(_) => {
                    let holder = self.observed().holder().unwrap_or("nobody").to_owned();
                    return self.lose(Lost::Taken(holder));
                }
                Attempt::Outdated => OUTDATED,
                Attempt::Failed(why) => {
                    warn!("the lease {} could not be renewed: {why}", self.place());
                    // At the end it is our own fence that refuses, which is no reason.
                    if self.fence.permits() {
                        trouble = why;
                    }
                    self.settings.retry_period / 4
                }
            };
        }
    }

    /// Gives the Lease back, if it is ours, so that another need not wait for its end. Nothing may
    /// be written after this.
    pub async fn release(&self) {
        self.fence.close();
        // The second try is for a Lease that changed unseen and is still ours.
        for _ in 0..2 {
            let observed = self.observed().clone();
            if !observed.ours(&self.identity) {
                return;
            }
            let Some(mut lease) = observed.lease else { return };
            lease.spec = Some(give_up(lease.spec.as_ref(), Timestamp::now()));
            match self.call(self.leases.replace(&self.settings.name, &params(), &lease)).await {
                Ok(_) => {
                    info!("{} has given the lease {} back", self.identity, self.place());
                    return;
                }
                Err(LeaseError::Conflict) => {}
                Err(trouble) => {
                    warn!("the lease {} was not given back: {trouble}", self.place());
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

    /// One try to get or to keep the Lease. `look` says whether to read it first: the leader knows
    /// it, and where it does not, the API server refuses the write.
    async fn attempt(&self, look: bool) -> Attempt {
        let stale = look || self.observed().lease.is_none();
        if stale && let Err(trouble) = self.read_lease().await {
            return Attempt::Failed(trouble.to_string());
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
            // What the Lease says now decides, and it may still be us.
            Err(LeaseError::Missing) if act == Act::Create => {
                Attempt::Failed(format!("there is no namespace {}", self.settings.namespace))
            }
            Err(LeaseError::Conflict | LeaseError::Missing) => match self.read_lease().await {
                Ok(()) => Attempt::Outdated,
                Err(trouble) => Attempt::Failed(trouble.to_string()),
            },
            Err(trouble) => Attempt::Failed(trouble.to_string()),
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
        // Without a version the API server would let everybody win.
        if lease.resource_version().is_none() {
            return Err(LeaseError::Conflict);
        }
        lease.spec = Some(spec);
        self.call(self.leases.replace(&self.settings.name, &params(), &lease)).await
    }

    /// A call that may hang for a third of the time that the leader has, so that it has another try.
    async fn call<T>(
        &self,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, LeaseError> {
        let patience = self.settings.renew_deadline / 3;
        match timeout(patience, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => Err(LeaseError::Conflict),
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Err(LeaseError::Missing),
            Ok(Err(error)) => Err(LeaseError::Other(brief(&error))),
            Err(_) => Err(LeaseError::Other(format!("no answer within {patience:?}"))),
        }
    }

    fn observed(&self) -> MutexGuard<'_, Observed> {
        self.observed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self) -> String {
        format!("{}/{}", self.settings.namespace, self.settings.name)
    }
}

/// Before the next try when somebody wrote the Lease at the same time.
const OUTDATED: Duration = Duration::from_millis(20);

/// Why a call was in vain.
#[derive(Debug, thiserror::Error)]
enum LeaseError {
    #[error("somebody else has written it")]
    Conflict,
    #[error("it, or its namespace, does not exist")]
    Missing,
    #[error("{0}")]
    Other(String),
}

fn params() -> PostParams {
    PostParams { field_manager: Some(crate::api::well_known::FIELD_MANAGER.into()), dry_run: false }
}

/// A name for this process that no other has, also not the one before it on this host: the host and
/// 64 random bits.
///
/// # Errors
/// When the system gives no random bits.
pub fn identity() -> anyhow::Result<String> {
    let mut random = [0; 8];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| anyhow::anyhow!("no random bits"))?;
    let system = rustix::system::uname();
    let host = system.nodename().to_string_lossy();
    Ok(format!("{host}_{:016x}", u64::from_be_bytes(random)))
}
