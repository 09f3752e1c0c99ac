//! What CAs and networks do to an order, by the scenarios of the fault list.

mod certificates;
mod orders;

use serde_json::json;

use super::{ca::problem, *};
use crate::net::scripted::reply;

const NEW_ORDER: &str = "POST /new-order";
const WORK: [&str; 6] =
    ["/new-order", "/authz/0", "/challenge/0", "/order/1", "/finalize/1", "/cert/1"];

fn app() -> Request {
    request(&["app.example.org"])
}

/// Answers the first request to `path` by `answer`, before the CA sees it.
async fn once(
    path: &'static str,
    answer: impl Fn() -> Response<Bytes> + Send + 'static,
) -> EngineHarness {
    let mut done = false;
    EngineHarness::hooked(CaBehavior::default(), move |seen, _| {
        (seen.path() == path && !std::mem::replace(&mut done, true)).then(&answer)
    })
    .await
}

fn signatures(bench: &EngineHarness) -> u32 {
    bench.ca.lock().unwrap().signatures
}

/// faults.md 1
#[tokio::test]
async fn a_ca_that_refuses_95_of_100_nonces_still_issues_once() {
    let mut state = 1_u32;
    let bench = EngineHarness::hooked(CaBehavior::default(), move |seen, _| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let refused = seen.method == "POST" && (state >> 16) % 100 < 95;
        refused.then(|| reply(400).nonce("n").json(&problem("badNonce")))
    })
    .await;
    bench.issue(&app()).await.unwrap();
    assert_eq!(signatures(&bench), 1);
    let total = bench.http.log().len();
    assert!(total < 7 * 20 * 3, "{total} requests");
}

/// faults.md 2
#[tokio::test]
async fn a_bad_nonce_without_another_costs_one_head_request() {
    let bench = once("/finalize/1", || reply(400).json(&problem("badNonce"))).await;
    bench.issue(&app()).await.unwrap();
    assert_eq!((bench.count("HEAD /nonce"), bench.http.log().len()), (1, 9));
}

/// faults.md 3, 4, 5
#[tokio::test]
async fn a_limit_on_new_orders_lasts_until_retry_after_or_a_minute() {
    let until = |text: &str| Disposition::Until(text.parse().unwrap());
    for (header, disposition) in [
        (Some("7200"), until("2026-11-22T12:00:00Z")),
        (Some("Sun, 22 Nov 2026 11:30:00 GMT"), until("2026-11-22T11:30:00Z")),
        (None, Disposition::Retry(RetrySchedule::Validation)),
    ] {
        let bench = once("/new-order", move || {
            let limited = reply(429).nonce("n");
            let limited = match header {
                Some(text) => limited.header("retry-after", text),
                None => limited,
            };
            limited.json(&problem("rateLimited"))
        })
        .await;
        let (error, progress) = bench.first_error(&app()).await;
        assert_eq!((error.disposition(), progress.is_none()), (disposition, true));
        assert_eq!(bench.http.log(), [NEW_ORDER]);
    }
}

/// faults.md 5, 6
#[tokio::test]
async fn a_limit_met_on_the_way_does_not_cost_the_order() {
    for path in &WORK[1..] {
        for limited in [
            || reply(429).nonce("n").json(&problem("rateLimited")),
            || reply(429).nonce("n").html("<h1>slow down</h1>"),
            || reply(503).nonce("n").header("retry-after", "60").html("<h1>Busy</h1>"),
        ] {
            let bench = once(path, limited).await;
            bench.issue(&app()).await.unwrap();
            assert_eq!((bench.count(NEW_ORDER), signatures(&bench)), (1, 1), "{path}");
            // One more, or two where the step before has to be repeated.
            assert!(bench.http.log().len() <= 9, "{path}: {:?}", bench.http.log());
        }
    }
}

/// faults.md 6
#[tokio::test]
async fn an_overloaded_ca_gets_no_request_before_its_retry_after() {
    let busy = || reply(503).header("retry-after", "60").html("<h1>Busy</h1>");
    for path in ["/dir", "/nonce"].iter().chain(&WORK) {
        let (mut directories, mut spent, mut refused) = (0, false, false);
        let bench = EngineHarness::hooked(CaBehavior::default(), move |seen, _| {
            // The bench itself fetches the directory first.
            directories += u32::from(seen.path() == "/dir");
            if seen.path() == "/new-order"
                && *path == "/nonce"
                && !std::mem::replace(&mut spent, true)
            {
                // The nonce that came with the directory.
                return Some(reply(400).json(&problem("badNonce")));
            }
            let met = seen.path() == *path && (*path != "/dir" || directories > 1);
            (met && !std::mem::replace(&mut refused, true)).then(busy)
        })
        .await;
        if *path == "/dir" {
            bench.issuer.account.client().forget_directory();
        }
        let (error, progress) = bench.first_error(&app()).await;
        let Disposition::Until(time) = error.disposition() else { panic!("{path}: {error:?}") };
        assert_eq!(time.duration_since(bench.clock.now()), SignedDuration::from_mins(1));
        assert!(!error.ends_order(), "{path}");
        bench.drive(&app(), progress).await.unwrap();
        assert_eq!(signatures(&bench), 1, "{path}");
    }
}

/// faults.md 7, 8
#[tokio::test]
async fn an_answer_that_is_no_problem_document_is_a_transient_error_of_one_step() {
    for path in &WORK[1..] {
        for broken in [
            || reply(500).nonce("n").html("<html><h1>500</h1></html>"),
            || reply(502).nonce("n").html(""),
            || reply(400).nonce("n").html("Bad Request"),
            || reply(400).nonce("n").html("{\"type\":"),
            || reply(403).nonce("n").html("<h1>blocked by proxy</h1>"),
        ] {
            let bench = once(path, broken).await;
            let (error, progress) = bench.first_error(&app()).await;
            assert_eq!(error.disposition(), Disposition::Retry(RetrySchedule::Transport), "{path}");
            assert!(!error.ends_order(), "{path}: {error}");
            bench.drive(&app(), progress).await.unwrap();
            assert_eq!((bench.count(NEW_ORDER), signatures(&bench)), (1, 1), "{path}");
        }
    }
}

/// faults.md 7
#[tokio::test]
async fn a_page_with_status_200_is_a_transient_error_of_one_step() {
    // A challenge has nothing to say, so nothing is read of it.
    for path in ["/authz/0", "/order/1", "/finalize/1", "/cert/1"] {
        let bench = once(path, || reply(200).nonce("n").html("<h1>Welcome</h1>")).await;
        let (error, progress) = bench.first_error(&app()).await;
        assert_eq!(error.disposition(), Disposition::Retry(RetrySchedule::Transport), "{path}");
        assert!(!error.ends_order() && error.to_string().contains("cannot be used"), "{error}");
        bench.drive(&app(), progress).await.unwrap();
        assert_eq!((bench.count(NEW_ORDER), signatures(&bench)), (1, 1), "{path}");
    }
}

/// faults.md 9
#[tokio::test]
async fn a_ca_that_asks_for_absurd_patience_is_asked_within_the_hour() {
    for (text, longest) in [
        ("86400", 3600),
        ("99999999999999999999", 3600),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600),
        ("Sat, 01 Jan 2000 00:00:00 GMT", 1),
        ("soon", 1),
        ("-1", 1),
    ] {
        let manner = CaBehavior { retry_after: Some(text), ..CaBehavior::default() };
        let bench = EngineHarness::new(manner, RecordStore::default()).await;
        let start = bench.clock.now();
        bench.issue(&app()).await.unwrap();
        let took = bench.clock.now().duration_since(start);
        assert!(took <= SignedDuration::from_secs(2 * longest), "{text}: {took}");
        assert_eq!(bench.http.log().len(), 7, "{text}");
    }
}

/// faults.md 10
#[tokio::test]
async fn a_ca_that_moves_is_found_again_by_its_directory() {
    for old in ["/new-order", "/nonce"] {
        let bench = EngineHarness::hooked(CaBehavior::default(), move |seen, _| {
            let gone = || reply(404).html("<h1>Not Found</h1>");
            match seen.path() {
                // Spends the warm nonce.
                "/new-order" if old == "/nonce" => Some(reply(400).json(&problem("badNonce"))),
                path => (path == old).then(gone),
            }
        })
        .await;
        bench.http.clear();
        for _ in 0..2 {
            let error = bench.issuer.advance(&app(), None).await.unwrap_err();
            assert_eq!(
                error.disposition(),
                Disposition::Retry(RetrySchedule::Transport),
                "{error}"
            );
        }
        assert_eq!(bench.count("GET /dir"), 1, "{old}: {:?}", bench.http.log());
    }
}
