//! A CA whose orders take two checks: like ACME, without its protocol.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use async_trait::async_trait;
use cert_lib::{
    clock::Clock,
    issue::{
        Advance, Capabilities, CleanupError, InlineKeyGenerator, IssueError, Issuer, Phase,
        Progress, self_signed::SelfSignedIssuer,
    },
    model::request::Request,
    solve::Owner,
};
use jiff::SignedDuration;
use parking_lot::Mutex;
use serde_json::json;

/// See the [module](self).
pub(super) struct ScriptedCa {
    signer: SelfSignedIssuer,
    clock: Arc<dyn Clock>,
    /// Number of placed orders.
    placed: AtomicUsize,
    /// Number of checks of each order.
    checks: Mutex<BTreeMap<String, usize>>,
    abandoned: AtomicUsize,
}

impl ScriptedCa {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            signer: SelfSignedIssuer::new(clock.clone(), Arc::new(InlineKeyGenerator)),
            clock,
            placed: AtomicUsize::default(),
            checks: Mutex::default(),
            abandoned: AtomicUsize::default(),
        }
    }

    pub(super) fn placed(&self) -> usize {
        self.placed.load(SeqCst)
    }

    pub(super) fn abandoned(&self) -> usize {
        self.abandoned.load(SeqCst)
    }
}

#[async_trait]
impl Issuer for ScriptedCa {
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    async fn advance(
        &self,
        request: &Request,
        from: Option<Progress>,
    ) -> Result<Advance, IssueError> {
        let now = self.clock.now();
        let Some(progress) = from else {
            let number = self.placed.fetch_add(1, SeqCst);
            let stored = json!({
                "version": 1, "fingerprint": request.fingerprint, "names": [], "key": null,
                "order": format!("https://ca/order/{number}"), "account": "https://ca/account/1",
                "started": now,
            });
            let progress = Progress::decode(stored.to_string().as_bytes()).expect("a progress");
            return Ok(Advance::Waiting { progress, doing: Phase::Ordered, until: now });
        };
        let order = progress.encode().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let checks = {
            let mut checks = self.checks.lock();
            let checks = checks.entry(order.expect("a text")).or_default();
            *checks += 1;
            *checks
        };
        if checks < 2 {
            let until = now + SignedDuration::from_secs(5);
            return Ok(Advance::Waiting { progress, doing: Phase::Validating, until });
        }
        self.signer.advance(request, None).await
    }

    async fn abandon(&self, _: &Owner, _: &Progress) -> Result<(), CleanupError> {
        self.abandoned.fetch_add(1, SeqCst);
        Ok(())
    }
}
