//! A CA that returns another certificate than the ordered one.

use std::sync::Arc;

use anyhow::ensure;
use bytes::Bytes;
use cert_lib::{issue::acme::AcmeOptions, model::reason::Reason};
use http::header::LINK;
use jiff::Timestamp;
use rcgen::{CertificateParams, SanType, date_time_ymd};
use tests::{
    engine_harness::EngineHarness,
    proxy::{Fault, Kind, Rule, forge::forge},
    run,
};

use crate::{Bench, MINIMUM, days, job, seconds};

type Change = fn(&mut CertificateParams);

fn other_names(params: &mut CertificateParams) {
    let other = "other.test".try_into().map(SanType::DnsName);
    params.subject_alt_names = other.into_iter().collect();
}

fn expired(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(2025, 1, 1);
}

fn future(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2038, 1, 1);
    params.not_after = date_time_ymd(2039, 1, 1);
}

/// A fault that replaces a certificate with a forged one.
fn forged(bench: &Bench, change: Change) -> Fault {
    let proxy = Arc::clone(&bench.proxy);
    Fault::alter(move |answer| {
        let forged = forge(&proxy, change).unwrap_or_else(|error| error.to_string());
        answer.body = forged.into();
    })
}

#[test]
fn s23_a_certificate_that_does_not_match_its_order_is_not_stored() {
    run(async {
        let bench = Bench::new().await?;
        // The key of the previous order.
        let other_key = {
            bench.issue(&mut job("first")?).await?;
            let old = forge(&bench.proxy, |_| {})?;
            bench.cost(MINIMUM, 1)?;
            Fault::body(old)
        };
        for (number, (fault, why)) in [
            (other_key, "the certificate is for another key"),
            (forged(&bench, other_names), "does not cover"),
            (forged(&bench, expired), "has expired"),
            (forged(&bench, future), "not valid before"),
        ]
        .into_iter()
        .enumerate()
        {
            bench.proxy.set_rules([Rule::on(Kind::Certificate, fault)]);
            let mut job = job(&format!("wrong-{number}"))?;
            let say = bench.harness.until_failed(&mut job).await?;
            ensure!(say.message.contains(why), "{}", say.message);
            assert_eq!(job.stored, 0);
            ensure!(say.look_again >= bench.harness.now() + seconds(60), "at once again");
            // The signed certificate is unusable, so another one is ordered.
            bench.proxy.clear_rules();
            bench.issue(&mut job).await?;
            bench.cost(2 * MINIMUM + 2, 1 + 2 * (number + 1))?;
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn s23_an_unrequested_lifetime_is_accepted_and_renewed_in_time() {
    fn three_days(params: &mut CertificateParams) {
        let now = std::time::SystemTime::now();
        params.not_before = now.into();
        params.not_after = (now + std::time::Duration::from_secs(3 * 24 * 3600)).into();
    }
    run(async {
        let bench = Bench::new().await?;
        bench.proxy.set_rules([Rule::on(Kind::Certificate, forged(&bench, three_days)).once()]);
        let mut job = job("short")?;
        bench.issue(&mut job).await?;
        bench.cost(MINIMUM, 1)?;
        let end = job.secret.as_ref().map(|kept| kept.bundle.leaf.not_after);
        let end = end.unwrap_or(Timestamp::MIN);
        let say = bench.harness.pass(&mut job).await?;
        ensure!(say.look_again < end, "it would expire");
        bench.harness.jump(&job, say.look_again).await;
        while job.stored == 1 && bench.harness.now() < end {
            let say = bench.harness.pass(&mut job).await?;
            bench.harness.jump(&job, say.look_again).await;
        }
        assert_eq!(job.stored, 2, "renewed before its end");
        bench.cost(MINIMUM + 2, 2)
    })
    .unwrap();
}

/// The blocks of a chain in PEM.
fn blocks(body: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(body);
    let begin = "-----BEGIN CERTIFICATE-----";
    text.split(begin).skip(1).map(|block| format!("{begin}{block}")).collect()
}

fn shape(change: fn(&[u8]) -> Vec<u8>) -> Fault {
    Fault::alter(move |answer| answer.body = Bytes::from(change(&answer.body)))
}

#[test]
fn s24_a_chain_in_an_unusual_form_is_read() {
    run(async {
        let bench = Bench::new().await?;
        for (number, fault) in [
            shape(|body| String::from_utf8_lossy(body).replace('\n', "\r\n").into_bytes()),
            shape(|body| [body, b"\n\n# the end, thank you\n"].concat()),
            shape(|body| [b"subject=CN = x\n".as_slice(), body].concat()),
            shape(|body| blocks(body).swap_remove(0).into_bytes()),
        ]
        .into_iter()
        .enumerate()
        {
            bench.proxy.set_rules([Rule::on(Kind::Certificate, fault)]);
            let mut job = job(&format!("form-{number}"))?;
            bench.issue(&mut job).await?;
            bench.cost(MINIMUM, number + 1)?;
            let pem = job.secret.map(|kept| kept.bundle.certificate_pem()).unwrap_or_default();
            ensure!(!pem.contains('\r') && !pem.contains("thank"), "{pem}");
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn s24_an_unusable_chain_is_downloaded_again_and_not_signed_again() {
    run(async {
        let bench = Bench::new().await?;
        for (number, fault) in [
            Fault::truncate(),
            Fault::BreakOff,
            Fault::oversize(10 << 20),
            Fault::body("<html>Please sign in</html>"),
            Fault::body(""),
            shape(|body| body.repeat(1000)),
        ]
        .into_iter()
        .enumerate()
        {
            bench.proxy.set_rules([Rule::on(Kind::Certificate, fault).once()]);
            let mut job = job(&format!("broken-{number}"))?;
            let took = bench.issue(&mut job).await?;
            ensure!(took <= seconds(90), "{number}: {took:#}");
            assert_eq!(job.stored, 1);
            // The certificate again, a poll of the order, a nonce.
            bench.cost(MINIMUM + 3, number + 1)?;
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn s24_a_chain_that_clients_reject_is_not_stored() {
    run(async {
        let bench = Bench::new().await?;
        // Below every bound on bytes.
        let long = shape(|body| [body, blocks(body)[1].repeat(200).as_bytes()].concat());
        bench.proxy.set_rules([Rule::on(Kind::Certificate, long)]);
        let mut job = job("long")?;
        let say = bench.harness.until_failed(&mut job).await?;
        assert_eq!((say.reason, job.stored), (Reason::BackingOff, 0), "{}", say.message);
        bench.proxy.clear_rules();
        bench.issue(&mut job).await?;
        bench.cost(2 * MINIMUM + 2, 2)
    })
    .unwrap();
}

#[test]
fn s24_a_chain_with_the_issuer_first_is_not_stored() {
    run(async {
        let bench = Bench::new().await?;
        let turned = shape(|body| {
            let mut all = blocks(body);
            all.reverse();
            all.concat().into_bytes()
        });
        bench.proxy.set_rules([Rule::on(Kind::Certificate, turned).once()]);
        let mut job = job("turned")?;
        bench.issue(&mut job).await?;
        let leaf = job.secret.map(|kept| kept.bundle.leaf);
        let names = leaf.map(|leaf| leaf.names).unwrap_or_default();
        ensure!(names.iter().any(|name| name.as_str() == "turned.my-company.test"), "{names:?}");
        // Reordered, downloaded again or ordered again: all are valid, but no request storm.
        ensure!(bench.proxy.total() <= 2 * MINIMUM + 1, "{:?}", bench.proxy.counts());
        Ok(())
    })
    .unwrap();
}

#[test]
fn s25_invalid_alternate_links_are_ignored() {
    run(async {
        let bench = Bench::new().await?;
        let acme_options = AcmeOptions {
            preferred_chain: Some("An unknown root".to_owned()),
            ..AcmeOptions::default()
        };
        let harness = EngineHarness::with_options(
            &bench.proxy.directory(),
            bench.pebble.trust(),
            acme_options,
        )
        .await?;
        let bench = Bench { harness, ..bench };
        bench.proxy.forget();
        let url = bench.proxy.url();
        let links = [
            vec![format!("{url}/certZ/nowhere/alternate/1")],
            // A link to itself, and a hundred others.
            vec![String::new()],
            (0..100).map(|number| format!("{url}/certZ/nowhere/alternate/{number}")).collect(),
            vec!["not a url at all".to_owned(), "http://169.254.169.254/latest".to_owned()],
        ];
        for (number, links) in links.into_iter().enumerate() {
            let proxy = Arc::clone(&bench.proxy);
            let more = Fault::alter(move |answer| {
                let this = proxy.seen_of(Kind::Certificate).pop();
                let this = this.map(|seen| seen.line.replace("POST ", "")).unwrap_or_default();
                for link in &links {
                    let link = if link.is_empty() { &this } else { link };
                    let value = format!("<{link}>;rel=\"alternate\"").parse().unwrap();
                    answer.headers.append(LINK, value);
                }
            });
            bench.proxy.set_rules([Rule::on(Kind::Certificate, more)]);
            let took = bench.issue(&mut job(&format!("circle-{number}"))?).await?;
            ensure!(took < days(1), "{number}: {took:#}");
            // Some alternates are fetched, not a hundred.
            bench.cost(MINIMUM + 20, number + 1)?;
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn s25_without_a_preferred_chain_no_alternate_is_fetched() {
    run(async {
        let bench = Bench::new().await?;
        let more = Fault::alter(|answer| {
            answer.set(LINK, "</certZ/nowhere/alternate/1>;rel=\"alternate\"");
        });
        bench.proxy.set_rules([Rule::on(Kind::Certificate, more)]);
        bench.issue(&mut job("plain")?).await?;
        bench.cost(MINIMUM, 1)
    })
    .unwrap();
}
