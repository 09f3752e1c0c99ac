//! Quota of an issuer: how many certificates it requests in a day, and which Certificate is next.
//!
//! The remaining quota is stored in `status.requests` of the Issuer, which needs no further object and
//! no further permission. A request is written there before the order is placed, so a restart does not
//! restore used quota.
//!
//! Concurrent requests share one write. A busy issuer writes some requests ahead: at most an eighth of
//! the running orders, and at most an eighth of the orders that this process placed. Unused requests
//! are returned when an order ends.
//!
//! A process starts with a window of one order of unknown outcome. Each outcome adds one to the window.
//! So a crash loses fewer requests than orders run, and a process that places no order uses no quota,
//! however often it restarts.

pub mod fair_queue;
pub mod limits;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use cert_lib::{
    clock::Clock,
    plan::{
        Quota as Verdict,
        quota::{QuotaBucket, StoredQuota},
    },
};
use jiff::Timestamp;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use self::{
    fair_queue::FairQueue,
    limits::{Ca, Origin},
};
use crate::api::{
    CertificateKey, Issuer, Tenant,
    issuer::{IssuerStatus, Limit, Requests},
    time::whole_up,
};

/// See the [module](self).
pub struct Quota {
    api: Api<Issuer>,
    name: String,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Held while the status is written, so that writes keep their order.
    writing: tokio::sync::Mutex<()>,
    /// Number of callers that wait until a request is written for them.
    pending: AtomicI64,
    /// Permits for orders of unknown outcome.
    window: Arc<Semaphore>,
    /// `None` for issuers without an ACME account.
    ca_account: Mutex<Option<CaAccount>>,
    /// Whether a limit that the CA imposed is not stored yet.
    has_pending_limits: AtomicBool,
}

/// The CA of an issuer and its account there.
#[derive(Clone)]
pub struct CaAccount {
    /// The rate limits of the CA.
    pub ca: Arc<Ca>,
    /// Identifies the account in limits.
    pub account: String,
    /// Owner of the cluster that stores the limits.
    origin: Origin,
}

struct State {
    bucket: QuotaBucket,
    queue: FairQueue,
    /// Number of requests that this process used.
    used: i64,
}

/// One request is written ahead for so many running orders, and for so many used requests.
const AHEAD_DIVISOR: i64 = 8;
/// How long an order waits for the outcomes of others.
const WINDOW_TIMEOUT: Duration = Duration::from_secs(2);

impl Quota {
    /// The quota of the issuer `name`: `per_day` requests, with the remaining quota from `status`.
    #[must_use]
    pub fn new(
        api: Api<Issuer>,
        name: &str,
        per_day: i64,
        status: Option<&IssuerStatus>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let now = clock.now();
        let left = status.and_then(|status| read(status.requests.as_ref()?));
        let bucket = match left {
            Some(left) => QuotaBucket::restored(per_day, left, now),
            None => QuotaBucket::full(per_day, now),
        };
        let state = Mutex::new(State { bucket, queue: FairQueue::default(), used: 0 });
        Self {
            api,
            name: name.to_owned(),
            clock,
            state,
            writing: tokio::sync::Mutex::default(),
            pending: AtomicI64::default(),
            window: Arc::new(Semaphore::new(1)),
            ca_account: Mutex::default(),
            has_pending_limits: AtomicBool::default(),
        }
    }

    /// Sets the CA and the account of the issuer, and restores the limits that are `stored` in the
    /// status. `origin` determines which of them are restored.
    pub fn set_ca_account(&self, ca: Arc<Ca>, account: &str, stored: &[Limit], origin: Origin) {
        let mut ca_account = self.ca_account.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = |ca_account: &CaAccount| {
            ca_account.ca.server() == ca.server() && ca_account.account == account
        };
        if ca_account.as_ref().is_some_and(is_known) {
            return;
        }
        ca.restore(account, stored, origin, self.clock.now());
        *ca_account = Some(CaAccount { ca, account: account.to_owned(), origin });
    }

    /// Returns the CA and the account of the issuer.
    #[must_use]
    pub fn ca_account(&self) -> Option<CaAccount> {
        self.ca_account.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stores the limits that the CA imposed.
    ///
    /// # Errors
    /// The status cannot be written. The limits apply in this process, and
    /// [`store_pending_limits`](Self::store_pending_limits) stores them later.
    pub async fn store_limits(&self) -> kube::Result<()> {
        let Some(CaAccount { ca, account, origin }) = self.ca_account() else { return Ok(()) };
        // Limits are read under the lock, so an older write cannot replace a newer one.
        let _writing = self.writing.lock().await;
        let limits = ca.server_limits(&account, origin, self.clock.now());
        let patch = json!({ "status": { "limits": limits } });
        let params = PatchParams::default();
        let stored = self.api.patch_status(&self.name, &params, &Patch::Merge(patch)).await;
        self.has_pending_limits.store(stored.is_err(), Ordering::Relaxed);
        stored.map(drop)
    }

    /// Stores the limits that an earlier write failed to store. *Idempotent*.
    ///
    /// # Errors
    /// The status cannot be written.
    pub async fn store_pending_limits(&self) -> kube::Result<()> {
        if self.has_pending_limits.load(Ordering::Relaxed) {
            self.store_limits().await
        } else {
            Ok(())
        }
    }

    /// Changes the requests per day.
    pub fn set_per_day(&self, per_day: i64) {
        let now = self.clock.now();
        self.lock().bucket.set_per_day(per_day, now);
    }

    /// Returns whether quota is available for `certificate`, without using it.
    #[must_use]
    pub fn check(&self, certificate: &CertificateKey) -> Verdict {
        self.lock().check(certificate, self.clock.now())
    }

    /// Adds `certificate` to the queue, unless quota is available for it.
    pub fn wait(&self, certificate: &CertificateKey) -> Verdict {
        let now = self.clock.now();
        let mut state = self.lock();
        let verdict = state.check(certificate, now);
        match verdict {
            Verdict::Until { time, .. } => state.queue.wait(certificate, time),
            Verdict::Open => {}
        }
        verdict
    }

    /// Removes `certificate` from the queues of the quota and of the rate limits.
    pub fn leave(&self, certificate: &CertificateKey) {
        self.lock().queue.leave(certificate);
        if let Some(ca_account) = self.ca_account() {
            ca_account.ca.leave(certificate);
        }
    }

    /// Uses one request for `certificate`. Returns `None` if no quota is available for it. `running` is
    /// the number of running orders of the issuer.
    ///
    /// # Errors
    /// The status cannot be written. No request is used.
    pub async fn spend(
        self: &Arc<Self>,
        certificate: &CertificateKey,
        running: usize,
    ) -> kube::Result<Option<QuotaReservation>> {
        // The timeout avoids that orders at an unresponsive CA fail one after the other.
        let window_permit = timeout(WINDOW_TIMEOUT, self.window.clone().acquire_owned()).await;
        let window_permit = window_permit.ok().and_then(Result::ok);
        let (quota, tenant) = (self.clone(), certificate.tenant());
        Ok(self.take(certificate, running).await?.then(|| QuotaReservation {
            quota,
            tenant,
            is_used: true,
            window_permit,
        }))
    }

    async fn take(&self, certificate: &CertificateKey, running: usize) -> kube::Result<bool> {
        if let Some(done) = self.lock().spend(certificate, self.clock.now()) {
            return Ok(done);
        }
        let need = PendingRequest::of(&self.pending);
        let _writing = self.writing.lock().await;
        let now = self.clock.now();
        let portion = {
            let mut state = self.lock();
            // The previous holder of the lock may have written this request, too.
            if let Some(done) = state.spend(certificate, now) {
                return Ok(done);
            }
            let count = need.all() + state.ahead(running);
            state.bucket.take_out(count, now)
        };
        if portion == 0 {
            return Ok(false);
        }
        let written = self.write(now).await;
        let mut state = self.lock();
        match written {
            Ok(()) => {
                state.bucket.give(portion);
                Ok(state.spend(certificate, now).unwrap_or(false))
            }
            Err(error) => {
                state.bucket.put_back(portion);
                Err(error)
            }
        }
    }

    /// Returns requests that were written ahead and are too many for `running` orders. *Idempotent*.
    ///
    /// # Errors
    /// The status cannot be written. The requests are available anyway, and the next write includes
    /// them.
    pub async fn return_unused(&self, running: usize) -> kube::Result<()> {
        let excess = |state: &State| {
            let keep = self.pending.load(Ordering::Relaxed) + state.ahead(running);
            (state.bucket.in_hand() > keep).then_some(keep)
        };
        if excess(&self.lock()).is_none() {
            return Ok(());
        }
        let _writing = self.writing.lock().await;
        {
            let mut state = self.lock();
            let Some(keep) = excess(&state) else { return Ok(()) };
            state.bucket.return_unused(keep);
        }
        self.write(self.clock.now()).await
    }

    /// Writes the remaining quota to the status.
    async fn write(&self, now: Timestamp) -> kube::Result<()> {
        let left = self.lock().bucket.left(now);
        let patch = Patch::Merge(json!({ "status": { "requests": render(left) } }));
        self.api.patch_status(&self.name, &PatchParams::default(), &patch).await.map(drop)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A used request. Drop it when the outcome of the order is known.
pub struct QuotaReservation {
    quota: Arc<Quota>,
    tenant: Tenant,
    is_used: bool,
    /// `None` if the wait for the window timed out.
    window_permit: Option<OwnedSemaphorePermit>,
}

impl QuotaReservation {
    /// Returns the request to the quota. Only permitted if the order was certainly not sent to the CA.
    pub fn give_back(mut self) {
        self.is_used = false;
        let mut state = self.quota.lock();
        state.bucket.return_one();
        state.used -= 1;
        state.queue.remove_last(&self.tenant);
    }
}

impl Drop for QuotaReservation {
    fn drop(&mut self) {
        let has_window_permit = self.window_permit.take().is_some();
        if self.is_used && has_window_permit {
            self.quota.window.add_permits(1);
        }
    }
}

/// A caller that waits until a request is written for it.
struct PendingRequest<'a>(&'a AtomicI64);

impl<'a> PendingRequest<'a> {
    fn of(count: &'a AtomicI64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }

    /// Number of waiting callers.
    fn all(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for PendingRequest<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl State {
    fn check(&self, certificate: &CertificateKey, now: Timestamp) -> Verdict {
        let bucket = &self.bucket;
        let before = self.queue.count_before(certificate, now);
        // The last sixteenth is reserved for namespaces that have not used their share. A quota of less
        // than 16 has no reserve.
        let kept = match self.queue.has_used_share(certificate, bucket.per_day(), now) {
            true => bucket.per_day() / 16,
            false => 0,
        };
        let needed = before + 1 + kept;
        if bucket.available(now) >= needed {
            return Verdict::Open;
        }
        let time = bucket.when(needed, now);
        Verdict::Until { time: whole_up(time), per_day: bucket.per_day() }
    }

    /// Number of requests that may be written ahead.
    fn ahead(&self, running: usize) -> i64 {
        self.used.min(i64::try_from(running).unwrap_or(i64::MAX)) / AHEAD_DIVISOR
    }

    /// Uses a request that is already written. Returns `None` if one must be written first.
    fn spend(&mut self, certificate: &CertificateKey, now: Timestamp) -> Option<bool> {
        match self.check(certificate, now) {
            Verdict::Until { time, .. } if time > now => return Some(false),
            Verdict::Until { .. } | Verdict::Open => {}
        }
        self.bucket.use_one().then(|| {
            self.used += 1;
            self.queue.leave(certificate);
            self.queue.record(certificate, now);
            true
        })
    }
}

fn read(requests: &Requests) -> Option<StoredQuota> {
    Some(StoredQuota { available: requests.available, at: requests.at.parse().ok()? })
}

fn render(left: StoredQuota) -> Requests {
    Requests { available: left.available, at: left.at.to_string() }
}

#[cfg(test)]
mod tests;
