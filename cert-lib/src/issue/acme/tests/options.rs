//! What an order may ask for besides names: a profile, a predecessor, a chain, addresses, and
//! authorizations that end with it.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
use serde_json::{Value, json};

use super::{ca::problem, *};
use crate::{model::bundle::Leaf, net::scripted::reply};

const NEW_ORDER: &str = "POST /new-order";

fn predecessor() -> CertId {
    serde_json::from_value(json!("aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE")).unwrap()
}

fn with_profile(name: &str) -> Request {
    let mut request = request(&["app.example.org"]);
    request.acme.profile = Some(name.to_owned());
    request
}

async fn with_options(manner: CaBehavior, options: AcmeOptions) -> EngineHarness {
    EngineHarness::with(manner, RecordStore::default(), options, Box::new(|_, _| None)).await
}

#[tokio::test]
async fn the_profile_of_the_request_comes_before_that_of_the_issuer() {
    let default = Some("classic".to_owned());
    let options = AcmeOptions { profile: default, ..AcmeOptions::default() };
    for (profile, sent) in [(None, "classic"), (Some("shortlived"), "shortlived")] {
        let bench = with_options(CaBehavior::default(), options.clone()).await;
        let mut request = request(&["app.example.org"]);
        request.acme.profile = profile.map(str::to_owned);
        bench.issue(&request).await.unwrap();
        assert_eq!(bench.sent("/new-order")[0]["profile"], sent);
    }
    let bench = EngineHarness::new(CaBehavior::default(), RecordStore::default()).await;
    bench.issue(&request(&["app.example.org"])).await.unwrap();
    let identifiers = json!([{"type": "dns", "value": "app.example.org"}]);
    assert_eq!(bench.sent("/new-order"), [json!({ "identifiers": identifiers })]);
}

/// faults.md 34
#[tokio::test]
async fn the_error_for_an_unknown_profile_lists_the_profiles_and_no_order_is_placed() {
    let options = AcmeOptions { profile: Some("tlsclient".to_owned()), ..AcmeOptions::default() };
    for (options, request, disposition) in [
        (AcmeOptions::default(), with_profile("tlsclient"), Disposition::FixRequest),
        (options, request(&["app.example.org"]), Disposition::FixIssuer),
    ] {
        let bench = with_options(CaBehavior::default(), options).await;
        let error = bench.issue(&request).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the CA has no profile 'tlsclient': it has classic, shortlived"
        );
        assert_eq!((error.disposition(), error.ends_order()), (disposition, true));
        assert_eq!(bench.count(NEW_ORDER), 0);
        // It may have come since.
        bench.issue(&request).await.unwrap_err();
        assert_eq!(bench.http.log(), ["GET /dir"]);
    }
}

/// faults.md 34
#[tokio::test]
async fn the_errors_for_a_removed_profile_and_too_many_names_have_the_reason_of_the_ca() {
    for (word, detail, disposition) in [
        ("invalidProfile", "profile \"shortlived\" was removed", Disposition::FixRequest),
        ("malformed", "order has 26 identifiers, 25 are allowed", Disposition::FixRequest),
    ] {
        let bench = EngineHarness::hooked(CaBehavior::default(), move |seen, _| {
            let kind = format!("urn:ietf:params:acme:error:{word}");
            let body = json!({ "type": kind, "detail": detail });
            (seen.path() == "/new-order").then(|| reply(400).nonce("n").json(&body))
        })
        .await;
        let error = bench.issue(&with_profile("shortlived")).await.unwrap_err();
        let want = format!("placing the order failed: {word}: {detail} (HTTP 400)");
        assert_eq!((error.to_string(), error.disposition()), (want, disposition));
        assert_eq!(bench.http.log(), [NEW_ORDER]);
    }
}

#[tokio::test]
async fn profile_and_predecessor_cost_no_further_request() {
    for (reused, requests) in [(false, 7), (true, 4)] {
        let bench = EngineHarness::new(
            CaBehavior { reused, ..CaBehavior::default() },
            RecordStore::default(),
        )
        .await;
        let request = Request { replaces: Some(predecessor()), ..with_profile("classic") };
        bench.issue(&request).await.unwrap();
        assert_eq!(bench.http.log().len(), requests, "{:?}", bench.http.log());
        assert_eq!(bench.sent("/new-order")[0]["replaces"], predecessor().as_str());
    }
}

/// faults.md 30
#[tokio::test]
async fn an_order_whose_predecessor_is_refused_is_placed_once_more_without() {
    for (status, word, orders) in [
        (409, "alreadyReplaced", 2),
        (400, "malformed", 2),
        (403, "unauthorized", 2),
        (404, "malformed", 2),
        (400, "rejectedIdentifier", 1),
        (429, "rateLimited", 1),
        (500, "serverInternal", 2),
        (503, "", 1),
        (503, "serverInternal", 1),
    ] {
        let bench = EngineHarness::hooked(CaBehavior::default(), move |seen, _| {
            let answer = || match (status, word) {
                (_, "") => reply(status).nonce("n").html("<h1>Busy</h1>"),
                (503, _) => reply(503).nonce("n").header("retry-after", "9").json(&problem(word)),
                _ => reply(status).nonce("n").json(&problem(word)),
            };
            seen.payload["replaces"].is_string().then(answer)
        })
        .await;
        let request = Request { replaces: Some(predecessor()), ..request(&["app.example.org"]) };
        let outcome = bench.issuer.advance(&request, None).await;
        assert_eq!(bench.count(NEW_ORDER), orders, "{word}");
        assert_eq!(outcome.is_ok(), orders == 2, "{word}");
        let last = bench.sent("/new-order").pop().unwrap();
        assert_eq!(last["replaces"].is_null(), orders == 2, "{word}: {last}");
    }
}

/// faults.md 10
#[tokio::test]
async fn an_order_at_a_ca_without_renewal_information_names_no_predecessor() {
    let bench = EngineHarness::hooked(CaBehavior::default(), |seen, _| {
        (seen.path() == "/dir").then(|| {
            reply(200).json(&json!({"newNonce": "https://ca/nonce",
                "newAccount": "https://ca/new-account", "newOrder": "https://ca/new-order"}))
        })
    })
    .await;
    let request = Request { replaces: Some(predecessor()), ..request(&["app.example.org"]) };
    bench.issue(&request).await.unwrap();
    assert!(bench.sent("/new-order")[0]["replaces"].is_null());
}

/// A CA that hands out what it signed with one issuer under the names of several.
fn alternate(leaf: &str, issuers: &[&str]) -> String {
    let mut chain = leaf.to_owned();
    for name in issuers {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // The name of the issuer of the leaf.
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "rcgen self signed cert");
        let mut root = CertificateParams::default();
        root.distinguished_name.push(DnType::CommonName, *name);
        let root = rcgen::Issuer::new(root, KeyPair::generate().unwrap());
        chain += &params.signed_by(&KeyPair::generate().unwrap(), &root).unwrap().pem();
    }
    chain
}

/// Chains `Root 0` (default) to `Root 2`, and one that is not there.
async fn with_roots(options: AcmeOptions) -> EngineHarness {
    let hook = |seen: &Seen, ca: &mut Ca| {
        let number = seen.path().strip_prefix("/cert/")?.to_owned();
        let answer = match number.as_str() {
            "404" => reply(404).nonce("n").json(&problem("malformed")),
            "html" => reply(200).nonce("n").html("<h1>hello</h1>"),
            _ => {
                let root = number.parse::<u32>().unwrap() - 1;
                let mut answer = reply(200).nonce("n");
                // To others, to itself, to the default one, and one of them twice.
                for to in ["404", "html", "1", "2", "2", "3"] {
                    answer =
                        answer.header("link", &format!("<https://ca/cert/{to}>;rel=\"alternate\""));
                }
                answer.html(&alternate(&ca.certificate, &[&format!("Root {root}")]))
            }
        };
        Some(Ok(answer))
    };
    EngineHarness::with(
        CaBehavior { reused: true, quick: true, ..CaBehavior::default() },
        RecordStore::default(),
        options,
        Box::new(hook),
    )
    .await
}

fn fetched(bench: &EngineHarness) -> Vec<String> {
    let log = bench.http.log().into_iter();
    log.filter_map(|line| Some(line.strip_prefix("POST /cert/")?.to_owned())).collect()
}

/// faults.md 25
#[tokio::test]
async fn the_first_chain_that_is_preferred_is_taken_and_each_is_fetched_once_at_most() {
    let all = ["1", "404", "html", "2", "3"];
    for (preferred, fetches, root, said) in [
        (None, &all[..1], "Root 0", false),
        (Some("Root 0"), &all[..1], "Root 0", false),
        (Some("Root 1"), &all[..4], "Root 1", false),
        (Some("Root 2"), &all[..], "Root 2", false),
        (Some("Root 9"), &all[..], "Root 0", true),
    ] {
        for own in [true, false] {
            let preferred = preferred.map(str::to_owned);
            let mut request = request(&["app.example.org"]);
            let mut options = AcmeOptions::default();
            if own {
                request.acme.preferred_chain.clone_from(&preferred);
                options.preferred_chain = preferred.as_ref().map(|_| "Root 7".to_owned());
            } else {
                options.preferred_chain.clone_from(&preferred);
            }
            let bench = with_roots(options).await;
            let bundle = bench.issue(&request).await.unwrap();
            assert_eq!(fetched(&bench), fetches, "{preferred:?}");
            assert!(chain::has_issuer(&bundle.chain, root), "{preferred:?}");
            assert_eq!(bundle.remark.is_some(), said, "{:?}", bundle.remark);
        }
    }
}

#[tokio::test]
async fn a_preference_that_no_chain_meets_causes_a_remark() {
    let options = AcmeOptions { preferred_chain: Some("DST".to_owned()), ..AcmeOptions::default() };
    let bundle = with_roots(options).await.issue(&request(&["a.example.org"])).await.unwrap();
    assert_eq!(
        bundle.remark.as_deref(),
        Some(
            "no chain of the CA has an issuer with the common name \"DST\", so its default chain is used"
        )
    );
}

#[tokio::test]
async fn authorizations_are_given_up_after_issuing_where_that_is_wanted() {
    for (reused, wanted) in [(false, true), (true, true), (false, false)] {
        let options = AcmeOptions { deactivate_authorizations: wanted, ..AcmeOptions::default() };
        let bench = with_options(CaBehavior { reused, ..CaBehavior::default() }, options).await;
        bench.issue(&request(&["a.example.org", "b.example.org"])).await.unwrap();
        let want = if wanted { vec![0, 1] } else { Vec::new() };
        assert_eq!(bench.ca.lock().unwrap().deactivated, want, "{reused}");
        let last = bench.http.log().pop().unwrap();
        assert_eq!(last, if wanted { "POST /authz/1" } else { "POST /cert/1" });
    }
}

/// The state in which the proofs are published and not yet seen.
async fn proving(bench: &EngineHarness, request: &Request) -> Progress {
    let mut progress = None;
    for _ in 0..2 {
        bench.step(request, &mut progress).await.unwrap();
    }
    progress.unwrap()
}

#[tokio::test]
async fn what_an_abandoned_order_had_yet_to_prove_is_given_up_once() {
    let board = RecordStore { looks: Mutex::new([not_yet(9)].into()), ..RecordStore::default() };
    let bench = EngineHarness::new(CaBehavior::default(), board).await;
    let request = request(&["a.example.org", "b.example.org"]);
    let progress = proving(&bench, &request).await;
    for _ in 0..2 {
        bench.issuer.abandon(&request.owner, &progress).await.unwrap();
    }
    assert_eq!(bench.ca.lock().unwrap().deactivated, [0, 1]);
    assert_eq!(bench.http.log().len(), 5, "order, two authorizations, and both of them again");
}

#[tokio::test]
async fn a_failed_order_gives_up_what_was_yet_to_be_proved_and_asks_nothing_for_it() {
    let board = RecordStore {
        looks: Mutex::new((0..50).map(|_| not_yet(50)).collect()),
        ..RecordStore::default()
    };
    let bench = EngineHarness::new(CaBehavior::default(), board).await;
    let request = request(&["a.example.org", "b.example.org"]);
    bench.issue(&request).await.unwrap_err();
    assert_eq!(bench.ca.lock().unwrap().deactivated, [0, 1]);
    assert_eq!(bench.http.log().len(), 5);
    // Another process does not know them, and does not ask either.
    let bench = EngineHarness::new(CaBehavior::default(), RecordStore::default()).await;
    let progress = bench.placed(&request).await;
    bench.issuer.abandon(&request.owner, &stored(&progress)).await.unwrap();
    assert_eq!(bench.http.log(), [NEW_ORDER]);
}

#[tokio::test]
async fn authorizations_that_another_order_needs_are_left_alone() {
    let board = RecordStore {
        looks: Mutex::new([not_yet(9), not_yet(9)].into()),
        ..RecordStore::default()
    };
    let mut placed = 0;
    // Two orders with the same authorizations.
    let hook = move |seen: &Seen, ca: &mut Ca| {
        if seen.path() != "/new-order" {
            return None;
        }
        placed += 1;
        ca.serve(seen).unwrap();
        let location = format!("https://ca/order/{placed}");
        Some(Ok(reply(201).nonce("n").header("location", &location).json(&ca.order())))
    };
    let bench =
        EngineHarness::with(CaBehavior::default(), board, AcmeOptions::default(), Box::new(hook))
            .await;
    let request = request(&["a.example.org"]);
    let (first, second) = (proving(&bench, &request).await, proving(&bench, &request).await);
    bench.issuer.abandon(&request.owner, &first).await.unwrap();
    assert_eq!(bench.ca.lock().unwrap().deactivated, [0; 0]);
    bench.issuer.abandon(&request.owner, &second).await.unwrap();
    assert_eq!(bench.ca.lock().unwrap().deactivated, [0]);
}

#[tokio::test]
async fn addresses_are_ordered_proved_by_http_and_certified() {
    let board = RecordStore { addresses: true, ..RecordStore::default() };
    let bench = EngineHarness::new(CaBehavior::default(), board).await;
    let mut request = request(&["app.example.org"]);
    request.acme.addresses = vec!["10.1.2.3".parse().unwrap(), "2001:db8::1".parse().unwrap()];
    let bundle = bench.issue(&request).await.unwrap();
    let identifiers: Vec<Value> =
        [("dns", "app.example.org"), ("ip", "10.1.2.3"), ("ip", "2001:db8::1")]
            .map(|(kind, value)| json!({"type": kind, "value": value}))
            .into();
    assert_eq!(bench.sent("/new-order")[0]["identifiers"], json!(identifiers));
    assert_eq!(bench.count("POST /challenge/1"), 1);
    assert_eq!(bench.board_log()[0], "present _acme-challenge.app.example.org=1");
    let leaf = &bundle.chain[0];
    assert_eq!(crate::issue::verify::verify(&bundle, &request, bench.clock.now()), Ok(()));
    assert_eq!(Leaf::from_der(leaf).unwrap().names.len(), 1);
}

#[tokio::test]
async fn without_a_solver_for_addresses_none_are_ordered() {
    let bench = EngineHarness::new(CaBehavior::default(), RecordStore::default()).await;
    let mut request = request(&["app.example.org"]);
    request.acme.addresses = vec!["10.1.2.3".parse().unwrap()];
    let error = bench.issue(&request).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "an IP address is proved by HTTP01 or TLSALPN01, which this version does not publish"
    );
    assert_eq!(error.disposition(), Disposition::FixRequest);
    assert_eq!(bench.http.log(), [""; 0]);
}
