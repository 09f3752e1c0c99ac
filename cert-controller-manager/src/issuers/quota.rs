//! How many certificates an issuer may be asked for in a day, over restarts, and whose turn it is.
//!
//! What is left is kept in `status.requests` of the Issuer, which needs no further object and no
//! further right. A request is noted there before the CA is asked, so a restart gives none back.
//!
//! Those that are wanted at the same time are noted in one write. A busy issuer notes a few ahead: an
//! eighth of the orders that run, and of those that this process has placed, at most. What is noted
//! beyond that is put back when an order ends. And a process begins carefully: the first request is for
//! one order, whose outcome is waited for, and with each outcome one more may be under way. So a crash
//! costs fewer requests than orders run, and a process that places nothing spends nothing, however
//! often it is started.

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
    /// Held while requests or a limit are noted.
    noting: tokio::sync::Mutex<()>,
    /// How many wait until a request is noted for them.
    in_need: AtomicI64,
    /// How many more orders may be under way whose outcome is not known.
    window: Arc<Semaphore>,
    /// Who is asked, and in whose name.
    asks: Mutex<Option<CaAccount>>,
    /// Whether something that the CA said is not stored yet.
    owes: AtomicBool,
}

/// Whom an issuer asks.
#[derive(Clone)]
pub struct CaAccount {
    /// The CA.
    pub ca: Arc<Ca>,
    /// The account, as limits name it.
    pub account: String,
    /// Who may read and write what is stored of limits.
    origin: Origin,
}

struct State {
    bucket: QuotaBucket,
    turns: FairQueue,
    /// How many this process has used.
    used: i64,
}

/// Of the orders that run, and of those that were placed, one in so many is noted ahead.
const AHEAD: i64 = 8;
/// How long an order waits for the outcome of others.
const PATIENCE: Duration = Duration::from_secs(2);

impl Quota {
    /// The quota of the issuer `name`, `per_day` requests, of which `status` remembers what is left.
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
        let state = Mutex::new(State { bucket, turns: FairQueue::default(), used: 0 });
        Self {
            api,
            name: name.to_owned(),
            clock,
            state,
            noting: tokio::sync::Mutex::default(),
            in_need: AtomicI64::default(),
            window: Arc::new(Semaphore::new(1)),
            asks: Mutex::default(),
            owes: AtomicBool::default(),
        }
    }

    /// Says whom the issuer asks. The CA is told what the status has `stored` of it; of a status that
    /// somebody else may write, only what concerns nobody but this account.
    pub fn ask(&self, ca: Arc<Ca>, account: &str, stored: &[Limit], origin: Origin) {
        let mut asks = self.asks.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known =
            |asks: &CaAccount| asks.ca.server() == ca.server() && asks.account == account;
        if asks.as_ref().is_some_and(is_known) {
            return;
        }
        ca.restore(account, stored, origin, self.clock.now());
        *asks = Some(CaAccount { ca, account: account.to_owned(), origin });
    }

    /// Whom the issuer asks.
    #[must_use]
    pub fn asks(&self) -> Option<CaAccount> {
        self.asks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stores what the CA said of its limits.
    ///
    /// # Errors
    /// When it could not be stored; this process knows it all the same, and
    /// [owes](Self::store_owed) it.
    pub async fn store_limits(&self) -> kube::Result<()> {
        let Some(CaAccount { ca, account, origin }) = self.asks() else { return Ok(()) };
        // What was heard later is written later.
        let _noting = self.noting.lock().await;
        let heard = ca.server_limits(&account, origin, self.clock.now());
        let patch = json!({ "status": { "limits": heard } });
        let params = PatchParams::default();
        let stored = self.api.patch_status(&self.name, &params, &Patch::Merge(patch)).await;
        self.owes.store(stored.is_err(), Ordering::Relaxed);
        stored.map(drop)
    }

    /// Stores what could not be stored when the CA said it. *Idempotent*.
    ///
    /// # Errors
    /// When it could not be stored this time either.
    pub async fn store_owed(&self) -> kube::Result<()> {
        if self.owes.load(Ordering::Relaxed) { self.store_limits().await } else { Ok(()) }
    }

    /// Another number per day.
    pub fn set_per_day(&self, per_day: i64) {
        let now = self.clock.now();
        self.lock().bucket.set_per_day(per_day, now);
    }

    /// Whether it is the turn of `whose`. Changes nothing.
    #[must_use]
    pub fn look(&self, whose: &CertificateKey) -> Verdict {
        self.lock().look(whose, self.clock.now())
    }

    /// Puts `whose` in line. Where it can go on at once instead, it is not.
    pub fn wait(&self, whose: &CertificateKey) -> Verdict {
        let now = self.clock.now();
        let mut state = self.lock();
        let verdict = state.look(whose, now);
        match verdict {
            Verdict::Until { time, .. } => state.turns.wait(whose, time),
            Verdict::Open => {}
        }
        verdict
    }

    /// `certificate` does not wait any more.
    pub fn leave(&self, whose: &CertificateKey) {
        self.lock().turns.leave(whose);
        if let Some(asks) = self.asks() {
            asks.ca.leave(whose);
        }
    }

    /// Uses one request for `whose`; `None` where it is not its turn. `running` is how many orders of
    /// the issuer run.
    ///
    /// # Errors
    /// When it could not be noted that a request is used; none was used then.
    pub async fn spend(
        self: &Arc<Self>,
        whose: &CertificateKey,
        running: usize,
    ) -> kube::Result<Option<QuotaReservation>> {
        // A CA that does not answer must not be found out one by one.
        let place = timeout(PATIENCE, self.window.clone().acquire_owned()).await;
        let place = place.ok().and_then(Result::ok);
        let (quota, tenant) = (self.clone(), whose.tenant());
        Ok(self.take(whose, running).await?.then(|| QuotaReservation {
            quota,
            tenant,
            is_used: true,
            place,
        }))
    }

    async fn take(&self, whose: &CertificateKey, running: usize) -> kube::Result<bool> {
        if let Some(done) = self.lock().spend(whose, self.clock.now()) {
            return Ok(done);
        }
        let need = PendingRequest::of(&self.in_need);
        let _noting = self.noting.lock().await;
        let now = self.clock.now();
        let portion = {
            let mut state = self.lock();
            // It may have been noted meanwhile, together with that of another.
            if let Some(done) = state.spend(whose, now) {
                return Ok(done);
            }
            let count = need.all() + state.ahead(running);
            state.bucket.take_out(count, now)
        };
        if portion == 0 {
            return Ok(false);
        }
        let noted = self.note(now).await;
        let mut state = self.lock();
        match noted {
            Ok(()) => {
                state.bucket.give(portion);
                Ok(state.spend(whose, now).unwrap_or(false))
            }
            Err(error) => {
                state.bucket.put_back(portion);
                Err(error)
            }
        }
    }

    /// Puts back what was noted and will not be used soon, now that so many orders run. *Idempotent*.
    ///
    /// # Errors
    /// When that could not be noted. It can be used all the same, and is noted with the next request.
    pub async fn return_unused(&self, running: usize) -> kube::Result<()> {
        let excess = |state: &State| {
            let keep = self.in_need.load(Ordering::Relaxed) + state.ahead(running);
            (state.bucket.in_hand() > keep).then_some(keep)
        };
        if excess(&self.lock()).is_none() {
            return Ok(());
        }
        let _noting = self.noting.lock().await;
        {
            let mut state = self.lock();
            let Some(keep) = excess(&state) else { return Ok(()) };
            state.bucket.return_unused(keep);
        }
        self.note(self.clock.now()).await
    }

    /// Stores what is left.
    async fn note(&self, now: Timestamp) -> kube::Result<()> {
        let left = self.lock().bucket.left(now);
        let patch = Patch::Merge(json!({ "status": { "requests": render(left) } }));
        self.api.patch_status(&self.name, &PatchParams::default(), &patch).await.map(drop)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request that was used. Dropped when its outcome is known.
pub struct QuotaReservation {
    quota: Arc<Quota>,
    tenant: Tenant,
    is_used: bool,
    /// In the window.
    place: Option<OwnedSemaphorePermit>,
}

impl QuotaReservation {
    /// It is certain that nobody was asked, so that another one may use it.
    pub fn give_back(mut self) {
        self.is_used = false;
        let mut state = self.quota.lock();
        state.bucket.return_one();
        state.used -= 1;
        state.turns.forget_one(&self.tenant);
    }
}

impl Drop for QuotaReservation {
    fn drop(&mut self) {
        let is_in_window = self.place.take().is_some();
        if self.is_used && is_in_window {
            self.quota.window.add_permits(1);
        }
    }
}

/// One who waits until a request is noted for it.
struct PendingRequest<'a>(&'a AtomicI64);

impl<'a> PendingRequest<'a> {
    fn of(count: &'a AtomicI64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }

    /// How many wait.
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
    fn look(&self, whose: &CertificateKey, now: Timestamp) -> Verdict {
        let bucket = &self.bucket;
        let before = self.turns.before(whose, now);
        // The last sixteenth is for namespaces that have not had their share. Of a few requests a day
        // there is nothing to keep.
        let kept = match self.turns.has_its_share(whose, bucket.per_day(), now) {
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

    /// How many more than are wanted now may be noted.
    fn ahead(&self, running: usize) -> i64 {
        self.used.min(i64::try_from(running).unwrap_or(i64::MAX)) / AHEAD
    }

    /// Uses a request that is in hand; `None` where one must be noted first.
    fn spend(&mut self, whose: &CertificateKey, now: Timestamp) -> Option<bool> {
        match self.look(whose, now) {
            Verdict::Until { time, .. } if time > now => return Some(false),
            Verdict::Until { .. } | Verdict::Open => {}
        }
        self.bucket.use_one().then(|| {
            self.used += 1;
            self.turns.leave(whose);
            self.turns.note(whose, now);
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
