//! Quota of an issuer: how many certificates it requests in a day, and which Certificate is next.
//!
//! The remaining quota is stored in `status.requests` of the Issuer, which needs no further object and
//! no further permission. A request is written there before the order is placed, so a restart does not
//! restore used quota.
//!
//! Concurrent requests share one write. A busy issuer records some requests ahead: an eighth of the
//! running orders that this process placed. Unused requests are returned when an order ends.
//!
//! A process starts with a window of one order of unknown outcome. Each outcome adds one to the window.
//! So a crash loses fewer requests than orders run, and a process that places no order uses no quota,
//! however often it restarts.

use std::{sync::Arc, time::Duration};

use cert_lib::{
    clock::Clock,
    plan::{
        Quota as Verdict,
        quota::{QuotaBucket, StoredQuota},
    },
};
use jiff::{SignedDuration, Timestamp};
use kube::Api;
use parking_lot::Mutex;
use serde_json::json;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::limits::{Ca, CaAccount, Origin};
use crate::{
    api::{
        Issuer, IssuerKey, Tenant,
        issuer::{IssuerStatus, Limit, Requests},
        time::whole_up,
    },
    runtime::{
        fair_queue::{Position, SharedQueue},
        queue::Shared,
        status_writer::write,
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
    /// Permits for orders of unknown outcome.
    window: Arc<Semaphore>,
    /// `None` for issuers without an ACME account.
    ca_account: Mutex<Option<CaAccount>>,
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

struct State {
    bucket: QuotaBucket,
    /// Number of orders that hold a [`Reservation`].
    running: i64,
    /// Whether a limit that the CA imposed is not stored yet.
    has_new_limits: bool,
}

/// One request is recorded ahead for so many running orders.
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
        let stored = status.and_then(|status| status.requests.as_ref());
        let stored = stored.and_then(|it| Some((it.available, it.at.parse().ok()?)));
        let (available, at) = stored.unwrap_or((i64::MAX, now));
        let bucket = QuotaBucket::restored(per_day, StoredQuota { available, at }, now);
        Self {
            issuer,
            state: Mutex::new(State { bucket, running: 0, has_new_limits: false }),
            queue: SharedQueue::new(USAGE_WINDOW),
            writing: tokio::sync::Mutex::default(),
            window: Arc::new(Semaphore::new(1)),
            ca_account: Mutex::default(),
        }
    }

    /// Sets the CA and the account of the issuer, and restores the limits that are `stored` in the
    /// status. `origin` determines which of them are restored.
    pub fn set_ca_account(&self, ca: Arc<Ca>, account: &str, stored: &[Limit], origin: Origin) {
        let mut ca_account = self.ca_account.lock();
        let is_same = |it: &CaAccount| Arc::ptr_eq(&it.ca, &ca) && it.account == account;
        if ca_account.as_ref().is_some_and(is_same) {
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
        let reservation = {
            let (mut state, now) = (self.state.lock(), self.now());
            if self.verdict(&state, tenant, position, now) != Verdict::Open {
                return Ok(None);
            }
            state.bucket.use_one(now);
            state.running += 1;
            self.queue.with(|queue| queue.record(tenant, now));
            let (quota, tenant) = (self.clone(), tenant.clone());
            Reservation { quota, tenant, is_refunded: false, window_permit }
        };
        match self.store().await {
            Ok(()) => Ok(Some(reservation)),
            Err(error) => {
                reservation.refund();
                Err(error)
            }
        }
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
        Verdict::Until { time: whole_up(bucket.available_at(needed, now)), per_day }
    }

    /// Has the limits stored that the CA imposed.
    pub fn store_limits(&self) {
        self.state.lock().has_new_limits = true;
        self.request_store();
    }

    /// Stores what the status lacks: used requests, returned ones and new limits. *Idempotent*.
    ///
    /// # Errors
    /// The status cannot be written. Limits and requests count in this process anyway, and the next call
    /// stores them.
    pub async fn store(&self) -> kube::Result<()> {
        let _writing = self.writing.lock().await;
        let (mut status, now) = (serde_json::Map::new(), self.now());
        let (recorded, has_new_limits) = {
            let mut state = self.state.lock();
            let ahead = state.running / AHEAD_DIVISOR;
            let recorded = state.bucket.record(ahead, now);
            if recorded != 0 {
                let StoredQuota { available, at } = state.bucket.stored(now);
                let requests = Requests { available, at: at.to_string() };
                status.insert("requests".to_owned(), json!(requests));
            }
            (recorded, std::mem::take(&mut state.has_new_limits))
        };
        if has_new_limits && let Some(CaAccount { ca, account, origin }) = self.ca_account() {
            let limits = ca.server_limits(&account, origin, now);
            status.insert("limits".to_owned(), json!(limits));
        }
        if status.is_empty() {
            return Ok(());
        }
        let QuotaIssuer { api, name, .. } = &self.issuer;
        let stored = write(api, name, None, status.into()).await;
        if stored.is_err() {
            let mut state = self.state.lock();
            state.bucket.unrecord(recorded);
            state.has_new_limits |= has_new_limits;
        }
        stored.map(drop)
    }

    fn request_store(&self) {
        self.issuer.queue.push(self.issuer.key.clone());
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
            quota.queue.with(|queue| queue.unrecord(&self.tenant));
        }
        if state.bucket.recorded_ahead() > state.running / AHEAD_DIVISOR {
            quota.request_store();
        }
    }
}

#[cfg(test)]
mod tests;
