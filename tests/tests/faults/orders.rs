//! Orders that are interrupted or that take an unexpected course.

use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result, ensure};
use cert_lib::model::reason::Reason;
use http::header::LOCATION;
use serde_json::{Value, json};
use tests::{
    engine_harness::{CertificateCase, Point},
    pebble::PebbleOptions,
    proxy::{Answer, Fault, Kind, Rule},
    run,
};

use crate::{Bench, KINDS, MINIMUM, counts, days, job, seconds};

#[test]
fn an_order_takes_seven_requests_or_four_with_valid_authorizations_and_no_nonce_request() {
    run(async {
        let options = PebbleOptions { nonce_reject: 0, authz_reuse: 100, ..Default::default() };
        let bench = Bench::with(options).await?;
        let mut table = Vec::new();
        for _ in 0..2 {
            bench.issue(&mut job("minimal")?).await?;
            table.push(bench.proxy.counts());
            bench.proxy.forget();
        }
        println!("{:<16}{:>12}{:>16}", "request", "new name", "proved before");
        for kind in KINDS.into_iter().chain([Kind::NewNonce, Kind::Directory]) {
            let count = |at: usize| table[at].get(&kind).copied().unwrap_or_default();
            println!("{:<16}{:>12}{:>16}", format!("{kind:?}"), count(0), count(1));
        }
        let total = |at: usize| table[at].values().sum::<usize>();
        println!("{:<16}{:>12}{:>16}", "total", total(0), total(1));
        let mut want = counts(KINDS.map(|kind| (kind, 1)));
        want.insert(Kind::Order, 2);
        assert_eq!(table[0], want);
        let reused = [Kind::NewOrder, Kind::Order, Kind::Finalize, Kind::Certificate];
        assert_eq!(table[1], counts(reused.map(|kind| (kind, 1))));
        bench.cost(0, 2)
    })
    .unwrap();
}

#[test]
fn s13_a_connection_lost_after_finalize_causes_no_second_certificate() {
    run(async {
        let mut bench = Bench::new().await?;
        bench.proxy.set_rules([Rule::on(Kind::Finalize, Fault::ResetAfter).once()]);
        bench.issue(&mut job("lost")?).await?;
        assert_eq!(bench.proxy.count(Kind::NewOrder), 1);
        // The second attempt, its nonce, and a poll of the order.
        bench.cost(MINIMUM + 3, 1)?;
        // The same with a crash.
        bench.proxy.set_rules([Rule::on(Kind::Finalize, Fault::ResetAfter).once()]);
        let mut job = job("lost-and-dead")?;
        let lost = |_: &_| bench.proxy.count(Kind::Finalize) == 1;
        bench.harness.until(&mut job, days(1), lost).await?;
        job.die();
        bench.restart();
        bench.issue(&mut job).await?;
        assert_eq!(bench.proxy.count(Kind::NewOrder), 1);
        bench.cost(MINIMUM + 3, 2)
    })
    .unwrap();
}

#[test]
fn s13_any_lost_request_or_reply_only_causes_a_few_requests() {
    run(async {
        let bench = Bench::new().await?;
        let mut signed = 0;
        for fault in [Fault::ResetBefore, Fault::ResetAfter] {
            for kind in KINDS {
                signed += 1;
                bench.proxy.set_rules([Rule::on(kind, fault.clone()).once()]);
                let took = bench.issue(&mut job(&format!("lost-{signed}"))?).await?;
                ensure!(took < seconds(30), "{kind:?}, {fault:?}: {took:#}");
                bench.cost(MINIMUM + 3, signed)?;
            }
        }
        Ok(())
    })
    .unwrap();
}

/// Crashes at `point`; the next process may send `budget` requests, and no new order.
async fn crashes_at(point: Point, budget: usize) -> Result<()> {
    let mut bench = Bench::new().await?;
    let mut job = CertificateCase::of(&["dead.my-company.test", "*.dead.my-company.test"])?;
    bench.harness.die_at(&mut job, point).await?;
    assert_eq!(bench.proxy.count(Kind::NewOrder), 1);
    bench.proxy.forget();
    bench.restart();
    bench.issue(&mut job).await?;
    assert_eq!(bench.proxy.count(Kind::NewOrder), 0);
    let kept = job.secret.as_ref().context("there is no Secret")?;
    let key = kept.bundle.key.as_ref().context("there is no key")?;
    assert_eq!(key.public_key(), kept.bundle.leaf.public_key);
    assert_eq!(job.stored, 1);
    // A new process also fetches the directory and a nonce.
    bench.cost(budget + 2, 1)
}

#[test]
fn s14_after_a_crash_before_finalize_the_next_process_continues() {
    run(async {
        // All requests except the new order, plus a poll.
        crashes_at(Point::Ordered, 10).await?;
        crashes_at(Point::Validating, 6).await
    })
    .unwrap();
}

#[test]
fn s15_after_a_crash_after_finalize_the_next_process_downloads() {
    run(crashes_at(Point::Signing, 2)).unwrap();
}

#[test]
fn s16_after_a_crash_before_the_secret_write_the_next_process_downloads_again() {
    run(crashes_at(Point::Fetched, 2)).unwrap();
}

fn order(status: &str, error: &Value) -> Value {
    json!({
        "status": status, "finalize": "https://127.0.0.1/f", "identifiers": [],
        "authorizations": [], "error": error,
    })
}

fn caa() -> Value {
    let detail = "CAA record for my-company.test prevents issuance";
    json!({"type": "urn:ietf:params:acme:error:caa", "detail": detail, "status": 403})
}

#[test]
fn s17_an_order_that_fails_after_it_was_ready_is_retried_in_a_minute() {
    run(async {
        let bench = Bench::new().await?;
        for (number, rules) in [
            // The CA reports it at once, or after processing.
            vec![Rule::on(Kind::Finalize, Fault::Answer(Answer::json(403, &caa()))).once()],
            vec![
                Rule::on(
                    Kind::Finalize,
                    Fault::Answer(Answer::json(200, &order("processing", &json!(null)))),
                )
                .once(),
                Rule::on(Kind::Order, Fault::Answer(Answer::json(200, &order("invalid", &caa()))))
                    .only(2),
            ],
        ]
        .into_iter()
        .enumerate()
        {
            bench.proxy.set_rules(rules);
            let mut job = job(&format!("caa-{number}"))?;
            let say = bench.harness.until_failed(&mut job).await?;
            assert_eq!(say.reason, Reason::BackingOff);
            ensure!(say.message.contains("caa: CAA record for my-company.test"), "{}", say.message);
            assert_eq!(say.look_again, bench.harness.now() + seconds(60));
            bench.issue(&mut job).await?;
            assert_eq!(bench.proxy.count(Kind::NewOrder), 2);
            bench.cost(2 * MINIMUM + 2, number + 1)?;
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn s18_an_order_that_takes_hours_is_polled_at_growing_intervals() {
    const POLLS: usize = 60 + 8 * 60 + 10;
    run(async {
        let mut bench = Bench::new().await?;
        bench.harness.pace = std::time::Duration::ZERO;
        let stuck = Fault::json(|order| {
            if order["status"] == "valid" {
                order["status"] = json!("processing");
                order["certificate"] = json!(null);
            }
        });
        bench.proxy.set_rules([Rule::on(Kind::Order, stuck)]);
        let mut job = job("stuck")?;
        let end = bench.harness.now() + seconds(8 * 3600);
        let mut say = bench.harness.pass(&mut job).await?;
        while say.look_again < end {
            assert_eq!(say.reason, Reason::Issuing, "{}", say.message);
            bench.harness.jump(&job, say.look_again).await;
            say = bench.harness.pass(&mut job).await?;
        }
        ensure!(say.message.contains("the CA"), "{}", say.message);
        assert_eq!(bench.proxy.count(Kind::NewOrder), 1);
        bench.proxy.clear_rules();
        bench.issue(&mut job).await?;
        assert_eq!(bench.proxy.count(Kind::NewOrder), 1);
        bench.cost(MINIMUM + POLLS, 1)
    })
    .unwrap();
}

#[test]
fn s19_an_order_that_is_ready_at_once_takes_four_requests() {
    run(async {
        let options = PebbleOptions { nonce_reject: 0, authz_reuse: 100, ..Default::default() };
        let bench = Bench::with(options).await?;
        bench.issue(&mut job("known")?).await?;
        bench.cost(MINIMUM, 1)?;
        bench.issue(&mut job("known")?).await?;
        bench.cost(4, 2)
    })
    .unwrap();
}

#[test]
fn s19_an_existing_order_is_continued_in_its_state() {
    run(async {
        let bench = Bench::new().await?;
        for (number, point) in [Point::Ordered, Point::Validating].into_iter().enumerate() {
            // The reply to the second request equals that to the first.
            let first: Arc<Mutex<Option<Answer>>> = Arc::default();
            bench.proxy.set_rules([Rule::on(
                Kind::NewOrder,
                Fault::alter(move |answer| {
                    let mut first = first.lock().unwrap();
                    match &*first {
                        Some(old) => {
                            answer.body = old.body.clone();
                            answer.headers.insert(LOCATION, old.headers[LOCATION].clone());
                        }
                        None => *first = Some(answer.clone()),
                    }
                }),
            )]);
            let name = format!("old-{number}");
            bench.harness.die_at(&mut job(&name)?, point).await?;
            // The stored progress is lost, too.
            bench.issue(&mut job(&name)?).await?;
            bench.cost(2 * MINIMUM, number + 1)?;
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn s19_an_existing_order_with_a_certificate_for_another_key_is_not_used() {
    run(async {
        let bench = Bench::new().await?;
        bench.issue(&mut job("taken")?).await?;
        let path = |kind| -> Result<String> {
            let seen = bench.proxy.seen_of(kind).pop().context("none")?;
            Ok(bench.proxy.url() + seen.line.trim_start_matches("POST "))
        };
        let (url, certificate) = (path(Kind::Order)?, path(Kind::Certificate)?);
        bench.cost(MINIMUM, 1)?;
        let mut valid = order("valid", &json!(null));
        valid["certificate"] = json!(certificate);
        let old = Answer::json(201, &valid).with(LOCATION, &url);
        bench.proxy.set_rules([Rule::on(Kind::NewOrder, Fault::Answer(old)).once()]);
        let mut job = job("taken")?;
        let say = bench.harness.until_failed(&mut job).await?;
        assert_eq!((say.reason, job.stored), (Reason::BackingOff, 0), "{}", say.message);
        bench.issue(&mut job).await?;
        bench.cost(MINIMUM + 3, 2)
    })
    .unwrap();
}

#[test]
fn s20_an_authorization_that_expires_before_its_use_causes_another_order() {
    run(async {
        let bench = Bench::new().await?;
        let over = Answer::problem(400, "malformed", "the authorization is deactivated");
        let invalid = Answer::json(200, &order("invalid", &json!(null)));
        for (number, rules) in [
            vec![
                Rule::on(Kind::Challenge, Fault::Answer(over)).once(),
                Rule::on(Kind::Order, Fault::Answer(invalid)).once(),
            ],
            vec![Rule::on(Kind::Authorization, Fault::member("status", "deactivated")).once()],
            vec![Rule::on(Kind::Authorization, Fault::member("status", "expired")).once()],
        ]
        .into_iter()
        .enumerate()
        {
            bench.proxy.set_rules(rules);
            // Neither the user nor the CA made an error, so this is retried without waiting for a
            // change.
            let took = bench.issue(&mut job(&format!("over-{number}"))?).await?;
            ensure!(took <= seconds(600), "{number}: {took:#}");
            ensure!(bench.proxy.count(Kind::NewOrder) <= 2, "{:?}", bench.proxy.counts());
            bench.cost(2 * MINIMUM + 2, number + 1)?;
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn s20_a_challenge_that_a_ca_replica_does_not_know_yet_is_triggered_again() {
    run(async {
        let bench = Bench::new().await?;
        let lagging = Fault::problem(404, "malformed", "no such challenge");
        bench.proxy.set_rules([Rule::on(Kind::Challenge, lagging).once()]);
        let took = bench.issue(&mut job("lagging")?).await?;
        ensure!(took <= seconds(600), "{took:#}");
        bench.cost(2 * MINIMUM + 2, 1)
    })
    .unwrap();
}

#[test]
fn s21_one_refused_name_of_ninety_nine_is_reported_and_the_others_are_not_proved_again() {
    run(async {
        let options = PebbleOptions { nonce_reject: 0, authz_reuse: 100, ..Default::default() };
        let bench = Bench::with(options).await?;
        let names: Vec<String> = (0..99).map(|n| format!("n{n}.my-company.test")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let refuse = Fault::json(|authorization| {
            if authorization["identifier"]["value"] == "n42.my-company.test"
                && authorization["status"] == "valid"
            {
                let detail = "Incorrect TXT record found";
                let kind = "urn:ietf:params:acme:error:unauthorized";
                authorization["status"] = json!("invalid");
                authorization["challenges"][0]["status"] = json!("invalid");
                authorization["challenges"][0]["error"] = json!({"type": kind, "detail": detail});
            }
        });
        bench.proxy.set_rules([
            Rule::on(Kind::Order, Fault::member("status", "invalid")).once(),
            Rule::on(Kind::Authorization, refuse).first(2 * 99),
        ]);
        let mut job = CertificateCase::of(&names)?;
        let say = bench.harness.until_failed(&mut job).await?;
        assert_eq!(say.reason, Reason::BackingOff);
        ensure!(say.message.contains("n42.my-company.test: unauthorized: Inc"), "{}", say.message);
        ensure!(!say.message.contains("n41."), "{}", say.message);
        // One nonce for each of the parallel requests.
        bench.cost(1 + 99 + 99 + 1 + 99 + 8, 0)?;
        bench.issue(&mut job).await?;
        bench.cost(4, 1)
    })
    .unwrap();
}

#[test]
fn s22_a_ca_without_a_supported_challenge_is_not_asked_again_for_a_day() {
    run(async {
        let bench = Bench::new().await?;
        let only_alpn = Fault::json(|authorization| {
            if let Some(all) = authorization["challenges"].as_array_mut() {
                all.retain(|one| one["type"] == "tls-alpn-01");
            }
        });
        bench.proxy.set_rules([Rule::on(Kind::Authorization, only_alpn)]);
        let mut job = job("alpn")?;
        let say = bench.harness.until_failed(&mut job).await?;
        assert_eq!(say.reason, Reason::SpecRefused);
        ensure!(say.message.contains("the CA offers no "), "{}", say.message);
        ensure!(say.message.contains("alpn.my-company.test"), "{}", say.message);
        assert_eq!(say.look_again, bench.harness.now() + days(1) + seconds(1));
        bench.cost(3, 0)?;
        bench.proxy.clear_rules();
        bench.issue(&mut job).await?;
        bench.cost(MINIMUM, 1)
    })
    .unwrap();
}
