//! What CAs and networks do to an order, by the scenarios of the fault list.

use serde_json::{Value, json};

use super::{ca::problem, *};
use crate::net::scripted::reply;

const NEW_ORDER: &str = "POST /new-order";
const WORK: [&str; 6] =
    ["/new-order", "/authz/0", "/challenge/0", "/order/1", "/finalize/1", "/cert/1"];

fn app() -> Request {
    request(&["app.example.org"])
}

/// Answers the first request to `path` by `answer`, before the CA sees it.
async fn once(path: &'static str, answer: impl Fn() -> Response<Bytes> + Send + 'static) -> Bench {
    let mut done = false;
    Bench::hooked(Manner::default(), move |seen, _| {
        (seen.path() == path && !std::mem::replace(&mut done, true)).then(&answer)
    })
    .await
}

/// Goes on until the first error.
async fn stumble(bench: &Bench) -> (IssueError, Option<Progress>) {
    let mut progress = None;
    loop {
        match bench.issuer.advance(&app(), progress.clone()).await {
            Ok(Advance::Waiting { progress: next, until, .. }) => {
                bench.wait_until(until);
                progress = Some(next);
            }
            Ok(Advance::Issued(_)) => panic!("issued: {:?}", bench.http.log()),
            Err(error) => return (error, progress),
        }
    }
}

fn signatures(bench: &Bench) -> u32 {
    bench.ca.lock().unwrap().signatures
}

/// faults.md 1
#[tokio::test]
async fn a_ca_that_refuses_95_of_100_nonces_still_issues_once() {
    let mut state = 1_u32;
    let bench = Bench::hooked(Manner::default(), move |seen, _| {
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
async fn a_limit_on_new_orders_lasts_as_the_ca_says_or_a_minute_at_least() {
    let until = |text: &str| Disposition::Until(text.parse().unwrap());
    for (header, disposition) in [
        (Some("7200"), until("2026-11-22T12:00:00Z")),
        (Some("Sun, 22 Nov 2026 11:30:00 GMT"), until("2026-11-22T11:30:00Z")),
        (None, Disposition::Retry(Ladder::Validation)),
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
        let (error, progress) = stumble(&bench).await;
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
async fn an_overloaded_ca_is_left_in_peace_until_it_says_whatever_was_asked() {
    let busy = || reply(503).header("retry-after", "60").html("<h1>Busy</h1>");
    for path in ["/dir", "/nonce"].iter().chain(&WORK) {
        let (mut directories, mut spent, mut refused) = (0, false, false);
        let bench = Bench::hooked(Manner::default(), move |seen, _| {
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
        let (error, progress) = stumble(&bench).await;
        let Disposition::Until(time) = error.disposition() else { panic!("{path}: {error:?}") };
        assert_eq!(time.duration_since(bench.clock.now()), SignedDuration::from_mins(1));
        assert!(!error.ends_order(), "{path}");
        bench.drive(&app(), progress).await.unwrap();
        assert_eq!(signatures(&bench), 1, "{path}");
    }
}

/// faults.md 7, 8
#[tokio::test]
async fn an_answer_that_is_no_problem_document_is_a_hiccup_of_one_step() {
    for path in &WORK[1..] {
        for broken in [
            || reply(500).nonce("n").html("<html><h1>500</h1></html>"),
            || reply(502).nonce("n").html(""),
            || reply(400).nonce("n").html("Bad Request"),
            || reply(400).nonce("n").html("{\"type\":"),
            || reply(403).nonce("n").html("<h1>blocked by proxy</h1>"),
        ] {
            let bench = once(path, broken).await;
            let (error, progress) = stumble(&bench).await;
            assert_eq!(error.disposition(), Disposition::Retry(Ladder::Transport), "{path}");
            assert!(!error.ends_order(), "{path}: {error}");
            bench.drive(&app(), progress).await.unwrap();
            assert_eq!((bench.count(NEW_ORDER), signatures(&bench)), (1, 1), "{path}");
        }
    }
}

/// faults.md 7
#[tokio::test]
async fn a_page_that_calls_itself_a_success_is_a_hiccup_of_one_step() {
    // A challenge has nothing to say, so nothing is read of it.
    for path in ["/authz/0", "/order/1", "/finalize/1", "/cert/1"] {
        let bench = once(path, || reply(200).nonce("n").html("<h1>Welcome</h1>")).await;
        let (error, progress) = stumble(&bench).await;
        assert_eq!(error.disposition(), Disposition::Retry(Ladder::Transport), "{path}");
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
        let manner = Manner { retry_after: Some(text), ..Manner::default() };
        let bench = Bench::new(manner, Board::default()).await;
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
        let bench = Bench::hooked(Manner::default(), move |seen, _| {
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
            assert_eq!(error.disposition(), Disposition::Retry(Ladder::Transport), "{error}");
        }
        assert_eq!(bench.count("GET /dir"), 1, "{old}: {:?}", bench.http.log());
    }
}

/// faults.md 13
#[tokio::test]
async fn a_connection_that_breaks_after_finalizing_is_resumed_and_not_ordered_anew() {
    for (reused, finalize) in [(false, 5), (true, 2)] {
        let manner = Manner { reused, lose_answer: Some(finalize), ..Manner::default() };
        let bench = Bench::new(manner, Board::default()).await;
        let (error, progress) = stumble(&bench).await;
        assert!(error.to_string().starts_with("finalizing the order failed: "), "{error}");
        assert!(!error.ends_order());
        // Even by another process.
        let bundle = bench.drive(&app(), progress.as_ref().map(stored)).await.unwrap();
        assert!(bundle.key.is_some());
        assert_eq!((bench.count(NEW_ORDER), signatures(&bench)), (1, 1));
        assert_eq!(bench.count("POST /finalize/1"), 1);
    }
}

/// faults.md 17
#[tokio::test]
async fn an_order_that_fails_after_it_was_ready_is_told_in_the_ca_s_words() {
    let bench = Bench::hooked(Manner::default(), |seen, ca| {
        let caa = json!({"type": "urn:ietf:params:acme:error:caa", "status": 403,
            "detail": "CAA record for app.example.org prevents issuance"});
        (seen.path() == "/order/1" && ca.status == "processing").then(|| {
            let mut order = ca.order();
            order["status"] = json!("invalid");
            order["error"] = caa;
            reply(200).nonce("n").json(&order)
        })
    })
    .await;
    let error = bench.issue(&app()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the CA refused the order: caa: CAA record for app.example.org prevents issuance (HTTP 403)"
    );
    assert_eq!(error.disposition(), Disposition::Retry(Ladder::Validation));
    assert!(error.ends_order());
}

/// faults.md 18
#[tokio::test]
async fn an_order_that_is_stuck_is_polled_ever_more_slowly_and_given_up_after_a_day() {
    for expires in ["2026-11-29T10:00:00Z", "2026-11-22T18:00:00Z"] {
        let bench = Bench::hooked(Manner::default(), move |seen, ca| {
            let stuck = seen.path() == "/order/1" && ca.status == "processing";
            (stuck || seen.path() == "/new-order").then(|| {
                let created = (!stuck).then(|| ca.serve(seen));
                let mut order = ca.order();
                order["expires"] = json!(expires);
                let answer = reply(if created.is_some() { 201 } else { 200 }).nonce("n");
                answer.header("location", "https://ca/order/1").json(&order)
            })
        })
        .await;
        let start = bench.clock.now();
        let (mut progress, mut said) = (None, Vec::new());
        let error = loop {
            match bench.issuer.advance(&app(), progress).await {
                Ok(Advance::Waiting { progress: next, until, doing }) => {
                    bench.wait_until(until);
                    said.push(doing);
                    progress = Some(next);
                }
                Ok(Advance::Issued(_)) => panic!("issued"),
                Err(error) => break error,
            }
        };
        assert_eq!(
            said.last().unwrap().to_string(),
            "certificate requested on 2026-11-22T10:00:00Z, and the CA is not done with it yet"
        );
        assert_eq!(error.to_string(), "the order of 2026-11-22T10:00:00Z was not finished in time");
        assert!(error.ends_order());
        let hours = bench.clock.now().duration_since(start).as_hours();
        assert_eq!(hours, if expires.starts_with("2026-11-29") { 24 } else { 8 });
        let polls = bench.count("POST /order/1");
        assert!((100..300).contains(&polls), "{polls} polls");
    }
}

/// faults.md 19
#[tokio::test]
async fn an_order_that_the_ca_has_already_is_taken_up_where_it_is() {
    for (status, requests) in [("ready", 4), ("pending", 7)] {
        let bench =
            Bench::new(Manner { reused: status == "ready", ..Manner::default() }, Board::default())
                .await;
        // An earlier process placed it and forgot it.
        bench.issuer.advance(&app(), None).await.unwrap();
        bench.http.clear();
        bench.issue(&app()).await.unwrap();
        assert_eq!(bench.http.log().len(), requests, "{status}");
        assert_eq!(signatures(&bench), 1);
    }
}

/// faults.md 19
#[tokio::test]
async fn an_order_that_is_finished_already_is_of_use_for_its_own_key_only() {
    let answering = |status: &'static str| {
        move |seen: &Seen, ca: &mut Ca| {
            (seen.path() == "/new-order" && ca.signatures > 0).then(|| {
                let mut order = ca.order();
                order["status"] = json!(status);
                reply(201).nonce("n").header("location", "https://ca/order/1").json(&order)
            })
        }
    };
    for status in ["valid", "processing"] {
        let bench = Bench::hooked(Manner::default(), answering(status)).await;
        let key = bench.issue(&app()).await.unwrap().key;
        bench.http.clear();
        let error = bench.issue(&app()).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the CA answered with an order that is finished already, for a key that is not known here"
        );
        assert!(error.ends_order());
        assert_eq!(bench.http.log(), [NEW_ORDER]);
        // The same key is to be certified again, and was.
        let bundle = bench.issue(&Request { key: key.clone(), ..app() }).await.unwrap();
        assert_eq!(bundle.leaf.public_key, key.unwrap().public_key().unwrap());
        let other = PrivateKey::generate(Default::default()).ok();
        let error = bench.issue(&Request { key: other, ..app() }).await.unwrap_err();
        assert!(error.to_string().ends_with("the certificate is for another key"), "{error}");
        assert_eq!(signatures(&bench), 1);
    }
}

/// faults.md 20
#[tokio::test]
async fn an_authorization_that_ends_before_it_is_answered_ends_the_order() {
    for status in ["expired", "deactivated", "revoked"] {
        let mut fetched = 0;
        let bench = Bench::hooked(Manner::default(), move |seen, ca| match seen.path() {
            "/challenge/0" => Some(reply(400).nonce("n").json(&problem("malformed"))),
            "/authz/0" => {
                fetched += 1;
                (fetched > 1).then(|| {
                    let served = ca.serve(seen).unwrap();
                    let mut body: Value = serde_json::from_slice(served.body()).unwrap();
                    body["status"] = json!(status);
                    reply(200).nonce("n").json(&body)
                })
            }
            // The order goes on being pending.
            _ => None,
        })
        .await;
        let error = bench.issue(&app()).await.unwrap_err();
        let word = match status {
            "expired" => "has expired".to_owned(),
            other => format!("was {other}"),
        };
        assert_eq!(
            error.to_string(),
            format!("the CA refused the order: app.example.org: its authorization {word}")
        );
        assert!(error.ends_order());
        assert!(bench.http.log().len() <= 5, "{:?}", bench.http.log());
    }
}

/// faults.md 20
#[tokio::test]
async fn an_answer_that_came_too_late_does_no_harm() {
    let bench = Bench::hooked(Manner::default(), |seen, ca| {
        (seen.path() == "/challenge/0").then(|| {
            ca.serve(seen).unwrap();
            reply(400).nonce("n").json(&problem("malformed"))
        })
    })
    .await;
    bench.issue(&app()).await.unwrap();
    assert_eq!(bench.http.log().len(), 8);
}

/// faults.md 21
#[tokio::test]
async fn the_one_name_of_a_hundred_that_fails_is_named() {
    let names: Vec<String> = (0..100).map(|n| format!("n{n}.example.org")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let bench = Bench::hooked(Manner::default(), |seen, ca| {
        let over = ca.answered() == 100;
        match seen.path() {
            "/order/1" if over => {
                let mut order = ca.order();
                order["status"] = json!("invalid");
                Some(reply(200).nonce("n").json(&order))
            }
            "/authz/42" if over => {
                let served = ca.serve(seen).unwrap();
                let mut body: Value = serde_json::from_slice(served.body()).unwrap();
                body["status"] = json!("invalid");
                body["challenges"][1]["status"] = json!("invalid");
                body["challenges"][1]["error"] = problem("dns");
                Some(reply(200).nonce("n").json(&body))
            }
            _ => None,
        }
    })
    .await;
    let error = bench.issue(&request(&names)).await.unwrap_err();
    assert_eq!(error.to_string(), "the CA refused the order: n42.example.org: dns: no");
    // Each name fetched, answered and asked for once; no valid authorization is given up.
    assert_eq!(bench.http.log().len(), 1 + 100 + 100 + 1 + 100);
}

/// faults.md 22
#[tokio::test]
async fn a_challenge_that_is_not_offered_is_named_and_nothing_is_published() {
    let bench = Bench::hooked(Manner::default(), |seen, ca| {
        (seen.path() == "/authz/0" && seen.payload.is_null()).then(|| {
            let served = ca.serve(seen).unwrap();
            let mut body: Value = serde_json::from_slice(served.body()).unwrap();
            body["challenges"].as_array_mut().unwrap().retain(|one| one["type"] != "dns-01");
            reply(200).nonce("n").json(&body)
        })
    })
    .await;
    let error = bench.issue(&app()).await.unwrap_err();
    assert_eq!(error.to_string(), "the CA offers no DNS01 challenge for app.example.org");
    assert_eq!(error.disposition(), Disposition::FixRequest);
    assert_eq!(bench.board_log(), [""; 0]);
    // The authorization is given up, as it cannot be used.
    assert_eq!(bench.http.log(), [NEW_ORDER, "POST /authz/0", "POST /authz/0"]);
}

/// faults.md 23
#[tokio::test]
async fn a_certificate_that_is_not_what_was_asked_for_is_refused_with_the_difference() {
    for (lifetime, names, why) in [
        (((2026, 11, 22), (2027, 2, 20)), "app.example.org", None),
        (((2026, 11, 22), (2027, 2, 20)), "b.example.org", Some("does not cover app.example.org")),
        (((2026, 10, 1), (2026, 11, 1)), "app.example.org", Some("has expired on 2026-11-01")),
        (((2026, 11, 25), (2027, 2, 20)), "app.example.org", Some("not valid before 2026-11-25")),
        (((1975, 1, 1), (4096, 1, 1)), "app.example.org", Some("which is no lifetime")),
    ] {
        let bench = Bench::new(Manner::default(), Board::default()).await;
        bench.ca.lock().unwrap().lifetime = lifetime;
        let key = PrivateKey::generate(Default::default()).ok();
        let signed = Request { key: key.clone(), ..request(&[names]) };
        if names != "app.example.org" {
            bench.issue(&signed).await.unwrap();
            bench.ca.lock().unwrap().frozen = true;
        }
        let outcome = bench.issue(&Request { key, ..app() }).await;
        match why {
            None => assert!(outcome.is_ok()),
            Some(why) => {
                let error = outcome.unwrap_err();
                assert!(error.to_string().contains(why), "{error}");
                assert_eq!(error.disposition(), Disposition::Retry(Ladder::Validation));
                assert!(error.ends_order());
            }
        }
    }
}

/// Answers the download with what `twist` makes of the certificate.
async fn twisted(twist: impl Fn(&str) -> String + Send + 'static) -> Bench {
    Bench::hooked(Manner { reused: true, quick: true, ..Manner::default() }, move |seen, ca| {
        let answer = |text: String| reply(200).nonce("n").html(&text);
        (seen.path() == "/cert/1").then(|| answer(twist(&ca.certificate)))
    })
    .await
}

/// faults.md 24
#[tokio::test]
async fn a_chain_is_read_however_it_is_written() {
    for twist in [
        |pem: &str| pem.replace('\n', "\r\n"),
        |pem: &str| format!("# a comment\n\n{pem}\n\n"),
        |pem: &str| format!("{pem}trailing garbage\0\u{fffd}"),
    ] {
        let bundle = twisted(twist).await.issue(&app()).await.unwrap();
        assert_eq!(bundle.chain.len(), 1);
        assert!(!bundle.certificate_pem().contains('\r'));
    }
}

/// faults.md 24
#[tokio::test]
async fn what_is_no_chain_is_fetched_again_for_an_hour_and_then_ordered_anew() {
    for twist in [
        |_: &str| String::new(),
        |_: &str| "no PEM at all".to_owned(),
        |_: &str| "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(),
        |pem: &str| pem[..pem.len() / 2].to_owned(),
        |pem: &str| pem.repeat(1 + 300_000 / pem.len()),
    ] {
        let bench = twisted(twist).await;
        let (error, progress) = stumble(&bench).await;
        assert_eq!(error.disposition(), Disposition::Retry(Ladder::Transport), "{error}");
        assert!(!error.ends_order());
        bench.clock.step(SignedDuration::from_hours(1));
        let error = bench.issuer.advance(&app(), progress).await.unwrap_err();
        assert_eq!(error.disposition(), Disposition::Retry(Ladder::Validation), "{error}");
        assert!(error.ends_order());
        assert_eq!((bench.count(NEW_ORDER), bench.count("POST /cert/1")), (1, 2));
    }
}

/// faults.md 24
#[tokio::test]
async fn an_answer_that_is_too_large_for_a_chain_is_refused() {
    let hook = |seen: &Seen, _: &mut Ca| {
        let error = HttpError::TooLarge { host: "ca".to_owned(), limit: 1_048_576 };
        (seen.path() == "/cert/1").then_some(Err(error))
    };
    let bench = Bench::with(
        Manner { reused: true, quick: true, ..Manner::default() },
        Board::default(),
        Conduct::default(),
        Box::new(hook),
    )
    .await;
    let (error, progress) = stumble(&bench).await;
    assert_eq!(
        error.to_string(),
        "the CA's certificate cannot be used: the answer of ca is larger than 1048576 bytes"
    );
    bench.clock.step(SignedDuration::from_hours(1));
    assert!(bench.issuer.advance(&app(), progress).await.unwrap_err().ends_order());
}

/// faults.md 35
#[tokio::test]
async fn a_refused_name_among_others_is_told_in_one_line() {
    let bench = once("/new-order", || {
        let sub = |word: &str, detail: &str, name: &str| {
            json!({"type": format!("urn:ietf:params:acme:error:{word}"), "detail": detail,
                "identifier": {"type": "dns", "value": name}})
        };
        reply(400).nonce("n").json(&json!({
            "type": "urn:ietf:params:acme:error:rejectedIdentifier", "status": 400,
            "detail": "Error creating new order :: Cannot issue for \"x.test\":\n no public suffix",
            "subproblems": [
                sub("rejectedIdentifier", "no public suffix", "x.test"),
                sub("malformed", "a\tstrange\r\nname", "-y.test"),
            ],
        }))
    })
    .await;
    let (error, _) = stumble(&bench).await;
    assert_eq!(
        error.to_string(),
        "placing the order failed: rejectedIdentifier: Error creating new order :: Cannot issue for \
         \"x.test\": no public suffix (HTTP 400); x.test: rejectedIdentifier: no public suffix; \
         -y.test: malformed: a strange name"
    );
    assert_eq!((error.disposition(), error.ends_order()), (Disposition::FixRequest, true));
}
