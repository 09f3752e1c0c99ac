//! One certificate of an [`EngineHarness`](super::EngineHarness): what is wanted, and what there is.

use anyhow::Result;
use async_trait::async_trait;
use cert_lib::{
    issue::{
        Phase, Progress,
        driver::{OrderStore, RunningOrder},
    },
    model::{
        bundle::Bundle,
        request::{Fingerprint, KeyChoice, Request, RequestInputs, Subject, names},
    },
    plan::{
        Have, IssuerState, Policy, Running, SecretState, Stored, Want, backoff::Backoff,
        renewal::Suggested,
    },
    solve::Owner,
};
use jiff::{SignedDuration, Timestamp};

use super::{Point, Report};

/// The defaults of the manager.
pub(super) const POLICY: Policy =
    Policy { renewal_window: SignedDuration::from_hours(30 * 24), renew_before_percentage: None };

/// A certificate.
pub struct CertificateCase {
    /// What is wanted.
    pub want: Want,
    /// The Secret.
    pub secret: Option<Kept>,
    /// Whether the certificate was revoked.
    pub revoked: bool,
    /// The CA's renewal information.
    pub suggested: Option<Suggested>,
    /// The wait after the last failure.
    pub backoff: Option<Backoff>,
    /// The wait after the last error that left the running order.
    pub transient_error: Option<Backoff>,
    /// Why the issuer may not be ready. The manager's issuer controller would find out.
    pub issuer_error: Option<String>,
    /// The messages of all passes, without repetitions.
    pub messages: Vec<String>,
    /// How often a Secret was written.
    pub stored: usize,
    /// The order that runs, as this process knows it.
    pub(super) progress: Option<Progress>,
    /// The order that runs, as the next process would find it.
    durable: Option<Vec<u8>>,
    pub(super) stop_at: Option<Point>,
}

/// What the Secret holds.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Certificate and key.
    pub bundle: Bundle,
    /// What they were issued for.
    pub fingerprint: Fingerprint,
    /// When they were requested.
    pub requested_at: Timestamp,
}

impl CertificateCase {
    /// A certificate for DNS names.
    ///
    /// # Errors
    /// One of them is none.
    pub fn of(wanted: &[&str]) -> Result<Self> {
        let wanted: Vec<String> = wanted.iter().map(|&name| name.to_owned()).collect();
        let dns_names = names(None, &wanted)?;
        let subject = Subject::Names { common_name: None, dns_names, key: KeyChoice::default() };
        let parts =
            RequestInputs { dns_names: &wanted, issuer: "harness", ..RequestInputs::default() };
        let owner = Owner(format!("default/{}", wanted.first().map_or("none", String::as_str)));
        Ok(Self::for_request(Request::new(owner, Fingerprint::of(&parts), subject)))
    }

    /// A certificate for a request.
    #[must_use]
    pub fn for_request(request: Request) -> Self {
        Self {
            want: Want::new(request),
            secret: None,
            revoked: false,
            suggested: None,
            backoff: None,
            transient_error: None,
            issuer_error: None,
            messages: Vec::new(),
            stored: 0,
            progress: None,
            durable: None,
            stop_at: None,
        }
    }

    /// Changes the request. Its fingerprint stays: it is for the same certificate.
    pub fn ask(&mut self, change: impl FnOnce(&mut Request)) {
        if let Ok(request) = &mut self.want.request {
            change(request);
        }
    }

    /// Whether an order runs.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.durable.is_some()
    }

    /// The message of the last pass.
    #[must_use]
    pub fn message(&self) -> String {
        self.messages.last().cloned().unwrap_or_default()
    }

    /// What was not stored is lost.
    pub fn die(&mut self) {
        self.progress = None;
        self.transient_error = None;
    }

    pub(super) fn have(&self) -> Have {
        let fingerprint = |progress: &Progress| progress.fingerprint().clone();
        let secret = self.secret.as_ref().map_or(SecretState::Missing, |kept| {
            SecretState::Holds(Stored {
                leaf: kept.bundle.leaf.clone(),
                fingerprint: Some(kept.fingerprint.clone()),
                requested_at: kept.requested_at,
                revoked: self.revoked,
                layout_is_current: true,
                suggested: self.suggested.clone().map(Box::new),
                record: cert_lib::plan::Record::Found,
            })
        });
        Have {
            issuer: self.issuer_error.clone().map_or(IssuerState::Ready, IssuerState::NotReady),
            running: self.progress.as_ref().map(|progress| Running {
                fingerprint: fingerprint(progress),
                not_before: self.transient_error.map(|wait| wait.until),
            }),
            backoff: self.backoff,
            ..Have::new(secret)
        }
    }

    /// A new process reads what the last one stored.
    pub(super) fn restore(&mut self) -> Result<()> {
        if let (None, Some(bytes)) = (&self.progress, &self.durable) {
            self.progress = Some(Progress::decode(bytes)?);
        }
        Ok(())
    }

    /// Writes the Secret and forgets the order, in this order.
    pub(super) fn store(&mut self, bundle: Bundle, now: Timestamp) {
        let requested_at = self.progress.as_ref().map_or(now, Progress::started);
        if let Ok(request) = &self.want.request {
            let fingerprint = request.fingerprint.clone();
            self.secret = Some(Kept { bundle, fingerprint, requested_at });
            self.stored += 1;
        }
        self.ask(|request| request.replaces = None);
        self.forget_order();
        self.backoff = None;
        self.revoked = false;
        self.suggested = None;
    }

    pub(super) fn forget_order(&mut self) {
        self.progress = None;
        self.durable = None;
        self.transient_error = None;
    }

    pub(super) fn record(&mut self, report: &Report) {
        if self.messages.last() != Some(&report.message) {
            self.messages.push(report.message.clone());
        }
    }
}

/// The process dies here, after the order is stored.
pub struct Stopped(pub Point);

#[async_trait]
impl OrderStore for CertificateCase {
    type Error = Stopped;

    fn order(&self) -> Option<RunningOrder> {
        self.progress.clone().map(|progress| RunningOrder {
            progress,
            is_stored: true,
            backoff: self.transient_error,
        })
    }

    async fn save(&mut self, progress: &Progress, doing: &Phase) -> Result<(), Stopped> {
        if !self.progress.as_ref().is_some_and(|known| known.is_stored_by(progress)) {
            self.durable = progress.encode().ok().map(|bytes| bytes.to_vec());
        }
        self.progress = Some(progress.clone());
        self.transient_error = None;
        let point = match doing {
            Phase::Ordered => Point::Ordered,
            Phase::Validating => Point::Validating,
            Phase::Signing => Point::Signing,
            Phase::Propagating(_) | Phase::Delayed(_) => return Ok(()),
        };
        if self.stop_at == Some(point) { Err(Stopped(point)) } else { Ok(()) }
    }

    fn keep(&mut self, progress: &Progress) {
        self.progress = Some(progress.clone());
    }
}
