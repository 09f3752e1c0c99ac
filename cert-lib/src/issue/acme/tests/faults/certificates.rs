//! Certificates and chains that are not what was asked for.

use super::*;

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
        let bench = EngineHarness::new(CaBehavior::default(), RecordStore::default()).await;
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
                assert_eq!(error.disposition(), Disposition::Retry(RetrySchedule::Validation));
                assert!(error.ends_order());
            }
        }
    }
}

/// Answers the download with what `twist` makes of the certificate.
async fn twisted(twist: impl Fn(&str) -> String + Send + 'static) -> EngineHarness {
    EngineHarness::hooked(
        CaBehavior { reused: true, quick: true, ..CaBehavior::default() },
        move |seen, ca| {
            let answer = |text: String| reply(200).nonce("n").html(&text);
            (seen.path() == "/cert/1").then(|| answer(twist(&ca.certificate)))
        },
    )
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
async fn what_is_no_chain_is_fetched_again_for_an_hour_and_then_ordered_again() {
    for twist in [
        |_: &str| String::new(),
        |_: &str| "no PEM at all".to_owned(),
        |_: &str| "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(),
        |pem: &str| pem[..pem.len() / 2].to_owned(),
        |pem: &str| pem.repeat(1 + 300_000 / pem.len()),
    ] {
        let bench = twisted(twist).await;
        let (error, progress) = bench.first_error(&app()).await;
        assert_eq!(error.disposition(), Disposition::Retry(RetrySchedule::Transport), "{error}");
        assert!(!error.ends_order());
        bench.clock.step(SignedDuration::from_hours(1));
        let error = bench.issuer.advance(&app(), progress).await.unwrap_err();
        assert_eq!(error.disposition(), Disposition::Retry(RetrySchedule::Validation), "{error}");
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
    let bench = EngineHarness::with(
        CaBehavior { reused: true, quick: true, ..CaBehavior::default() },
        RecordStore::default(),
        AcmeOptions::default(),
        Box::new(hook),
    )
    .await;
    let (error, progress) = bench.first_error(&app()).await;
    assert_eq!(
        error.to_string(),
        "the CA's certificate cannot be used: the answer of ca is larger than 1048576 bytes"
    );
    bench.clock.step(SignedDuration::from_hours(1));
    assert!(bench.issuer.advance(&app(), progress).await.unwrap_err().ends_order());
}
