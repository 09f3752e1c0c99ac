//! Refusals by a CA because of the account or of the requested certificate.

use anyhow::ensure;
use cert_lib::{acme::jws::AccountKey, model::reason::Reason};
use serde_json::json;
use tests::{
    engine_harness::{CertificateCase, Point},
    proxy::{Answer, Fault, Kind, Rule},
    run,
};

use crate::{Bench, MINIMUM, days, job, seconds};

#[test]
fn s26_an_account_that_the_ca_lost_is_registered_again_and_orders_continue() {
    run(async {
        let mut bench = Bench::new().await?;
        let mut running = job("running")?;
        bench.harness.die_at(&mut running, Point::Ordered).await?;
        bench.pebble.stop().await?;
        bench.pebble.resume().await?;
        bench.proxy.forget();
        let mut fresh = job("fresh")?;
        for job in [&mut running, &mut fresh] {
            let say = bench.harness.until_failed(job).await?;
            assert_eq!(say.reason, Reason::IssuerNotReady, "{}", say.message);
            ensure!(say.message.contains("accountDoesNotExist"), "{}", say.message);
        }
        // The Certificate does not retry: the controller of the issuer rechecks it.
        bench.cost(8, 0)?;
        bench.harness = bench.harness.registered_again().await?;
        bench.proxy.forget();
        for (number, job) in [&mut running, &mut fresh].into_iter().enumerate() {
            job.issuer_error = None;
            bench.issue(job).await?;
            bench.cost(MINIMUM, number + 1)?;
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn s26_a_deactivated_account_stops_its_orders_and_further_requests() {
    run(async {
        let bench = Bench::new().await?;
        let closed = Fault::problem(403, "unauthorized", "account is deactivated");
        bench.proxy.set_rules([Rule::all(closed)]);
        let mut job = job("closed")?;
        let say = bench.harness.until_failed(&mut job).await?;
        assert_eq!(say.reason, Reason::IssuerNotReady);
        ensure!(say.message.contains("account is deactivated"), "{}", say.message);
        for _ in 0..10 {
            let say = bench.harness.pass(&mut job).await?;
            bench.harness.jump(&job, say.look_again).await;
        }
        bench.cost(1, 0)
    })
    .unwrap();
}

#[test]
fn s27_an_account_key_is_read_or_refused_with_a_reason() {
    let pem = |algorithm| {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        key.serialize_pem()
    };
    assert!(AccountKey::from_pem(&pem(&rcgen::PKCS_ECDSA_P256_SHA256)).is_ok());
    for (text, why) in [
        (String::new(), "empty"),
        ("garbage".to_owned(), "no PEM"),
        (pem(&rcgen::PKCS_ED25519), "Ed25519"),
        (pem(&rcgen::PKCS_ECDSA_P256_SHA256).replace("PRIVATE", "PUBLIC"), "a public key"),
        (pem(&rcgen::PKCS_ECDSA_P256_SHA256)[..80].to_owned(), "half a key"),
    ] {
        let error = AccountKey::from_pem(&text).err();
        let error = error.unwrap_or_else(|| panic!("{why} was taken")).to_string();
        assert!(!error.is_empty() && !error.contains("BEGIN"), "{why}: {error}");
    }
}

#[test]
fn s29_new_terms_of_service_are_shown_with_their_link_and_stop_the_issuer() {
    run(async {
        let bench = Bench::new().await?;
        let terms = "https://ca.example.org/terms/2027.pdf";
        let refusal = Answer::json(
            403,
            &json!({
                "type": "urn:ietf:params:acme:error:userActionRequired", "status": 403,
                "detail": "Terms of service have changed", "instance": terms,
            }),
        );
        bench.proxy.set_rules([Rule::on(Kind::NewOrder, Fault::Answer(refusal)).once()]);
        let mut job = job("terms")?;
        let say = bench.harness.until_failed(&mut job).await?;
        assert_eq!(say.reason, Reason::IssuerNotReady);
        ensure!(say.message.contains(terms), "{}", say.message);
        bench.cost(1, 0)?;
        // A user agreed.
        job.issuer_error = None;
        bench.issue(&mut job).await?;
        bench.cost(MINIMUM + 1, 1)
    })
    .unwrap();
}

#[test]
fn s33_a_paused_name_shows_its_link_and_is_not_retried() {
    run(async {
        let bench = Bench::new().await?;
        let link = format!("https://portal.example.org/sfe/v1/unpause?jwt={}", "e".repeat(600));
        let detail = format!(
            "Your account is temporarily prevented from requesting certificates for \
             paused.my-company.test and possibly others. Please visit: {link}"
        );
        let pause = Fault::problem(429, "rateLimited", &detail);
        bench.proxy.set_rules([Rule::on(Kind::NewOrder, pause)]);
        let mut job = job("paused")?;
        let say = bench.harness.until_failed(&mut job).await?;
        assert_eq!(say.reason, Reason::BackingOff);
        ensure!(say.message.contains(&link), "{}", say.message);
        let end = bench.harness.now() + days(3);
        while bench.harness.now() < end {
            let say = bench.harness.pass(&mut job).await?;
            bench.harness.jump(&job, say.look_again).await;
        }
        // After 1, 10 and 100 minutes at most, then daily, each with a nonce.
        bench.cost(2 * 7, 0)?;
        bench.proxy.clear_rules();
        bench.issue(&mut job).await?;
        bench.cost(MINIMUM + 1, 1)
    })
    .unwrap();
}

#[test]
fn s34_an_unknown_profile_is_reported_with_the_available_ones() {
    run(async {
        let bench = Bench::new().await?;
        let mut job = job("profile")?;
        job.ask(|request| request.acme.profile = Some("tlserver".to_owned()));
        let say = bench.harness.until_failed(&mut job).await?;
        assert_eq!(say.reason, Reason::SpecRefused);
        for word in ["tlserver", "default"] {
            ensure!(say.message.contains(word), "{}", say.message);
        }
        bench.cost(1, 0)?;
        job.ask(|request| request.acme.profile = Some("default".to_owned()));
        bench.issue(&mut job).await?;
        let order = bench.proxy.seen_of(Kind::NewOrder).pop().map(|seen| seen.payload);
        assert_eq!(order.unwrap_or_default()["profile"], "default");
        bench.cost(MINIMUM + 1, 1)
    })
    .unwrap();
}

#[test]
fn s34_the_message_of_the_ca_about_a_profile_is_reported() {
    run(async {
        let bench = Bench::new().await?;
        for (number, (word, detail)) in [
            ("invalidProfile", "profile default is not available any more"),
            ("malformed", "Order cannot contain more than 25 identifiers with profile default"),
        ]
        .into_iter()
        .enumerate()
        {
            let refusal = Fault::problem(400, word, detail);
            bench.proxy.set_rules([Rule::on(Kind::NewOrder, refusal)]);
            let mut job = job(&format!("gone-{number}"))?;
            job.ask(|request| request.acme.profile = Some("default".to_owned()));
            let say = bench.harness.until_failed(&mut job).await?;
            assert_eq!(say.reason, Reason::SpecRefused, "{}", say.message);
            ensure!(say.message.contains(detail), "{}", say.message);
            ensure!(say.look_again >= bench.harness.now() + seconds(3600), "at once again");
            // The order, a nonce, and the current directory.
            bench.cost(3, 0)?;
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn s35_each_refused_identifier_is_reported() {
    run(async {
        let bench = Bench::new().await?;
        let kind = "urn:ietf:params:acme:error:rejectedIdentifier";
        let sub = |name: &str, detail: &str| {
            let identifier = json!({"type": "dns", "value": name});
            json!({"type": kind, "detail": detail, "identifier": identifier})
        };
        let refusal = json!({
            "type": kind, "status": 400, "detail": "Some identifiers cannot be certified",
            "subproblems": [
                sub("a.my-company.test", "forbidden by policy"),
                sub("b.my-company.test", "not below a public suffix"),
            ],
        });
        bench
            .proxy
            .set_rules([Rule::on(Kind::NewOrder, Fault::Answer(Answer::json(400, &refusal)))]);
        let mut job =
            CertificateCase::of(&["a.my-company.test", "b.my-company.test", "c.my-company.test"])?;
        let say = bench.harness.until_failed(&mut job).await?;
        assert_eq!(say.reason, Reason::SpecRefused);
        for words in [
            "a.my-company.test: rejectedIdentifier: forbidden by policy",
            "b.my-company.test: rejectedIdentifier: not below a public suffix",
        ] {
            ensure!(say.message.contains(words), "{}", say.message);
        }
        ensure!(!say.message.contains('\n'), "{}", say.message);
        assert_eq!(say.look_again, bench.harness.now() + days(1) + seconds(1));
        bench.cost(1, 0)
    })
    .unwrap();
}
