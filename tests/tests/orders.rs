//! Features of orders at a real CA, with the engine alone: a table with the cost of each in
//! requests. `oracle.rs` covers proofs: this CA accepts every challenge.

#![expect(clippy::print_stdout, reason = "what a row costs is a result of this test")]
#![expect(clippy::unwrap_used, reason = "the helpers below are part of the tests")]

use std::{collections::BTreeMap, fs, sync::Arc};

use anyhow::{Context, Result, bail};
use cert_controller_manager::solvers::skip::Skip;
use cert_lib::{
    acme::{account::register, client::Client, jws::AccountKey},
    clock::{Clock, System},
    issue::{
        Disposition, InlineKeyGenerator, IssueError, Issuer,
        acme::{AcmeIssuer, AcmeOptions, Timing},
        driver::{MemoryOrderStore, Outcome, drive},
    },
    model::{
        bundle::Bundle,
        request::{Fingerprint, KeyChoice, Request, Subject},
    },
    net::http::{HttpsClient, Roots},
    solve::Owner,
};
use jiff::SignedDuration;
use tests::{
    pebble::{Pebble, PebbleOptions},
    processes::{logs, scratch},
    run,
    x509::Leaf,
};

const DAY: u64 = 24 * 3600;

/// An account at a Pebble of its own.
struct OrderHarness {
    issuer: AcmeIssuer,
    pebble: Pebble,
}

impl OrderHarness {
    async fn open(options: PebbleOptions, acme_options: AcmeOptions) -> Result<Self> {
        let pebble = Pebble::start(&options, &scratch()?, &logs()?).await?;
        let http = HttpsClient::new(&Roots::only_pem(&fs::read(pebble.trust())?)?)?;
        let clock: Arc<dyn Clock> = Arc::new(System);
        let client = Arc::new(Client::new(Arc::new(http), clock.clone(), pebble.directory()));
        let key = AccountKey::generate()?;
        let mut tries = 0;
        let account = loop {
            match register(&client, &key, None, None).await {
                Ok(enrolled) => break enrolled.account,
                // Most nonces may be refused.
                Err(error) if tries > 50 => return Err(error.into()),
                Err(_) => tries += 1,
            }
        };
        let timing = Timing { first_poll: SignedDuration::from_millis(100), ..Timing::default() };
        let acme_options = AcmeOptions { timing, ..acme_options };
        let issuer = AcmeIssuer::new(
            account,
            Arc::new(Skip),
            clock,
            Arc::new(InlineKeyGenerator),
            acme_options,
        );
        Ok(Self { issuer, pebble })
    }

    /// Issues as a controller does, but retries quickly after an error. Prints the cost.
    async fn issue(&self, row: &str, request: &Request) -> Result<(Bundle, BTreeMap<String, u64>)> {
        let before = self.pebble.requests()?;
        let bundle = self.drive(request).await.with_context(|| row.to_owned())?;
        let mut cost = self.pebble.requests()?;
        for (kind, count) in &mut cost {
            *count -= before.get(kind).copied().unwrap_or_default();
        }
        cost.retain(|_, count| *count > 0);
        let all: u64 = cost.values().sum();
        let kinds: Vec<String> =
            cost.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        println!("{row:<40} {all:>4}: {}", kinds.join(", "));
        Ok((bundle, cost))
    }

    async fn drive(&self, request: &Request) -> Result<Bundle> {
        let mut orders = MemoryOrderStore::default();
        for _ in 0..1000 {
            match drive(&self.issuer, request, &mut orders, None, &System).await? {
                Outcome::Issued(bundle) => return Ok(*bundle),
                Outcome::Waiting { until, .. } => {
                    let wait = until.duration_since(System.now());
                    tokio::time::sleep(wait.try_into().unwrap_or_default()).await;
                }
                Outcome::Failed { error, .. } if error.ends_order() => return Err(error.into()),
                Outcome::Retry { .. } | Outcome::Failed { .. } => {}
            }
        }
        bail!("no certificate after 1000 steps")
    }

    /// The error of a request that cannot be issued.
    async fn refusal(&self, request: &Request) -> IssueError {
        self.issuer.advance(request, None).await.unwrap_err()
    }
}

fn exact(options: PebbleOptions) -> PebbleOptions {
    PebbleOptions { nonce_reject: 0, ..options }
}

fn request(name: &str) -> Request {
    let subject = Subject::Names {
        common_name: None,
        dns_names: vec![name.parse().unwrap()],
        key: KeyChoice::default(),
    };
    Request::new(Owner("tests/x".to_owned()), Fingerprint::stored("f"), subject)
}

fn total(cost: &BTreeMap<String, u64>) -> u64 {
    cost.values().sum()
}

fn lifetime(bundle: &Bundle) -> u64 {
    let lifetime = bundle.leaf.not_after.duration_since(bundle.leaf.not_before);
    u64::try_from(lifetime.as_secs()).unwrap().next_multiple_of(60)
}

/// Pebble reuses one authorization of a hundred even with a reuse of zero percent.
fn has_reused_authorization(authz_reuse: u8, cost: &BTreeMap<String, u64>) -> bool {
    authz_reuse == 0 && !cost.contains_key("POST /chalZ/")
}

/// The number of polls depends on the speed of the CA, and that of nonces on the parallel
/// challenges. So a count may be slightly higher.
fn assert_about(cost: &BTreeMap<String, u64>, least: u64) {
    let count = |kind: &str| cost.get(kind).copied().unwrap_or_default();
    let extra = count("POST /my-order/").saturating_sub(2) + count("HEAD /nonce-plz");
    assert!((least..=least + extra).contains(&total(cost)), "{least} wanted: {cost:?}");
}

#[test]
fn an_order_gets_the_requested_profile() {
    run(async {
        let profiles = vec![("long", 60 * DAY), ("short", 6 * DAY)];
        let options = exact(PebbleOptions { profiles, ..Default::default() });
        let acme_options =
            AcmeOptions { profile: Some("long".to_owned()), ..AcmeOptions::default() };
        let harness = OrderHarness::open(options, acme_options).await?;
        for (profile, seconds) in
            [(None, 60 * DAY), (Some("short"), 6 * DAY), (Some("long"), 60 * DAY)]
        {
            let mut request = request(&format!("{}.my-company.test", profile.unwrap_or("none")));
            request.acme.profile = profile.map(str::to_owned);
            let (bundle, cost) = harness.issue(&format!("profile {profile:?}"), &request).await?;
            assert_eq!(lifetime(&bundle), seconds, "{profile:?}");
            assert_about(&cost, 7);
        }
        let mut request = request("profile.my-company.test");
        request.acme.profile = Some("tlsclient".to_owned());
        let error = harness.refusal(&request).await;
        assert_eq!(error.to_string(), "the CA has no profile 'tlsclient': it has long, short");
        assert_eq!(error.disposition(), Disposition::FixRequest);
        assert_eq!(harness.pebble.signed_count()?, 3);
        Ok(())
    })
    .unwrap();
}

#[test]
fn the_preferred_chain_is_found_among_the_alternates() {
    run(async {
        let options = exact(PebbleOptions { alternate_roots: 3, ..Default::default() });
        let harness = OrderHarness::open(options, AcmeOptions::default()).await?;
        for number in 0..=3 {
            let root = Leaf::parse(&harness.pebble.root(number).await?)?;
            let name = root.subject.trim_start_matches("CN=").to_owned();
            let mut request = request("chain.my-company.test");
            request.acme.preferred_chain = Some(name.clone());
            let (bundle, cost) =
                harness.issue(&format!("preferred chain {number}"), &request).await?;
            let chain = bundle.certificate_pem();
            let last = format!("-----BEGIN{}", chain.rsplit("-----BEGIN").next().unwrap());
            assert_eq!(Leaf::parse(last.as_bytes())?.issuer, root.subject, "{number}");
            assert_eq!(bundle.remark, None);
            assert!(cost["POST /certZ/"] <= 1 + u64::from(number), "{cost:?}");
        }
        let mut request = request("chain.my-company.test");
        request.acme.preferred_chain = Some("ISRG Root X1".to_owned());
        let (bundle, cost) = harness.issue("preferred chain that is not there", &request).await?;
        assert!(bundle.remark.is_some_and(|remark| remark.contains("ISRG Root X1")));
        assert_eq!(cost["POST /certZ/"], 4);
        Ok(())
    })
    .unwrap();
}

#[test]
fn names_with_valid_authorizations_take_four_requests() {
    run(async {
        for (authz_reuse, deactivate_authorizations, second) in
            [(0, false, 7), (100, false, 4), (100, true, 7)]
        {
            let options = exact(PebbleOptions { authz_reuse, ..Default::default() });
            let acme_options = AcmeOptions { deactivate_authorizations, ..AcmeOptions::default() };
            let harness = OrderHarness::open(options, acme_options).await?;
            let given_up = u64::from(deactivate_authorizations);
            for (order, requests) in [(1, 7), (2, second)] {
                let row = format!(
                    "reuse {authz_reuse} %, giving up {deactivate_authorizations}, order {order}"
                );
                let (_, cost) = harness.issue(&row, &request("reuse.my-company.test")).await?;
                if !has_reused_authorization(authz_reuse, &cost) {
                    assert_about(&cost, requests + given_up);
                }
                assert!(!cost.contains_key("HEAD /nonce-plz"), "{cost:?}");
            }
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_ca_that_refuses_most_nonces_signs_once() {
    run(async {
        let options = PebbleOptions { nonce_reject: 90, ..Default::default() };
        let harness = OrderHarness::open(options, AcmeOptions::default()).await?;
        let (_, cost) =
            harness.issue("90 % of nonces refused", &request("nonce.my-company.test")).await?;
        assert!(total(&cost) < 7 * 10 * 5, "{cost:?}");
        assert_eq!(harness.pebble.signed_count()?, 1);
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_predecessor_is_sent_and_dropped_if_it_is_already_replaced() {
    run(async {
        let harness =
            OrderHarness::open(exact(PebbleOptions::default()), AcmeOptions::default()).await?;
        let (first, _) = harness.issue("first", &request("replaces.my-company.test")).await?;
        let replacing =
            Request { replaces: first.leaf.id.clone(), ..request("replaces.my-company.test") };
        assert!(replacing.replaces.is_some());
        let (_, cost) = harness.issue("replaces", &replacing).await?;
        assert_eq!(cost["POST /order-plz"], 1, "{cost:?}");
        let (_, cost) = harness.issue("replaces what was replaced", &replacing).await?;
        assert_eq!(cost["POST /order-plz"], 2, "{cost:?}");
        // For other names, for which the CA refuses a replacement.
        let (second, _) = harness.issue("second", &request("replaces.my-company.test")).await?;
        let other = Request { replaces: second.leaf.id, ..request("other.my-company.test") };
        let (_, cost) = harness.issue("replaces one for other names", &other).await?;
        assert_eq!(cost["POST /order-plz"], 2, "{cost:?}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn addresses_and_names_are_certified() {
    run(async {
        let harness =
            OrderHarness::open(exact(PebbleOptions::default()), AcmeOptions::default()).await?;
        let mut request = request("address.my-company.test");
        request.acme.addresses = vec!["10.1.2.3".parse()?, "2001:db8::1".parse()?];
        // The engine verifies that the certificate has them.
        let (_, cost) = harness.issue("a name and two addresses", &request).await?;
        assert_about(&cost, 11);
        request.subject =
            Subject::Names { common_name: None, dns_names: Vec::new(), key: KeyChoice::default() };
        let (bundle, _) = harness.issue("two addresses", &request).await?;
        assert!(bundle.leaf.names.is_empty());
        Ok(())
    })
    .unwrap();
}
