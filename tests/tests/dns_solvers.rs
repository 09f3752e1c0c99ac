//! DNS-01 solvers of an Issuer, against a real server: each zone of one PowerDNS is changed by one
//! solver, by its API or by dynamic updates.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kube::core::DynamicObject;
use serde_json::{Value, json};
use tests::{
    Failure, Look, eventually,
    namespace::Namespace,
    objects::{acme_issuer, apply, progress, state},
    powerdns::{PowerDns, Zone},
    processes::logs,
    run,
    test_env::{TestEnv, TestEnvOptions},
};

const DEADLINE: Duration = Duration::from_secs(90);
const TSIG: &str = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTEyMzQ1Njc4";
/// Zones, and the solver of each.
const ZONES: [&str; 2] = ["api.test", "update.test"];

struct Fixture {
    dns: PowerDns,
    env: TestEnv,
}

impl Fixture {
    async fn start() -> Result<Self> {
        let dns = PowerDns::start("", &logs()?).await?;
        for zone in ZONES {
            dns.create_zone(zone, Zone::Primary).await?;
            dns.put(zone, &format!("_acme-challenge.{zone}"), 30, &[("\"foreign\"", false)])
                .await?;
        }
        dns.allow_updates(ZONES[1], "acme", "hmac-sha256", TSIG).await?;
        let forwards = ZONES.map(|zone| (zone, dns.dns().port())).into();
        let options = TestEnvOptions { forwards, ..TestEnvOptions::default() };
        let env = TestEnv::start(options).await?;
        Ok(Self { dns, env })
    }

    fn solvers(&self) -> Value {
        json!([
            {"selector": {"dnsZones": [ZONES[0]]}, "dns01": {"powerDNS": {
                "url": self.dns.url(), "apiKeySecretRef": {"name": "powerdns", "key": "apikey"},
            }}},
            {"selector": {"dnsZones": [ZONES[1]]}, "dns01": {"rfc2136": {
                "nameserver": self.dns.dns().to_string(), "tsigKeyName": "acme",
                "tsigAlgorithm": "HMACSHA256",
                "tsigSecretSecretRef": {"name": "tsig", "key": "secret"},
            }}},
        ])
    }

    async fn issuer(&self, change: impl Fn(&mut Value)) -> Result<()> {
        let mut issuer = acme_issuer("dns", &self.env.directory())?;
        let acme = &mut issuer["spec"]["acme"];
        acme["solvers"] = self.solvers();
        acme["precheckNameservers"] = json!([self.dns.dns().to_string()]);
        change(acme);
        apply(&self.env.control_plane.client(), "default", &issuer).await?;
        Ok(())
    }

    async fn credentials(&self, api_key: &str) -> Result<()> {
        for (name, key, value) in [("powerdns", "apikey", api_key), ("tsig", "secret", TSIG)] {
            let secret = json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
                "stringData": {key: value},
            });
            apply(&self.env.control_plane.client(), "default", &secret).await?;
        }
        Ok(())
    }

    async fn records(&self) -> Result<Vec<String>> {
        let mut all = Vec::new();
        for zone in ZONES {
            all.extend(self.dns.records(zone).await?);
        }
        Ok(all)
    }

    async fn until_records(&self, want: &[String]) -> Result<()> {
        eventually(DEADLINE, "the zones are as before", || async {
            let found = self.records().await?;
            Ok(if found == want { Look::Done(()) } else { Look::NotYet(format!("{found:?}")) })
        })
        .await
    }
}

fn certificate(names: &[String]) -> Value {
    json!({"dnsNames": names, "issuerRef": {"name": "dns"}})
}

/// faults.md 41, 45
#[test]
fn apex_and_wildcard_are_issued_with_fifty_others_and_the_zones_stay_as_they_were()
-> Result<(), Failure> {
    run(async {
        let fixture = Fixture::start().await?;
        let before = fixture.records().await?;
        ensure!(before.iter().filter(|line| line.contains("foreign")).count() == 2, "{before:?}");
        fixture.credentials(fixture.dns.key()).await?;
        fixture.issuer(|_| ()).await?;
        let namespace = Namespace::new(&fixture.env, "solvers").await?;
        let both: Vec<String> =
            ZONES.iter().flat_map(|zone| [(*zone).to_owned(), format!("*.{zone}")]).collect();
        namespace.certificate("both", certificate(&both)).await?;
        for number in 0..50 {
            let name = format!("n{number}.{}", ZONES[number % 2]);
            namespace.certificate(&format!("n{number}"), certificate(&[name])).await?;
        }
        namespace.until_all_ready(51, Duration::from_secs(180)).await?;
        fixture.until_records(&before).await
    })
}

/// faults.md 42, 43
#[test]
fn a_late_and_a_rotated_credential_work_at_once_and_a_wrong_one_is_named() -> Result<(), Failure> {
    run(async {
        let fixture = Fixture::start().await?;
        let before = fixture.records().await?;
        fixture.issuer(|_| ()).await?;
        let namespace = Namespace::new(&fixture.env, "credentials").await?;
        let name = |host: &str| vec![format!("{host}.{}", ZONES[0])];
        namespace.certificate("late", certificate(&name("late"))).await?;
        let says = async |certificate: &str, text: &str| {
            let says = |object: &DynamicObject| state(object).1.contains(text);
            namespace.until_some("Certificate", certificate, text, DEADLINE, says).await.map(drop)
        };
        says("late", "Secret default/powerdns does not exist: create it with key apikey").await?;
        fixture.credentials("wrong").await?;
        says("late", "refuses the API key").await?;
        fixture.credentials(fixture.dns.key()).await?;
        // Sooner than the waits of the order and the CA's back-off for failed orders.
        namespace.until_all_ready(1, Duration::from_secs(20)).await?;
        fixture.until_records(&before).await?;

        namespace.certificate("outside", certificate(&["a.elsewhere.test".to_owned()])).await?;
        says("outside", "no solver of the issuer covers a.elsewhere.test; its solvers are").await?;
        ensure!(progress(&fixture.env.control_plane.client()).await?.is_empty(), "an order");
        let log = fixture.env.manager_log()?;
        for secret in [fixture.dns.key(), TSIG] {
            ensure!(!log.contains(secret), "a credential is in the log");
        }
        Ok(())
    })
}

/// faults.md 43, 45
#[test]
fn records_of_a_killed_manager_are_removed_by_the_next_one() -> Result<(), Failure> {
    run(async {
        let fixture = Fixture::start().await?;
        let before = fixture.records().await?;
        fixture.credentials(fixture.dns.key()).await?;
        // The orders wait with published records.
        fixture
            .issuer(|acme| {
                for solver in acme["solvers"].as_array_mut().into_iter().flatten() {
                    solver["dns01"]["propagation"] = json!({"check": "Wait", "wait": "1h"});
                }
            })
            .await?;
        let namespace = Namespace::new(&fixture.env, "killed").await?;
        for (at, zone) in ZONES.iter().enumerate() {
            let names = [(*zone).to_owned(), format!("*.{zone}")];
            namespace.certificate(&format!("c{at}"), certificate(&names)).await?;
        }
        let published = before.len() + 4;
        eventually(DEADLINE, "the records are published", || async {
            let found = fixture.records().await?;
            let done = found.len() == published;
            Ok(if done { Look::Done(()) } else { Look::NotYet(format!("{found:?}")) })
        })
        .await?;
        fixture.env.replace_manager().await?;
        for at in 0..ZONES.len() {
            namespace.delete("Certificate", &format!("c{at}")).await.context("deletion")?;
        }
        fixture.until_records(&before).await
    })
}
