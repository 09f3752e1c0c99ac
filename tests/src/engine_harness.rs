//! The manager without Kubernetes: it keeps the Secret, the progress and the back-off of a
//! certificate in memory, asks the same plan, drives the same issuer, and has a clock that jumps over
//! every wait. So what takes the manager days takes a test milliseconds.
//!
//! It follows `certificates/act.rs` of the manager step by step, and leaves out what has nothing to
//! do with a CA. The CA behind it is a real one with a real clock: where an order waits for it, the
//! harness lets a moment pass.

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
        Advance, Disposition, InlineKeyGenerator, IssueError, Issuer as _, Phase, Progress,
        acme::{AcmeIssuer, AcmeOptions},
    },
    model::{bundle::Bundle, reason::Reason},
    net::http::{HttpsClient, Roots},
    plan::{self, Action, backoff},
};
use jiff::{SignedDuration, Timestamp};

pub use case::{CertificateCase, Kept};
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
    /// How long the CA is given for what it does behind our back.
    pub pace: Duration,
    http: HttpsClient,
    conduct: AcmeOptions,
}

/// Where a process can die.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Point {
    /// The order is placed and the key is made; nothing else has happened.
    Ordered,
    /// The CA looks at the proofs; the order was not finalized.
    Validating,
    /// The order was finalized; the certificate was not fetched.
    Signing,
    /// The certificate was fetched, and not stored.
    Fetched,
}

/// What a pass came to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Report {
    /// Why things are as they are.
    pub reason: Reason,
    /// The same for people.
    pub message: String,
    /// When to look again.
    pub look_again: Timestamp,
    /// Where it stopped because it was told to.
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

    /// The same with an issuer that is told more.
    ///
    /// # Errors
    /// The CA refuses it.
    pub async fn with_options(directory: &str, trust: &Path, conduct: AcmeOptions) -> Result<Self> {
        let clock = Arc::new(Manual::at(Timestamp::now().saturating_add(AHEAD)?));
        let http = HttpsClient::new(&Roots::only_pem(&std::fs::read(trust)?)?)?;
        let client = Arc::new(Client::new(Arc::new(http.clone()), clock.clone(), directory));
        let key = AccountKey::generate()?;
        let account = register(&client, &key, Some("desk@my-company.test"), None).await?.account;
        Ok(Self::with(clock, http, account, Arc::default(), conduct))
    }

    /// Another process with the same account, whose memory is empty: no directory, no nonce.
    #[must_use]
    pub fn restarted(&self) -> Self {
        let directory = self.client.directory_url();
        let http = Arc::new(self.http.clone());
        let client = Arc::new(Client::new(http, self.clock.clone(), directory));
        let account = Account::known(client, self.account.key().clone(), self.account.url());
        let (clock, board) = (Arc::clone(&self.clock), Arc::clone(&self.board));
        Self::with(clock, self.http.clone(), account, board, self.conduct.clone())
    }

    /// The account is registered again with the same key, where the CA has forgotten it.
    ///
    /// # Errors
    /// The CA refuses it.
    pub async fn registered_again(&self) -> Result<Self> {
        let key = self.account.key();
        let account = register(&self.client, key, None, None).await?.account;
        let (clock, board) = (Arc::clone(&self.clock), Arc::clone(&self.board));
        Ok(Self::with(clock, self.http.clone(), account, board, self.conduct.clone()))
    }

    fn with(
        clock: Arc<Manual>,
        http: HttpsClient,
        account: Account,
        board: Arc<RecordStore>,
        conduct: AcmeOptions,
    ) -> Self {
        let issuer = AcmeIssuer::new(
            account.clone(),
            board.clone(),
            clock.clone(),
            Arc::new(InlineKeyGenerator),
            conduct.clone(),
        );
        let (client, pace) = (Arc::clone(account.client()), MOMENT);
        Self { clock, client, account, issuer, board, pace, http, conduct }
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

    /// There is no condition to wait for: whether the CA is done it says only to whoever asks, and how
    /// often it is asked is what the tests count.
    async fn let_the_ca_go_on(&self) {
        // In a moment in which the machine stood still nobody went on.
        for _ in 0..10 {
            let began = Instant::now();
            tokio::time::sleep(self.pace).await;
            if began.elapsed() < self.pace + STANDSTILL {
                break;
            }
        }
    }

    /// Passes again and again until the Secret is as it should be.
    ///
    /// # Errors
    /// It is not after `span`.
    pub async fn until_ready(&self, job: &mut CertificateCase, span: SignedDuration) -> Result<()> {
        let say = self.until(job, span, |say| say.reason == Reason::Ready).await?;
        anyhow::ensure!(say.reason == Reason::Ready, "{:?}: {}", say.reason, say.message);
        Ok(())
    }

    /// Passes again and again until something went wrong so that the order is over or none could be
    /// placed.
    ///
    /// # Errors
    /// That has not happened after a week.
    pub async fn until_failed(&self, job: &mut CertificateCase) -> Result<Report> {
        let over = |say: &Report| !matches!(say.reason, Reason::Issuing | Reason::Ready);
        let say = self.until(job, SignedDuration::from_hours(168), over).await?;
        anyhow::ensure!(say.reason != Reason::Ready, "the certificate was issued");
        Ok(say)
    }

    /// Passes again and again until a pass says something that `is_it`, or the certificate is there.
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
            let say = self.pass(job).await?;
            if is_it(&say) || say.reason == Reason::Ready {
                return Ok(say);
            }
            if say.look_again > end {
                bail!("after {span:#} it is still {:?}: {}", say.reason, say.message);
            }
            self.jump(job, say.look_again).await;
        }
    }

    /// Passes again and again until it comes to `point`, and dies there: what was not stored is lost.
    ///
    /// # Errors
    /// It never comes there.
    pub async fn die_at(&self, job: &mut CertificateCase, point: Point) -> Result<()> {
        job.stop_at = Some(point);
        let hour = SignedDuration::from_hours(1);
        let say = self.until(job, hour, |say| say.reached == Some(point)).await?;
        anyhow::ensure!(say.reached == Some(point), "it never came to {point:?}");
        job.stop_at = None;
        job.die();
        // Another process takes a moment to start.
        self.let_the_ca_go_on().await;
        Ok(())
    }

    /// One pass of the manager over one certificate.
    ///
    /// # Errors
    /// The stored progress cannot be read, or the plan asks for something that has no place here.
    pub async fn pass(&self, job: &mut CertificateCase) -> Result<Report> {
        job.recall()?;
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
        let say = match plan.action {
            Action::Start => self.advance_order(job, None).await?,
            Action::Resume => self.advance_order(job, job.progress.clone()).await?,
            Action::Keep | Action::Hold | Action::Refuse => {
                let message = if plan.message.is_empty() { job.said() } else { plan.message };
                let (reason, look_again) = (plan.reason, plan.look_again);
                Report { reason, message, look_again, reached: None }
            }
            Action::Rewrite => bail!("there is no Secret here that could be written again"),
            Action::Share => bail!("there is nobody here to share with"),
        };
        job.hear(&say);
        Ok(say)
    }

    async fn advance_order(
        &self,
        job: &mut CertificateCase,
        mut from: Option<Progress>,
    ) -> Result<Report> {
        let request = job.want.request.clone().context("the request is refused")?;
        loop {
            match self.issuer.advance(&request, from).await {
                Ok(Advance::Issued(bundle)) => {
                    if job.stop_at == Some(Point::Fetched) {
                        return Ok(self.stopped(Point::Fetched));
                    }
                    return Ok(self.finish(job, bundle));
                }
                Ok(Advance::Waiting { progress, doing, until }) => {
                    job.save(progress.clone())?;
                    let point = point_of(&doing);
                    if point.is_some() && job.stop_at == point {
                        return Ok(Report { reached: point, ..self.stopped(Point::Ordered) });
                    }
                    if until > self.now() {
                        let (reason, message) = (Reason::Issuing, doing.to_string());
                        return Ok(Report { reason, message, look_again: until, reached: None });
                    }
                    from = Some(progress);
                }
                Err(error) => return Ok(self.handle_error(job, &error).await),
            }
        }
    }

    fn finish(&self, job: &mut CertificateCase, bundle: Bundle) -> Report {
        job.store(bundle, self.now());
        let (reason, message) = (Reason::Ready, String::new());
        Report { reason, message, look_again: self.now(), reached: None }
    }

    async fn handle_error(&self, job: &mut CertificateCase, error: &IssueError) -> Report {
        let (disposition, now) = (error.disposition(), self.now());
        if job.runs() && !error.ends_order() {
            if let Some(progress) = error.progress() {
                job.progress = Some(progress.clone());
            }
            let wait = backoff::after(disposition, job.hiccup.map(|it| it.interval), now);
            job.hiccup = Some(wait);
            let message = format!("certificate requested, trying again: {error}");
            let (reason, look_again) = (Reason::Issuing, wait.until);
            return Report { reason, message, look_again, reached: None };
        }
        self.give_up(job).await;
        let wait = backoff::next(disposition, job.backoff, now);
        job.backoff = Some(wait);
        let reason = match disposition {
            Disposition::FixRequest => Reason::SpecRefused,
            Disposition::FixIssuer => Reason::IssuerNotReady,
            Disposition::Retry(_) | Disposition::Until(_) => Reason::BackingOff,
        };
        let message = format!("obtaining certificate failed: {error}");
        if disposition == Disposition::FixIssuer {
            job.doubt = Some(message.clone());
        }
        Report { reason, message, look_again: wait.until, reached: None }
    }

    async fn give_up(&self, job: &mut CertificateCase) {
        if let (Some(progress), Ok(request)) = (&job.progress, &job.want.request) {
            // The manager sweeps up what stays behind.
            let _ = self.issuer.abandon(&request.owner, progress).await;
        }
        job.forget_order();
    }

    fn stopped(&self, point: Point) -> Report {
        let (reason, message) = (Reason::Issuing, String::new());
        Report { reason, message, look_again: self.now(), reached: Some(point) }
    }
}

fn point_of(doing: &Phase) -> Option<Point> {
    let points = [
        (Phase::Ordered, Point::Ordered),
        (Phase::Validating, Point::Validating),
        (Phase::Signing, Point::Signing),
    ];
    points.into_iter().find(|(phase, _)| phase == doing).map(|(_, point)| point)
}

/// How far the clock of a harness is ahead of its CA's from the beginning. Pebble's orders end a day after
/// they are placed, to the second: a harness that jumped over exactly a day would find the end of a new
/// order a moment ahead or a moment past, by chance. So it is past, as after any longer jump.
const AHEAD: SignedDuration = SignedDuration::from_mins(10);

/// A sleep that is longer by this was none.
const STANDSTILL: Duration = Duration::from_millis(30);
/// Longer than Pebble takes for anything, also where others use the processor.
const MOMENT: Duration = Duration::from_millis(100);
