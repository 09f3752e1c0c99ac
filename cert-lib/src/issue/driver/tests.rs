//! The loop with an issuer that follows a script and a store in memory.

use std::{collections::VecDeque, sync::Mutex};

use super::*;
use crate::{
    clock::Manual,
    issue::{Capabilities, CleanupError, InlineKeyGenerator, KeyGenerator, RetrySchedule},
    model::{
        key::{KeyType, PrivateKey},
        request::{Extras, Fingerprint, KeyChoice, Subject},
    },
    solve::Owner,
};

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// One answer of the issuer.
enum Answer {
    /// The order continues as soon as it is stored.
    Placed,
    /// The order waits for a minute.
    Waits,
    /// A certificate of a self-signed issuer, for these names.
    Issues(&'static str),
    Fails(IssueError),
}

/// Gives one answer a call, and records the progress of each.
struct ScriptedIssuer {
    answers: Mutex<VecDeque<Answer>>,
    calls: Mutex<Vec<Option<String>>>,
    clock: Manual,
}

impl ScriptedIssuer {
    fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self {
            answers: Mutex::new(answers.into_iter().collect()),
            calls: Mutex::default(),
            clock: Manual::at(now()),
        }
    }

    fn calls(&self) -> Vec<Option<String>> {
        self.calls.lock().unwrap().clone()
    }

    async fn drive(&self, orders: &mut Store, failed: Option<Backoff>) -> Result<Outcome, ()> {
        drive(self, &request("a.example"), orders, failed, &self.clock).await
    }
}

#[async_trait]
impl Issuer for ScriptedIssuer {
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    async fn advance(&self, _: &Request, from: Option<Progress>) -> Result<Advance, IssueError> {
        self.calls.lock().unwrap().push(from.as_ref().map(name));
        let answer = self.answers.lock().unwrap().pop_front().expect("called too often");
        let progress = from.unwrap_or_else(|| progress("placed"));
        match answer {
            Answer::Placed => {
                Ok(Advance::Waiting { progress, doing: Phase::Ordered, until: now() })
            }
            Answer::Waits => {
                Ok(Advance::Waiting { progress, doing: Phase::Validating, until: now() + MINUTE })
            }
            Answer::Issues(name) => Ok(Advance::Issued(bundle(name).await)),
            Answer::Fails(error) => Err(error),
        }
    }

    async fn abandon(&self, _: &Owner, _: &Progress) -> Result<(), CleanupError> {
        panic!("the caller abandons")
    }
}

/// Refuses some writes.
#[derive(Default)]
struct Store {
    memory: Option<RunningOrder>,
    durable: Option<String>,
    writes: usize,
    refuses: Vec<usize>,
}

impl Store {
    fn with(order: RunningOrder) -> Self {
        Self { durable: Some(name(&order.progress)), memory: Some(order), ..Self::default() }
    }

    fn kept(&self) -> Option<String> {
        self.memory.as_ref().map(|order| name(&order.progress))
    }
}

#[async_trait]
impl OrderStore for Store {
    type Error = ();

    fn order(&self) -> Option<RunningOrder> {
        self.memory.clone()
    }

    async fn save(&mut self, progress: &Progress, _: &Phase) -> Result<(), ()> {
        self.writes += 1;
        let is_stored = !self.refuses.contains(&self.writes);
        let progress = progress.clone();
        if is_stored {
            self.durable = Some(name(&progress));
        }
        self.memory = Some(RunningOrder { progress, is_stored, backoff: None });
        if is_stored { Ok(()) } else { Err(()) }
    }

    fn keep(&mut self, progress: &Progress) {
        if let Some(order) = &mut self.memory {
            order.progress = progress.clone();
        }
    }
}

fn now() -> Timestamp {
    "2026-11-22T10:00:00Z".parse().unwrap()
}

fn request(name: &str) -> Request {
    let subject = Subject::Names {
        common_name: None,
        dns_names: vec![name.parse().unwrap()],
        key: KeyChoice::default(),
    };
    let request = Request::new(Owner("ns/a".to_owned()), Fingerprint::stored("f"), subject);
    Request { extras: Some(Extras { duration: MINUTE * 60, ..Extras::default() }), ..request }
}

async fn bundle(name: &str) -> Bundle {
    use crate::issue::self_signed::SelfSignedIssuer;
    use std::sync::Arc;
    let clock = Arc::new(Manual::at(now()));
    let issuer = SelfSignedIssuer::new(clock, Arc::new(InlineKeyGenerator));
    match issuer.advance(&request(name), None).await.unwrap() {
        Advance::Issued(bundle) => bundle,
        Advance::Waiting { .. } => panic!("a self-signed certificate is issued at once"),
    }
}

/// A progress of the order with this URL.
fn progress(order: &str) -> Progress {
    let text = format!(
        r#"{{"version":1,"fingerprint":"f","order":"{order}","account":"a",
        "started":"2026-11-22T10:00:00Z","names":[],"key":null}}"#
    );
    Progress::decode(text.as_bytes()).unwrap()
}

fn name(progress: &Progress) -> String {
    progress.durable.order.clone()
}

fn running(backoff: Option<Backoff>) -> RunningOrder {
    RunningOrder { progress: progress("placed"), is_stored: true, backoff }
}

fn placed() -> Option<String> {
    Some("placed".to_owned())
}

#[tokio::test]
async fn a_certificate_that_is_issued_at_once_needs_no_order() {
    let issuer = ScriptedIssuer::new([Answer::Issues("a.example")]);
    let mut store = Store::default();
    let outcome = issuer.drive(&mut store, None).await.unwrap();
    assert!(matches!(outcome, Outcome::Issued(_)), "{outcome}");
    assert_eq!((store.writes, store.kept()), (0, None));
}

#[tokio::test]
async fn an_order_goes_on_as_soon_as_it_is_stored_and_until_it_waits() {
    let issuer = ScriptedIssuer::new([Answer::Placed, Answer::Waits, Answer::Issues("a.example")]);
    let mut store = Store::default();
    match issuer.drive(&mut store, None).await.unwrap() {
        Outcome::Waiting { doing, until } => {
            assert_eq!((doing, until), (Phase::Validating, now() + MINUTE));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!((store.durable.clone(), issuer.calls()), (placed(), vec![None, placed()]));
    let outcome = issuer.drive(&mut store, None).await.unwrap();
    assert!(matches!(outcome, Outcome::Issued(_)), "{outcome}");
    assert_eq!(issuer.calls(), [None, placed(), placed()]);
}

#[tokio::test]
async fn an_order_that_cannot_be_stored_stops_and_is_not_placed_again() {
    // Each write fails once: of the new order, of the same order again, and of the next step.
    for refuses in [vec![1], vec![1, 2], vec![2], vec![1, 3]] {
        let answers = [Answer::Placed, Answer::Waits, Answer::Waits, Answer::Issues("a.example")];
        let issuer = ScriptedIssuer::new(answers);
        let mut store = Store { refuses: refuses.clone(), ..Store::default() };
        let mut refusals = 0;
        loop {
            let before = issuer.calls().len();
            match issuer.drive(&mut store, None).await {
                Ok(Outcome::Issued(_)) => break,
                Ok(Outcome::Waiting { .. }) => assert_eq!(store.durable, placed()),
                Ok(other) => panic!("{refuses:?}: {other}"),
                Err(()) => {
                    refusals += 1;
                    assert!(issuer.calls().len() - before <= 2, "{refuses:?}: it went on");
                    assert_eq!(store.kept(), placed(), "{refuses:?}");
                }
            }
        }
        let orders = issuer.calls().into_iter().filter(Option::is_none).count();
        assert_eq!((orders, refusals), (1, refuses.len()), "{refuses:?}");
        // No step is taken before the order is stored.
        if refuses == [1, 2] {
            assert_eq!(issuer.calls().len(), 4);
        }
    }
}

#[tokio::test]
async fn an_order_that_is_only_in_memory_is_stored_before_it_goes_on() {
    let issuer = ScriptedIssuer::new([Answer::Waits]);
    let unsure = RunningOrder { is_stored: false, ..running(None) };
    let mut store = Store { memory: Some(unsure), refuses: vec![1], ..Store::default() };
    issuer.drive(&mut store, None).await.unwrap_err();
    assert_eq!(issuer.calls(), []);
    issuer.drive(&mut store, None).await.unwrap();
    assert_eq!((store.durable, issuer.calls()), (placed(), vec![placed()]));
}

#[tokio::test]
async fn an_error_that_leaves_the_order_keeps_what_was_done_and_waits_longer_each_time() {
    let fails = || {
        let progress = Some(Box::new(progress("further")));
        Answer::Fails(IssueError::Transient {
            message: "down".to_owned(),
            retry_at: None,
            progress,
        })
    };
    let mut store = Store::with(running(None));
    for seconds in [2, 4, 8] {
        let outcome = ScriptedIssuer::new([fails()]).drive(&mut store, None).await.unwrap();
        assert_eq!(outcome.to_string(), "certificate requested, trying again: down");
        let Outcome::Retry { backoff, .. } = outcome else { panic!("{outcome}") };
        assert_eq!(backoff.interval.as_secs(), seconds);
        assert_eq!(store.kept().as_deref(), Some("further"));
        store.memory.as_mut().unwrap().backoff = Some(backoff);
    }
    assert_eq!(store.writes, 0, "the stored bytes are the same");
}

#[tokio::test]
async fn a_step_that_succeeds_ends_the_row_of_errors() {
    let fails = Answer::Fails(IssueError::transient("down"));
    let issuer = ScriptedIssuer::new([Answer::Placed, fails]);
    let backoff = Backoff { until: now(), interval: MINUTE, failures: 0 };
    let mut store = Store::with(running(Some(backoff)));
    let outcome = issuer.drive(&mut store, None).await.unwrap();
    let Outcome::Retry { backoff, .. } = outcome else { panic!("{outcome}") };
    assert_eq!(backoff.interval.as_secs(), 2);
}

#[tokio::test]
async fn a_running_order_is_tried_again_within_a_day_even_if_retry_after_is_longer() {
    let week = now() + MINUTE * (7 * 24 * 60);
    let limited = || IssueError::RateLimited {
        message: "limited".to_owned(),
        until: Some(week),
        scope: None,
        is_published: false,
        progress: None,
    };
    let issuer = ScriptedIssuer::new([Answer::Fails(limited())]);
    let outcome = issuer.drive(&mut Store::with(running(None)), None).await.unwrap();
    let Outcome::Retry { backoff, .. } = outcome else { panic!("{outcome}") };
    assert_eq!(backoff.until, now() + LONGEST_WAIT);
    // A new order is not placed before the CA allows it.
    let issuer = ScriptedIssuer::new([Answer::Fails(limited())]);
    let outcome = issuer.drive(&mut Store::default(), None).await.unwrap();
    let Outcome::Failed { backoff, reason, .. } = outcome else { panic!("{outcome}") };
    assert_eq!((backoff.until, reason), (week, Reason::BackingOff));
}

#[tokio::test]
async fn an_error_that_ends_the_order_says_what_must_change() {
    let message = || "no".to_owned();
    let validation = Disposition::Retry(RetrySchedule::Validation);
    let names = Vec::new();
    for (error, reason, minutes) in [
        (IssueError::InvalidRequest(message()), Reason::SpecRefused, 24 * 60),
        (IssueError::BadCsr(message()), Reason::SpecRefused, 24 * 60),
        (IssueError::InvalidIssuer(message()), Reason::IssuerNotReady, 20),
        (IssueError::OrderFailed(message()), Reason::BackingOff, 100),
        (IssueError::OrderGone(message()), Reason::BackingOff, 5),
        (
            IssueError::ValidationFailed { message: message(), names, disposition: validation },
            Reason::BackingOff,
            100,
        ),
    ] {
        let shown = format!("{error:?}");
        // Two validations have failed before.
        let failed = Some(Backoff { until: now(), interval: MINUTE * 10, failures: 2 });
        let issuer = ScriptedIssuer::new([Answer::Fails(error)]);
        let outcome = issuer.drive(&mut Store::with(running(None)), failed).await.unwrap();
        assert_eq!(outcome.to_string(), "obtaining certificate failed: no");
        let Outcome::Failed { reason: is, backoff, .. } = outcome else { panic!("{outcome}") };
        assert_eq!((is, backoff.interval.as_mins()), (reason, minutes), "{shown}");
    }
}

#[tokio::test]
async fn an_error_without_an_order_is_a_failure_even_if_it_passes() {
    let error = IssueError::transient("no route").not_sent();
    let issuer = ScriptedIssuer::new([Answer::Fails(error)]);
    let mut store = Store::default();
    let outcome = issuer.drive(&mut store, None).await.unwrap();
    let Outcome::Failed { error, backoff, .. } = outcome else { panic!("{outcome}") };
    assert!(error.is_unsent() && !error.ends_order());
    assert_eq!((backoff.interval.as_secs(), store.kept()), (2, None));
}

#[tokio::test]
async fn a_certificate_that_does_not_match_the_request_ends_the_order() {
    let issuer = ScriptedIssuer::new([Answer::Placed, Answer::Issues("b.example")]);
    let outcome = issuer.drive(&mut Store::default(), None).await.unwrap();
    let Outcome::Failed { error, reason, backoff } = outcome else { panic!("{outcome}") };
    assert_eq!(
        error.to_string(),
        "the issuer's certificate cannot be used: the certificate does not cover a.example"
    );
    assert!(error.ends_order());
    assert_eq!((reason, backoff.interval), (Reason::BackingOff, MINUTE));
}

#[tokio::test]
async fn a_certificate_for_another_key_is_not_used() {
    let issuer = ScriptedIssuer::new([Answer::Issues("a.example")]);
    let key = InlineKeyGenerator.generate(KeyType::default()).await.ok();
    assert!(key.as_ref().is_some_and(|key: &PrivateKey| key.kind().is_some()));
    let request = Request { key, ..request("a.example") };
    let mut store = Store::default();
    let outcome = drive(&issuer, &request, &mut store, None, &issuer.clock).await.unwrap();
    assert!(outcome.to_string().ends_with("the certificate is for another key"), "{outcome}");
}
