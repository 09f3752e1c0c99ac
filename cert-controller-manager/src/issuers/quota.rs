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

use std::{
    sync::{
        Arc,
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
use jiff::{SignedDuration, Timestamp};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use parking_lot::Mutex;
use serde_json::json;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::limits::{Ca, Origin};
use crate::{
    api::{
        Issuer, IssuerKey, Tenant,
        issuer::{IssuerStatus, Limit, Requests},
        time::whole_up,
    },
    runtime::{
        fair_queue::{Position, SharedQueue},
        queue::Shared,
    },
};

/// See the [module](self).
pub struct Quota {
    issuer: QuotaIssuer,
    state: Mutex<State>,
    /// Certificates that wait for quota.
    queue: SharedQueue<Tenant>,
    /// Held while the status is written, so that writes keep their order.
    writing: tokio::sync::Mutex<()>,
    /// Number of callers that wait until a request is written for them.
    pending: AtomicI64,
    /// Permits for orders of unknown outcome.
    window: Arc<Semaphore>,
    /// `None` for issuers without an ACME account.
    ca_account: Mutex<Option<CaAccount>>,
    /// Whether a limit that the CA imposed is not stored yet.
    has_new_limits: AtomicBool,
}

/// The Issuer that stores a quota.
pub struct QuotaIssuer {
    /// Writes its status.
    pub api: Api<Issuer>,
    /// Its name in the API.
    pub name: String,
    /// Its key in the queue.
    pub key: IssuerKey,
    /// Receives it when [`Quota::store`] has something to store.
    pub queue: Shared<IssuerKey>,
    /// Source of the current time.
    pub clock: Arc<dyn Clock>,
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
    /// Number of requests that this process used.
    used: i64,
    /// Number of orders that hold a [`Reservation`].
    running: i64,
}

/// One request is written ahead for so many running orders, and for so many used requests.
const AHEAD_DIVISOR: i64 = 8;
/// How long an order waits for the outcomes of others.
const WINDOW_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for which the requests of a namespace count.
const USAGE_WINDOW: SignedDuration = SignedDuration::from_hours(24);

impl Quota {
    /// The quota of `issuer`: `per_day` requests, with the remaining quota from `status`.
    #[must_use]
    pub fn new(issuer: QuotaIssuer, per_day: i64, status: Option<&IssuerStatus>) -> Self {
        let now = issuer.clock.now();
        let left = status.and_then(|status| read(status.requests.as_ref()?));
        let bucket = match left {
            Some(left) => QuotaBucket::restored(per_day, left, now),
            None => QuotaBucket::full(per_day, now),
        };
        Self {
            issuer,
            state: Mutex::new(State { bucket, used: 0, running: 0 }),
            queue: SharedQueue::new(USAGE_WINDOW),
            writing: tokio::sync::Mutex::default(),
            pending: AtomicI64::default(),
            window: Arc::new(Semaphore::new(1)),
            ca_account: Mutex::default(),
            has_new_limits: AtomicBool::default(),
        }
    }

    /// Sets the CA and the account of the issuer, and restores the limits that are `stored` in the
    /// status. `origin` determines which of them are restored.
    pub fn set_ca_account(&self, ca: Arc<Ca>, account: &str, stored: &[Limit], origin: Origin) {
        let mut ca_account = self.ca_account.lock();
        let is_known = |ca_account: &CaAccount| {
            ca_account.ca.server() == ca.server() && ca_account.account == account
        };
        if ca_account.as_ref().is_some_and(is_known) {
            return;
        }
        ca.restore(account, stored, origin, self.now());
        *ca_account = Some(CaAccount { ca, account: account.to_owned(), origin });
    }

    /// Returns the CA and the account of the issuer.
    #[must_use]
    pub fn ca_account(&self) -> Option<CaAccount> {
        self.ca_account.lock().clone()
    }

    /// Changes the requests per day.
    pub fn set_per_day(&self, per_day: i64) {
        let now = self.now();
        self.state.lock().bucket.set_per_day(per_day, now);
    }

    /// Whether quota is available for a Certificate of `tenant` at this position of the queue, without
    /// using it.
    #[must_use]
    pub fn check(&self, tenant: &Tenant, position: Option<&Position<Tenant>>) -> Verdict {
        let now = self.now();
        self.verdict(&self.state.lock(), tenant, position, now)
    }

    /// Joins the queue, or keeps the `previous` position if it is one in this queue.
    #[must_use]
    pub fn wait(&self, tenant: &Tenant, previous: Option<Position<Tenant>>) -> Position<Tenant> {
        self.queue.join(tenant, previous)
    }

    /// Uses one request. Returns `None` if no quota is available at this position.
    ///
    /// # Errors
    /// The status cannot be written. No request is used.
    pub async fn spend(
        self: &Arc<Self>,
        tenant: &Tenant,
        position: Option<&Position<Tenant>>,
    ) -> kube::Result<Option<Reservation>> {
        // The timeout avoids that orders at an unresponsive CA fail one after the other.
        let window_permit = timeout(WINDOW_TIMEOUT, self.window.clone().acquire_owned()).await;
        let window_permit = window_permit.ok().and_then(Result::ok);
        let (quota, tenant) = (self.clone(), tenant.clone());
        Ok(self.take(&tenant, position).await?.then(|| Reservation {
            quota,
            tenant,
            is_refunded: false,
            window_permit,
        }))
    }

    async fn take(
        &self,
        tenant: &Tenant,
        position: Option<&Position<Tenant>>,
    ) -> kube::Result<bool> {
        if let Some(done) = self.use_one(tenant, position) {
            return Ok(done);
        }
        let need = PendingRequest::of(&self.pending);
        let _writing = self.writing.lock().await;
        // The previous holder of the lock may have written this request, too.
        if let Some(done) = self.use_one(tenant, position) {
            return Ok(done);
        }
        let now = self.now();
        let portion = {
            let mut state = self.state.lock();
            let count = need.all() + state.ahead();
            state.bucket.take_out(count, now)
        };
        if portion == 0 {
            return Ok(false);
        }
        let written = self.write(now).await;
        match written {
            Ok(()) => {
                self.state.lock().bucket.give(portion);
                Ok(self.use_one(tenant, position).unwrap_or(false))
            }
            Err(error) => {
                self.state.lock().bucket.put_back(portion);
                Err(error)
            }
        }
    }

    /// Uses a request that is already written. Returns `None` if one must be written first.
    fn use_one(&self, tenant: &Tenant, position: Option<&Position<Tenant>>) -> Option<bool> {
        let now = self.now();
        let mut state = self.state.lock();
        match self.verdict(&state, tenant, position, now) {
            Verdict::Until { time, .. } if time > now => return Some(false),
            Verdict::Until { .. } | Verdict::Open => {}
        }
        state.bucket.use_one().then(|| {
            (state.used, state.running) = (state.used + 1, state.running + 1);
            self.queue.with(|queue| queue.record(tenant, now));
            true
        })
    }

    fn verdict(
        &self,
        state: &State,
        tenant: &Tenant,
        position: Option<&Position<Tenant>>,
        now: Timestamp,
    ) -> Verdict {
        let (bucket, per_day) = (&state.bucket, state.bucket.per_day());
        // The last sixteenth is reserved for namespaces that have not used their share. A quota of less
        // than 16 has no reserve.
        let is_over = self.queue.with(|queue| queue.has_used_share(tenant, per_day, now));
        let kept = if is_over { per_day / 16 } else { 0 };
        let needed = self.queue.before(tenant, position, now) + 1 + kept;
        if bucket.available(now) >= needed {
            return Verdict::Open;
        }
        Verdict::Until { time: whole_up(bucket.when(needed, now)), per_day }
    }

    /// Has the limits stored that the CA imposed.
    pub fn store_limits(&self) {
        self.has_new_limits.store(true, Ordering::Relaxed);
        self.request_store();
    }

    /// Stores new limits, and returns requests that were written ahead and are too many for the running
    /// orders. *Idempotent*.
    ///
    /// # Errors
    /// The status cannot be written. Limits and requests count in this process anyway, and the next call
    /// stores them.
    pub async fn store(&self) -> kube::Result<()> {
        if self.has_new_limits.load(Ordering::Relaxed) {
            self.write_limits().await?;
        }
        if self.surplus(&self.state.lock()).is_none() {
            return Ok(());
        }
        let _writing = self.writing.lock().await;
        {
            let mut state = self.state.lock();
            let Some(keep) = self.surplus(&state) else { return Ok(()) };
            state.bucket.return_unused(keep);
        }
        self.write(self.now()).await
    }

    async fn write_limits(&self) -> kube::Result<()> {
        let Some(CaAccount { ca, account, origin }) = self.ca_account() else { return Ok(()) };
        // Limits are read under the lock, so an older write cannot replace a newer one.
        let _writing = self.writing.lock().await;
        self.has_new_limits.store(false, Ordering::Relaxed);
        let limits = ca.server_limits(&account, origin, self.now());
        let stored = self.patch(json!({ "limits": limits })).await;
        self.has_new_limits.fetch_or(stored.is_err(), Ordering::Relaxed);
        stored
    }

    /// How many requests to keep, if more than that are written ahead.
    fn surplus(&self, state: &State) -> Option<i64> {
        let keep = self.pending.load(Ordering::Relaxed) + state.ahead();
        (state.bucket.in_hand() > keep).then_some(keep)
    }

    fn request_store(&self) {
        self.issuer.queue.push(self.issuer.key.clone());
    }

    /// Writes the remaining quota to the status.
    async fn write(&self, now: Timestamp) -> kube::Result<()> {
        let left = self.state.lock().bucket.left(now);
        self.patch(json!({ "requests": render(left) })).await
    }

    async fn patch(&self, status: serde_json::Value) -> kube::Result<()> {
        let patch = Patch::Merge(json!({ "status": status }));
        let QuotaIssuer { api, name, .. } = &self.issuer;
        api.patch_status(name, &PatchParams::default(), &patch).await.map(drop)
    }

    fn now(&self) -> Timestamp {
        self.issuer.clock.now()
    }
}

/// A used request, while its order runs.
pub struct Reservation {
    quota: Arc<Quota>,
    tenant: Tenant,
    is_refunded: bool,
    /// `None` if the wait for the window timed out, or the outcome is known.
    window_permit: Option<OwnedSemaphorePermit>,
}

impl Reservation {
    /// The CA has placed the order: one more may be on its way.
    pub fn settle(&mut self) {
        if self.window_permit.take().is_some() {
            self.quota.window.add_permits(1);
        }
    }

    /// Returns the request to the quota. Only permitted if the order was certainly not sent to the CA.
    pub fn refund(mut self) {
        self.is_refunded = true;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.is_refunded {
            self.settle();
        }
        let Self { quota, .. } = self;
        let mut state = quota.state.lock();
        state.running -= 1;
        if self.is_refunded {
            state.bucket.return_one();
            state.used -= 1;
            quota.queue.with(|queue| queue.unrecord(&self.tenant));
        }
        if quota.surplus(&state).is_some() {
            quota.request_store();
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
    /// Number of requests that may be written ahead.
    fn ahead(&self) -> i64 {
        self.used.min(self.running) / AHEAD_DIVISOR
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
