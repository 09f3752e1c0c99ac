use super::*;
use crate::{
    net::{Answer, Record, RecordKind},
    solve::dns01::tests::{
        FQDN, SYSTEM, Script, Unresponsive, alias, at, cached_absence, clock, no_such_name,
        records, text,
    },
};

const BOTH: &[&str] = &["v1", "v2"];
const TWO: [&str; 2] = ["192.0.2.1", "192.0.2.2"];

fn seconds(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

fn options(check: Check, nameservers: &[&str]) -> PropagationOptions {
    let nameservers = nameservers.iter().map(|server| server.parse().unwrap()).collect();
    PropagationOptions { check, nameservers, ..PropagationOptions::default() }
}

/// The policy permits the documentation addresses that the zones use.
fn propagation(options: PropagationOptions) -> Propagation {
    let range = "192.0.2.0/24".parse().unwrap();
    let policy = Arc::new(AddressPolicy::new(vec![range]));
    Propagation::with_options(options, clock()).within(policy)
}

async fn check(options: PropagationOptions, resolver: &dyn Resolver, age: i64) -> Visibility {
    let values = ["v1".to_owned(), "v2".to_owned()];
    let propagation = propagation(options);
    propagation.check_after(resolver, &FQDN.parse().unwrap(), &values, seconds(age)).await
}

fn why(visibility: Visibility) -> String {
    match visibility {
        Visibility::NotSeen { why } | Visibility::Waiting { why, .. } => why,
        Visibility::Seen { .. } => "seen".to_owned(),
    }
}

/// Whether `server` was asked for the challenge name.
fn was_asked(script: &Script, server: &str) -> bool {
    let fqdn: DnsName = FQDN.parse().unwrap();
    script
        .asked
        .lock()
        .unwrap()
        .iter()
        .any(|(asked, name, _)| *asked == at(server) && *name == fqdn)
}

#[tokio::test]
async fn fault_37_resolvers_are_asked_when_the_authoritative_servers_agree_and_must_agree_too() {
    let options = options(Check::Resolvers, &[SYSTEM]);
    let absent = Script::zone(&TWO)
        .txt("192.0.2.1", BOTH)
        .on("192.0.2.2", FQDN, RecordKind::Txt, no_such_name())
        .on(SYSTEM, FQDN, RecordKind::Txt, text(false, BOTH));
    for age in [0, 1000] {
        let why = why(check(options.clone(), &absent, age).await);
        assert!(why.contains("192.0.2.2:53 answers NXDOMAIN"), "{why}");
        assert!(!was_asked(&absent, SYSTEM));
    }
    let agreed = || Script::zone(&TWO).txt("192.0.2.1", BOTH).txt("192.0.2.2", BOTH);
    for (answer, want) in [
        (cached_absence(), "10.0.0.10:53 answers NXDOMAIN without authority, maybe from a cache"),
        (text(false, &["v1", "old"]), "10.0.0.10:53 shows 1 of 2 values (and 1 others)"),
        (text(false, BOTH), "seen"),
    ] {
        let script = agreed().on(SYSTEM, FQDN, RecordKind::Txt, answer);
        let why = why(check(options.clone(), &script, 0).await);
        assert!(why.contains(want), "{want}: {why}");
    }
    let fails = agreed().fails(SYSTEM, FQDN, RecordKind::Txt, "SERVFAIL");
    let why = why(check(options, &fails, 0).await);
    assert!(why.contains("10.0.0.10:53 answers SERVFAIL"), "{why}");
}

#[tokio::test]
async fn the_authoritative_servers_make_a_wait_behind_caches_unnecessary() {
    let options = options(Check::Resolvers, &[SYSTEM]);
    let script = Script::zone(&["192.0.2.1"]).txt("192.0.2.1", BOTH);
    let script = script.on(SYSTEM, FQDN, RecordKind::Txt, text(false, BOTH));
    let seen = check(options, &script, 0).await;
    assert_eq!(seen, Visibility::Seen { authoritative: true });
}

#[tokio::test]
async fn with_filtered_egress_the_resolvers_are_asked_after_the_wait() {
    let silent = || Script::zone(&TWO);
    let refusing = silent().fails("192.0.2.1", FQDN, RecordKind::Txt, "REFUSED");
    for (script, unreachable) in [
        (silent(), "name server 192.0.2.1:53 does not answer: silence"),
        (refusing, "name server 192.0.2.1:53 answers REFUSED"),
        (
            Script::zone(&["10.0.0.1"]),
            "the name servers of zone example.org have no public address",
        ),
        (Script::zone(&[]), "the name servers of zone example.org have no address"),
    ] {
        let script = script.on(SYSTEM, FQDN, RecordKind::Txt, text(false, BOTH));
        for (wait, default) in [(Some(seconds(20)), 20), (None, 60)] {
            let options = PropagationOptions { wait, ..options(Check::Resolvers, &[SYSTEM]) };
            script.asked.lock().unwrap().clear();
            let waiting = check(options.clone(), &script, 5).await;
            let left = default - 5;
            let why = format!("; the resolvers are asked in {left} s");
            let Visibility::Waiting { why: shown, left: shown_left } = waiting else {
                panic!("{waiting:?}")
            };
            assert!(shown.contains(unreachable) && shown.ends_with(&why), "{shown}");
            assert_eq!(shown_left, seconds(left));
            assert!(!was_asked(&script, SYSTEM));
            let seen = check(options, &script, default).await;
            assert_eq!(seen, Visibility::Seen { authoritative: false });
        }
    }
}

#[tokio::test(start_paused = true)]
async fn servers_that_swallow_questions_leave_time_for_the_resolvers() {
    let script = Script::zone(&["192.0.2.1"]).on(SYSTEM, FQDN, RecordKind::Txt, text(false, BOTH));
    let script = Unresponsive(script, at("192.0.2.1"));
    let options = options(Check::Resolvers, &[SYSTEM]);
    let why = why(check(options.clone(), &script, 0).await);
    assert!(why.contains("took longer than 14 s; the resolvers are asked in 60 s"), "{why}");
    let seen = check(options, &script, 60).await;
    assert_eq!(seen, Visibility::Seen { authoritative: false });
}

/// Otherwise each mistake in the options would look like filtered egress.
#[tokio::test]
async fn a_zone_that_the_resolvers_do_not_find_is_reported_and_not_waited_for() {
    let script = Script::default().on(SYSTEM, FQDN, RecordKind::Txt, text(false, BOTH));
    let visibility = check(options(Check::Resolvers, &[SYSTEM]), &script, 1000).await;
    let Visibility::NotSeen { why } = visibility else { panic!("{visibility:?}") };
    assert!(why.contains("cannot find the zone of"), "{why}");
    assert!(!was_asked(&script, SYSTEM));
}

#[tokio::test]
async fn every_look_up_uses_the_configured_servers() {
    for check_mode in [Check::Authoritative, Check::Resolvers] {
        for server in [SYSTEM, "https://10.0.0.10/dns-query"] {
            let script = Script::zone(&["192.0.2.1"]).txt("192.0.2.1", BOTH).on(
                SYSTEM,
                FQDN,
                RecordKind::Txt,
                text(false, BOTH),
            );
            let seen = check(options(check_mode, &[server]), &script, 0).await;
            assert_eq!(seen, Visibility::Seen { authoritative: true });
            let asked = script.asked.lock().unwrap();
            let other = asked.iter().find(|it| it.0 != at(SYSTEM) && it.0 != at("192.0.2.1"));
            assert_eq!(other, None, "{server}");
        }
    }
    let script = Script::zone(&["192.0.2.1"]).txt("192.0.2.1", BOTH);
    check(options(Check::Authoritative, &[SYSTEM]), &script, 0).await;
    assert!(!was_asked(&script, SYSTEM));
}

#[tokio::test]
async fn a_dead_resolver_and_one_without_address_are_reported() {
    let script = Script::zone(&["192.0.2.1"]).txt("192.0.2.1", BOTH);
    let seen = check(options(Check::Authoritative, &["10.9.9.9", SYSTEM]), &script, 0).await;
    assert_eq!(seen, Visibility::Seen { authoritative: true });
    let nowhere = check(options(Check::Authoritative, &["nowhere.test"]), &script, 0).await;
    let nowhere = why(nowhere);
    assert!(nowhere.contains("the host nowhere.test has no address"), "{nowhere}");
}

#[tokio::test]
async fn a_wait_and_no_check_look_nothing_up() {
    let script = Script::default();
    let wait = |wait| PropagationOptions { wait, ..options(Check::Wait, &[SYSTEM]) };
    for (options, age, want) in [
        (options(Check::None, &[]), 0, "seen"),
        (wait(None), 0, "waiting 60 s more; this solver checks no name server"),
        (wait(None), 59, "waiting 1 s more"),
        (wait(None), 60, "seen"),
        (wait(Some(seconds(5))), 4, "waiting 1 s more"),
        (wait(Some(seconds(5))), 5, "seen"),
    ] {
        let why = why(check(options, &script, age).await);
        assert!(why.starts_with(want), "{age}: {why}");
    }
    assert!(script.asked.lock().unwrap().is_empty());
}

#[test]
fn the_wait_and_the_timeout_of_a_solver_precede_those_of_the_manager() {
    for (check, wait, timeout, want) in [
        (Check::Authoritative, None, None, (7, 120)),
        (Check::Authoritative, Some(3), None, (3, 123)),
        (Check::Resolvers, Some(3), Some(30), (3, 30)),
        (Check::Nameservers, None, Some(600), (7, 600)),
        (Check::Wait, None, None, (0, 180)),
        (Check::Wait, Some(300), None, (0, 420)),
        (Check::None, Some(300), None, (0, 120)),
    ] {
        let (wait, timeout) = (wait.map(seconds), timeout.map(seconds));
        let propagation = propagation(PropagationOptions { wait, timeout, ..options(check, &[]) });
        let found = (
            propagation.additional_wait(Some(seconds(7)), true).as_secs(),
            propagation.timeout(seconds(120)).as_secs(),
        );
        assert_eq!(found, want, "{check:?} {wait:?} {timeout:?}");
    }
    let unset = propagation(PropagationOptions::default());
    assert_eq!(unset.additional_wait(None, true), SignedDuration::ZERO);
    assert_eq!(unset.additional_wait(None, false), seconds(10));
}

/// The wildcard yields to the record as soon as that exists.
#[tokio::test]
async fn fault_40_a_wildcard_cname_in_the_place_of_the_record_is_explained() {
    let answer = Answer { records: vec![Record::Text("spf".into())], ..alias("web.test") };
    for answer in [answer, alias("web.test")] {
        let script = Script::zone(&["192.0.2.1"]).on("192.0.2.1", FQDN, RecordKind::Txt, answer);
        let why = why(check(options(Check::Authoritative, &[SYSTEM]), &script, 0).await);
        let want = "192.0.2.1:53 answers with a CNAME to web.test; set followCNAME";
        assert!(why.contains(want) && why.contains("comes from a wildcard"), "{why}");
    }
}

/// A zone may have 64 KB of values of others, and a resolver may return foreign records.
#[tokio::test]
async fn fault_39_our_values_are_found_among_many() {
    let mut many: Vec<String> = (0..2000).map(|n| format!("foreign value {n}")).collect();
    many.extend(["v2".to_owned(), "v1".to_owned()]);
    let address = Record::Address("192.0.2.9".parse().unwrap());
    let all = many.into_iter().map(Record::Text).chain([address]);
    let answer = Answer { authoritative: true, ..records(all) };
    let script = Script::zone(&["192.0.2.1"]).on("192.0.2.1", FQDN, RecordKind::Txt, answer);
    let seen = check(PropagationOptions::default(), &script, 0).await;
    assert_eq!(seen, Visibility::Seen { authoritative: true });
}

/// Each attempt takes ten seconds, and a certificate may have a hundred names.
#[tokio::test]
async fn fault_38_a_silent_server_is_not_asked_again_for_a_while() {
    let clock = clock();
    let script = Script::zone(&TWO).txt("192.0.2.1", BOTH);
    let policy = Arc::new(AddressPolicy::new(vec!["192.0.2.0/24".parse().unwrap()]));
    let options = PropagationOptions::default();
    let propagation = Propagation::with_options(options, clock.clone()).within(policy);
    let values = ["v1".to_owned()];
    let mut questions = Vec::new();
    for seconds_later in [0, 14, 1] {
        clock.step(seconds(seconds_later));
        let seen = propagation.check(&script, &FQDN.parse().unwrap(), &values).await;
        assert_eq!(seen, Visibility::Seen { authoritative: true });
        let asked = script.asked.lock().unwrap();
        questions.push(TWO.map(|server| asked.iter().filter(|it| it.0 == at(server)).count()));
    }
    assert_eq!(questions, [[1, 1], [2, 1], [3, 2]]);
}
