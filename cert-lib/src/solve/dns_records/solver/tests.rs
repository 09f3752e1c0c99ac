use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use super::*;
use crate::{
    clock::Manual,
    net::{Answer, Record, RecordKind, ResolveError},
    solve::dns01::{Check, PropagationOptions},
};

/// A zone that publishes what is added, unless it `loses` or `hides` it.
#[derive(Default)]
struct Zone(Mutex<Content>);

#[derive(Default)]
struct Content {
    records: BTreeMap<DnsName, BTreeSet<String>>,
    hides: bool,
    error: Option<SolveError>,
    log: Vec<String>,
    running: usize,
    most: usize,
}

impl Zone {
    async fn call(&self, verb: &str, fqdn: &DnsName) -> Result<(), SolveError> {
        {
            let content = &mut *self.0.lock().unwrap();
            content.log.push(format!("{verb} {fqdn}"));
            content.running += 1;
            content.most = content.most.max(content.running);
        }
        tokio::task::yield_now().await;
        let content = &mut *self.0.lock().unwrap();
        content.running -= 1;
        content.error.clone().map_or(Ok(()), Err)
    }

    fn values(&self, fqdn: &str) -> Vec<String> {
        let content = self.0.lock().unwrap();
        content.records.get(&name(fqdn)).into_iter().flatten().cloned().collect()
    }

    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().log)
    }
}

#[async_trait]
impl DnsRecords for Zone {
    async fn add(&self, fqdn: &DnsName, values: &[String]) -> Result<(), SolveError> {
        self.call("add", fqdn).await?;
        let records = &mut self.0.lock().unwrap().records;
        records.entry(fqdn.clone()).or_default().extend(values.iter().cloned());
        Ok(())
    }

    async fn remove(&self, fqdn: &DnsName, values: &[String]) -> Result<(), SolveError> {
        self.call("remove", fqdn).await?;
        let records = &mut self.0.lock().unwrap().records;
        records.entry(fqdn.clone()).or_default().retain(|value| !values.contains(value));
        Ok(())
    }
}

#[async_trait]
impl Resolver for Zone {
    async fn query(
        &self,
        _: SocketAddr,
        fqdn: &DnsName,
        _: RecordKind,
    ) -> Result<Answer, ResolveError> {
        let content = self.0.lock().unwrap();
        let values = content.records.get(fqdn).into_iter().flatten().filter(|_| !content.hides);
        let records = values.cloned().map(Record::Text).collect();
        Ok(Answer { authoritative: true, records, ..Answer::default() })
    }

    fn system_servers(&self) -> Vec<SocketAddr> {
        vec![]
    }

    async fn addresses(&self, _: &DnsName, _: u16) -> Result<Vec<SocketAddr>, ResolveError> {
        Ok(vec![])
    }
}

struct TestEnv {
    zone: Arc<Zone>,
    clock: Arc<Manual>,
    solver: DnsRecordsSolver,
    owner: Owner,
}

impl TestEnv {
    fn new(check: Check, wait: Option<i64>) -> Self {
        let (zone, clock) =
            (Arc::new(Zone::default()), Arc::new(Manual::at(Timestamp::UNIX_EPOCH)));
        let options = PropagationOptions {
            check,
            nameservers: vec!["192.0.2.1".parse().unwrap()],
            wait: wait.map(SignedDuration::from_secs),
            timeout: Some(SignedDuration::from_secs(900)),
        };
        let propagation = Arc::new(Propagation::with_options(options, clock.clone()));
        let solver = DnsRecordsSolver::new(zone.clone(), propagation, zone.clone(), clock.clone());
        Self { zone, clock, solver, owner: Owner("ns/web".to_owned()) }
    }

    async fn present(&self, proofs: &[Proof]) {
        self.solver.present(&self.owner, proofs).await.unwrap();
    }

    async fn ready(&self, proofs: &[Proof]) -> String {
        match self.solver.ready(&self.owner, proofs).await {
            Ok(Readiness::Ready) => "ready".to_owned(),
            Ok(Readiness::NotYet { why, look_again }) => {
                format!("{why} [{}]", look_again.as_secs())
            }
            Err(error) => format!("{error:?}"),
        }
    }

    fn step(&self, seconds: i64) {
        self.clock.step(SignedDuration::from_secs(seconds));
    }
}

fn name(text: &str) -> DnsName {
    text.parse().unwrap()
}

fn proof(fqdn: &str, values: &[&str]) -> Proof {
    let values = values.iter().map(|value| (*value).to_owned()).collect();
    Proof::at_challenge(name(fqdn), values)
}

const FQDN: &str = "_acme-challenge.example.org";

#[tokio::test]
async fn values_are_published_seen_and_removed_and_those_of_others_survive() {
    let env = TestEnv::new(Check::Nameservers, None);
    let foreign = ["foreign".to_owned()];
    env.zone.add(&name(FQDN), &foreign).await.unwrap();
    let proofs = [proof(FQDN, &["a", "b"]), proof("_acme-challenge.b.example.org", &["c"])];
    env.present(&proofs).await;
    env.present(&proofs).await;
    assert_eq!(env.zone.values(FQDN), ["a", "b", "foreign"]);
    assert_eq!(env.ready(&proofs).await, "ready");
    for _ in 0..2 {
        env.solver.cleanup(&env.owner, &proofs).await.unwrap();
        assert_eq!(env.zone.values(FQDN), foreign);
    }
    assert!(env.solver.stores_proofs());
    let default = SignedDuration::from_secs(120);
    assert_eq!(env.solver.propagation_timeout(&env.owner, &proofs, default).as_secs(), 900);
}

/// After a crash, the stored order has the values, or nothing is known.
#[tokio::test]
async fn a_proof_without_values_removes_nothing() {
    let env = TestEnv::new(Check::Nameservers, None);
    env.present(&[proof(FQDN, &["a"])]).await;
    env.zone.calls();
    env.solver.cleanup(&env.owner, &[proof(FQDN, &[])]).await.unwrap();
    assert_eq!((env.zone.calls().len(), env.zone.values(FQDN)), (0, vec!["a".to_owned()]));
}

#[tokio::test]
async fn an_http_proof_is_refused_before_anything_is_published() {
    let env = TestEnv::new(Check::None, None);
    let host = crate::solve::Host::Name(name("a.example"));
    let http = Proof::Http { host, token: "t".into(), body: "b".into() };
    let error = env.solver.present(&env.owner, &[proof(FQDN, &["a"]), http]).await.unwrap_err();
    assert!(matches!(error, SolveError::Misconfigured(_)), "{error:?}");
    assert_eq!(env.zone.calls().len(), 0);
}

#[tokio::test]
async fn many_names_are_published_and_removed_with_bounded_parallelism() {
    let env = TestEnv::new(Check::Nameservers, None);
    let proofs: Vec<Proof> = (0..100).map(|n| proof(&format!("n{n}.test"), &["v"])).collect();
    env.present(&proofs).await;
    assert_eq!(env.ready(&proofs).await, "ready");
    env.solver.cleanup(&env.owner, &proofs).await.unwrap();
    assert_eq!(env.zone.calls().len(), 200);
    assert_eq!(env.zone.0.lock().unwrap().most, 8);
}

#[tokio::test]
async fn a_failed_removal_does_not_prevent_the_others_and_the_error_of_a_user_is_reported() {
    let env = TestEnv::new(Check::None, None);
    let proofs = [proof("a.test", &["v"]), proof("b.test", &["v"]), proof("c.test", &["v"])];
    env.present(&proofs).await;
    env.zone.calls();
    env.zone.0.lock().unwrap().error = Some(SolveError::Misconfigured("wrong key".to_owned()));
    let error = env.solver.cleanup(&env.owner, &proofs).await.unwrap_err();
    assert_eq!(error.to_string(), "wrong key");
    assert_eq!(env.zone.calls(), ["remove a.test", "remove b.test", "remove c.test"]);
}

#[tokio::test]
async fn values_that_stay_invisible_are_added_again_at_doubling_intervals() {
    let env = TestEnv::new(Check::Nameservers, None);
    let proofs = [proof(FQDN, &["a"])];
    env.present(&proofs).await;
    env.zone.0.lock().unwrap().hides = true;
    env.zone.calls();
    let mut added = Vec::new();
    for second in 0..300 {
        let shown = env.ready(&proofs).await;
        assert!(shown.contains("192.0.2.1:53 shows 0 of 1 values"), "{shown}");
        if !env.zone.calls().is_empty() {
            added.push(second);
        }
        env.step(1);
    }
    assert_eq!(added, [30, 90, 210]);
}

/// The values are in the stored order, so a new process can add them.
#[tokio::test]
async fn values_that_another_client_removed_are_added_by_a_new_process_too() {
    let env = TestEnv::new(Check::Nameservers, None);
    let proofs = [proof(FQDN, &["a"])];
    assert!(env.ready(&proofs).await.contains("shows 0 of 1"));
    env.step(30);
    assert!(env.ready(&proofs).await.contains("shows 0 of 1"));
    assert_eq!(env.ready(&proofs).await, "ready");
}

#[tokio::test]
async fn a_failed_addition_is_shown_beside_the_reason_or_ends_the_wait() {
    for (error, want) in [
        (
            SolveError::Unavailable("the server is down".to_owned()),
            "shows 0 of 1 values (and 0 others); adding the values again failed: the server is down",
        ),
        (SolveError::Misconfigured("wrong key".to_owned()), "Misconfigured(\"wrong key\")"),
    ] {
        let env = TestEnv::new(Check::Nameservers, None);
        let proofs = [proof(FQDN, &["a"])];
        env.ready(&proofs).await;
        env.zone.0.lock().unwrap().error = Some(error);
        env.step(30);
        let shown = env.ready(&proofs).await;
        assert!(shown.contains(want), "{shown}");
    }
}

#[tokio::test]
async fn a_wait_starts_with_the_first_check_and_again_with_each_publication() {
    let env = TestEnv::new(Check::Wait, Some(40));
    let proofs = [proof(FQDN, &["a"])];
    env.present(&proofs).await;
    env.zone.0.lock().unwrap().hides = true;
    for (seconds, want) in [(5, "waiting 40 s more"), (35, "waiting 5 s more"), (5, "ready")] {
        env.step(seconds);
        let shown = env.ready(&proofs).await;
        assert!(shown.starts_with(want), "{shown}");
    }
    env.present(&proofs).await;
    assert!(env.ready(&proofs).await.starts_with("waiting 40 s more"));
    assert_eq!(env.zone.calls().len(), 2);
}

#[tokio::test]
async fn the_additional_wait_starts_when_all_values_are_visible_and_again_after_a_relapse() {
    for (wait, manager) in [(Some(10), None), (None, Some(10)), (Some(10), Some(99))] {
        let env = TestEnv::new(Check::Nameservers, wait);
        let manager = manager.map(SignedDuration::from_secs);
        let env = TestEnv { solver: env.solver.with_additional_wait(manager), ..env };
        let proofs = [proof(FQDN, &["a"])];
        env.present(&proofs).await;
        assert!(env.ready(&proofs).await.ends_with("waiting 10 s more [10]"));
        env.step(4);
        env.zone.0.lock().unwrap().hides = true;
        assert!(env.ready(&proofs).await.contains("shows 0 of 1"));
        env.zone.0.lock().unwrap().hides = false;
        assert!(env.ready(&proofs).await.ends_with("waiting 10 s more [10]"));
        env.step(10);
        assert_eq!(env.ready(&proofs).await, "ready");
    }
}

#[tokio::test]
async fn the_interval_of_checks_grows_and_the_state_ends_with_the_cleanup() {
    let env = TestEnv::new(Check::Nameservers, None);
    let proofs = [proof(FQDN, &["a"])];
    env.present(&proofs).await;
    env.zone.0.lock().unwrap().hides = true;
    let mut intervals = Vec::new();
    for seconds in [0, 4, 16, 40, 100] {
        env.step(seconds);
        intervals.push(env.ready(&proofs).await.rsplit_once('[').unwrap().1.to_owned());
    }
    assert_eq!(intervals, ["1]", "1]", "5]", "15]", "15]"]);
    env.solver.cleanup(&env.owner, &proofs).await.unwrap();
    assert!(env.solver.additions.lock().unwrap().is_empty());
    assert!(env.ready(&proofs).await.ends_with("[1]"));
}
