//! The protocol below the orders: nonces, rate limits, foreign error pages, directories, TLS.

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use cert_lib::{
    acme::account::AccountError,
    issue::{Disposition, Issuer as _, RetrySchedule},
    model::reason::Reason,
};
use serde_json::json;
use tests::{
    engine_harness::EngineHarness,
    processes::scratch,
    proxy::{Answer, Fault, Kind, Proxy, Rule},
    run,
    tls::{Flaw, Serving},
};

use crate::{Bench, KINDS, MINIMUM, counts, days, http_date, job, seconds};

#[test]
fn s01_ninety_five_percent_bad_nonces_only_cause_requests() {
    const BUDGET: usize = 400;
    run(async {
        let bench = Bench::new().await?;
        bench.proxy.set_rules([Rule::all(Fault::stale_nonce()).percent(95)]);
        let took = bench.issue(&mut job("nonces")?).await?;
        // Eleven bad nonces are a transient error, which is retried at growing intervals.
        ensure!(took < seconds(3600), "it took {took:#}");
        assert_eq!(bench.harness.board.published(), [""; 0]);
        bench.cost(BUDGET, 1)
    })
    .unwrap();
}

#[test]
fn s02_a_bad_nonce_without_a_new_one_causes_a_nonce_request() {
    run(async {
        let bench = Bench::new().await?;
        let refusal = Fault::problem(400, "badNonce", "used before");
        bench.proxy.set_rules([Rule::on(Kind::NewOrder, refusal.clone()).once()]);
        bench.issue(&mut job("once")?).await?;
        assert_eq!(bench.proxy.count(Kind::NewNonce), 1);
        bench.cost(MINIMUM + 2, 1)?;
        // A CA that accepts no nonce is retried at growing intervals.
        bench.proxy.set_rules([Rule::on(Kind::NewOrder, refusal)]);
        let mut job = job("never")?;
        let say = bench.harness.until_failed(&mut job).await?;
        assert_eq!(say.reason, Reason::BackingOff);
        ensure!(say.message.contains("badNonce: used before"), "{}", say.message);
        bench.cost(22, 1)?;
        bench.proxy.clear_rules();
        bench.issue(&mut job).await?;
        bench.cost(MINIMUM + 1, 2)
    })
    .unwrap();
}

/// The cost of a refused order: the request, and the nonce that the refusal lacks.
const REFUSED: usize = 2;
/// The same in a running order: a process without an interval to wait repeats the step before.
const TRANSIENT_ERROR: usize = 3;

#[test]
fn s03_a_retry_after_in_seconds_is_kept_to_the_second() {
    run(async {
        let bench = Bench::new().await?;
        let limit = Answer::problem(429, "rateLimited", "too many new orders").retry_after("3600");
        bench.proxy.set_rules([Rule::on(Kind::NewOrder, Fault::Answer(limit)).once()]);
        let mut job = job("limited")?;
        let say = bench.harness.until_failed(&mut job).await?;
        assert_eq!(say.look_again, bench.harness.now() + seconds(3600));
        ensure!(say.message.contains("rateLimited: too many new orders"), "{}", say.message);
        assert_eq!(bench.issue(&mut job).await?.as_secs(), 3600);
        assert_eq!(bench.proxy.count(Kind::NewOrder), 2);
        bench.cost(MINIMUM + REFUSED, 1)
    })
    .unwrap();
}

#[test]
fn s04_a_retry_after_date_is_kept_to_the_second() {
    run(async {
        let bench = Bench::new().await?;
        let until = bench.harness.now().round(jiff::Unit::Second)? + seconds(5000);
        let limit = Answer::problem(429, "rateLimited", "no").retry_after(&http_date(until));
        bench.proxy.set_rules([Rule::on(Kind::NewOrder, Fault::Answer(limit)).once()]);
        let mut job = job("limited")?;
        let say = bench.harness.until_failed(&mut job).await?;
        assert_eq!(say.look_again, until);
        bench.issue(&mut job).await?;
        assert_eq!(bench.proxy.count(Kind::NewOrder), 2);
        bench.cost(MINIMUM + REFUSED, 1)
    })
    .unwrap();
}

#[test]
fn s05_a_rate_limit_without_retry_after_is_not_retried_quickly() {
    run(async {
        let bench = Bench::new().await?;
        let limit = Fault::problem(429, "rateLimited", "too many");
        bench.proxy.set_rules([Rule::on(Kind::NewOrder, limit).first(3)]);
        let took = bench.issue(&mut job("limited")?).await?;
        ensure!(took >= seconds(60 + 600 + 6000), "it took only {took:#}");
        assert_eq!(bench.proxy.count(Kind::NewOrder), 4);
        bench.cost(MINIMUM + 3 * REFUSED, 1)
    })
    .unwrap();
}

#[test]
fn s06_an_overloaded_ca_is_retried_at_its_retry_after() {
    run(async {
        let mut bench = Bench::new().await?;
        for (number, kind) in KINDS.into_iter().enumerate() {
            let busy = Answer::html(503, "503 Service Unavailable").retry_after("120");
            bench.proxy.set_rules([Rule::on(kind, Fault::Answer(busy)).once()]);
            let took = bench.issue(&mut job(&format!("busy-{number}"))?).await?;
            ensure!(took >= seconds(120) && took < seconds(130), "{kind:?}: {took:#}");
            bench.cost(MINIMUM + TRANSIENT_ERROR, number + 1)?;
        }
        for (number, kind) in [Kind::Directory, Kind::NewNonce].into_iter().enumerate() {
            bench.restart();
            let busy = Answer::html(503, "503 Service Unavailable").retry_after("120");
            bench.proxy.set_rules([Rule::on(kind, Fault::Answer(busy)).once()]);
            let took = bench.issue(&mut job(&format!("cold-{number}"))?).await?;
            ensure!(took >= seconds(120) && took < seconds(130), "{kind:?}: {took:#}");
            bench.cost(MINIMUM + 2 + 1, KINDS.len() + number + 1)?;
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn s07_an_html_error_is_transient_and_is_not_quoted() {
    run(async {
        let bench = Bench::new().await?;
        let mut signed = 0;
        for (status, title) in [(500, "Internal Server Error"), (502, "502 Bad Gateway")] {
            for kind in KINDS {
                signed += 1;
                bench
                    .proxy
                    .set_rules([Rule::on(kind, Fault::Answer(Answer::html(status, title))).once()]);
                let mut job = job(&format!("html-{signed}"))?;
                let took = bench.issue(&mut job).await?;
                ensure!(took < seconds(60), "{kind:?}: {took:#}");
                let heard = job.messages.join("\n");
                let status = format!("the answer is no ACME problem document (HTTP {status})");
                ensure!(heard.contains(&status) && !heard.contains(title), "{kind:?}: {heard}");
                bench.cost(MINIMUM + TRANSIENT_ERROR, signed)?;
            }
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn s08_a_refusal_without_a_problem_document_is_transient() {
    run(async {
        let bench = Bench::new().await?;
        for (number, kind) in KINDS.into_iter().enumerate() {
            let answer = Answer::text(400, "application/problem+json", "{\"type\":");
            bench.proxy.set_rules([Rule::on(kind, Fault::Answer(answer)).once()]);
            let took = bench.issue(&mut job(&format!("odd-{number}"))?).await?;
            ensure!(took < seconds(60), "{kind:?}: {took:#}");
            bench.cost(MINIMUM + TRANSIENT_ERROR, number + 1)?;
        }
        // The result does not depend on the content type.
        bench.proxy.set_rules([Rule::all(Fault::content_type("text/plain"))]);
        bench.issue(&mut job("plain")?).await?;
        bench.cost(MINIMUM, KINDS.len() + 1)
    })
    .unwrap();
}

#[test]
fn s08_a_truncated_or_endless_reply_is_transient() {
    run(async {
        let bench = Bench::new().await?;
        let mut signed = 0;
        for fault in [Fault::truncate(), Fault::BreakOff, Fault::oversize(10 << 20)] {
            // After a broken reply to a new order, another order is placed: the URL of the first is
            // unknown. For a broken certificate see scenario 24.
            for kind in &KINDS[..5] {
                signed += 1;
                bench.proxy.set_rules([Rule::on(*kind, fault.clone()).once()]);
                let took = bench.issue(&mut job(&format!("broken-{signed}"))?).await?;
                ensure!(took < seconds(60), "{kind:?}, {fault:?}: {took:#}");
                bench.cost(MINIMUM + TRANSIENT_ERROR, signed)?;
            }
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn s09_an_absurd_retry_after_is_clamped() {
    run(async {
        let bench = Bench::new().await?;
        let day = days(1);
        let past = http_date(bench.harness.now() - day);
        for (number, (value, at_least, at_most)) in [
            ("86400", day, day),
            ("315360000", day, day),
            // Five attempts at growing intervals.
            (past.as_str(), seconds(5), seconds(600)),
            ("0", seconds(5), seconds(600)),
            ("soon", seconds(5), seconds(600)),
            ("-5", seconds(5), seconds(600)),
        ]
        .into_iter()
        .enumerate()
        {
            let busy = Answer::html(503, "busy").retry_after(value);
            let times = if at_most == day { 1 } else { 5 };
            bench.proxy.set_rules([Rule::on(Kind::NewOrder, Fault::Answer(busy)).first(times)]);
            let took = bench.issue(&mut job(&format!("absurd-{number}"))?).await?;
            // The order itself takes a second.
            ensure!(took >= at_least && took < at_most + seconds(2), "{value}: {took:#}");
            bench.cost(MINIMUM + times * REFUSED, number + 1)?;
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn s10_a_directory_with_junk_and_without_renewal_information_is_accepted() {
    run(async {
        let mut bench = Bench::new().await?;
        bench.restart();
        bench.proxy.set_rules([Rule::on(
            Kind::Directory,
            Fault::json(|json| {
                json["zXj3q-9r2Eo"] =
                    json!("https://community.example.org/t/adding-random-entries");
                json["meta"]["more"] = json!({"deep": [1, null, {"junk": true}]});
                json["renewalInfo"] = json!(null);
            }),
        )]);
        let mut job = job("junk")?;
        bench.issue(&mut job).await?;
        let kept = job.secret.context("there is no Secret")?;
        let id = kept.bundle.leaf.id.context("Pebble's certificates have one")?;
        assert_eq!(bench.harness.issuer.renewal_info(&id).await?, None);
        bench.cost(MINIMUM + 2, 1)
    })
    .unwrap();
}

#[test]
fn s10_a_directory_that_changes_is_fetched_again() {
    run(async {
        let mut bench = Bench::new().await?;
        bench.restart();
        let old = format!("{}/old-order", bench.proxy.url());
        bench.proxy.set_rules([Rule::on(Kind::Directory, Fault::member("newOrder", old)).once()]);
        let took = bench.issue(&mut job("moved")?).await?;
        ensure!(took < seconds(60), "{took:#}");
        assert_eq!(bench.proxy.count(Kind::Directory), 2);
        bench.cost(MINIMUM + 2 + 3, 1)
    })
    .unwrap();
}

#[test]
fn s10_an_invalid_directory_is_transient() {
    run(async {
        let mut bench = Bench::new().await?;
        let odd = [
            Fault::Answer(Answer::html(200, "Sign in to the hotel's network")),
            Fault::truncate(),
            Fault::oversize(10 << 20),
            Fault::body("[]"),
            Fault::body(Bytes::new()),
            Fault::without("newNonce"),
        ];
        for (number, fault) in odd.into_iter().enumerate() {
            bench.restart();
            bench.proxy.set_rules([Rule::on(Kind::Directory, fault).once()]);
            let took = bench.issue(&mut job(&format!("odd-{number}"))?).await?;
            ensure!(took < seconds(60), "{number}: {took:#}");
            bench.cost(MINIMUM + 3, number + 1)?;
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn s11_a_ca_is_used_within_minutes_after_an_outage() {
    run(async {
        let mut bench = Bench::new().await?;
        bench.restart();
        bench.proxy.close();
        let mut job = job("patient")?;
        let say = bench.harness.until_failed(&mut job).await?;
        assert_eq!(say.reason, Reason::BackingOff);
        let end = bench.harness.now() + days(1);
        let mut tries = 1;
        while bench.harness.now() < end {
            let say = bench.harness.pass(&mut job).await?;
            bench.harness.jump(&job, say.look_again).await;
            tries += 1;
        }
        // After seconds at first, then every five minutes.
        ensure!(tries <= 8 + 24 * 12, "{tries} tries in a day");
        bench.proxy.open().await?;
        let took = bench.issue(&mut job).await?;
        ensure!(took <= seconds(310), "{took:#}");
        bench.cost(MINIMUM + 2, 1)
    })
    .unwrap();
}

#[test]
fn s12_an_untrusted_ca_is_reported_and_gets_no_request() {
    run(async {
        let bench = Bench::new().await?;
        let upstream = bench.pebble.directory().replace("/dir", "");
        let data = scratch()?;
        for (flaw, why) in [
            (Flaw::None, "it is signed by an unknown authority"),
            (Flaw::Expired, "it has expired"),
            (Flaw::OtherName, "it is for another name"),
        ] {
            let serving = Serving::flawed("flawed", &data, flaw)?;
            let trust = match flaw {
                Flaw::None => bench.pebble.trust().to_owned(),
                Flaw::Expired | Flaw::OtherName => serving.authority.clone(),
            };
            let proxy = Proxy::start(&upstream, bench.pebble.trust(), serving).await?;
            let refused = EngineHarness::open(&proxy.directory(), &trust).await.err();
            let error = refused.context("it was trusted")?;
            let error: AccountError = error.downcast()?;
            ensure!(error.to_string().contains(why), "{error}");
            // The operator of the server may replace the certificate.
            assert_eq!(error.disposition(), Disposition::Retry(RetrySchedule::Transport));
            assert_eq!(proxy.counts(), counts([]));
        }
        anyhow::Ok(())
    })
    .unwrap();
}

#[test]
fn a_ca_with_its_own_certificate_as_trust_is_trusted() {
    run(async {
        let bench = Bench::new().await?;
        let upstream = bench.pebble.directory().replace("/dir", "");
        let serving = Serving::own("own", &scratch()?)?;
        let trust = serving.authority.clone();
        let proxy = Proxy::start(&upstream, bench.pebble.trust(), serving).await?;
        EngineHarness::open(&proxy.directory(), &trust).await?;
        Ok(())
    })
    .unwrap();
}

#[test]
fn the_proxy_without_rules_does_not_slow_down_an_order() {
    run(async {
        let bench = Bench::new().await?;
        let took = bench.issue(&mut job("plain")?).await?;
        ensure!(took < seconds(2), "{took:#}");
        bench.cost(MINIMUM, 1)
    })
    .unwrap();
}
