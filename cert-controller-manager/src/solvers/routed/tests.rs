//! An issuer with two solvers: one for b.test, and one for all other names.

use cert_lib::solve::dns01::Propagation;
use jiff::SignedDuration;

use super::{
    super::{entry::SolverEntry, memory::MemorySolver},
    *,
};
use crate::api::issuer::SolverKind;

struct TestEnv {
    solver: RoutedSolver,
    other: MemorySolver,
    b: MemorySolver,
    owner: Owner,
}

impl TestEnv {
    fn new() -> Self {
        let registry = Arc::new(SolverRegistry::default());
        let (other, b) = (MemorySolver::default(), MemorySolver::default());
        registry.add(SolverKind::DnsEntry, Arc::new(other.clone()));
        registry.add(SolverKind::Skip, Arc::new(b.clone()));
        let mut routes = SolverRoutes::all(SolverKind::DnsEntry, None);
        routes.0.extend(SolverRoutes::all(SolverKind::Skip, None).0);
        routes.0.last_mut().unwrap().selector.zones = vec![name("b.test")];
        let solver = RoutedSolver::new(registry, routes);
        Self { solver, other, b, owner: Owner("ns/a".to_owned()) }
    }

    /// The calls of the default solver and of the solver of b.test.
    fn calls(&self) -> [Vec<String>; 2] {
        [self.other.calls(), self.b.calls()]
    }
}

fn name(text: &str) -> DnsName {
    text.parse().unwrap()
}

fn txt(fqdn: &str) -> Proof {
    Proof::at_challenge(name(fqdn), vec!["value".to_owned()])
}

fn both() -> [Proof; 3] {
    ["_acme-challenge.a.test", "_acme-challenge.x.b.test", "_acme-challenge.c.test"].map(txt)
}

#[tokio::test]
async fn each_solver_gets_the_proofs_of_its_names() {
    let env = TestEnv::new();
    env.solver.present(&env.owner, &both()).await.unwrap();
    let ready = env.solver.ready(&env.owner, &both()).await.unwrap();
    env.solver.cleanup(&env.owner, &both()).await.unwrap();
    assert_eq!(ready, Readiness::Ready);
    let verbs = ["present", "ready", "cleanup"];
    let others = verbs.map(|verb| format!("{verb} _acme-challenge.a.test _acme-challenge.c.test"));
    let of_b = verbs.map(|verb| format!("{verb} _acme-challenge.x.b.test"));
    assert_eq!(env.calls(), [others.to_vec(), of_b.to_vec()]);
}

#[tokio::test]
async fn all_solvers_must_be_ready_and_all_are_checked() {
    let env = TestEnv::new();
    let not_yet =
        Readiness::NotYet { why: "pending".into(), look_again: SignedDuration::from_secs(1) };
    env.b.see(not_yet);
    let Readiness::NotYet { why, .. } = env.solver.ready(&env.owner, &both()).await.unwrap() else {
        panic!("ready")
    };
    assert_eq!(why, "pending (solver skip)");
    assert_eq!(env.calls().map(|calls| calls.len()), [1, 1]);
}

#[tokio::test]
async fn a_failed_cleanup_does_not_prevent_that_of_the_other_solver() {
    let env = TestEnv::new();
    env.b.fail("down");
    let error = env.solver.cleanup(&env.owner, &both()).await.unwrap_err();
    assert_eq!(error.to_string(), "down");
    assert_eq!(env.calls().map(|calls| calls.len()), [1, 1]);
}

#[tokio::test]
async fn a_proof_at_a_cname_target_stays_with_the_solver_of_its_name() {
    let env = TestEnv::new();
    env.b.lead_to(name("all.acme.test"));
    let target = env.solver.follow(&env.owner, &name("_acme-challenge.x.b.test")).await.unwrap();
    assert_eq!(target, name("all.acme.test"));
    let proof = Proof::Txt {
        challenge: name("_acme-challenge.x.b.test"),
        fqdn: target,
        values: vec!["value".to_owned()],
    };
    env.solver.present(&env.owner, &[proof]).await.unwrap();
    assert_eq!(env.calls(), [vec![], vec!["present all.acme.test".to_owned()]]);
}

#[tokio::test]
async fn a_solver_that_was_not_added_yet_is_a_temporary_failure() {
    let registry = Arc::new(SolverRegistry::default());
    let solver = RoutedSolver::new(registry.clone(), SolverRoutes::all(SolverKind::DnsEntry, None));
    let owner = Owner("ns/a".to_owned());
    let error = solver.present(&owner, &both()).await.unwrap_err();
    assert!(matches!(error, SolveError::Unavailable(_)), "{error}");
    registry.add(SolverKind::DnsEntry, Arc::new(MemorySolver::default()));
    solver.present(&owner, &both()).await.unwrap();
}

/// A solver that gives its proofs this number of seconds.
struct Patient(i64);

#[async_trait]
impl SolverEntry for Patient {
    fn solver(&self, _: Option<&Arc<Propagation>>) -> Arc<dyn Solver> {
        Arc::new(Self(self.0))
    }

    async fn sweep(&self, _: &Owner) -> Result<(), SolveError> {
        Ok(())
    }
}

#[async_trait]
impl Solver for Patient {
    async fn present(&self, _: &Owner, _: &[Proof]) -> Result<(), SolveError> {
        Ok(())
    }

    async fn ready(&self, _: &Owner, _: &[Proof]) -> Result<Readiness, SolveError> {
        Ok(Readiness::Ready)
    }

    async fn cleanup(&self, _: &Owner, _: &[Proof]) -> Result<(), SolveError> {
        Ok(())
    }

    fn propagation_timeout(&self, _: &Owner, _: &[Proof], _: SignedDuration) -> SignedDuration {
        SignedDuration::from_secs(self.0)
    }
}

#[test]
fn an_order_has_the_longest_timeout_of_its_solvers() {
    let env = TestEnv::new();
    env.solver.registry.add(SolverKind::Skip, Arc::new(Patient(600)));
    let default = SignedDuration::from_secs(120);
    let timeout =
        |proofs: &[Proof]| env.solver.propagation_timeout(&env.owner, proofs, default).as_secs();
    assert_eq!(timeout(&both()), 600);
    assert_eq!(timeout(&[txt("_acme-challenge.a.test")]), 120);
    env.solver.registry.add(SolverKind::Skip, Arc::new(Patient(30)));
    assert_eq!(timeout(&[txt("_acme-challenge.x.b.test")]), 30);
}

#[tokio::test]
async fn labels_select_the_solver_that_follows_cnames() {
    let registry = Arc::new(SolverRegistry::default());
    let (plain, red) = (MemorySolver::default(), MemorySolver::default());
    red.lead_to(name("all.acme.test"));
    registry.add(SolverKind::DnsEntry, Arc::new(plain));
    registry.add(SolverKind::Skip, Arc::new(red));
    let mut routes = SolverRoutes::all(SolverKind::DnsEntry, None);
    routes.0.extend(SolverRoutes::all(SolverKind::Skip, None).0);
    let labels: Labels = [("team".to_owned(), "red".to_owned())].into();
    let route = routes.0.last_mut().unwrap();
    (route.selector.labels, route.follows_cnames) = (labels.clone(), true);
    let issuer = IssuerKey::Default("ca".to_owned());
    registry.set_routes(&issuer, routes.clone());
    let solver = RoutedSolver::new(registry.clone(), routes);
    let (with, without) = (Owner("ns/a".to_owned()), Owner("ns/b".to_owned()));
    registry.set_labels(&issuer, &with, &labels, false);
    let challenge = name("_acme-challenge.a.test");
    for (owner, target) in [(&with, "all.acme.test"), (&without, "_acme-challenge.a.test")] {
        assert_eq!(solver.follows_cnames(owner, &challenge), *owner == with);
        assert_eq!(solver.follow(owner, &challenge).await.unwrap(), name(target));
    }
}
