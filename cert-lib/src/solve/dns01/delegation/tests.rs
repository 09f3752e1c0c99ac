use super::{
    super::tests::{SYSTEM, Script, alias, at, clock, no_such_name, records, soa},
    *,
};
use crate::net::Record;

const FQDN: &str = "_acme-challenge.app.example.org";
const SERVER: &str = "192.0.2.1";

fn name(text: &str) -> DnsName {
    text.parse().unwrap()
}

fn probe(parent: &str) -> String {
    sibling(&name(parent)).unwrap().to_string()
}

/// One server that has `links`, and no other names.
fn links(links: &[(&str, &str)]) -> Script {
    links.iter().fold(Script::default(), |script, (from, to)| link(script, from, to))
}

fn link(script: Script, from: &str, to: &str) -> Script {
    let parent = name(from).parent().unwrap();
    script.on(SERVER, from, RecordKind::Cname, alias(to)).on(
        SERVER,
        &probe(parent.as_str()),
        RecordKind::Cname,
        no_such_name(),
    )
}

fn ends(script: Script, at: &str) -> Script {
    script.on(SERVER, at, RecordKind::Cname, no_such_name())
}

async fn follow(script: &Script, nameservers: &[&str]) -> Result<String, String> {
    let nameservers = nameservers.iter().map(|server| at(server).into()).collect();
    let followed =
        super::super::tests::propagation(nameservers, clock()).follow(script, &name(FQDN)).await;
    followed.map(|name| name.to_string()).map_err(|error| error.to_string())
}

#[tokio::test]
async fn fault_39_explicit_cnames_are_followed_and_loops_and_long_chains_refused_with_a_reason() {
    let long: Vec<(String, String)> =
        (0..20).map(|n| (if n == 0 { FQDN.to_owned() } else { hop(n) }, hop(n + 1))).collect();
    let long: Vec<(&str, &str)> = long.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    for (case, script, want) in [
        ("no alias", ends(Script::default(), FQDN), Ok(FQDN)),
        (
            "a name with other records",
            Script::default().on(SERVER, FQDN, RecordKind::Cname, empty()),
            Ok(FQDN),
        ),
        ("one", ends(links(&[(FQDN, "x.acme.test")]), "x.acme.test"), Ok("x.acme.test")),
        (
            "three",
            ends(
                links(&[(FQDN, "a.test.a"), ("a.test.a", "b.test.b"), ("b.test.b", "c.t")]),
                "c.t",
            ),
            Ok("c.t"),
        ),
        ("as many as may be", ends(links(&long[..10]), &hop(10)), Ok("h10.test")),
        ("one more", links(&long), Err("more than 10 CNAMEs follow each other")),
        ("to itself", links(&[(FQDN, FQDN)]), Err("found recursive CNAME record to _acme-ch")),
        (
            "in a circle",
            links(&[(FQDN, "a.test"), ("a.test", "b.test"), ("b.test", "a.test")]),
            Err("found recursive CNAME record to a.test"),
        ),
        (
            "a CNAME of another name",
            Script::default().on(
                SERVER,
                FQDN,
                RecordKind::Cname,
                Answer { authoritative: false, ..alias("x.test") },
            ),
            Err("192.0.2.1:53 is not authoritative"),
        ),
        (
            "a failing server",
            Script::default().fails(SERVER, FQDN, RecordKind::Cname, "SERVFAIL"),
            Err("192.0.2.1:53 answers SERVFAIL"),
        ),
        ("no server", Script::default(), Err("192.0.2.1:53 does not answer")),
    ] {
        let found = follow(&script, &[SERVER]).await;
        match (found, want) {
            (Ok(found), Ok(want)) => assert_eq!(found, want, "{case}"),
            (Err(found), Err(want)) => assert!(found.contains(want), "{case}: {found}"),
            (found, _) => panic!("{case}: {found:?}"),
        }
    }
}

fn hop(n: usize) -> String {
    format!("h{n}.test")
}

fn empty() -> Answer {
    Answer { authoritative: true, ..Answer::default() }
}

#[tokio::test]
async fn fault_40_a_cname_of_a_wildcard_is_not_followed_and_the_wildcard_is_named() {
    let made_up = |script: Script, wildcards: &[&str]| {
        let script = script.on(SERVER, FQDN, RecordKind::Cname, alias("web.test")).on(
            SERVER,
            &probe("app.example.org"),
            RecordKind::Cname,
            alias("web.test"),
        );
        wildcards.iter().fold(script, |script, wildcard| {
            script.on(SERVER, wildcard, RecordKind::Cname, alias("web.test"))
        })
    };
    for (wildcards, named) in [
        (&["*.app.example.org"][..], "wildcard *.app.example.org:"),
        (&["*.app.example.org", "*.example.org"], "wildcard *.example.org:"),
    ] {
        let error = follow(&made_up(Script::default(), wildcards), &[SERVER]).await.unwrap_err();
        assert!(error.contains(named) && error.contains("create a CNAME for _acme"), "{error}");
    }
}

/// Some name servers limit the rate of queries for random names.
#[tokio::test]
async fn a_cname_is_not_followed_while_a_wildcard_cannot_be_ruled_out() {
    let script = ends(Script::default(), "x.acme.test").on(
        SERVER,
        FQDN,
        RecordKind::Cname,
        alias("x.acme.test"),
    );
    let error = follow(&script, &[SERVER]).await.unwrap_err();
    assert!(error.contains("cannot find out whether the CNAME comes from a wildcard"), "{error}");
}

#[tokio::test]
async fn an_explicit_cname_beside_a_wildcard_with_another_target_is_followed() {
    let script = ends(Script::default(), "x.acme.test")
        .on(SERVER, FQDN, RecordKind::Cname, alias("x.acme.test"))
        .on(SERVER, &probe("app.example.org"), RecordKind::Cname, alias("web.test"));
    assert_eq!(follow(&script, &[SERVER]).await.unwrap(), "x.acme.test");
}

#[tokio::test]
async fn contradictory_answers_are_not_followed() {
    let second = "192.0.2.2";
    let script = ends(Script::default(), FQDN)
        .on(second, FQDN, RecordKind::Cname, alias("x.acme.test"))
        .on(second, &probe("app.example.org"), RecordKind::Cname, no_such_name());
    let error = follow(&script, &[SERVER, "192.0.2.2"]).await.unwrap_err();
    assert!(error.contains("192.0.2.1:53 and 192.0.2.2:53 return different answers"), "{error}");
    let one_is_down = follow(&script, &["192.0.2.3", "192.0.2.2"]).await;
    assert!(one_is_down.unwrap_err().starts_with("cannot find out whether x.acme.test is a CNAME"));
}

/// A zone with its server, as the machine's resolver finds it.
fn zone(script: Script, zone: &str, server: &str) -> Script {
    let host = format!("ns.{zone}");
    let [host_record, address] =
        [Record::NameServer(name(&host)), Record::Address(server.parse().unwrap())];
    script
        .on(SYSTEM, zone, RecordKind::Soa, soa(zone))
        .on(SYSTEM, zone, RecordKind::Ns, records([host_record]))
        .on(SYSTEM, &host, RecordKind::A, records([address]))
}

#[tokio::test]
async fn without_configured_servers_the_authoritative_servers_of_each_zone_are_asked() {
    let script = zone(Script::zone(&[SERVER]), "acme.test", "192.0.2.7");
    let script = link(script, FQDN, "x.acme.test").on(
        "192.0.2.7",
        "x.acme.test",
        RecordKind::Cname,
        no_such_name(),
    );
    assert_eq!(follow(&script, &[]).await.unwrap(), "x.acme.test");
    let asked = script.asked.lock().unwrap();
    for challenge in [FQDN, "x.acme.test"] {
        let by_cache =
            asked.iter().any(|(server, it, _)| *server == at(SYSTEM) && *it == name(challenge));
        assert!(!by_cache, "{challenge}: {asked:?}");
    }
}

#[tokio::test]
async fn the_servers_of_a_target_zone_are_asked() {
    let referral = Answer { authoritative: false, ..Answer::default() };
    let script = zone(Script::zone(&[SERVER]), "test", "192.0.2.6");
    let script = zone(link(script, FQDN, "acme.test"), "acme.test", "192.0.2.7")
        .on("192.0.2.6", "acme.test", RecordKind::Cname, referral)
        .on("192.0.2.7", "acme.test", RecordKind::Cname, empty());
    assert_eq!(follow(&script, &[]).await.unwrap(), "acme.test");
}

#[tokio::test]
async fn behind_a_firewall_the_configured_resolvers_are_asked_last() {
    let script = Script::zone(&[SERVER])
        .on("192.0.2.9", FQDN, RecordKind::Cname, Answer::default())
        .on("192.0.2.9", FQDN, RecordKind::Txt, no_such_name());
    assert_eq!(follow(&script, &["192.0.2.9"]).await.unwrap(), FQDN);
    let asked = script.asked.lock().unwrap();
    let last = asked.last().unwrap();
    assert_eq!((last.0, last.2), (at("192.0.2.9"), RecordKind::Txt));
}

#[test]
fn the_sibling_is_deterministic_and_no_longer_than_the_challenge_name() {
    let label = "a".repeat(57);
    let longest = format!("{label}.{label}.{label}.{label}.aaaaa");
    let challenge = name(&longest).challenge();
    assert_eq!(challenge.as_str().len(), 253);
    let sibling_of_it = sibling(&name(&longest)).unwrap();
    assert_eq!(sibling_of_it.as_str().len(), 253);
    assert_eq!(sibling(&name("example.org")), sibling(&name("example.org")));
    assert_ne!(probe("example.org"), "_acme-challenge.example.org");
}
