use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::{
    clock::Manual,
    model::name::DnsName,
    net::{Answer, Record, RecordKind, ResolveError, Resolver, reach::AddressPolicy},
};

pub(super) const FQDN: &str = "_acme-challenge.app.example.org";

/// A resolver with scripted answers; all other servers do not answer.
#[derive(Default)]
pub(super) struct Script {
    answers: HashMap<(SocketAddr, DnsName, RecordKind), Result<Answer, String>>,
    pub(super) asked: Mutex<Vec<(SocketAddr, DnsName, RecordKind)>>,
}

impl Script {
    pub(super) fn on(mut self, server: &str, name: &str, kind: RecordKind, answer: Answer) -> Self {
        self.answers.insert((at(server), name.parse().unwrap(), kind), Ok(answer));
        self
    }

    pub(super) fn fails(mut self, server: &str, name: &str, kind: RecordKind, code: &str) -> Self {
        self.answers.insert((at(server), name.parse().unwrap(), kind), Err(code.to_owned()));
        self
    }

    /// The zone example.org with `servers`, found through the system's resolver.
    pub(super) fn zone(servers: &[&str]) -> Self {
        let hosts: Vec<String> = (0..servers.len()).map(|n| format!("ns{n}.example.org")).collect();
        let of_hosts = hosts.iter().map(|host| Record::NameServer(host.parse().unwrap()));
        let mut script = Self::default()
            .on(SYSTEM, "app.example.org", RecordKind::Soa, soa("example.org"))
            .on(SYSTEM, "example.org", RecordKind::Ns, records(of_hosts));
        for (host, server) in hosts.iter().zip(servers) {
            let address = Record::Address(server.parse().unwrap());
            script = script.on(SYSTEM, host, RecordKind::A, records([address]));
        }
        script
    }

    pub(super) fn txt(self, server: &str, values: &[&str]) -> Self {
        self.on(server, FQDN, RecordKind::Txt, text(true, values))
    }

    async fn check_servers(&self, nameservers: &[&str]) -> Visibility {
        let nameservers = nameservers.iter().map(|server| at(server).into()).collect();
        let propagation = propagation(nameservers, clock());
        propagation.check(self, &FQDN.parse().unwrap(), &["v1".into(), "v2".into()]).await
    }
}

#[async_trait]
impl Resolver for Script {
    async fn query(
        &self,
        server: SocketAddr,
        name: &DnsName,
        kind: RecordKind,
    ) -> Result<Answer, ResolveError> {
        let key = (server, name.clone(), kind);
        self.asked.lock().unwrap().push(key.clone());
        match self.answers.get(&key) {
            Some(Ok(answer)) => Ok(answer.clone()),
            Some(Err(code)) => {
                Err(ResolveError::Failed { server: server.into(), code: code.clone() })
            }
            None => {
                Err(ResolveError::Unreachable { server: server.into(), reason: "silence".into() })
            }
        }
    }

    /// The server at the address that is the host of the URL.
    async fn query_https(
        &self,
        url: &Arc<str>,
        name: &DnsName,
        kind: RecordKind,
    ) -> Result<Answer, ResolveError> {
        let host = url.split('/').nth(2).unwrap_or_default();
        self.query(at(host), name, kind).await
    }

    fn system_servers(&self) -> Vec<SocketAddr> {
        vec![at("10.9.9.9"), at(SYSTEM)]
    }

    async fn addresses(&self, name: &DnsName, port: u16) -> Result<Vec<SocketAddr>, ResolveError> {
        match name.as_str() {
            "ns.operator.test" => Ok(vec![SocketAddr::new("192.0.2.8".parse().unwrap(), port)]),
            _ => Err(ResolveError::NoAddress { name: name.clone(), reason: "nowhere".into() }),
        }
    }
}

/// The policy permits the documentation addresses that these zones use.
pub(super) fn propagation(nameservers: Vec<Nameserver>, clock: Arc<Manual>) -> Propagation {
    let ranges = ["192.0.2.0/24", "2001:db8::/32"].map(|range| range.parse().unwrap());
    Propagation::new(nameservers, clock).within(Arc::new(AddressPolicy::new(ranges.to_vec())))
}

pub(super) const SYSTEM: &str = "10.0.0.10";

pub(super) fn at(server: &str) -> SocketAddr {
    SocketAddr::new(server.parse().unwrap(), 53)
}

pub(super) fn clock() -> Arc<Manual> {
    Arc::new(Manual::at(Timestamp::UNIX_EPOCH))
}

pub(super) fn records(records: impl IntoIterator<Item = Record>) -> Answer {
    Answer { records: records.into_iter().collect(), ..Answer::default() }
}

pub(super) fn soa(zone: &str) -> Answer {
    Answer { zone: Some(zone.parse().unwrap()), ..Answer::default() }
}

pub(super) fn text(authoritative: bool, values: &[&str]) -> Answer {
    let values = values.iter().map(|value| Record::Text((*value).to_owned()));
    Answer { authoritative, ..records(values) }
}

pub(super) fn alias(target: &str) -> Answer {
    Answer { authoritative: true, alias: Some(target.parse().unwrap()), ..Answer::default() }
}

pub(super) fn no_such_name() -> Answer {
    Answer { authoritative: true, no_such_name: true, ..Answer::default() }
}

/// Of a resolver, or of a server that is not authoritative.
pub(super) fn cached_absence() -> Answer {
    Answer { authoritative: false, ..no_such_name() }
}

#[derive(Debug)]
enum Want {
    Seen,
    SeenBehindCache,
    Not(&'static str),
}

fn check(case: &str, visibility: &Visibility, want: &Want) {
    let ok = match (want, visibility) {
        (Want::Seen, Visibility::Seen { authoritative }) => *authoritative,
        (Want::SeenBehindCache, Visibility::Seen { authoritative }) => !*authoritative,
        (Want::Not(part), Visibility::NotSeen { why }) => {
            why.contains(part) && why.contains(FQDN) && !why.contains("v1")
        }
        _ => false,
    };
    assert!(ok, "{case}: wanted {want:?}, saw {visibility:?}");
}

#[tokio::test]
async fn fault_38_every_authoritative_server_that_answers_must_show_all_values() {
    let both = &["v1", "v2"][..];
    let two = || Script::zone(&["192.0.2.1", "192.0.2.2"]);
    let four = || Script::zone(&["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::4"]);
    let of_four =
        |last: &[&str]| four().txt("192.0.2.1", both).txt("192.0.2.2", both).txt("192.0.2.3", last);
    for (case, script, want) in [
        ("both have both", two().txt("192.0.2.1", both).txt("192.0.2.2", both), Want::Seen),
        (
            "foreign values beside ours",
            two().txt("192.0.2.1", &["x", "v2", "v1"]).txt("192.0.2.2", &["v1", "y", "v2"]),
            Want::Seen,
        ),
        ("one of four is down", of_four(both), Want::Seen),
        (
            "one of four refuses",
            of_four(both).fails("2001:db8::4", FQDN, RecordKind::Txt, "REFUSED"),
            Want::Seen,
        ),
        (
            "one of four fails",
            of_four(both).fails("2001:db8::4", FQDN, RecordKind::Txt, "SERVFAIL"),
            Want::Seen,
        ),
        (
            "one of four is lame",
            of_four(both).on("2001:db8::4", FQDN, RecordKind::Txt, text(false, &[])),
            Want::Seen,
        ),
        (
            "one of four is lame and denies the name",
            of_four(both).on("2001:db8::4", FQDN, RecordKind::Txt, cached_absence()),
            Want::Seen,
        ),
        (
            "one of four is lame, another stale",
            of_four(&["v1"]).on("2001:db8::4", FQDN, RecordKind::Txt, text(false, &[])),
            Want::Not("192.0.2.3:53 shows 1 of 2 values (and 0 others)"),
        ),
        (
            "one of four is stale",
            of_four(&["old"]).txt("2001:db8::4", both),
            Want::Not("192.0.2.3:53 shows 0 of 2 values (and 1 others)"),
        ),
        (
            "one value of two",
            of_four(&["v1"]).txt("2001:db8::4", both),
            Want::Not("shows 1 of 2 values"),
        ),
        (
            "one does not know the name yet",
            two().txt("192.0.2.1", both).on("192.0.2.2", FQDN, RecordKind::Txt, no_such_name()),
            Want::Not("192.0.2.2:53 answers NXDOMAIN"),
        ),
        (
            "name without TXT",
            two().txt("192.0.2.1", both).txt("192.0.2.2", &[]),
            Want::Not("192.0.2.2:53 shows 0 of 2"),
        ),
        (
            "a CNAME in the way",
            two().txt("192.0.2.1", both).on("192.0.2.2", FQDN, RecordKind::Txt, alias("x.test")),
            Want::Not("192.0.2.2:53 answers with a CNAME to x.test; set followCNAME"),
        ),
        (
            "a CNAME that leads to the values",
            two().txt("192.0.2.1", both).on(
                "192.0.2.2",
                FQDN,
                RecordKind::Txt,
                Answer { alias: alias("x.test").alias, ..text(true, both) },
            ),
            Want::Seen,
        ),
        (
            "lame server is passed over",
            two().txt("192.0.2.1", both).fails("192.0.2.2", FQDN, RecordKind::Txt, "REFUSED"),
            Want::Seen,
        ),
        (
            "failing server is passed over",
            two().txt("192.0.2.1", both).fails("192.0.2.2", FQDN, RecordKind::Txt, "SERVFAIL"),
            Want::Seen,
        ),
        (
            "all lame",
            two().fails("192.0.2.1", FQDN, RecordKind::Txt, "REFUSED").fails(
                "192.0.2.2",
                FQDN,
                RecordKind::Txt,
                "REFUSED",
            ),
            Want::Not("192.0.2.1:53 answers REFUSED"),
        ),
        (
            "all lame and deny the name",
            two().on("192.0.2.1", FQDN, RecordKind::Txt, cached_absence()).on(
                "192.0.2.2",
                FQDN,
                RecordKind::Txt,
                cached_absence(),
            ),
            Want::Not("192.0.2.1:53 answers NXDOMAIN without authority"),
        ),
        ("all down", two(), Want::Not("192.0.2.1:53 does not answer")),
        (
            "a proxy answers in their place",
            two().on("192.0.2.1", FQDN, RecordKind::Txt, text(false, both)).on(
                "192.0.2.2",
                FQDN,
                RecordKind::Txt,
                text(false, both),
            ),
            Want::SeenBehindCache,
        ),
        ("servers without addresses", Script::zone(&[]), Want::Not("zone example.org")),
        ("no server knows the zone", Script::default(), Want::Not("10.0.0.10:53 does not answer")),
        (
            "no SOA up to the top",
            Script::default()
                .on(SYSTEM, "app.example.org", RecordKind::Soa, Answer::default())
                .on(SYSTEM, "example.org", RecordKind::Soa, soa("elsewhere.test"))
                .on(SYSTEM, "org", RecordKind::Soa, Answer::default()),
            Want::Not("no SOA record"),
        ),
    ] {
        check(case, &script.check_servers(&[]).await, &want);
    }
}

#[tokio::test]
async fn configured_name_servers_replace_the_authoritative_ones_and_all_must_have_the_values() {
    let both = &["v1", "v2"][..];
    for (case, script, want) in [
        (
            "both show both",
            Script::default().txt("192.0.2.8", both).txt("192.0.2.9", both),
            Want::Seen,
        ),
        (
            "one is recursive",
            Script::default().txt("192.0.2.8", both).on(
                "192.0.2.9",
                FQDN,
                RecordKind::Txt,
                text(false, both),
            ),
            Want::SeenBehindCache,
        ),
        (
            "one is down",
            Script::default().txt("192.0.2.8", both),
            Want::Not("192.0.2.9:53 does not answer"),
        ),
        (
            "one fails",
            Script::default().txt("192.0.2.8", both).fails(
                "192.0.2.9",
                FQDN,
                RecordKind::Txt,
                "SERVFAIL",
            ),
            Want::Not("192.0.2.9:53 answers SERVFAIL"),
        ),
    ] {
        check(case, &script.check_servers(&["192.0.2.8", "192.0.2.9"]).await, &want);
        let asked = script.asked.lock().unwrap();
        assert!(asked.iter().all(|(_, _, kind)| *kind == RecordKind::Txt), "{case}: {asked:?}");
    }
}

#[tokio::test]
async fn a_challenge_name_that_is_a_zone_of_its_own_is_followed() {
    let referral = text(false, &[]);
    let script = Script::zone(&["192.0.2.1"])
        .on("192.0.2.1", FQDN, RecordKind::Txt, referral)
        .on(SYSTEM, FQDN, RecordKind::Soa, soa(FQDN))
        .on(SYSTEM, FQDN, RecordKind::Ns, records([Record::NameServer("ns.acme".parse().unwrap())]))
        .on(
            SYSTEM,
            "ns.acme",
            RecordKind::A,
            records([Record::Address("192.0.2.7".parse().unwrap())]),
        )
        .txt("192.0.2.7", &["v1", "v2"]);
    check("delegated", &script.check_servers(&[]).await, &Want::Seen);
}

#[tokio::test]
async fn fault_37_the_absence_of_a_challenge_name_is_never_cached() {
    let script =
        Script::zone(&["192.0.2.1"]).on("192.0.2.1", FQDN, RecordKind::Txt, no_such_name());
    check("not there yet", &script.check_servers(&[]).await, &Want::Not("answers NXDOMAIN"));
    let asked = script.asked.lock().unwrap();
    let fqdn = FQDN.parse().unwrap();
    assert!(!asked.iter().any(|(server, name, _)| *server == at(SYSTEM) && *name == fqdn));
}

#[tokio::test]
async fn the_servers_of_a_zone_are_cached_for_some_minutes_only() {
    let script = Script::zone(&["192.0.2.1"]).txt("192.0.2.1", &["v"]);
    let clock = clock();
    let propagation = propagation(vec![], clock.clone());
    let mut soa_questions = Vec::new();
    for minutes in [0, 1, 5] {
        clock.step(SignedDuration::from_mins(minutes));
        let visibility = propagation.check(&script, &FQDN.parse().unwrap(), &["v".into()]).await;
        assert_eq!(visibility, Visibility::Seen { authoritative: true });
        let asked = script.asked.lock().unwrap();
        let soa = |(server, _, kind): &&(SocketAddr, DnsName, RecordKind)| {
            *kind == RecordKind::Soa && *server == at(SYSTEM)
        };
        soa_questions.push(asked.iter().filter(soa).count());
    }
    assert_eq!(soa_questions, [1, 1, 2]);
}

/// The owner of a zone must not make us ask internal servers at port 53.
#[tokio::test]
async fn servers_of_a_zone_are_asked_at_public_addresses_only() {
    let hidden = ["10.0.0.1", "127.0.0.1", "169.254.169.254", "fd00::1", "::ffff:10.0.0.2"];
    let script = hidden.iter().fold(Script::zone(&hidden), |it, one| it.txt(one, &["v1", "v2"]));
    let none = script.check_servers(&[]).await;
    check(
        "none is public",
        &none,
        &Want::Not("have no public address; set --precheck-nameservers"),
    );
    let mixed = Script::zone(&["10.0.0.1", "192.0.2.1"]);
    let mixed = mixed.txt("10.0.0.1", &["v1", "v2"]).txt("192.0.2.1", &["v1"]);
    check(
        "one is",
        &mixed.check_servers(&[]).await,
        &Want::Not("192.0.2.1:53 shows 1 of 2 values"),
    );
    for script in [script, mixed] {
        let asked = script.asked.lock().unwrap();
        let inside = |it: &&(SocketAddr, DnsName, RecordKind)| {
            it.0 != at(SYSTEM) && it.0 != at("192.0.2.1") && it.0 != at("10.9.9.9")
        };
        assert_eq!(asked.iter().find(inside), None);
    }
    let configured = Script::default().txt("10.0.0.1", &["v1", "v2"]);
    check("the operator's", &configured.check_servers(&["10.0.0.1"]).await, &Want::Seen);
}

#[test]
fn an_explicit_wait_always_applies_and_an_unset_one_behind_caches_only() {
    let three = SignedDuration::from_secs(3);
    for (configured, authoritative, seconds) in
        [(Some(three), true, 3), (Some(three), false, 3), (None, true, 0), (None, false, 10)]
    {
        let wait = additional_wait(configured, authoritative);
        assert_eq!(wait, SignedDuration::from_secs(seconds), "{configured:?} {authoritative}");
    }
}

/// Answers like the script, but one server never answers.
pub(super) struct Unresponsive(pub(super) Script, pub(super) SocketAddr);

#[async_trait]
impl Resolver for Unresponsive {
    async fn query(
        &self,
        server: SocketAddr,
        name: &DnsName,
        kind: RecordKind,
    ) -> Result<Answer, ResolveError> {
        if server == self.1 {
            return std::future::pending().await;
        }
        self.0.query(server, name, kind).await
    }

    fn system_servers(&self) -> Vec<SocketAddr> {
        self.0.system_servers()
    }

    async fn addresses(&self, name: &DnsName, port: u16) -> Result<Vec<SocketAddr>, ResolveError> {
        self.0.addresses(name, port).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_resolver_that_never_answers_is_skipped() {
    let script = Script::zone(&["192.0.2.1"]).txt("192.0.2.1", &["v"]);
    let script = Unresponsive(script, at("10.9.9.9"));
    let propagation = propagation(vec![], clock());
    let visibility = propagation.check(&script, &FQDN.parse().unwrap(), &["v".into()]).await;
    assert_eq!(visibility, Visibility::Seen { authoritative: true });
}

#[tokio::test(start_paused = true)]
async fn a_check_ends_although_a_server_never_answers() {
    let script = Unresponsive(Script::default(), at("10.9.9.9"));
    let propagation = Propagation::new(vec![at("10.9.9.9").into()], clock());
    let visibility = propagation.check(&script, &FQDN.parse().unwrap(), &["v1".into()]).await;
    check("never answers", &visibility, &Want::Not("took longer than 25 s"));
}

#[tokio::test]
async fn a_name_server_host_is_resolved_when_used_and_named_in_the_error() {
    let script = Script::default().txt("192.0.2.8", &["v1"]);
    let check_servers = async |host: &str| {
        let propagation = Propagation::new(vec![host.parse().unwrap()], clock());
        propagation.check(&script, &FQDN.parse().unwrap(), &["v1".into()]).await
    };
    check("found", &check_servers("ns.operator.test").await, &Want::Seen);
    let nowhere = check_servers("nowhere.test").await;
    let Visibility::NotSeen { why } = nowhere else { panic!("{nowhere:?}") };
    assert!(why.contains("the host nowhere.test has no address: nowhere"), "{why}");
}
