//! TXT records in a real PowerDNS through its HTTP API.

use std::{fs, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use cert_lib::{
    clock::System,
    net::http::{HttpsClient, Roots},
    solve::{
        SolveError,
        dns_records::DnsRecords as _,
        powerdns::{ApiKey, DEFAULT_SERVER_ID, PowerDns as Client, PowerDnsConfig},
    },
};
use futures::future::{join, join_all, try_join, try_join_all};
use http::Method;
use serde_json::Value;
use tests::{
    Look, eventually,
    powerdns::{PowerDns, Zone},
    processes::{logs, scratch},
    proxy::Proxy,
    run,
    tls::Serving,
};

#[path = "powerdns/example.rs"]
mod example;

const ZONE: &str = "intranet.test";
const NAME: &str = "_acme-challenge.intranet.test";
const ROUNDS: usize = 40;

/// What a test changes.
struct Options<'a> {
    url: String,
    key: &'a str,
    server_id: &'a str,
    zone: Option<&'a str>,
    serving: Option<&'a Serving>,
}

impl<'a> Options<'a> {
    fn of(server: &'a PowerDns) -> Self {
        let (url, key) = (server.url(), server.key());
        Self { url, key, server_id: DEFAULT_SERVER_ID, zone: None, serving: None }
    }

    fn client(self) -> Result<Client> {
        let own;
        let serving = match self.serving {
            Some(serving) => serving,
            None => {
                own = Serving::create("unused", &scratch()?)?;
                &own
            }
        };
        let roots = Roots::only_pem(&fs::read(&serving.authority)?)?;
        Ok(Client::new(PowerDnsConfig {
            url: self.url,
            server_id: self.server_id.to_owned(),
            zone: self.zone.map(str::parse).transpose()?,
            api_key: ApiKey::new(self.key),
            credential: "Secret dns/powerdns key apikey".to_owned(),
            ttl: 7,
            http: Arc::new(HttpsClient::new(&roots)?.permit_plain_http()),
            clock: Arc::new(System),
            locks: Arc::default(),
        })?)
    }
}

async fn server() -> Result<PowerDns> {
    let server = PowerDns::start("", &logs()?).await?;
    server.create_zone(ZONE, Zone::Primary).await?;
    Ok(server)
}

fn values(values: &[&str]) -> Vec<String> {
    values.iter().map(|&value| value.to_owned()).collect()
}

async fn serial(server: &PowerDns) -> Result<u64> {
    let path = format!("/zones/{ZONE}.?rrsets=false");
    let (_, zone) = server.request(Method::GET, &path, &Value::Null).await?;
    Ok(zone["serial"].as_u64().unwrap_or_default())
}

#[test]
fn adding_and_removing_leaves_the_zone_unchanged_except_for_its_serial() {
    run(async {
        let server = server().await?;
        let client = Options::of(&server).client()?;
        let (before, first) = (server.records(ZONE).await?, serial(&server).await?);
        let hard = format!("a \"quoted\" \\ ü; {}", "x".repeat(300));
        let all = values(&["v2", "v1", &hard]);
        client.add(&NAME.parse()?, &all).await?;
        client.add(&NAME.parse()?, &all[..2]).await?;
        let mut sorted = all.clone();
        sorted.sort();
        ensure!(server.txt(NAME).await? == sorted, "{:?}", server.txt(NAME).await?);
        let added = server.records(ZONE).await?;
        ensure!(added.contains(&format!("{NAME}. 7 TXT \"v1\"")), "{added:#?}");
        client.remove(&NAME.parse()?, &all[1..]).await?;
        ensure!(server.txt(NAME).await? == ["v2"]);
        client.remove(&NAME.parse()?, &all).await?;
        client.remove(&NAME.parse()?, &all).await?;
        ensure!(server.records(ZONE).await? == before);
        ensure!(serial(&server).await? > first);
        Ok(())
    })
    .unwrap();
}

#[test]
fn values_of_others_at_the_same_name_survive_and_disabled_ones_too() {
    run(async {
        let server = server().await?;
        let name = NAME.parse()?;
        let foreign =
            [("\"theirs\"", false), ("\"two\" \"strings\"", false), ("\"\\\"odd\\\\\"", true)];
        server.put(ZONE, NAME, 77, &foreign).await?;
        server.put(ZONE, &format!("other.{ZONE}"), 77, &[("\"off\"", true)]).await?;
        let small = server.records(ZONE).await?;
        ensure!(small.iter().filter(|line| line.ends_with("(disabled)")).count() == 2);
        ensure!(small.iter().any(|line| line.ends_with("; by hand")), "{small:#?}");
        for is_large in [false, true] {
            if is_large {
                fill(&server).await?;
            }
            let before = server.records(ZONE).await?;
            let client = Options::of(&server).client()?;
            let only_off = format!("other.{ZONE}").parse()?;
            for _ in 0..2 {
                client.add(&name, &values(&["v1", "v2"])).await?;
                client.add(&only_off, &values(&["v1"])).await?;
                let during = server.records(ZONE).await?;
                ensure!(during.contains(&format!("{NAME}. 77 TXT \"v1\"")), "{during:#?}");
                ensure!(before.iter().all(|line| during.contains(line)), "{during:#?}");
                ensure!(server.txt(NAME).await? == ["theirs", "twostrings", "v1", "v2"]);
                client.remove(&name, &values(&["v1", "v2"])).await?;
                client.remove(&only_off, &values(&["v1"])).await?;
                ensure!(server.records(ZONE).await? == before, "{is_large}");
            }
        }
        Ok(())
    })
    .unwrap();
}

/// Makes the zone too large for one answer.
async fn fill(server: &PowerDns) -> Result<()> {
    let content = format!("\"{}\"", "x".repeat(250));
    let record = |number: usize| {
        serde_json::json!({
            "name": format!("n{number}.{ZONE}."), "type": "TXT", "ttl": 1, "changetype": "REPLACE",
            "records": [{"content": content, "disabled": false}],
        })
    };
    let sets: Vec<Value> = (0..5000).map(record).collect();
    let path = format!("/zones/{ZONE}.");
    let body = serde_json::json!({"rrsets": sets});
    let (status, body) = server.request(Method::PATCH, &path, &body).await?;
    ensure!(status.is_success(), "{status}: {body}");
    Ok(())
}

#[test]
fn many_names_of_one_zone_change_at_once() {
    run(async {
        let server = server().await?;
        let client = Options::of(&server).client()?;
        let before = server.records(ZONE).await?;
        let names = (0..50).map(|number| format!("_acme-challenge.n{number}.{ZONE}"));
        let names: Vec<String> = names.chain([NAME.to_owned()]).collect();
        let (apex, wildcard) = (values(&["apex"]), values(&["wildcard"]));
        let client = &client;
        let one = |name: String, value: Vec<String>| async move {
            anyhow::Ok(client.add(&name.parse()?, &value).await?)
        };
        let apexes = names.iter().map(|name| one(name.clone(), apex.clone()));
        let wildcards = names.iter().map(|name| one(name.clone(), wildcard.clone()));
        try_join(try_join_all(apexes), try_join_all(wildcards)).await?;
        for name in &names {
            ensure!(server.txt(name).await? == ["apex", "wildcard"], "{name}");
        }
        let gone = |name: String, value: Vec<String>| async move {
            anyhow::Ok(client.remove(&name.parse()?, &value).await?)
        };
        let apexes = names.iter().map(|name| gone(name.clone(), apex.clone()));
        let wildcards = names.iter().map(|name| gone(name.clone(), wildcard.clone()));
        try_join(try_join_all(apexes), try_join_all(wildcards)).await?;
        ensure!(server.records(ZONE).await? == before);
        Ok(())
    })
    .unwrap();
}

#[test]
fn two_processes_add_to_one_name_at_once() {
    run(async {
        let server = server().await?;
        let clients = [Options::of(&server).client()?, Options::of(&server).client()?];
        let name = &NAME.parse()?;
        let mut lost = 0;
        for round in 0..ROUNDS {
            let values = [vec![format!("a{round}")], vec![format!("b{round}")]];
            let adding = clients.iter().zip(&values).map(|(client, value)| client.add(name, value));
            for outcome in join_all(adding).await {
                outcome?;
            }
            if server.txt(NAME).await? != values.concat() {
                lost += 1;
                clients[0].add(name, &values[0]).await?;
                clients[1].add(name, &values[1]).await?;
                ensure!(server.txt(NAME).await? == values.concat());
            }
            clients[0].remove(name, &values.concat()).await?;
        }
        // PowerDNS has no atomic change, so a value can be lost if the machine is busy.
        ensure!(lost < ROUNDS / 5, "values were lost in {lost} of {ROUNDS} rounds");
        Ok(())
    })
    .unwrap();
}

async fn error_of(options: Options<'_>, name: &str) -> Result<SolveError> {
    let key = options.key.to_owned();
    let client = options.client()?;
    let error = client.add(&name.parse()?, &values(&["v1"])).await.err();
    let error = error.context("the value is added")?;
    let text = format!("{error} {error:?} {client:?}");
    ensure!(!text.contains(&key), "{text}");
    Ok(error)
}

#[test]
fn a_wrong_configuration_is_reported_with_the_remedy() {
    run(async {
        let server = server().await?;
        server.create_zone("copy.test", Zone::Secondary).await?;
        let good = || Options::of(&server);
        for (options, name, want) in [
            (
                Options { key: "another-key", ..good() },
                NAME,
                "refuses the API key (401 Unauthorized): compare Secret dns/powerdns key apikey",
            ),
            (
                good(),
                "_acme-challenge.else.test",
                "has no zone that contains _acme-challenge.else.test",
            ),
            (
                Options { zone: Some("sub.intranet.test"), ..good() },
                "a.sub.intranet.test",
                "has no zone sub.intranet.test",
            ),
            (Options { zone: Some("copy.test"), ..good() }, NAME, "the name is not in copy.test"),
            (
                Options { server_id: "remote", ..good() },
                NAME,
                "has no server \"remote\" (404 Not Found: \"Not Found\")",
            ),
            (good(), "_acme-challenge.copy.test", "is read-only: its kind is \"Sl"),
            (Options { url: format!("{}/other", server.url()), ..good() }, NAME, "check url"),
        ] {
            let error = error_of(options, name).await?;
            ensure!(error.to_string().contains(want), "{error}");
            let is_key = want.starts_with("refuses the API key");
            ensure!(is_key == matches!(error, SolveError::CredentialRefused(_)), "{error:?}");
            ensure!(!matches!(error, SolveError::Unavailable(_)), "{error:?}");
        }
        let slash = Options { url: format!("{}/api/v1/", server.url()), ..good() };
        slash.client()?.add(&NAME.parse()?, &values(&["v1"])).await?;
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_server_that_is_stopped_or_restarts_is_unavailable_and_then_works_again() {
    run(async {
        let mut server = server().await?;
        let client = Options::of(&server).client()?;
        let name = NAME.parse()?;
        client.add(&name, &values(&["v1"])).await?;
        server.stop().await?;
        let error = client.add(&name, &values(&["v2"])).await.unwrap_err();
        ensure!(error.to_string().contains("check url, the server"), "{error}");
        ensure!(matches!(error, SolveError::Unavailable(_)), "{error:?}");
        let restarted = async {
            server.run().await?;
            anyhow::Ok(())
        };
        let deadline = Duration::from_secs(20);
        let added = eventually(deadline, "the value is added", || async {
            client.add(&name, &values(&["v2"])).await?;
            Ok(Look::Done(()))
        });
        let (restarted, added) = join(restarted, added).await;
        restarted?;
        added?;
        ensure!(server.txt(NAME).await? == ["v1", "v2"]);
        Ok(())
    })
    .unwrap();
}

#[test]
fn an_api_behind_tls_needs_its_ca() {
    run(async {
        let server = server().await?;
        let serving = Serving::create("powerdns", &scratch()?)?;
        let other = Serving::create("other", &scratch()?)?;
        let proxy = Proxy::start(&server.url(), &serving.authority, serving.clone()).await?;
        let through =
            |serving| Options { url: proxy.url(), serving: Some(serving), ..Options::of(&server) };
        through(&serving).client()?.add(&NAME.parse()?, &values(&["v1"])).await?;
        ensure!(server.txt(NAME).await? == ["v1"]);
        let error = error_of(through(&other), NAME).await?;
        ensure!(error.to_string().contains("signed by an unknown authority"), "{error}");
        ensure!(error.to_string().contains("write the CA of the server into caBundle"), "{error}");
        ensure!(matches!(error, SolveError::Misconfigured(_)), "{error:?}");
        proxy.close();
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_client_outside_of_the_permitted_addresses_is_reported() {
    run(async {
        let server = PowerDns::start("webserver-allow-from=192.0.2.1", &logs()?).await?;
        let error = error_of(Options::of(&server), NAME).await?;
        ensure!(error.to_string().contains("or webserver-allow-from does not contain"), "{error}");
        ensure!(matches!(error, SolveError::Unavailable(_)), "{error:?}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_zone_permits_updates_with_its_key() {
    run(async {
        let server = server().await?;
        server
            .allow_updates(ZONE, "updates", "hmac-sha256", "c2VjcmV0LW9mLXRoZS10ZXN0cw==")
            .await?;
        let path = format!("/zones/{ZONE}./metadata/TSIG-ALLOW-DNSUPDATE");
        let (_, metadata) = server.request(Method::GET, &path, &Value::Null).await?;
        ensure!(metadata["metadata"] == serde_json::json!(["updates"]), "{metadata}");
        Ok(())
    })
    .unwrap();
}
