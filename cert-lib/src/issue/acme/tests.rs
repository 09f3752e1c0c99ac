//! Whole orders against a scripted CA and a scripted solver, with a clock that is moved by hand.

mod ca;
mod delegated;
mod faults;
mod limits;
mod options;
mod stored_proofs;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::Response;
use jiff::SignedDuration;

use super::*;
use crate::{
    acme::{account::Account, client::Client, jws::AccountKey},
    clock::{Clock, Manual},
    issue::{
        InlineKeyGenerator, LimitScope,
        driver::{MemoryOrderStore, Outcome, drive},
    },
    model::{
        bundle::Bundle,
        key::PrivateKey,
        name::DnsName,
        request::{Csr, Fingerprint, KeyChoice, Subject},
    },
    net::{
        HttpError,
        scripted::{Scripted, Seen},
    },
    solve::{Readiness, SolveError, Solver},
};

use self::ca::{Ca, CaBehavior};

/// A solver that records its calls; proofs are visible at once unless `looks` has other answers.
#[derive(Default)]
struct RecordStore {
    log: Mutex<Vec<String>>,
    looks: Mutex<VecDeque<Result<Readiness, SolveError>>>,
    /// The errors of the first calls to publish.
    failures: Mutex<VecDeque<SolveError>>,
    cleanup_fails: bool,
    addresses: bool,
    stores_proofs: bool,
    /// The timeout of the solver; that of the issuer if unset.
    timeout: Option<SignedDuration>,
    /// The targets of CNAMEs at challenge names.
    leads: delegated::Leads,
}

impl RecordStore {
    fn note(&self, verb: &str, proofs: &[Proof]) {
        let shown: Vec<String> = proofs
            .iter()
            .filter_map(Proof::txt)
            .map(|(fqdn, values)| format!("{fqdn}={}", values.len()))
            .collect();
        self.log.lock().unwrap().push(format!("{verb} {}", shown.join(" ")));
    }
}

#[async_trait]
impl Solver for RecordStore {
    async fn follow(&self, _: &Owner, challenge: &DnsName) -> Result<DnsName, SolveError> {
        self.leads.follow(challenge)
    }

    async fn present(&self, _: &Owner, proofs: &[Proof]) -> Result<(), SolveError> {
        self.note("present", proofs);
        self.failures.lock().unwrap().pop_front().map_or(Ok(()), Err)
    }

    async fn ready(&self, _: &Owner, _: &[Proof]) -> Result<Readiness, SolveError> {
        self.looks.lock().unwrap().pop_front().unwrap_or(Ok(Readiness::Ready))
    }

    async fn cleanup(&self, _: &Owner, proofs: &[Proof]) -> Result<(), SolveError> {
        self.note("cleanup", proofs);
        match self.cleanup_fails {
            true => Err(SolveError::Unavailable("down".to_owned())),
            false => Ok(()),
        }
    }

    fn proves_addresses(&self) -> bool {
        self.addresses
    }

    fn stores_proofs(&self) -> bool {
        self.stores_proofs
    }

    fn propagation_timeout(
        &self,
        _: &Owner,
        _: &[Proof],
        default: SignedDuration,
    ) -> SignedDuration {
        self.timeout.unwrap_or(default)
    }
}

/// Answers instead of the CA, or not.
type Hook = Box<dyn FnMut(&Seen, &mut Ca) -> Option<Result<Response<Bytes>, HttpError>> + Send>;

/// An issuer with everything around it.
struct EngineHarness {
    issuer: AcmeIssuer,
    http: Arc<Scripted>,
    ca: Arc<Mutex<Ca>>,
    board: Arc<RecordStore>,
    clock: Arc<Manual>,
}

impl EngineHarness {
    /// The client is warm: it has its directory and one nonce.
    async fn new(manner: CaBehavior, board: RecordStore) -> Self {
        Self::with(manner, board, AcmeOptions::default(), Box::new(|_, _| None)).await
    }

    /// A CA with `manner` where `hook` does not answer.
    async fn hooked(
        manner: CaBehavior,
        mut hook: impl FnMut(&Seen, &mut Ca) -> Option<Response<Bytes>> + Send + 'static,
    ) -> Self {
        let hook = move |seen: &Seen, ca: &mut Ca| hook(seen, ca).map(Ok);
        Self::with(manner, RecordStore::default(), AcmeOptions::default(), Box::new(hook)).await
    }

    async fn with(
        manner: CaBehavior,
        board: RecordStore,
        options: AcmeOptions,
        mut hook: Hook,
    ) -> Self {
        let clock = Arc::new(Manual::at("2026-11-22T10:00:00Z".parse().unwrap()));
        let (ca, board) = (Arc::new(Mutex::new(Ca::new(manner))), Arc::new(board));
        let served = Arc::clone(&ca);
        let http = Arc::new(Scripted::fallible(move |seen| {
            let mut ca = served.lock().unwrap();
            match hook(seen, &mut ca) {
                Some(answer) => answer,
                None => ca.serve(seen),
            }
        }));
        let client = Arc::new(Client::new(http.clone(), clock.clone(), "https://ca/dir"));
        client.directory().await.unwrap();
        let key = AccountKey::generate().unwrap();
        let account = Account::known(client, key, "https://ca/account/1");
        let issuer = AcmeIssuer::new(
            account,
            board.clone(),
            clock.clone(),
            Arc::new(InlineKeyGenerator),
            options,
        );
        http.clear();
        Self { issuer, http, ca, board, clock }
    }

    fn wait_until(&self, until: Timestamp) {
        self.clock.step(until.duration_since(self.clock.now()).max(SignedDuration::ZERO));
    }

    /// Drives an order until `stops`, it is issued or it fails. Tries again at once after errors that
    /// leave the order.
    async fn until(
        &self,
        request: &Request,
        orders: &mut MemoryOrderStore,
        mut stops: impl FnMut(&Outcome) -> bool,
    ) -> Outcome {
        for _ in 0..MAX_CALLS {
            let outcome = drive(&self.issuer, request, orders, None, self.clock.as_ref()).await;
            let outcome = outcome.unwrap();
            match &outcome {
                _ if stops(&outcome) => return outcome,
                Outcome::Issued(_) => return outcome,
                Outcome::Failed { error, .. } if error.ends_order() => return outcome,
                Outcome::Waiting { until, .. } => self.wait_until(*until),
                Outcome::Retry { .. } | Outcome::Failed { .. } => {}
            }
        }
        panic!("{MAX_CALLS} calls are too many: {:?}", self.http.log());
    }

    async fn drive(&self, request: &Request, from: Option<Progress>) -> Result<Bundle, IssueError> {
        let mut orders = from.map(MemoryOrderStore::resume).unwrap_or_default();
        match self.until(request, &mut orders, |_| false).await {
            Outcome::Issued(bundle) => Ok(*bundle),
            Outcome::Failed { error, .. } => Err(error),
            other => panic!("{other:?}"),
        }
    }

    async fn issue(&self, request: &Request) -> Result<Bundle, IssueError> {
        self.drive(request, None).await
    }

    /// Drives an order until the first error. Returns how far the order is.
    async fn first_error(&self, request: &Request) -> (IssueError, Option<Progress>) {
        let mut orders = MemoryOrderStore::default();
        let is_error = |it: &Outcome| matches!(it, Outcome::Retry { .. } | Outcome::Failed { .. });
        match self.until(request, &mut orders, is_error).await {
            Outcome::Retry { error, .. } | Outcome::Failed { error, .. } => {
                (error, orders.progress().cloned())
            }
            other => panic!("{other:?}: {:?}", self.http.log()),
        }
    }

    /// One call of the issuer. Returns what the order waits for; nothing once it is issued.
    async fn step(
        &self,
        request: &Request,
        progress: &mut Option<Progress>,
    ) -> Option<(Phase, Timestamp)> {
        match self.issuer.advance(request, progress.clone()).await.unwrap() {
            Advance::Issued(_) => None,
            Advance::Waiting { progress: next, doing, until } => {
                *progress = Some(next);
                Some((doing, until))
            }
        }
    }

    /// An order that is placed and nothing more.
    async fn placed(&self, request: &Request) -> Progress {
        let mut progress = None;
        assert!(self.step(request, &mut progress).await.is_some(), "issued");
        progress.unwrap()
    }

    fn board_log(&self) -> Vec<String> {
        self.board.log.lock().unwrap().clone()
    }

    /// What was sent to `line`, each time.
    fn sent(&self, path: &str) -> Vec<serde_json::Value> {
        let seen = self.http.seen().into_iter().filter(|seen| seen.path() == path);
        seen.map(|seen| seen.payload).collect()
    }

    fn count(&self, line: &str) -> usize {
        self.http.log().iter().filter(|seen| *seen == line).count()
    }
}

fn request(names: &[&str]) -> Request {
    let subject = Subject::Names {
        common_name: None,
        dns_names: names.iter().map(|text| text.parse().unwrap()).collect(),
        key: KeyChoice::default(),
    };
    Request::new(Owner("default/x".to_owned()), Fingerprint::stored("f"), subject)
}

/// What the next process finds.
fn stored(progress: &Progress) -> Progress {
    Progress::decode(&progress.encode().unwrap()).unwrap()
}

fn not_yet(seconds: i64) -> Result<Readiness, SolveError> {
    let look_again = SignedDuration::from_secs(seconds);
    Ok(Readiness::NotYet { why: "ns1 has no record".to_owned(), look_again })
}

#[tokio::test]
async fn a_new_name_takes_seven_requests() {
    let bench = EngineHarness::new(CaBehavior::default(), RecordStore::default()).await;
    let bundle = bench.issue(&request(&["app.example.org"])).await.unwrap();
    assert_eq!(
        bench.http.log(),
        [
            "POST /new-order",
            "POST /authz/0",
            "POST /challenge/0",
            "POST /order/1",
            "POST /finalize/1",
            "POST /order/1",
            "POST /cert/1",
        ]
    );
    let key = bundle.key.unwrap();
    assert_eq!(bundle.leaf.public_key, key.public_key());
    let proof = "_acme-challenge.app.example.org=1";
    assert_eq!(bench.board_log(), [format!("present {proof}"), format!("cleanup {proof}")]);
}

#[tokio::test]
async fn a_name_that_is_proved_already_takes_four_requests_and_no_proof() {
    let bench = EngineHarness::new(
        CaBehavior { reused: true, ..CaBehavior::default() },
        RecordStore::default(),
    )
    .await;
    bench.issue(&request(&["app.example.org"])).await.unwrap();
    let want = ["POST /new-order", "POST /finalize/1", "POST /order/1", "POST /cert/1"];
    assert_eq!(bench.http.log(), want);
    assert_eq!(bench.board_log(), [""; 0]);
}

#[tokio::test]
async fn a_ca_that_signs_at_once_is_not_polled() {
    let bench = EngineHarness::new(
        CaBehavior { reused: true, quick: true, ..CaBehavior::default() },
        RecordStore::default(),
    )
    .await;
    bench.issue(&request(&["app.example.org"])).await.unwrap();
    assert_eq!(bench.http.log(), ["POST /new-order", "POST /finalize/1", "POST /cert/1"]);
}

#[tokio::test]
async fn the_key_is_given_out_before_anything_but_the_order_happens() {
    let bench = EngineHarness::new(CaBehavior::default(), RecordStore::default()).await;
    let mut progress = None;
    let waits = bench.step(&request(&["app.example.org"]), &mut progress).await;
    assert_eq!(waits, Some((Phase::Ordered, bench.clock.now())));
    assert_eq!(bench.http.log(), ["POST /new-order"]);
    let progress = progress.unwrap();
    let text = progress.encode().unwrap();
    assert!(String::from_utf8_lossy(&text).contains("BEGIN PRIVATE KEY"));
    assert!(stored(&progress).is_stored_by(&progress));
}

#[tokio::test]
async fn a_wildcard_and_its_parent_are_published_together_and_polled_together() {
    let bench = EngineHarness::new(CaBehavior::default(), RecordStore::default()).await;
    bench.issue(&request(&["example.org", "*.example.org", "b.example.org"])).await.unwrap();
    assert_eq!(
        bench.board_log()[0],
        "present _acme-challenge.b.example.org=1 _acme-challenge.example.org=2"
    );
    assert_eq!(bench.count("POST /order/1"), 2);
    let total = bench.http.log().iter().filter(|line| line.starts_with("POST")).count();
    assert_eq!(total, 11);
}

/// faults.md 14, 15, 16
#[tokio::test]
async fn a_crash_at_any_point_costs_no_second_order_and_no_second_signature() {
    for reused in [false, true] {
        for crash in 1..6 {
            let bench = EngineHarness::new(
                CaBehavior { reused, ..CaBehavior::default() },
                RecordStore::default(),
            )
            .await;
            let request = request(&["example.org", "*.example.org"]);
            let mut progress = None;
            for _ in 0..crash {
                // Issued, but the Secret was not written: the crash comes here.
                let Some((_, until)) = bench.step(&request, &mut progress).await else { break };
                bench.wait_until(until);
            }
            let key = progress.as_ref().unwrap().durable.key.clone().unwrap();
            let bundle = bench.drive(&request, progress.as_ref().map(stored)).await.unwrap();
            assert_eq!(bundle.leaf.public_key, key.public_key());
            assert_eq!(bench.count("POST /new-order"), 1, "crash after {crash}");
            assert_eq!(bench.count("POST /finalize/1"), 1, "crash after {crash}");
            let last = bench.board_log().pop();
            assert_eq!(last.is_some_and(|line| line.starts_with("cleanup")), !reused);
        }
    }
}

#[tokio::test]
async fn a_process_that_comes_for_the_certificate_only_takes_the_proofs_away() {
    let bench = EngineHarness::new(CaBehavior::default(), RecordStore::default()).await;
    let request = request(&["app.example.org"]);
    let progress = bench.placed(&request).await;
    let first = bench.drive(&request, Some(progress.clone())).await.unwrap();
    bench.board.log.lock().unwrap().clear();
    bench.http.clear();
    let second = bench.drive(&request, Some(stored(&progress))).await.unwrap();
    assert_eq!(second.leaf, first.leaf);
    assert_eq!(bench.http.log(), ["POST /order/1", "POST /cert/1"]);
    assert_eq!(bench.board_log(), ["cleanup _acme-challenge.app.example.org=0"]);
}

#[tokio::test]
async fn a_challenge_that_the_ca_is_looking_at_is_not_answered_again() {
    let bench = EngineHarness::new(
        CaBehavior { validation_polls: 3, ..CaBehavior::default() },
        RecordStore::default(),
    )
    .await;
    let request = request(&["app.example.org"]);
    let mut progress = None;
    for _ in 0..2 {
        bench.step(&request, &mut progress).await.unwrap();
    }
    assert_eq!(bench.count("POST /challenge/0"), 1);
    bench.drive(&request, progress.as_ref().map(stored)).await.unwrap();
    assert_eq!(bench.count("POST /challenge/0"), 1);
}

#[tokio::test]
async fn a_solver_that_fails_once_costs_no_second_look_at_a_hundred_authorizations() {
    let names: Vec<String> = (0..100).map(|n| format!("n{n}.example.org")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let failures = Mutex::new([SolveError::Unavailable("down".to_owned())].into());
    let board = RecordStore { failures, ..RecordStore::default() };
    let bench = EngineHarness::new(CaBehavior::default(), board).await;
    let request = request(&names);
    let (error, progress) = bench.first_error(&request).await;
    assert_eq!(error.to_string(), "publishing the proofs failed: down");
    assert_eq!(error.disposition(), Disposition::Retry(RetrySchedule::Transport));
    assert_eq!(bench.http.log().len(), 1 + 100);
    bench.http.clear();
    bench.drive(&request, progress).await.unwrap();
    let log = bench.http.log();
    assert!(!log.iter().any(|line| line.starts_with("POST /authz/")), "{log:?}");
    // Each name answered once; the order asked for, finalized and asked for, the certificate fetched.
    assert_eq!(log.len(), 100 + 4);
}

#[tokio::test]
async fn of_a_hundred_challenges_only_the_one_whose_answer_is_lost_is_answered_again() {
    let names: Vec<String> = (0..100).map(|n| format!("n{n}.example.org")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut is_first = true;
    let hook = move |seen: &Seen, _: &mut Ca| {
        let lost = seen.path() == "/challenge/42" && std::mem::take(&mut is_first);
        let broken = || HttpError::Broken { host: "ca".to_owned(), reason: "reset".to_owned() };
        lost.then(|| Err(broken()))
    };
    let (board, options) = (RecordStore::default(), AcmeOptions::default());
    let bench = EngineHarness::with(CaBehavior::default(), board, options, Box::new(hook)).await;
    bench.issue(&request(&names)).await.unwrap();
    let answers = bench.http.log().into_iter().filter(|line| line.starts_with("POST /challenge/"));
    assert_eq!(answers.count(), 100 + 1);
    assert_eq!(bench.count("POST /challenge/42"), 2);
}

/// faults.md 13
#[tokio::test]
async fn a_lost_answer_at_any_point_costs_no_second_signature() {
    for (reused, requests) in [(false, 9), (true, 4)] {
        for lost in 2..=requests {
            let manner = CaBehavior { reused, lose_answer: Some(lost), ..CaBehavior::default() };
            let bench = EngineHarness::new(manner, RecordStore::default()).await;
            let bundle = bench.issue(&request(&["example.org", "*.example.org"])).await.unwrap();
            assert!(bundle.key.is_some());
            assert_eq!(bench.count("POST /new-order"), 1, "lost answer {lost}");
            assert_eq!(bench.ca.lock().unwrap().signatures, 1, "lost answer {lost}");
            assert_eq!(bench.count("POST /finalize/1"), 1, "lost answer {lost}");
        }
    }
}

#[tokio::test]
async fn the_ca_is_polled_at_its_own_pace() {
    let ca = CaBehavior { validation_polls: 2, retry_after: Some("7"), ..CaBehavior::default() };
    let bench = EngineHarness::new(ca, RecordStore::default()).await;
    let request = request(&["app.example.org"]);
    let mut waits = Vec::new();
    let mut orders = MemoryOrderStore::default();
    let outcome = bench.until(&request, &mut orders, |outcome| {
        if let Outcome::Waiting { doing, until } = outcome {
            waits.push((doing.clone(), until.duration_since(bench.clock.now()).as_secs()));
        }
        false
    });
    assert!(matches!(outcome.await, Outcome::Issued(_)));
    let validating = || (Phase::Validating, 7);
    assert_eq!(waits, [validating(), validating(), validating(), (Phase::Signing, 7)]);
}

#[tokio::test]
async fn an_early_call_asks_the_ca_nothing() {
    let bench = EngineHarness::new(
        CaBehavior { retry_after: Some("7"), ..CaBehavior::default() },
        RecordStore::default(),
    )
    .await;
    let request = request(&["app.example.org"]);
    let mut progress = None;
    for _ in 0..5 {
        assert!(bench.step(&request, &mut progress).await.is_some(), "issued too early");
    }
    assert_eq!(bench.http.log().len(), 3, "order, authorization, challenge");
}

#[tokio::test]
async fn an_order_whose_proofs_are_not_visible_is_given_up_after_a_while() {
    let board = RecordStore {
        looks: Mutex::new((0..50).map(|_| not_yet(50)).collect()),
        ..RecordStore::default()
    };
    let bench = EngineHarness::new(CaBehavior::default(), board).await;
    let request = request(&["app.example.org"]);
    let start = bench.clock.now();
    let error = bench.issue(&request).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "DNS TXT record '_acme-challenge.app.example.org' is not visible on the authoritative or \
         precheck name servers: ns1 has no record"
    );
    assert_eq!(error.disposition(), Disposition::Retry(RetrySchedule::Validation));
    assert!(error.ends_order());
    assert_eq!(bench.clock.now().duration_since(start), SignedDuration::from_secs(120));
    assert_eq!(bench.count("POST /challenge/0"), 0);
}

#[tokio::test]
async fn a_solver_shortens_or_lengthens_the_time_for_its_proofs() {
    for seconds in [30, 600] {
        let timeout = Some(SignedDuration::from_secs(seconds));
        let looks = Mutex::new((0..50).map(|_| not_yet(20)).collect());
        let board = RecordStore { looks, timeout, ..RecordStore::default() };
        let bench = EngineHarness::new(CaBehavior::default(), board).await;
        let start = bench.clock.now();
        let error = bench.issue(&request(&["app.example.org"])).await.unwrap_err();
        assert!(error.to_string().ends_with("ns1 has no record"), "{error}");
        assert_eq!(Some(bench.clock.now().duration_since(start)), timeout);
    }
}

#[tokio::test]
async fn proofs_that_are_seen_late_are_answered_then() {
    let looks = [not_yet(2), Err(SolveError::Unavailable("no route".to_owned())), not_yet(2)];
    let board = RecordStore { looks: Mutex::new(looks.into()), ..RecordStore::default() };
    let bench = EngineHarness::new(CaBehavior::default(), board).await;
    bench.issue(&request(&["app.example.org"])).await.unwrap();
    assert_eq!(bench.http.log().len(), 7);
    assert_eq!(bench.board_log().len(), 2);
}

#[tokio::test]
async fn the_error_for_a_refused_proof_has_the_reasons_of_the_ca() {
    let bench = EngineHarness::new(
        CaBehavior { refuses: true, ..CaBehavior::default() },
        RecordStore::default(),
    )
    .await;
    let error = bench.issue(&request(&["*.example.org"])).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the CA refused the order: *.example.org: unauthorized: Incorrect TXT record (HTTP 403)"
    );
    assert_eq!(error.disposition(), Disposition::Retry(RetrySchedule::Validation));
    assert!(error.ends_order());
}

#[tokio::test]
async fn a_certificate_is_handed_out_even_if_the_proofs_cannot_be_taken_away() {
    let bench = EngineHarness::new(
        CaBehavior::default(),
        RecordStore { cleanup_fails: true, ..RecordStore::default() },
    )
    .await;
    bench.issue(&request(&["app.example.org"])).await.unwrap();
}

#[tokio::test]
async fn what_the_ca_answers_decides_whether_the_order_stands() {
    let transport = Disposition::Retry(RetrySchedule::Transport);
    let limit = Disposition::Until("2026-11-22T11:00:00Z".parse().unwrap());
    for (path, status, word, ends_order, disposition) in [
        ("/new-order", 429, "rateLimited", false, limit),
        ("/new-order", 400, "rejectedIdentifier", true, Disposition::FixRequest),
        ("/new-order", 403, "unauthorized", true, Disposition::FixIssuer),
        ("/new-order", 400, "accountDoesNotExist", true, Disposition::FixIssuer),
        ("/new-order", 404, "malformed", false, transport),
        ("/order/1", 404, "malformed", true, transport),
        ("/order/1", 410, "", true, transport),
        ("/order/1", 502, "", false, limit),
        ("/order/1", 500, "serverInternal", false, limit),
        ("/order/1", 400, "accountDoesNotExist", true, Disposition::FixIssuer),
        ("/finalize/1", 400, "badCSR", true, Disposition::FixRequest),
        ("/finalize/1", 403, "caa", true, Disposition::Retry(RetrySchedule::Validation)),
        ("/cert/1", 503, "", false, limit),
    ] {
        let bench = EngineHarness::new(
            CaBehavior { fails: Some((path, status, word)), ..CaBehavior::default() },
            RecordStore::default(),
        )
        .await;
        let request = request(&["app.example.org"]);
        let (error, _) = bench.first_error(&request).await;
        // The clock has moved by some polls, so an hour from then is compared by its kind.
        let same = match (error.disposition(), disposition) {
            (Disposition::Until(is), Disposition::Until(want)) => {
                is.duration_since(want).as_secs() == 0
            }
            (is, want) => is == want,
        };
        assert!(same, "{path} {word}: {error:?}");
        assert_eq!(error.ends_order(), ends_order, "{path} {status} {word}: {error}");
    }
}

/// faults.md 23
#[tokio::test]
async fn a_certificate_for_another_key_is_refused() {
    let bench = EngineHarness::new(CaBehavior::default(), RecordStore::default()).await;
    let request = request(&["app.example.org"]);
    let mut progress = bench.placed(&request).await;
    bench.drive(&request, Some(progress.clone())).await.unwrap();
    progress.durable.key = Some(PrivateKey::generate(Default::default()).unwrap());
    let error = bench.drive(&request, Some(stored(&progress))).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the CA's certificate cannot be used: the certificate is for another key"
    );
}

#[tokio::test]
async fn a_signing_request_of_the_user_gets_a_certificate_without_key() {
    let key = PrivateKey::generate(Default::default()).unwrap();
    let own = crate::issue::x509::signing_request(&request(&["app.example.org"]), Some(&key));
    let text = pem::encode(&pem::Pem::new("CERTIFICATE REQUEST", own.unwrap()));
    let mut request = request(&[]);
    request.subject = Subject::Csr(Csr::from_pem(text.as_bytes()).unwrap());
    let bench = EngineHarness::new(CaBehavior::default(), RecordStore::default()).await;
    let bundle = bench.issue(&request).await.unwrap();
    assert!(bundle.key.is_none());
    assert_eq!(bundle.leaf.public_key, key.public_key());
}

#[tokio::test]
async fn an_abandoned_order_takes_its_proofs_away_even_in_another_process() {
    let bench = EngineHarness::new(CaBehavior::default(), RecordStore::default()).await;
    let request = request(&["example.org", "*.example.org"]);
    let progress = bench.placed(&request).await;
    bench.issuer.advance(&request, Some(progress.clone())).await.unwrap();
    bench.issuer.abandon(&request.owner, &stored(&progress)).await.unwrap();
    assert_eq!(
        bench.board_log(),
        ["present _acme-challenge.example.org=2", "cleanup _acme-challenge.example.org=0"]
    );
}

#[tokio::test]
async fn a_progress_of_another_request_is_not_continued() {
    let bench = EngineHarness::new(CaBehavior::default(), RecordStore::default()).await;
    let mut request = request(&["app.example.org"]);
    let progress = bench.placed(&request).await;
    request.fingerprint = Fingerprint::stored("other");
    let error = bench.issuer.advance(&request, Some(progress)).await.unwrap_err();
    assert!(error.ends_order());
}

/// More than any order of these tests takes.
const MAX_CALLS: usize = 2_000;
