//! Limits that an order meets.

use crate::net::scripted::reply;

use super::*;

const CROWD: usize = 20;

/// An issuer whose CA refuses new orders with `status`, `retry_after` and `detail`, a second each.
async fn limited(
    status: u16,
    retry_after: Option<&'static str>,
    detail: &'static str,
) -> EngineHarness {
    let bench = EngineHarness::new(CaBehavior::default(), RecordStore::default()).await;
    let (ca, clock) = (bench.ca.clone(), bench.clock.clone());
    let http = Arc::new(Scripted::fallible(move |seen| {
        if seen.path() != "/new-order" {
            return ca.lock().unwrap().serve(seen);
        }
        clock.step(SignedDuration::from_secs(1));
        let problem = serde_json::json!({
            "type": "urn:ietf:params:acme:error:rateLimited", "detail": detail,
        });
        let answer = reply(status).nonce("n");
        let answer = match retry_after {
            Some(text) => answer.header("retry-after", text),
            None => answer,
        };
        Ok(answer.json(&problem))
    }));
    let client = Arc::new(Client::new(http.clone(), bench.clock.clone(), "https://ca/dir"));
    client.directory().await.unwrap();
    let key = AccountKey::generate().unwrap();
    let account = Account::known(client, key, "https://ca/account/1");
    let (board, clock) = (bench.board.clone(), bench.clock.clone());
    let issuer = AcmeIssuer::new(
        account,
        board,
        clock.clone(),
        Arc::new(InlineKeyGenerator),
        AcmeOptions::default(),
    );
    http.clear();
    EngineHarness { issuer, http, ..bench }
}

/// faults.md 3 and 4
#[tokio::test]
async fn a_limit_of_a_new_order_lasts_until_retry_after_in_either_form() {
    let date = "Sun, 22 Nov 2026 11:00:00 GMT";
    let about = LimitScope::Domain("example.com".parse().unwrap());
    let detail =
        "too many certificates (50) already issued for \"example.com\" in the last 168h0m0s";
    for (status, retry_after, until) in [
        (429, "600", "2026-11-22T10:10:01Z"),
        (429, date, "2026-11-22T11:00:00Z"),
        (503, "600", "2026-11-22T10:10:01Z"),
    ] {
        let bench = limited(status, Some(retry_after), detail).await;
        let error = bench.issuer.advance(&request(&["a.example.com"]), None).await.unwrap_err();
        assert_eq!(
            error.disposition(),
            Disposition::Until(until.parse().unwrap()),
            "{retry_after}"
        );
        assert_eq!(error.limit(), Some(&about));
        assert!(error.to_string().contains(detail), "{error}");
        assert_eq!(bench.http.log(), ["POST /new-order"]);
    }
}

/// faults.md 5
#[tokio::test]
async fn orders_that_wait_while_the_account_meets_a_limit_do_not_meet_it_again() {
    for (retry_after, disposition) in [
        (Some("600"), Disposition::Until("2026-11-22T10:10:01Z".parse().unwrap())),
        (None, Disposition::Retry(RetrySchedule::Validation)),
    ] {
        let bench = limited(429, retry_after, "too many new orders (300) from this account").await;
        let crowd: Vec<Request> =
            (0..CROWD).map(|number| request(&[&format!("n{number}.example.org")])).collect();
        let tries = crowd.iter().map(|request| bench.issuer.advance(request, None));
        // All of them wait for their turn before the first has it.
        let turn = bench.issuer.placing.acquire().await.unwrap();
        let crowd = futures::future::join_all(tries);
        let (outcomes, ()) = futures::future::join(crowd, async { drop(turn) }).await;
        let (mut asked, mut published) = (0, 0);
        for outcome in outcomes {
            let error = outcome.unwrap_err();
            assert_eq!(error.disposition(), disposition);
            assert_eq!(error.limit(), Some(&LimitScope::Account));
            asked += u32::from(!error.is_unsent());
            published += u32::from(error.is_published_limit());
        }
        assert_eq!((asked, published), (1, 1), "the other orders were not sent");
        assert_eq!(bench.count("POST /new-order"), 1);
    }
}

/// faults.md 35
#[tokio::test]
async fn the_error_of_a_refused_order_has_the_names_whose_proofs_were_refused() {
    let bench = EngineHarness::new(
        CaBehavior { refuses: true, ..CaBehavior::default() },
        RecordStore::default(),
    )
    .await;
    let error = bench.issue(&request(&["*.example.org", "a.example.org"])).await.unwrap_err();
    let names: Vec<&str> = error.unproved().iter().map(DnsName::as_str).collect();
    assert_eq!(names, ["example.org", "a.example.org"]);
    assert!(
        error.to_string().contains("a.example.org: unauthorized: Incorrect TXT record"),
        "{error}"
    );
}
