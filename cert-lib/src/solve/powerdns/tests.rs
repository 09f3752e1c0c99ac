//! A PowerDNS in memory behind [`Scripted`], and faults of it.

use std::sync::Mutex;

use ::http::Response;
use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::{
    clock::Manual,
    net::{
        HttpError,
        scripted::{Scripted, Seen, reply},
    },
};

const KEY: &str = "top-secret-key";
const ZONES: &str = "/api/v1/servers/localhost/zones";
const NAME: &str = "_acme-challenge.app.example.org";

fn clock() -> Arc<Manual> {
    Arc::new(Manual::at("2026-01-01T00:00:00Z".parse().unwrap()))
}

fn client(http: &Arc<Scripted>, clock: &Arc<Manual>, zone: Option<&str>) -> PowerDns {
    let config = PowerDnsConfig {
        url: "http://pdns.test:8081/".to_owned(),
        server_id: DEFAULT_SERVER_ID.to_owned(),
        zone: zone.map(|zone| zone.parse().unwrap()),
        api_key: ApiKey::new(&format!("{KEY}\n")),
        credential: "Secret dns/powerdns key apikey".to_owned(),
        ttl: 60,
        http: http.clone(),
        clock: clock.clone(),
        locks: Arc::default(),
    };
    PowerDns::new(config).unwrap()
}

fn values(values: &[&str]) -> Vec<String> {
    values.iter().map(|&value| value.to_owned()).collect()
}

fn name() -> DnsName {
    NAME.parse().unwrap()
}

/// The zone example.org as PowerDNS 4.7 keeps it.
#[derive(Clone)]
struct Fake {
    records: Arc<Mutex<Vec<Value>>>,
    /// Another client, which runs after each write.
    other: fn(usize, &mut Vec<Value>),
    is_large: bool,
}

impl Fake {
    fn new(records: &[Value]) -> Self {
        let records = Arc::new(Mutex::new(records.to_vec()));
        Self { records, other: |_, _| {}, is_large: false }
    }

    /// Sorted by their text.
    fn records(&self) -> Vec<Value> {
        let mut records = self.records.lock().unwrap().clone();
        records.sort_by_key(Value::to_string);
        records
    }

    fn http(&self) -> Arc<Scripted> {
        let (fake, mut writes) = (self.clone(), 0);
        Arc::new(Scripted::fallible(move |seen| fake.answer(seen, &mut writes)))
    }

    fn answer(&self, seen: &Seen, writes: &mut usize) -> Result<Response<Bytes>, HttpError> {
        let mut records = self.records.lock().unwrap();
        let path = seen.path().strip_prefix("/api/v1/servers/localhost").unwrap();
        let set = |records: Vec<Value>| json!({"name": format!("{NAME}."), "type": "TXT", "ttl": 77, "records": records});
        Ok(match path.split_once('?').unwrap_or((path, "")) {
            ("/zones", query) if query.starts_with("zone=example.org.&") => {
                reply(200).json(&json!([{"name": "example.org.", "kind": "Native"}]))
            }
            ("/zones", _) => reply(200).json(&json!([])),
            ("/search-data", _) => {
                let found = |record: &Value| {
                    json!({"name": format!("{NAME}."), "zone": "example.org.", "type": "TXT",
                           "ttl": 78, "content": record["content"], "disabled": record["disabled"]})
                };
                reply(200).json(&records.iter().map(found).collect())
            }
            ("/zones/example.org.", _) if seen.method == "PATCH" => {
                let change = &seen.body["rrsets"][0];
                *records = change["records"].as_array().cloned().unwrap_or_default();
                *writes += 1;
                (self.other)(*writes, &mut records);
                reply(204).empty()
            }
            ("/zones/example.org.", "") if self.is_large => {
                return Err(HttpError::TooLarge { host: "pdns".to_owned(), limit: 1 });
            }
            ("/zones/example.org.", "") => {
                reply(200).json(&json!({"rrsets": [set(records.clone())]}))
            }
            ("/zones/example.org.", _) => {
                let is_live = |record: &&Value| record["disabled"] == false;
                let live: Vec<Value> = records.iter().filter(is_live).cloned().collect();
                let sets = if live.is_empty() { json!([]) } else { json!([set(live)]) };
                reply(200).json(&json!({"rrsets": sets}))
            }
            other => panic!("{other:?}"),
        })
    }
}

fn record(content: &str, disabled: bool) -> Value {
    json!({"content": content, "disabled": disabled})
}

#[tokio::test]
async fn values_come_and_go_beside_those_of_others() {
    for is_large in [false, true] {
        let foreign = [record("\"other\"", false), record("\"off\"", true)];
        let fake = Fake { is_large, ..Fake::new(&foreign) };
        let http = fake.http();
        let client = client(&http, &clock(), None);
        client.add(&name(), &values(&["v1", "v2"])).await.unwrap();
        let patch = http.seen().into_iter().find(|seen| seen.method == "PATCH").unwrap();
        let both = [record("\"v1\"", false), record("\"v2\"", false)];
        let want = [&foreign[..], &both].concat();
        assert_eq!(patch.body["rrsets"][0]["records"], json!(want), "{is_large}");
        assert_eq!(patch.body["rrsets"][0]["name"], format!("{NAME}."));
        assert_eq!(patch.body["rrsets"][0]["ttl"], 77);
        assert_eq!(patch.body["rrsets"][0]["changetype"], "REPLACE");
        assert!(patch.body["rrsets"][0].get("comments").is_none());
        client.remove(&name(), &values(&["v1"])).await.unwrap();
        let [live, off] = foreign;
        let want = [off.clone(), live.clone(), both[1].clone()];
        assert_eq!(fake.records(), want);
        http.clear();
        client.add(&name(), &values(&["v2"])).await.unwrap();
        client.remove(&name(), &values(&["v1", "v3"])).await.unwrap();
        assert!(http.log().iter().all(|line| line.starts_with("GET")), "{:?}", http.log());
        client.remove(&name(), &values(&["v2"])).await.unwrap();
        assert_eq!(fake.records(), [off, live]);
    }
}

#[tokio::test]
async fn the_ttl_of_disabled_records_is_kept_and_the_last_value_takes_the_set_along() {
    let fake = Fake { is_large: true, ..Fake::new(&[record("\"off\"", true)]) };
    let http = fake.http();
    client(&http, &clock(), None).add(&name(), &values(&["v1"])).await.unwrap();
    let patch = http.seen().into_iter().find(|seen| seen.method == "PATCH").unwrap();
    assert_eq!(patch.body["rrsets"][0]["ttl"], 78);
    let fake = Fake::new(&[]);
    let http = fake.http();
    let client = client(&http, &clock(), None);
    client.add(&name(), &values(&["v1"])).await.unwrap();
    client.remove(&name(), &values(&["v1"])).await.unwrap();
    let patches: Vec<Value> = http
        .seen()
        .into_iter()
        .filter(|seen| seen.method == "PATCH")
        .map(|seen| seen.body["rrsets"][0].clone())
        .collect();
    assert_eq!(patches[0]["ttl"], 60);
    let delete = json!({"name": format!("{NAME}."), "type": "TXT", "changetype": "DELETE"});
    assert_eq!(patches[1], delete);
}

#[tokio::test]
async fn the_longest_zone_is_found_once_and_checked_again_after_some_minutes() {
    let (http, clock) = (Fake::new(&[]).http(), clock());
    let client = client(&http, &clock, None);
    let asked = |http: &Scripted| {
        let log = http.log();
        http.clear();
        let zones = log.into_iter().filter(|line| line.contains("zones?zone="));
        zones.map(|line| line.split(['=', '&']).nth(1).unwrap().to_owned()).collect::<Vec<_>>()
    };
    client.add(&name(), &values(&["v1"])).await.unwrap();
    assert_eq!(
        asked(&http),
        [format!("{NAME}."), "app.example.org.".into(), "example.org.".into()]
    );
    client.remove(&name(), &values(&["v1"])).await.unwrap();
    assert!(asked(&http).is_empty());
    clock.step(jiff::SignedDuration::from_mins(6));
    client.remove(&name(), &values(&["v1"])).await.unwrap();
    assert_eq!(asked(&http).len(), 3);
    let other = "a.test".parse().unwrap();
    let error = client.add(&other, &values(&["v1"])).await.unwrap_err();
    assert_eq!(asked(&http), ["a.test.", "test."]);
    assert!(error.to_string().contains("has no zone that contains a.test: create it"), "{error}");
}

#[tokio::test]
async fn a_configured_zone_is_the_only_one() {
    let http = Fake::new(&[]).http();
    client(&http, &clock(), Some("example.org")).add(&name(), &values(&["v"])).await.unwrap();
    assert!(http.log()[0].contains("zones?zone=example.org."));
    for (zone, want) in [
        ("app.example.org", "has no zone app.example.org: create it, or change zone"),
        ("other.org", "the name is not in other.org, the zone of the PowerDNS solver"),
    ] {
        let error = client(&http, &clock(), Some(zone)).add(&name(), &[]).await.unwrap_err();
        assert!(matches!(&error, SolveError::Misconfigured(why) if why.contains(want)), "{error}");
    }
}

#[tokio::test]
async fn a_lost_update_is_repeated_a_bounded_number_of_times() {
    let fake = Fake {
        other: |writes, records| {
            if writes < 3 {
                *records = vec![record("\"theirs\"", false)];
            }
        },
        ..Fake::new(&[])
    };
    let http = fake.http();
    client(&http, &clock(), None).add(&name(), &values(&["v1"])).await.unwrap();
    assert_eq!(fake.records(), [record("\"theirs\"", false), record("\"v1\"", false)]);
    let fake =
        Fake { other: |_, records| *records = vec![record("\"theirs\"", false)], ..Fake::new(&[]) };
    let http = fake.http();
    let error = client(&http, &clock(), None).add(&name(), &values(&["v1"])).await.unwrap_err();
    assert!(error.to_string().contains("another client overwrites them"), "{error}");
    assert!(matches!(error, SolveError::Unavailable(_)));
    let writes = http.log().iter().filter(|line| line.starts_with("PATCH")).count();
    assert_eq!(writes, MAX_WRITES);
}

/// A server with a zone that answers one request otherwise.
fn faulty(
    method: &'static str,
    path: &'static str,
    fault: impl Fn() -> Result<Response<Bytes>, HttpError> + Send + 'static,
) -> Arc<Scripted> {
    let (fake, mut writes) = (Fake::new(&[]), 0);
    Arc::new(Scripted::fallible(move |seen| {
        if seen.method == method && seen.path().starts_with(path) {
            return fault();
        }
        fake.answer(seen, &mut writes)
    }))
}

async fn error_of(http: &Arc<Scripted>) -> SolveError {
    let client = client(http, &clock(), Some("example.org"));
    let error = client.add(&name(), &values(&["v1"])).await.unwrap_err();
    let text = format!("{error} {error:?} {client:?}");
    assert!(!text.contains(KEY) && text.len() < 3000, "{text}");
    let start = format!("cannot change TXT records of {NAME}: ");
    assert!(error.to_string().starts_with(&start), "{error}");
    error
}

#[tokio::test]
async fn an_error_status_is_reported_with_the_remedy() {
    let zone = "/api/v1/servers/localhost/zones/example.org.";
    for (method, path, status, want, is_permanent) in [
        ("GET", ZONES, 401, "compare Secret dns/powerdns key apikey with api-key of", true),
        ("GET", ZONES, 403, "refuses the API key (403 Forbidden)", true),
        ("GET", ZONES, 404, "has no server \"localhost\" (404 Not Found: \"it said\")", true),
        ("GET", zone, 404, "has no zone example.org any more", true),
        ("PATCH", zone, 404, "has no zone example.org any more", true),
        ("PATCH", zone, 422, "refuses the change of zone example.org (422", true),
        ("PATCH", zone, 400, "refuses the change of zone example.org (400", true),
        ("PATCH", zone, 405, "does not permit changes (405", true),
        ("PATCH", zone, 401, "refuses the API key", true),
        ("GET", ZONES, 302, "gives an unexpected answer (302", true),
        ("PATCH", zone, 500, "fails (500 Internal Server Error: \"it said\")", false),
        ("GET", ZONES, 502, "fails (502", false),
        ("GET", ZONES, 503, "fails (503", false),
        ("GET", ZONES, 429, "fails (429", false),
    ] {
        let http =
            faulty(method, path, move || Ok(reply(status).json(&json!({"error": "it\n said"}))));
        let error = error_of(&http).await;
        assert!(error.to_string().contains(want), "{error}");
        assert!(error.to_string().contains("PowerDNS http://pdns.test:8081 "), "{error}");
        assert_eq!(!matches!(error, SolveError::Unavailable(_)), is_permanent, "{error:?}");
        let is_refused = matches!(error, SolveError::CredentialRefused(_));
        assert_eq!(is_refused, matches!(status, 401 | 403), "{error:?}");
    }
}

#[tokio::test]
async fn quotations_are_bounded_and_without_the_key() {
    let long = format!("key {KEY} \u{7} {}", "x".repeat(100_000));
    for body in [json!({"error": long}).to_string(), long.clone(), format!("<html>{long}")] {
        let http = faulty("PATCH", ZONES, move || Ok(reply(500).html(&body)));
        let error = error_of(&http).await.to_string();
        assert!(error.contains("key *** ") && error.len() < 600, "{error}");
    }
    for body in ["<html>", "", "{}", "[{\"name\": 1}]", "\u{0}"] {
        let http = faulty("GET", ZONES, move || Ok(reply(200).html(body)));
        let error = error_of(&http).await;
        assert!(error.to_string().contains("does not answer as the API of PowerDNS"), "{error}");
        assert!(matches!(error, SolveError::Misconfigured(_)));
    }
}

#[tokio::test]
async fn a_server_without_an_answer_is_reported_with_the_remedy() {
    let host = || "pdns.test:8081".to_owned();
    let reason = || "the reason".to_owned();
    for (fault, want, is_permanent) in [
        (HttpError::Untrusted { host: host(), reason: reason() }, "into caBundle", true),
        (HttpError::Unreachable { host: host(), reason: reason() }, "check url, the server", false),
        (HttpError::Broken { host: host(), reason: reason() }, "webserver-allow-from", false),
        (HttpError::TimedOut { host: host(), seconds: 30 }, "is slow: no answer", false),
        (HttpError::TooLarge { host: host(), limit: 1 }, "larger than 1 bytes", false),
    ] {
        let http = faulty("GET", "/api/v1/servers/localhost/zones?", move || Err(fault.clone()));
        let error = error_of(&http).await;
        assert!(error.to_string().contains(want), "{error}");
        assert_eq!(matches!(error, SolveError::Misconfigured(_)), is_permanent, "{error:?}");
    }
}

#[tokio::test]
async fn a_secondary_zone_is_read_only_and_a_failure_makes_the_zone_be_checked_again() {
    for kind in ["Secondary", "Consumer", "Forwarded"] {
        let zones = json!([{"name": "example.org.", "kind": kind}]);
        let http =
            faulty("GET", "/api/v1/servers/localhost/zones?", move || Ok(reply(200).json(&zones)));
        let error = error_of(&http).await;
        assert!(
            error
                .to_string()
                .contains("zone example.org of PowerDNS http://pdns.test:8081 is read-only"),
            "{error}"
        );
        assert!(matches!(error, SolveError::Misconfigured(_)));
        assert_eq!(http.log().len(), 1);
    }
    let http = faulty("PATCH", ZONES, || Ok(reply(500).empty()));
    let client = client(&http, &clock(), None);
    for _ in 0..2 {
        client.add(&name(), &values(&["v"])).await.unwrap_err();
        assert_eq!(http.log().iter().filter(|line| line.contains("zones?zone=")).count(), 3);
        let writes = http.log().iter().filter(|line| line.starts_with("PATCH")).count();
        assert_eq!(writes, MAX_WRITES);
        http.clear();
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_has_a_deadline() {
    struct Never;
    #[async_trait]
    impl Http for Never {
        async fn send(&self, _: ::http::Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
            std::future::pending().await
        }
    }
    let client = client(&Fake::new(&[]).http(), &clock(), None);
    let api = Api::new(client.api.server().clone(), Arc::new(Never));
    let client = PowerDns { api, ..client };
    let error = client.add(&name(), &values(&["v"])).await.unwrap_err();
    assert!(error.to_string().contains("is slow: not done within 60 s"), "{error}");
    assert!(matches!(error, SolveError::Unavailable(_)));
}

#[test]
fn an_unusable_zone_or_ttl_is_refused() {
    let http = Fake::new(&[]).http();
    for (zone, ttl, want) in [("*.example.org", 60, "wildcard"), ("example.org", u32::MAX, "ttl")] {
        let config = PowerDnsConfig {
            url: "http://pdns".to_owned(),
            server_id: "localhost".to_owned(),
            zone: Some(zone.parse().unwrap()),
            api_key: ApiKey::new(KEY),
            credential: String::new(),
            ttl,
            http: http.clone(),
            clock: clock(),
            locks: Arc::default(),
        };
        let error = PowerDns::new(config).unwrap_err();
        assert!(error.to_string().contains(want), "{error}");
    }
}

#[tokio::test]
async fn an_internal_error_is_followed_by_changes_one_at_a_time() {
    let (fake, mut writes) = (Fake::new(&[]), 0);
    let mut failures = 2;
    let http = Arc::new(Scripted::fallible(move |seen| {
        if seen.method == "PATCH" && failures > 0 {
            failures -= 1;
            return Ok(reply(500).empty());
        }
        fake.answer(seen, &mut writes)
    }));
    let client = client(&http, &clock(), None);
    assert!(client.turn().await.unwrap().is_none());
    client.add(&name(), &values(&["v1"])).await.unwrap();
    let turn = client.turn().await.unwrap();
    assert!(turn.is_some());
    let remove = values(&["v1"]);
    let fqdn = name();
    let mut removed = client.remove(&fqdn, &remove);
    assert!(futures::poll!(removed.as_mut()).is_pending());
    drop(turn);
    removed.await.unwrap();
}
