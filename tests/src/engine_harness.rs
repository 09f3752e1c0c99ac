//! The manager without Kubernetes: it keeps the Secret, the order and the back-off of a certificate in
//! memory, uses the same plan and the same driver, and has a clock that jumps over every wait. So what
//! takes the manager days takes a test milliseconds.
//!
//! It does what `certificates/act.rs` and `certificates/advance.rs` of the manager do, without what has
//! nothing to do with a CA. The CA is a real one with a real clock: where an order waits for it, the
//! harness waits a moment.

mod case;
mod solver;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use cert_lib::{
    acme::{
        account::{Account, register},
        client::Client,
        jws::AccountKey,
    },
    clock::{Clock as _, Manual},
    issue::{
        InlineKeyGenerator, Issuer as _,
        acme::{AcmeIssuer, AcmeOptions},
        driver::{Outcome, drive},
    },
    model::reason::Reason,
    net::http::{HttpsClient, Roots},
    plan::{self, Action},
};
use jiff::{SignedDuration, Timestamp};

pub use case::{CertificateCase, Kept, Stopped};
pub use solver::RecordStore;

/// An issuer, and the time.
pub struct EngineHarness {
    /// The time of this harness. It may run far ahead of the CA's.
    pub clock: Arc<Manual>,
    /// The client of the CA: its directory and its nonces.
    pub client: Arc<Client>,
    /// The account at the CA.
    pub account: Account,
    /// What issues.
    pub issuer: AcmeIssuer,
    /// Where proofs are published.
    pub board: Arc<RecordStore>,
    /// How long the CA gets for what it does in the background.
    pub pace: Duration,
    http: HttpsClient,
    options: AcmeOptions,
}

/// Where a process can die.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Point {
    /// The order is placed and the key is made; nothing else has happened.
    Ordered,
    /// The CA checks the proofs; the order was not finalized.
    Validating,
    /// The order was finalized; the certificate was not fetched.
    Signing,
    /// The certificate was fetched, and not stored.
    Fetched,
}

/// The result of a pass.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Report {
    /// Why things are as they are.
    pub reason: Reason,
    /// The same in words.
    pub message: String,
    /// When the next pass is due.
    pub look_again: Timestamp,
    /// Where it stopped for the test.
    pub reached: Option<Point>,
}

impl EngineHarness {
    /// Registers a new account at the CA with this directory, whose TLS certificate is from the CA
    /// in the PEM file `trust`.
    ///
    /// # Errors
    /// The CA refuses it.
    pub async fn open(directory: &str, trust: &Path) -> Result<Self> {
        Self::with_options(directory, trust, AcmeOptions::default()).await
    }

    /// The same with options for the issuer.
    ///
    /// # Errors
    /// The CA refuses it.
    pub async fn with_options(directory: &str, trust: &Path, options: AcmeOptions) -> Result<Self> {
        let clock = Arc::new(Manual::at(Timestamp::now().saturating_add(AHEAD)?));
        let http = HttpsClient::new(&Roots::only_pem(&std::fs::read(trust)?)?)?;
        let client = Arc::new(Client::new(Arc::new(http.clone()), clock.clone(), directory));
        let key = AccountKey::generate()?;
        let account = register(&client, &key, Some("harness@my-company.test"), None).await?.account;
        Ok(Self::with(clock, http, account, Arc::default(), options))
    }

    /// Another process with the same account, which has neither the directory nor a nonce.
    #[must_use]
    pub fn restarted(&self) -> Self {
        let directory = self.client.directory_url();
        let http = Arc::new(self.http.clone());
        let client = Arc::new(Client::new(http, self.clock.clone(), directory));
        let account = Account::known(client, self.account.key().clone(), self.account.url());
        let (clock, board) = (Arc::clone(&self.clock), Arc::clone(&self.board));
        Self::with(clock, self.http.clone(), account, board, self.options.clone())
    }

    /// The account is registered again with the same key, where the CA has forgotten it.
    ///
    /// # Errors
    /// The CA refuses it.
    pub async fn registered_again(&self) -> Result<Self> {
        let key = self.account.key();
        let account = register(&self.client, key, None, None).await?.account;
        let (clock, board) = (Arc::clone(&self.clock), Arc::clone(&self.board));
        Ok(Self::with(clock, self.http.clone(), account, board, self.options.clone()))
    }

    fn with(
        clock: Arc<Manual>,
        http: HttpsClient,
        account: Account,
        board: Arc<RecordStore>,
        options: AcmeOptions,
    ) -> Self {
        let issuer = AcmeIssuer::new(
            account.clone(),
            board.clone(),
            clock.clone(),
            Arc::new(InlineKeyGenerator),
            options.clone(),
        );
        let (client, pace) = (Arc::clone(account.client()), MOMENT);
        Self { clock, client, account, issuer, board, pace, http, options }
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Jumps to an instant, unless that is over. Where an order runs, a moment passes for the CA, too.
    pub async fn jump(&self, job: &CertificateCase, to: Timestamp) {
        let wait = to.duration_since(self.now()).max(SignedDuration::ZERO);
        self.clock.step(wait);
        if job.runs() {
            let wait = Duration::try_from(wait).unwrap_or_default();
            if !wait.is_zero() {
                self.let_the_ca_go_on().await;
            }
        }
    }

    /// There is no condition to wait for: only a request would show whether the CA is done, and the tests
    /// count requests.
    async fn let_the_ca_go_on(&self) {
        // If the machine stood still for the moment, the CA did, too.
        for _ in 0..10 {
            let began = Instant::now();
            tokio::time::sleep(self.pace).await;
            if began.elapsed() < self.pace + STALL {
                break;
            }
        }
    }

    /// Passes again and again until the Secret is as it should be.
    ///
    /// # Errors
    /// It is not after `span`.
    pub async fn until_ready(&self, job: &mut CertificateCase, span: SignedDuration) -> Result<()> {
        let report = self.until(job, span, |report| report.reason == Reason::Ready).await?;
        anyhow::ensure!(report.reason == Reason::Ready, "{:?}: {}", report.reason, report.message);
        Ok(())
    }

    /// Passes again and again until an order failed or none could be placed.
    ///
    /// # Errors
    /// That has not happened after a week.
    pub async fn until_failed(&self, job: &mut CertificateCase) -> Result<Report> {
        let over = |report: &Report| !matches!(report.reason, Reason::Issuing | Reason::Ready);
        let report = self.until(job, SignedDuration::from_hours(168), over).await?;
        anyhow::ensure!(report.reason != Reason::Ready, "the certificate was issued");
        Ok(report)
    }

    /// Passes again and again until a report matches `is_it`, or the certificate is there.
    ///
    /// # Errors
    /// It has not after `span`.
    pub async fn until(
        &self,
        job: &mut CertificateCase,
        span: SignedDuration,
        is_it: impl Fn(&Report) -> bool,
    ) -> Result<Report> {
        let end = self.now().saturating_add(span)?;
        loop {
            let report = self.pass(job).await?;
            if is_it(&report) || report.reason == Reason::Ready {
                return Ok(report);
            }
            if report.look_again > end {
                bail!("after {span:#} it is still {:?}: {}", report.reason, report.message);
            }
            self.jump(job, report.look_again).await;
        }
    }

    /// Passes again and again until the order reaches `point`, and dies there: what was not stored is
    /// lost.
    ///
    /// # Errors
    /// It never reaches it.
    pub async fn die_at(&self, job: &mut CertificateCase, point: Point) -> Result<()> {
        job.stop_at = Some(point);
        let hour = SignedDuration::from_hours(1);
        let report = self.until(job, hour, |report| report.reached == Some(point)).await?;
        anyhow::ensure!(report.reached == Some(point), "it never reached {point:?}");
        job.stop_at = None;
        job.die();
        // Another process takes a moment to start.
        self.let_the_ca_go_on().await;
        Ok(())
    }

    /// One pass of the manager over one certificate.
    ///
    /// # Errors
    /// The stored progress cannot be read, or the plan has an action that the harness cannot take.
    pub async fn pass(&self, job: &mut CertificateCase) -> Result<Report> {
        job.restore()?;
        let plan = plan::plan(&job.want, &job.have(), &case::POLICY, self.now());
        if plan.gives_up {
            self.give_up(job).await;
        }
        if let (Action::Start, Some(predecessor)) = (plan.action, &plan.replaces) {
            // Unless a test names another one.
            job.ask(|request| {
                request.replaces.get_or_insert_with(|| predecessor.clone());
            });
        }
        let report = match plan.action {
            Action::Start | Action::Resume => self.advance_order(job).await?,
            Action::Keep | Action::Hold | Action::Refuse => {
                let message = if plan.message.is_empty() { job.message() } else { plan.message };
                let (reason, look_again) = (plan.reason, plan.look_again);
                Report { reason, message, look_again, reached: None }
            }
            Action::Rewrite => bail!("there is no Secret here that could be written again"),
            Action::Share => bail!("there is no other certificate here to share"),
        };
        job.record(&report);
        Ok(report)
    }

    async fn advance_order(&self, job: &mut CertificateCase) -> Result<Report> {
        let request = job.want.request.clone().context("the request is refused")?;
        let (failed, clock) = (job.backoff, self.clock.as_ref());
        let outcome = match drive(&self.issuer, &request, job, failed, clock).await {
            Ok(outcome) => outcome,
            Err(Stopped(point)) => return Ok(self.stopped(point)),
        };
        let message = outcome.to_string();
        let (reason, look_again) = match outcome {
            Outcome::Issued(_) if job.stop_at == Some(Point::Fetched) => {
                return Ok(self.stopped(Point::Fetched));
            }
            Outcome::Issued(bundle) => {
                job.store(*bundle, self.now());
                (Reason::Ready, self.now())
            }
            Outcome::Waiting { until, .. } => (Reason::Issuing, until),
            Outcome::Retry { backoff, .. } => {
                job.transient_error = Some(backoff);
                (Reason::Issuing, backoff.until)
            }
            Outcome::Failed { reason, backoff, .. } => {
                self.give_up(job).await;
                job.backoff = Some(backoff);
                if reason == Reason::IssuerNotReady {
                    job.issuer_error = Some(message.clone());
                }
                (reason, backoff.until)
            }
        };
        Ok(Report { reason, message, look_again, reached: None })
    }

    async fn give_up(&self, job: &mut CertificateCase) {
        if let (Some(progress), Ok(request)) = (&job.progress, &job.want.request) {
            // The manager removes later what is left.
            let _ = self.issuer.abandon(&request.owner, progress).await;
        }
        job.forget_order();
    }

    fn stopped(&self, point: Point) -> Report {
        let (reason, message) = (Reason::Issuing, String::new());
        Report { reason, message, look_again: self.now(), reached: Some(point) }
    }
}

/// How far the clock of a harness is ahead of its CA's from the beginning. Pebble's orders end exactly a
/// day after they are placed: after a jump of exactly a day it would depend on chance whether a new order
/// has ended. So it has, as after any longer jump.
const AHEAD: SignedDuration = SignedDuration::from_mins(10);

/// A sleep that is longer by this is a stall of the machine.
const STALL: Duration = Duration::from_millis(30);
/// Longer than Pebble takes for anything, also where others use the processor.
const MOMENT: Duration = Duration::from_millis(100);
