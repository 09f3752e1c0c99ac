//! Dynamic updates of real DNS servers.

#![expect(clippy::unwrap_used, reason = "the helpers below are part of the tests")]

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use cert_lib::{
    clock::System,
    model::name::DnsName,
    net::dns::Udp,
    solve::{
        SolveError,
        dns_records::DnsRecords as _,
        dns01::{Propagation, Visibility},
        rfc2136::{Protocol, Rfc2136, Rfc2136Config, TsigAlgorithm, TsigKey},
    },
};
use futures::future::try_join_all;
use tests::{
    Look,
    bind::{Bind, Zone},
    eventually, knot,
    name_server::{Key, NameServer, Updates, transfer::records},
    processes::logs,
    run,
};

const SECRET: &str = "dGhlLXNlY3JldC1vZi10aGUtdGVzdC1vZi1yZmMyMTM2";
const OTHER_SECRET: &str = "YW5vdGhlci1zZWNyZXQtb2YtdGhlLXRlc3Qtb2YtcmZj";
const KEYS: [(&str, TsigAlgorithm); 6] = [
    ("acme", TsigAlgorithm::HmacSha256),
    ("acme1", TsigAlgorithm::HmacSha1),
    ("acme224", TsigAlgorithm::HmacSha224),
    ("acme384", TsigAlgorithm::HmacSha384),
    ("acme512", TsigAlgorithm::HmacSha512),
    ("reader", TsigAlgorithm::HmacSha256),
];
const PERMITTED: [&str; 5] = ["acme", "acme1", "acme224", "acme384", "acme512"];
const DYNAMIC: &str = "
_acme-challenge.shared 3600 TXT of-another-client
_acme-challenge.alias CNAME elsewhere
other.sub TXT below-a-delegation
sub NS ns.elsewhere.test.
";

/// A server with the zones `dynamic.test`, which the keys may update, `static.test`, which no
/// key may update, and `open.test`, which everyone may update.
enum Server {
    Bind(Bind),
    Knot(NameServer),
}

impl Server {
    async fn both() -> Result<[Self; 2]> {
        let keys = KEYS.map(|(name, algorithm)| Key { name, algorithm, secret: SECRET });
        let zones = [
            ("dynamic.test", DYNAMIC, Updates::By(&PERMITTED)),
            ("static.test", "", Updates::None),
            ("open.test", "", Updates::Unsigned),
        ];
        let logs = logs()?;
        let of_knot = knot::start(&keys, &zones, &logs).await?;
        let zones = zones.map(|(name, text, updates)| (name, Zone::Dynamic(text, updates)));
        let of_bind = Bind::start_with_keys(&keys, &zones, &logs).await?;
        Ok([Self::Bind(of_bind), Self::Knot(of_knot)])
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Bind(_) => "BIND",
            Self::Knot(_) => "Knot",
        }
    }

    fn process(&mut self) -> &mut NameServer {
        match self {
            Self::Bind(bind) => bind,
            Self::Knot(knot) => knot,
        }
    }

    fn port(&self) -> u16 {
        match self {
            Self::Bind(bind) => bind.port(),
            Self::Knot(knot) => knot.port(),
        }
    }

    /// Updates with the key `acme`.
    fn config(&self) -> Rfc2136Config {
        let nameserver = std::net::SocketAddr::from(([127, 0, 0, 1], self.port())).into();
        let key = Some(key("acme", TsigAlgorithm::HmacSha256, SECRET));
        Rfc2136Config { key, ..Rfc2136Config::new(nameserver) }
    }

    async fn records(&self, zone: &str) -> Result<BTreeSet<String>> {
        records(self.port(), zone).await.with_context(|| format!("{}: {zone}", self.name()))
    }
}

fn client(config: Rfc2136Config) -> Rfc2136 {
    Rfc2136::new(config, Arc::new(System))
}

fn key(name: &str, algorithm: TsigAlgorithm, secret: &str) -> TsigKey {
    TsigKey::new(name, algorithm, secret).unwrap()
}

fn challenge(host: &str) -> DnsName {
    host.parse::<DnsName>().unwrap().challenge()
}

fn values(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// The TXT values of `name` and their lifetimes.
fn texts(records: &BTreeSet<String>, name: &DnsName) -> Vec<String> {
    let of_name = |line: &String| {
        let (ttl, text) = line.strip_prefix(&format!("{name}. "))?.split_once(" 16 ")?;
        Some(format!("{ttl} {text}"))
    };
    records.iter().filter_map(of_name).collect()
}

#[test]
fn added_and_removed_values_leave_the_zone_as_it_was() {
    run(async {
        for server in Server::both().await? {
            let before = server.records("dynamic.test").await?;
            let client = client(server.config());
            let [own, shared] = ["own.dynamic.test", "shared.dynamic.test"].map(challenge);
            for name in [&own, &shared] {
                // Twice, as after a crash.
                for _ in 0..2 {
                    client.add(name, &values(&["v1", "v2"])).await?;
                }
            }
            let between = server.records("dynamic.test").await?;
            assert_eq!(texts(&between, &own), ["60 v1", "60 v2"], "{}", server.name());
            // The lifetime is a property of the whole set.
            let all = ["3600 of-another-client", "3600 v1", "3600 v2"];
            assert_eq!(texts(&between, &shared), all, "{}", server.name());
            client.remove(&shared, &values(&["v1"])).await?;
            let one = server.records("dynamic.test").await?;
            assert_eq!(texts(&one, &shared), ["3600 of-another-client", "3600 v2"]);
            for name in [&own, &shared] {
                for _ in 0..2 {
                    client.remove(name, &values(&["v1", "v2"])).await?;
                }
            }
            assert_eq!(server.records("dynamic.test").await?, before, "{}", server.name());
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn fifty_names_and_several_values_of_one_name_are_added_at_once() {
    run(async {
        for server in Server::both().await? {
            let before = server.records("dynamic.test").await?;
            let client = client(server.config());
            let names: Vec<_> =
                (0..50).map(|number| challenge(&format!("n{number}.dynamic.test"))).collect();
            // The values of a wildcard, its parent and another client of the same name.
            let shared = challenge("shared.dynamic.test");
            let of_shared = ["apex", "wildcard", "third"];
            let all: Vec<(&DnsName, Vec<String>)> = names
                .iter()
                .map(|name| (name, values(&["apex", "wildcard"])))
                .chain(of_shared.map(|value| (&shared, values(&[value]))))
                .collect();
            try_join_all(all.iter().map(|(name, values)| client.add(name, values))).await?;
            let between = server.records("dynamic.test").await?;
            for name in &names {
                assert_eq!(texts(&between, name), ["60 apex", "60 wildcard"], "{}", server.name());
            }
            assert_eq!(texts(&between, &shared).len(), 4, "{}", server.name());
            try_join_all(all.iter().map(|(name, values)| client.remove(name, values))).await?;
            assert_eq!(server.records("dynamic.test").await?, before, "{}", server.name());
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn every_algorithm_and_transport_works() {
    run(async {
        for server in Server::both().await? {
            let name = challenge("own.dynamic.test");
            let configs = KEYS
                .iter()
                .filter(|(name, _)| PERMITTED.contains(name))
                .flat_map(|(name, algorithm)| {
                    let key = Some(key(name, *algorithm, SECRET));
                    let both = [Protocol::Udp, Protocol::Tcp];
                    both.map(|protocol| Rfc2136Config {
                        key: key.clone(),
                        protocol,
                        ..server.config()
                    })
                })
                .chain([Rfc2136Config { zone: Some("dynamic.test".parse()?), ..server.config() }]);
            for config in configs {
                let what = format!("{}: {config:?}", server.name());
                let client = client(config);
                client.add(&name, &values(&["v1"])).await.context(what.clone())?;
                let between = server.records("dynamic.test").await?;
                assert_eq!(texts(&between, &name), ["60 v1"], "{what}");
                client.remove(&name, &values(&["v1"])).await.context(what)?;
            }
            // Too large for a datagram.
            let client = client(server.config());
            let many: Vec<String> = (0..60).map(|number| format!("{number:043}")).collect();
            client.add(&name, &many).await?;
            assert_eq!(texts(&server.records("dynamic.test").await?, &name).len(), 60);
            client.remove(&name, &many).await?;
            assert!(texts(&server.records("dynamic.test").await?, &name).is_empty());
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn an_unsigned_update_works_where_it_is_permitted() {
    run(async {
        for server in Server::both().await? {
            let client = client(Rfc2136Config { key: None, ..server.config() });
            let name = challenge("own.open.test");
            client.add(&name, &values(&["v1"])).await.context(server.name())?;
            assert_eq!(texts(&server.records("open.test").await?, &name), ["60 v1"]);
            client.remove(&name, &values(&["v1"])).await?;
        }
        Ok(())
    })
    .unwrap();
}

/// What is wrong with a configuration, and the beginning or a part of the message of each server.
struct Mistake {
    what: &'static str,
    host: &'static str,
    change: fn(Rfc2136Config) -> Rfc2136Config,
    bind: &'static str,
    knot: &'static str,
}

const MISTAKES: [Mistake; 9] = [
    Mistake {
        what: "unknown key",
        host: "a.dynamic.test",
        change: |config| with_key(config, "unknown", TsigAlgorithm::HmacSha256, SECRET),
        bind: "does not know the TSIG key \"unknown\" (BADKEY)",
        knot: "does not know the TSIG key \"unknown\" (BADKEY)",
    },
    Mistake {
        what: "wrong secret",
        host: "a.dynamic.test",
        change: |config| with_key(config, "acme", TsigAlgorithm::HmacSha256, OTHER_SECRET),
        bind: "has another secret for the TSIG key \"acme\" (BADSIG)",
        knot: "has another secret for the TSIG key \"acme\" (BADSIG)",
    },
    Mistake {
        what: "wrong algorithm",
        host: "a.dynamic.test",
        change: |config| with_key(config, "acme", TsigAlgorithm::HmacSha512, SECRET),
        bind: "does not know the TSIG key \"acme\" (BADKEY)",
        knot: "does not know the TSIG key \"acme\" (BADKEY)",
    },
    Mistake {
        what: "key without permission",
        host: "a.dynamic.test",
        change: |config| with_key(config, "reader", TsigAlgorithm::HmacSha256, SECRET),
        bind: "does not permit the TSIG key \"reader\" to update",
        knot: "\"reader\"",
    },
    Mistake {
        what: "unsigned update",
        host: "a.dynamic.test",
        change: |config| Rfc2136Config { key: None, ..config },
        bind: "does not permit unsigned updates of _acme-challenge.a.dynamic.test",
        knot: "(NOTAUTH)",
    },
    Mistake {
        what: "zone without updates",
        host: "a.static.test",
        change: |config| config,
        bind: "does not permit the TSIG key \"acme\" to update _acme-challenge.a.static.test",
        knot: "\"acme\"",
    },
    Mistake {
        what: "zone of another server, configured",
        host: "a.elsewhere.test",
        change: |config| Rfc2136Config { zone: "elsewhere.test".parse().ok(), ..config },
        bind: "is not the primary of zone elsewhere.test (NOTAUTH)",
        knot: "(NOTAUTH)",
    },
    Mistake {
        what: "zone of another server",
        host: "a.elsewhere.test",
        change: |config| config,
        bind: "is authoritative for no zone of _acme-challenge.a.elsewhere.test",
        knot: "is authoritative for no zone of _acme-challenge.a.elsewhere.test",
    },
    Mistake {
        what: "CNAME",
        host: "alias.dynamic.test",
        change: |config| config,
        bind: "_acme-challenge.alias.dynamic.test has a CNAME in zone dynamic.test",
        knot: "_acme-challenge.alias.dynamic.test has a CNAME in zone dynamic.test",
    },
];

fn with_key(
    config: Rfc2136Config,
    name: &str,
    algorithm: TsigAlgorithm,
    secret: &str,
) -> Rfc2136Config {
    Rfc2136Config { key: Some(key(name, algorithm, secret)), ..config }
}

#[test]
fn mistakes_are_explained_without_secrets() {
    run(async {
        for server in Server::both().await? {
            for mistake in &MISTAKES {
                let what = format!("{}: {}", server.name(), mistake.what);
                let wanted = match server {
                    Server::Bind(_) => mistake.bind,
                    Server::Knot(_) => mistake.knot,
                };
                let client = client((mistake.change)(server.config()));
                let result = client.add(&challenge(mistake.host), &values(&["v1"])).await;
                let is_refused = matches!(result, Err(SolveError::CredentialRefused(_)));
                let Err(SolveError::Misconfigured(text) | SolveError::CredentialRefused(text)) =
                    result
                else {
                    panic!("{what}: {result:?}");
                };
                assert_eq!(is_refused, text.contains("TSIG key") && !text.contains("REFUSED"));
                println!("{what}: {text}");
                assert!(text.contains(wanted), "{what}: {text}");
                assert!(!text.contains(SECRET) && !text.contains(OTHER_SECRET), "{what}: {text}");
            }
            let client = client(server.config());
            let result = client.add(&challenge("x.sub.dynamic.test"), &values(&["v1"])).await;
            let Err(SolveError::Misconfigured(text)) = result else { panic!("{result:?}") };
            assert!(text.contains("delegates sub.dynamic.test, which"), "{text}");
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_server_that_restarts_is_unavailable_until_it_is_back() {
    run(async {
        for mut server in Server::both().await? {
            let client = client(server.config());
            let name = challenge("own.dynamic.test");
            client.add(&name, &values(&["v1"])).await?;
            server.process().stop().await?;
            let down = client.add(&name, &values(&["v2"])).await;
            let Err(SolveError::Unavailable(text)) = down else { panic!("{down:?}") };
            assert!(text.contains(&format!("127.0.0.1:{} does not answer", server.port())));
            server.process().resume().await?;
            client.add(&name, &values(&["v2"])).await?;
            let found = texts(&server.records("dynamic.test").await?, &name);
            assert_eq!(found, ["60 v1", "60 v2"], "{}", server.name());
            client.remove(&name, &values(&["v1", "v2"])).await?;
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_secondary_server_that_lags_is_seen() {
    run(async {
        let logs = logs()?;
        let primary = Zone::Dynamic("", Updates::Unsigned);
        let primary = Bind::start(&[("lag.test", primary)], &logs).await?;
        let copy = [("lag.test", Zone::Secondary(primary.port())), ("b.test", Zone::Primary(""))];
        let secondary = Bind::start(&copy, &logs).await?;
        let address = |server: &Bind| std::net::SocketAddr::from(([127, 0, 0, 1], server.port()));
        eventually(Duration::from_secs(20), "the zone is copied", async || {
            let copied = records(secondary.port(), "lag.test").await?;
            Ok(if copied.is_empty() { Look::NotYet("empty".into()) } else { Look::Done(()) })
        })
        .await?;
        let client = client(Rfc2136Config::new(address(&primary).into()));
        let (name, values) = (challenge("own.lag.test"), values(&["v1"]));
        client.add(&name, &values).await?;
        let both = vec![address(&primary).into(), address(&secondary).into()];
        let propagation = Propagation::new(both, Arc::new(System));
        let resolver = Udp::with_servers(vec![]);
        let lagging = propagation.check(&resolver, &name, &values).await;
        let Visibility::NotSeen { why } = lagging else { panic!("{lagging:?}") };
        ensure!(why.contains(&address(&secondary).to_string()), "{why}");
        secondary.notify("lag.test").await?;
        eventually(Duration::from_secs(20), "the value is copied", async || {
            Ok(match propagation.check(&resolver, &name, &values).await {
                Visibility::Seen { .. } => Look::Done(()),
                Visibility::NotSeen { why } | Visibility::Waiting { why, .. } => Look::NotYet(why),
            })
        })
        .await
    })
    .unwrap();
}
