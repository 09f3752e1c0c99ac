//! Orders that end otherwise than they should, or do not end.

use serde_json::Value;

use super::*;

/// faults.md 13
#[tokio::test]
async fn a_connection_that_breaks_after_finalizing_is_resumed_and_not_ordered_again() {
    for (reused, finalize) in [(false, 5), (true, 2)] {
        let manner = CaBehavior { reused, lose_answer: Some(finalize), ..CaBehavior::default() };
        let bench = EngineHarness::new(manner, RecordStore::default()).await;
        let (error, progress) = bench.first_error(&app()).await;
        assert!(error.to_string().starts_with("finalizing the order failed: "), "{error}");
        assert!(!error.ends_order());
        // Even by another process.
        let bundle = bench.drive(&app(), progress.as_ref().map(stored)).await.unwrap();
        assert!(bundle.key.is_some());
        assert_eq!((bench.count(NEW_ORDER), signatures(&bench)), (1, 1));
        assert_eq!(bench.count("POST /finalize/1"), 1);
    }
}

/// faults.md 13
#[tokio::test]
async fn a_new_order_that_was_not_sent_differs_from_one_whose_answer_is_lost() {
    fn unreachable() -> HttpError {
        HttpError::Unreachable { host: "ca".to_owned(), reason: "refused".to_owned() }
    }
    fn broken() -> HttpError {
        HttpError::Broken { host: "ca".to_owned(), reason: "reset".to_owned() }
    }
    for (path, answer, unsent) in [
        ("/new-order", Err(unreachable as fn() -> HttpError), true),
        ("/new-order", Err(broken), false),
        ("/new-order", Ok((429, "rateLimited")), false),
        ("/new-order", Ok((400, "malformed")), false),
        ("/dir", Err(broken), true),
        ("/dir", Ok((503, "serverInternal")), true),
    ] {
        let mut fetched = false;
        let hook = move |seen: &Seen, _: &mut Ca| {
            // The bench itself fetches the directory first.
            let is_first = seen.path() == "/dir" && !std::mem::replace(&mut fetched, true);
            (seen.path() == path && !is_first).then(|| match answer {
                Ok((status, word)) => Ok(reply(status).nonce("n").json(&problem(word))),
                Err(error) => Err(error()),
            })
        };
        let bench = EngineHarness::with(
            CaBehavior::default(),
            RecordStore::default(),
            AcmeOptions::default(),
            Box::new(hook),
        )
        .await;
        if path == "/dir" {
            bench.issuer.account.client().forget_directory();
        }
        let error = bench.issuer.advance(&app(), None).await.unwrap_err();
        assert_eq!(error.is_unsent(), unsent, "{path}: {error:?}");
    }
    let bench = EngineHarness::new(CaBehavior::default(), RecordStore::default()).await;
    let mut unknown = app();
    unknown.acme.profile = Some("tomorrow".to_owned());
    assert!(bench.issuer.advance(&unknown, None).await.unwrap_err().is_unsent());
}

/// faults.md 17
#[tokio::test]
async fn the_error_of_an_order_that_fails_after_it_was_ready_has_the_reason_of_the_ca() {
    let bench = EngineHarness::hooked(CaBehavior::default(), |seen, ca| {
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
    assert_eq!(error.disposition(), Disposition::Retry(RetrySchedule::Validation));
    assert!(error.ends_order());
}

/// faults.md 18
#[tokio::test]
async fn an_order_that_is_stuck_is_polled_at_growing_intervals_and_given_up_after_a_day() {
    for expires in ["2026-11-29T10:00:00Z", "2026-11-22T18:00:00Z"] {
        let bench = EngineHarness::hooked(CaBehavior::default(), move |seen, ca| {
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
        let mut last = String::new();
        let (request, mut orders) = (app(), MemoryOrderStore::default());
        let outcome = bench.until(&request, &mut orders, |outcome| {
            if let Outcome::Waiting { .. } = outcome {
                last = outcome.to_string();
            }
            false
        });
        let Outcome::Failed { error, .. } = outcome.await else { panic!("issued") };
        assert_eq!(
            last,
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
        let bench = EngineHarness::new(
            CaBehavior { reused: status == "ready", ..CaBehavior::default() },
            RecordStore::default(),
        )
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
        let bench = EngineHarness::hooked(CaBehavior::default(), answering(status)).await;
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
        assert_eq!(bundle.leaf.public_key, key.unwrap().public_key());
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
        let bench =
            EngineHarness::hooked(CaBehavior::default(), move |seen, ca| match seen.path() {
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
    let bench = EngineHarness::hooked(CaBehavior::default(), |seen, ca| {
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
    let bench = EngineHarness::hooked(CaBehavior::default(), |seen, ca| {
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
    let bench = EngineHarness::hooked(CaBehavior::default(), |seen, ca| {
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

/// Item 10 of issue 11: the CA may be a tenant's.
#[tokio::test]
async fn a_ca_that_lists_more_authorizations_than_names_is_asked_for_none_of_them() {
    let many: Vec<String> =
        (0..10_000).map(|number| format!("https://ca/authz/{number}")).collect();
    for (path, status, want) in [
        ("/new-order", "pending", "the CA wants more to be proved than was asked for"),
        ("/order/1", "invalid", "the CA refused the order: it gave no reason"),
    ] {
        let urls = many.clone();
        let bench = EngineHarness::hooked(CaBehavior::default(), move |seen, _| {
            (seen.path() == path).then(|| {
                let order = json!({
                    "status": status, "finalize": "https://ca/finalize/1", "authorizations": urls,
                });
                reply(201).nonce("n").header("location", "https://ca/order/1").json(&order)
            })
        })
        .await;
        let error = bench.issue(&app()).await.unwrap_err();
        assert_eq!(error.to_string(), want);
        let asked = bench.http.log().iter().filter(|line| line.contains("/authz/")).count();
        assert!(asked <= 3, "{path}: {asked}");
    }
}

/// faults.md 35
#[tokio::test]
async fn the_error_for_a_refused_name_among_others_is_one_line() {
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
    let (error, _) = bench.first_error(&app()).await;
    assert_eq!(
        error.to_string(),
        "placing the order failed: rejectedIdentifier: Error creating new order :: Cannot issue for \
         \"x.test\": no public suffix (HTTP 400); x.test: rejectedIdentifier: no public suffix; \
         -y.test: malformed: a strange name"
    );
    assert_eq!((error.disposition(), error.ends_order()), (Disposition::FixRequest, true));
}

/// Drives an order, and waits after each error that leaves it as long as a controller would at most.
/// Returns the error that ends it, and after how many hours.
async fn until_given_up(bench: &EngineHarness) -> (IssueError, i64) {
    let start = bench.clock.now();
    let (request, mut orders) = (app(), MemoryOrderStore::default());
    let outcome = bench.until(&request, &mut orders, |outcome| {
        if let Outcome::Retry { .. } = outcome {
            bench.clock.step(SignedDuration::from_mins(5));
        }
        false
    });
    let Outcome::Failed { error, .. } = outcome.await else { panic!("issued") };
    (error, bench.clock.now().duration_since(start).as_hours())
}

#[tokio::test]
async fn an_order_whose_url_fails_for_good_is_in_the_way_for_days_and_not_for_ever() {
    // What may be signed already is waited for longer, also where the answer to signing is lost.
    for (path, lost, hours) in
        [("/order/1", None, 24), ("/cert/1", None, 72), ("/cert/1", Some(5), 72)]
    {
        let fails = Some((path, 500, "serverInternal"));
        let manner = CaBehavior { fails, lose_answer: lost, ..CaBehavior::default() };
        let bench = EngineHarness::new(manner, RecordStore::default()).await;
        let (error, took) = until_given_up(&bench).await;
        assert!(error.to_string().contains("was not finished in time: "), "{error}");
        assert!((hours..=hours + 1).contains(&took), "{path} {lost:?}: {took} hours");
    }
}

#[tokio::test]
async fn what_is_not_there_for_a_moment_costs_no_order() {
    for path in ["/order/1", "/cert/1"] {
        let left = Arc::new(Mutex::new(3));
        let bench = EngineHarness::hooked(CaBehavior::default(), move |seen, _| {
            let mut left = left.lock().unwrap();
            let lags = seen.path() == path && *left > 0;
            *left -= u32::from(lags);
            lags.then(|| reply(404).nonce("n").html("<h1>default backend</h1>"))
        })
        .await;
        bench.issue(&app()).await.unwrap();
        assert_eq!((bench.count(NEW_ORDER), signatures(&bench)), (1, 1), "{path}");
    }
}
