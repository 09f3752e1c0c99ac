//! Renewal: predecessors that a CA refuses (RFC 9773 section 5), and renewal information.

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use cert_lib::{
    issue::{Issuer as _, RenewalInfo, RevocationReason},
    model::cert_id::CertId,
    plan::renewal::Suggested,
};
use serde_json::{Value, json};
use tests::{
    engine_harness::{CertificateCase, EngineHarness},
    proxy::{Answer, Fault, Kind, Rule},
    run,
};

use crate::{Bench, MINIMUM, days, job, seconds};

fn id_of(job: &CertificateCase) -> Result<CertId> {
    let kept = job.secret.as_ref().context("there is no Secret")?;
    kept.bundle.leaf.id.clone().context("the certificate has no identifier")
}

/// A certificate that was issued with the fewest requests, and its identifier.
async fn issued(name: &str) -> Result<(Bench, CertificateCase, CertId)> {
    let bench = Bench::new().await?;
    let mut job = job(name)?;
    bench.issue(&mut job).await?;
    bench.cost(MINIMUM, 1)?;
    let id = id_of(&job)?;
    Ok((bench, job, id))
}

/// The CA's renewal information for a certificate.
async fn information(bench: &Bench, id: &CertId) -> Result<RenewalInfo> {
    bench.harness.issuer.renewal_info(id).await?.context("no information")
}

/// Renews the certificate of `job` as a replacement of `replaces`.
async fn renew(bench: &Bench, job: &mut CertificateCase, replaces: &CertId) -> Result<()> {
    let stored = job.stored;
    job.want.renewed_after = Some(bench.harness.now());
    job.ask(|request| request.replaces = Some(replaces.clone()));
    bench.issue(job).await?;
    assert_eq!(job.stored, stored + 1);
    Ok(())
}

/// The same with a CA that refuses the predecessor: the order is placed again without it, which
/// takes one more request. It is the third certificate that the CA signs.
async fn renew_without(bench: &Bench, job: &mut CertificateCase, refused: &CertId) -> Result<()> {
    renew(bench, job, refused).await?;
    assert_eq!(replaced(bench), [json!(refused.as_str()), json!(null)]);
    bench.cost(MINIMUM + 1, 3)
}

/// The predecessors in the orders since the last call.
fn replaced(bench: &Bench) -> Vec<Value> {
    let orders = bench.proxy.seen_of(Kind::NewOrder);
    orders.into_iter().map(|seen| seen.payload["replaces"].clone()).collect()
}

#[test]
fn s30_an_already_replaced_predecessor_is_left_out() {
    run(async {
        let (bench, mut job, first) = issued("again").await?;
        renew(&bench, &mut job, &first).await?;
        assert_eq!(replaced(&bench), [json!(first.as_str())]);
        bench.cost(MINIMUM, 2)?;
        renew_without(&bench, &mut job, &first).await
    })
    .unwrap();
}

#[test]
fn s30_a_predecessor_of_another_account_is_left_out() {
    run(async {
        let bench = Bench::new().await?;
        let other = EngineHarness::open(&bench.proxy.directory(), bench.pebble.trust()).await?;
        let mut theirs = job("theirs")?;
        other.until_ready(&mut theirs, days(1)).await?;
        bench.proxy.forget();
        let mut ours = job("theirs")?;
        bench.issue(&mut ours).await?;
        bench.cost(MINIMUM, 2)?;
        renew_without(&bench, &mut ours, &id_of(&theirs)?).await
    })
    .unwrap();
}

#[test]
fn s30_an_unknown_predecessor_is_left_out() {
    run(async {
        let (bench, mut job, _) = issued("odd").await?;
        // Pebble answers with an internal error to an unknown predecessor.
        for (number, text) in ["garbage", "AAAA.AAAA"].into_iter().enumerate() {
            let id: CertId = serde_json::from_value(json!(text))?;
            renew(&bench, &mut job, &id).await?;
            assert_eq!(replaced(&bench).last(), Some(&json!(null)));
            bench.cost(MINIMUM + 3, number + 2)?;
        }
        Ok(())
    })
    .unwrap();
}

fn window(start: &str, end: &str) -> Value {
    json!({"suggestedWindow": {"start": start, "end": end}})
}

#[test]
fn s31_implausible_renewal_information_is_ignored() {
    run(async {
        let (bench, mut job, id) = issued("info").await?;
        let (early, late) = ("2027-01-01T00:00:00Z", "2027-01-02T00:00:00Z");
        let answers = [
            Fault::problem(404, "malformed", "unknown certificate"),
            Fault::problem(500, "serverInternal", "oops"),
            Fault::Answer(Answer::html(502, "Bad Gateway")),
            Fault::body("{"),
            Fault::body(Bytes::new()),
            Fault::body("[]"),
            Fault::body(r#"{"suggestedWindow": null}"#),
            Fault::body(window(late, early).to_string()),
            Fault::body(window(early, early).to_string()),
            Fault::body(window(early, "9999-12-31T23:59:59Z").to_string()),
            Fault::body(window("9999-99-99T00:00:00Z", late).to_string()),
            Fault::body(window("soon", "later").to_string()),
            Fault::oversize(10 << 20),
            Fault::BreakOff,
            Fault::ResetBefore,
        ];
        let count = answers.len();
        for (number, fault) in answers.into_iter().enumerate() {
            bench.proxy.set_rules([Rule::on(Kind::RenewalInfo, fault)]);
            let info = bench.harness.issuer.renewal_info(&id).await;
            ensure!(matches!(info, Ok(None) | Err(_)), "{number}: {info:?}");
        }
        assert_eq!(bench.proxy.count(Kind::RenewalInfo), count);
        bench.cost(count, 1)?;
        // The certificate is renewed by its age.
        let start = bench.harness.now();
        let say = bench.harness.pass(&mut job).await?;
        ensure!(say.look_again > start, "{say:?}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn s31_the_retry_after_of_renewal_information_is_clamped() {
    run(async {
        let (bench, _, id) = issued("info").await?;
        for value in ["0", "1", "21600", "31536000", "soon"] {
            let pace = Fault::alter(move |answer| {
                answer.set(http::header::RETRY_AFTER, value);
            });
            bench.proxy.set_rules([Rule::on(Kind::RenewalInfo, pace)]);
            let info = information(&bench, &id).await?;
            let wait = info.ask_again.duration_since(bench.harness.now());
            ensure!(wait >= seconds(60) && wait <= days(1), "{value}: {wait:#}");
            ensure!(info.start < info.end, "{info:?}");
        }
        for (start, end) in [
            ("9999-01-01T00:00:00Z", "9999-06-01T00:00:00Z"),
            ("2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z"),
        ] {
            let body = Fault::body(window(start, end).to_string());
            bench.proxy.set_rules([Rule::on(Kind::RenewalInfo, body)]);
            let info = information(&bench, &id).await?;
            assert_eq!((info.start, info.end), (start.parse()?, end.parse()?));
        }
        bench.cost(7, 1)
    })
    .unwrap();
}

#[test]
fn s32_a_certificate_that_its_ca_revoked_is_renewed_within_minutes() {
    run(async {
        let (bench, mut job, id) = issued("revoked").await?;
        let info = information(&bench, &id).await?;
        ensure!(info.start > bench.harness.now(), "{info:?}");
        let kept = job.secret.as_ref().context("there is no Secret")?;
        let leaf = kept.bundle.chain.first().context("there is no certificate")?;
        bench.harness.issuer.revoke(leaf, RevocationReason::Superseded).await?;
        // One replacement is needed; two are harmless.
        bench.harness.issuer.revoke(leaf, RevocationReason::Superseded).await?;
        let info = information(&bench, &id).await?;
        ensure!(info.end < bench.harness.now(), "{info:?}");
        bench.cost(4, 1)?;
        let RenewalInfo { start, end, explanation_url, .. } = info;
        job.suggested = Some(Suggested::new(id.clone(), (start, end), explanation_url));
        let took = bench.issue(&mut job).await?;
        ensure!(took < seconds(300), "{took:#}");
        assert_eq!((job.stored, replaced(&bench)), (2, vec![json!(id.as_str())]));
        bench.cost(MINIMUM, 2)
    })
    .unwrap();
}
