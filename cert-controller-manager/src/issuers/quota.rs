//! How many certificates an issuer may be asked for in a day, over restarts, and whose turn it is.
//!
//! What is left is kept in `status.requests` of the Issuer, which needs no further object and no
//! further right. It is written before it is used and in portions, so that a crash loses at most a
//! portion and a busy issuer is not written for every order.

pub mod limits;
pub mod turns;

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use cert_lib::{
    clock::Clock,
    plan::{
        Quota as Verdict,
        quota::{Bucket, Left},
    },
};
use jiff::Timestamp;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;

use self::{
    limits::{Ca, Origin},
    turns::Turns,
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
    /// Held while a portion or a limit is noted.
    noting: tokio::sync::Mutex<()>,
    /// Who is asked, and in whose name.
    asks: Mutex<Option<Asks>>,
    /// Whether something that the CA said is not stored yet.
    owes: AtomicBool,
}

/// Whom an issuer asks.
#[derive(Clone)]
pub struct Asks {
    /// The CA.
    pub ca: Arc<Ca>,
    /// The account, as limits name it.
    pub account: String,
    /// Who may read and write what is stored of limits.
    origin: Origin,
}

struct State {
    bucket: Bucket,
    turns: Turns,
}

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
            Some(left) => Bucket::restored(per_day, left, now),
            None => Bucket::full(per_day, now),
        };
        let state = Mutex::new(State { bucket, turns: Turns::default() });
        Self {
            api,
            name: name.to_owned(),
            clock,
            state,
            noting: tokio::sync::Mutex::default(),
            asks: Mutex::default(),
            owes: AtomicBool::default(),
        }
    }

    /// Says whom the issuer asks. The CA is told what the status has `stored` of it; of a status that
    /// somebody else may write, only what concerns nobody but this account.
    pub fn ask(&self, ca: Arc<Ca>, account: &str, stored: &[Limit], origin: Origin) {
        let mut asks = self.asks.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = |asks: &Asks| asks.ca.server() == ca.server() && asks.account == account;
        if asks.as_ref().is_some_and(is_known) {
            return;
        }
        ca.hear(account, stored, origin, self.clock.now());
        *asks = Some(Asks { ca, account: account.to_owned(), origin });
    }

    /// Whom the issuer asks.
    #[must_use]
    pub fn asks(&self) -> Option<Asks> {
        self.asks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stores what the CA said of its limits.
    ///
    /// # Errors
    /// When it could not be stored; this process knows it all the same, and
    /// [owes](Self::store_owed) it.
    pub async fn store_limits(&self) -> kube::Result<()> {
        let Some(Asks { ca, account, origin }) = self.asks() else { return Ok(()) };
        // What was heard later is written later.
        let _noting = self.noting.lock().await;
        let heard = ca.heard(&account, origin, self.clock.now());
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

    /// Uses one request for `whose`; `None` where it is not its turn.
    ///
    /// # Errors
    /// When it could not be noted that a portion is used; nothing was used then.
    pub async fn spend(self: &Arc<Self>, whose: &CertificateKey) -> kube::Result<Option<Spent>> {
        let spent = || Spent { quota: self.clone(), tenant: whose.tenant() };
        Ok(self.take(whose).await?.then(spent))
    }

    async fn take(&self, whose: &CertificateKey) -> kube::Result<bool> {
        if let Some(done) = self.lock().spend(whose, self.clock.now()) {
            return Ok(done);
        }
        let _noting = self.noting.lock().await;
        let now = self.clock.now();
        let (portion, left) = {
            let mut state = self.lock();
            // Somebody else may have noted a portion meanwhile.
            if let Some(done) = state.spend(whose, now) {
                return Ok(done);
            }
            (state.bucket.take_out(now), state.bucket.left(now))
        };
        if portion == 0 {
            return Ok(false);
        }
        let patch = json!({ "status": { "requests": render(left) } });
        let noted =
            self.api.patch_status(&self.name, &PatchParams::default(), &Patch::Merge(patch)).await;
        let mut state = self.lock();
        match noted {
            Ok(_) => {
                state.bucket.give(portion);
                Ok(state.spend(whose, now).unwrap_or(false))
            }
            Err(error) => {
                state.bucket.put_back(portion);
                Err(error)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request that was used.
pub struct Spent {
    quota: Arc<Quota>,
    tenant: Tenant,
}

impl Spent {
    /// It is certain that nobody was asked, so that another one may use it. In this process only: what
    /// was noted stays used after a restart.
    pub fn give_back(self) {
        let mut state = self.quota.lock();
        state.bucket.return_one();
        state.turns.forget_one(&self.tenant);
    }
}

impl State {
    fn look(&self, whose: &CertificateKey, now: Timestamp) -> Verdict {
        let bucket = &self.bucket;
        let before = self.turns.before(whose, now);
        // The last quarter is for namespaces that have not had their share. Where only one request
        // comes at once there is nothing to keep.
        let kept = match self.turns.has_its_share(whose, bucket.per_day(), now) {
            true => bucket.burst() / 4,
            false => 0,
        };
        let needed = before + 1 + kept;
        if bucket.available(now) >= needed {
            return Verdict::Open;
        }
        let time = bucket.when(needed, now);
        Verdict::Until { time: whole_up(time), per_day: bucket.per_day() }
    }

    /// Uses a request that is in hand; `None` where a portion must be noted first.
    fn spend(&mut self, whose: &CertificateKey, now: Timestamp) -> Option<bool> {
        match self.look(whose, now) {
            Verdict::Until { time, .. } if time > now => return Some(false),
            Verdict::Until { .. } | Verdict::Open => {}
        }
        self.bucket.use_one().then(|| {
            self.turns.leave(whose);
            self.turns.note(whose, now);
            true
        })
    }
}

fn read(requests: &Requests) -> Option<Left> {
    Some(Left { available: requests.available, at: requests.at.parse().ok()? })
}

fn render(left: Left) -> Requests {
    Requests { available: left.available, at: left.at.to_string() }
}

#[cfg(test)]
mod tests;
