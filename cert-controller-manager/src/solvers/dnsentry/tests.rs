use cert_lib::{
    clock::Manual,
    net::{Answer, Record, RecordKind, ResolveError},
    solve::dns01::Nameserver,
};
use http::{Method, Request, Response, StatusCode};
use kube::client::Body;
use serde_json::{Value, json};
use std::net::SocketAddr;
use tokio::sync::mpsc::unbounded_channel;

use super::*;
use crate::api::{ClusterId, dnsentry::ANNOTATION_OWNER};
use crate::runtime::watch::{Availability, EventHandler};

/// What the API server holds, and the code that it answers with in its place.
#[derive(Default)]
struct Api {
    objects: HashMap<String, Value>,
    created: u32,
    fails: Option<StatusCode>,
}

impl Api {
    fn answer(&mut self, method: &Method, path: &str, body: &[u8]) -> (StatusCode, Value) {
        if let Some(code) = self.fails {
            return failure(code);
        }
        if *method == Method::DELETE {
            return match self.objects.remove(path) {
                Some(object) => (StatusCode::OK, object),
                None => failure(StatusCode::NOT_FOUND),
            };
        }
        assert_eq!(*method, Method::PATCH);
        let mut object: Value = serde_json::from_slice(body).unwrap();
        let before = self.objects.get(path);
        let (uid, mut generation) = match before {
            Some(before) => (
                before["metadata"]["uid"].clone(),
                before["metadata"]["generation"].as_i64().unwrap(),
            ),
            None => {
                self.created += 1;
                (json!(format!("u{}", self.created)), 1)
            }
        };
        if before.is_some_and(|before| before["spec"] != object["spec"]) {
            generation += 1;
        }
        object["metadata"]["uid"] = uid;
        object["metadata"]["generation"] = json!(generation);
        self.objects.insert(path.to_owned(), object.clone());
        (StatusCode::OK, object)
    }
}

fn failure(code: StatusCode) -> (StatusCode, Value) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "no", "reason": "no", "code": code.as_u16(),
    });
    (code, status)
}

/// Every server shows these values.
#[derive(Default)]
struct World(Mutex<(bool, Vec<String>)>, Mutex<Option<DnsName>>);

#[async_trait]
impl Resolver for World {
    async fn query(
        &self,
        _: SocketAddr,
        _: &DnsName,
        _: RecordKind,
    ) -> Result<Answer, ResolveError> {
        let (authoritative, values) = self.0.lock().unwrap().clone();
        let records = values.into_iter().map(Record::Text).collect();
        let alias = self.1.lock().unwrap().clone();
        Ok(Answer { authoritative, records, alias, ..Answer::default() })
    }

    fn system_servers(&self) -> Vec<SocketAddr> {
        vec![]
    }

    async fn addresses(&self, _: &DnsName, _: u16) -> Result<Vec<SocketAddr>, ResolveError> {
        Ok(vec![])
    }
}

struct Rig {
    solver: DnsEntrySolver,
    api: Arc<Mutex<Api>>,
    world: Arc<World>,
    clock: Arc<Manual>,
    owner: Owner,
}

impl Rig {
    fn new(settings: Settings) -> Self {
        let api = Arc::new(Mutex::new(Api::default()));
        let served = api.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = served.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap();
                let (code, object) =
                    api.lock().unwrap().answer(&parts.method, parts.uri.path(), &body);
                let body = Body::from(serde_json::to_vec(&object).unwrap());
                Ok::<_, tower::BoxError>(Response::builder().status(code).body(body).unwrap())
            }
        });
        let (wake, _) = unbounded_channel();
        let entries =
            Arc::new(Entries::new(None, settings.class.clone(), settings.realm.clone(), wake));
        entries.availability.send_replace(Availability::Present);
        let world = Arc::new(World::default());
        let clock = Arc::new(Manual::at(Timestamp::UNIX_EPOCH));
        let nameserver = "192.0.2.1:53".parse().unwrap();
        let propagation =
            Arc::new(Propagation::new(vec![Nameserver::Address(nameserver)], clock.clone()));
        let client = Client::new(service, "default");
        let solver = DnsEntrySolver::new(
            client,
            entries,
            world.clone(),
            propagation,
            clock.clone(),
            settings,
        );
        Self { solver, api, world, clock, owner: Owner("ns/web".into()) }
    }

    /// The watch hears of all objects, and the DNS controller has given them `state`.
    fn observe(&self, state: &str) {
        for object in self.api.lock().unwrap().objects.values() {
            let mut object = object.clone();
            let generation = object["metadata"]["generation"].clone();
            object["status"] = json!({"state": state, "observedGeneration": generation});
            self.solver.entries.applied(serde_json::from_value(object).unwrap());
        }
    }

    fn publish(&self, authoritative: bool, values: &[&str]) {
        let values = values.iter().map(|v| (*v).to_owned()).collect();
        *self.world.0.lock().unwrap() = (authoritative, values);
    }

    async fn ready(&self, proofs: &[Proof]) -> String {
        match self.solver.ready(&self.owner, proofs).await.unwrap() {
            Readiness::Ready => "ready".into(),
            Readiness::NotYet { why, look_again } => format!("{why} [{}]", look_again.as_secs()),
        }
    }

    fn step(&self, seconds: i64) {
        self.clock.step(SignedDuration::from_secs(seconds));
    }

    fn objects(&self) -> Vec<Value> {
        self.api.lock().unwrap().objects.values().cloned().collect()
    }
}

fn proof(values: &[&str]) -> [Proof; 1] {
    let fqdn = "_acme-challenge.example.org".parse().unwrap();
    [Proof::Txt { fqdn, values: values.iter().map(|v| (*v).to_owned()).collect() }]
}

#[tokio::test]
async fn a_proof_becomes_an_entry_of_its_owner_and_goes_away_again() {
    let class = Some("mine".to_owned());
    let cluster = ClusterId { id: "s".to_owned(), former: vec![] };
    let settings = Settings {
        class,
        ttl: 60,
        namespace: Some("dns".into()),
        realm: Realm::new("gardencert", &cluster),
        ..Settings::default()
    };
    let rig = Rig::new(settings);
    let proofs = proof(&["a", "b"]);
    rig.solver.present(&rig.owner, &proofs).await.unwrap();
    rig.solver.present(&rig.owner, &proofs).await.unwrap();

    let objects = rig.objects();
    assert_eq!(objects.len(), 1);
    let metadata = &objects[0]["metadata"];
    assert_eq!(metadata["namespace"], "dns");
    assert!(metadata["name"].as_str().unwrap().starts_with("cert--example.org-"));
    let annotations = json!({
        "dns.gardener.cloud/class": "mine",
        "cert.gardener.cloud/acme-dns-challenge": "true",
        "cert.gardener.cloud/challenge-owner": "ns/web",
        "cert.gardener.cloud/challenge-realm": "gardencert@s",
    });
    assert_eq!(metadata["annotations"], annotations);
    let spec = json!({"dnsName": "_acme-challenge.example.org", "ttl": 60, "text": ["a", "b"]});
    assert_eq!(objects[0]["spec"], spec);

    for _ in 0..2 {
        rig.solver.cleanup(&rig.owner, &proofs).await.unwrap();
        assert_eq!(rig.objects(), [json!(null); 0]);
    }
}

#[tokio::test]
async fn two_owners_of_one_name_have_two_entries_and_sweeping_takes_one() {
    let rig = Rig::new(Settings::default());
    let other = Owner("ns/other".into());
    rig.solver.present(&rig.owner, &proof(&["a"])).await.unwrap();
    rig.solver.present(&other, &proof(&["b"])).await.unwrap();
    rig.observe("Ready");
    assert_eq!(rig.objects().len(), 2);
    rig.solver.sweep(&rig.owner).await.unwrap();
    let left = rig.objects();
    assert_eq!((left.len(), &left[0]["spec"]["text"]), (1, &json!(["b"])));
}

#[tokio::test]
async fn an_entry_that_is_of_another_owner_is_neither_written_nor_deleted() {
    let rig = Rig::new(Settings::default());
    rig.solver.present(&rig.owner, &proof(&["a"])).await.unwrap();
    for object in rig.api.lock().unwrap().objects.values_mut() {
        object["metadata"]["annotations"]["cert.gardener.cloud/challenge-owner"] =
            json!("ns/other");
    }
    rig.observe("Ready");
    let before = rig.objects();
    let error = rig.solver.present(&rig.owner, &proof(&["b"])).await.unwrap_err();
    assert!(error.to_string().ends_with("belongs to another Certificate: rename this one"));
    rig.solver.cleanup(&rig.owner, &proof(&["b"])).await.unwrap();
    assert_eq!(rig.objects(), before);
}

#[tokio::test]
async fn an_order_that_an_older_version_began_goes_on_with_its_entry() {
    let rig = Rig::new(Settings::default());
    rig.solver.present(&rig.owner, &proof(&["a"])).await.unwrap();
    let Proof::Txt { fqdn, .. } = &proof(&[])[0];
    let older = name::of_older(&rig.owner, &Realm::default(), "", fqdn);
    let mut object = rig.objects().remove(0);
    object["metadata"]["name"] = json!(older);
    let entry = serde_json::from_value(object.clone()).unwrap();
    {
        let objects = &mut rig.api.lock().unwrap().objects;
        let (mut place, _) = objects.drain().next().unwrap();
        place.truncate(place.rfind('/').unwrap() + 1);
        objects.insert(format!("{place}{older}"), object);
    }
    rig.solver.entries.applied(entry);
    rig.solver.present(&rig.owner, &proof(&["b"])).await.unwrap();
    let objects = rig.objects();
    assert_eq!((objects.len(), &objects[0]["spec"]["text"]), (1, &json!(["b"])));
    rig.solver.cleanup(&rig.owner, &proof(&["b"])).await.unwrap();
    assert_eq!(rig.objects(), [json!(null); 0]);
}

#[tokio::test]
async fn ready_needs_the_entry_then_the_world_then_the_wait_behind_caches() {
    let rig = Rig::new(Settings::default());
    let proofs = proof(&["a"]);
    rig.solver.present(&rig.owner, &proofs).await.unwrap();
    assert!(rig.ready(&proofs).await.contains("is not there [1]"));
    rig.observe("Pending");
    assert!(rig.ready(&proofs).await.contains("has state Pending"));
    rig.observe("Ready");
    assert!(rig.ready(&proofs).await.contains("192.0.2.1:53"));
    rig.publish(false, &["a", "foreign"]);
    assert!(rig.ready(&proofs).await.ends_with("waiting 10 s more [10]"));
    rig.step(9);
    assert!(rig.ready(&proofs).await.ends_with("waiting 1 s more [1]"));
    rig.step(1);
    assert_eq!(rig.ready(&proofs).await, "ready");
}

#[tokio::test]
async fn authoritative_sight_needs_no_wait_and_a_configured_one_is_kept() {
    for (wait, want) in [(None, "ready"), (Some(3), "the values are visible; waiting 3 s more [3]")]
    {
        let additional_wait = wait.map(SignedDuration::from_secs);
        let rig = Rig::new(Settings { additional_wait, ..Settings::default() });
        rig.solver.present(&rig.owner, &proof(&["a"])).await.unwrap();
        rig.observe("Ready");
        rig.publish(true, &["a"]);
        assert_eq!(rig.ready(&proof(&["a"])).await, want);
    }
}

#[tokio::test]
async fn a_stale_index_does_not_count() {
    let rig = Rig::new(Settings::default());
    rig.solver.present(&rig.owner, &proof(&["old"])).await.unwrap();
    rig.observe("Ready");
    rig.publish(true, &["old", "new"]);
    rig.solver.present(&rig.owner, &proof(&["new"])).await.unwrap();
    assert!(rig.ready(&proof(&["new"])).await.contains("not the version that was applied"));
    rig.observe("Ready");
    assert_eq!(rig.ready(&proof(&["new"])).await, "ready");
}

#[tokio::test]
async fn an_entry_that_somebody_deleted_is_written_again_but_not_at_once() {
    let rig = Rig::new(Settings::default());
    let proofs = proof(&["a"]);
    rig.solver.present(&rig.owner, &proofs).await.unwrap();
    rig.observe("Ready");
    rig.publish(true, &["a"]);
    rig.api.lock().unwrap().objects.clear();
    for key in rig.solver.entries.keys() {
        rig.solver.entries.gone(&key);
    }
    assert!(rig.ready(&proofs).await.contains("is not there"));
    assert_eq!(rig.objects().len(), 0);
    rig.step(5);
    assert!(rig.ready(&proofs).await.contains("is not there"));
    assert_eq!(rig.objects().len(), 1);
    rig.observe("Ready");
    assert_eq!(rig.ready(&proofs).await, "ready");
}

#[tokio::test]
async fn looks_become_rarer_with_time() {
    let rig = Rig::new(Settings::default());
    rig.solver.present(&rig.owner, &proof(&["a"])).await.unwrap();
    let mut pauses = Vec::new();
    for seconds in [0, 4, 16, 40, 100] {
        rig.step(seconds);
        rig.observe("Pending");
        let said = rig.ready(&proof(&["a"])).await;
        pauses.push(said.rsplit_once('[').unwrap().1.to_owned());
    }
    assert_eq!(pauses, ["1]", "1]", "5]", "15]", "15]"]);
}

#[tokio::test]
async fn a_missing_right_is_somebodys_to_give_and_everything_else_may_heal() {
    let rig = Rig::new(Settings::default());
    for (code, want) in [
        (StatusCode::FORBIDDEN, "Misconfigured: the right to patch dnsentries"),
        (StatusCode::NOT_FOUND, "Unavailable: no DNSEntry resource or no namespace ns"),
        (StatusCode::INTERNAL_SERVER_ERROR, "Unavailable: cannot patch DNSEntry ns/cert--"),
    ] {
        rig.api.lock().unwrap().fails = Some(code);
        let (kind, why) = match rig.solver.present(&rig.owner, &proof(&["a"])).await {
            Err(SolveError::Misconfigured(why)) => ("Misconfigured", why),
            Err(SolveError::Unavailable(why)) => ("Unavailable", why),
            Ok(()) => panic!("present worked"),
        };
        let (want_kind, part) = want.split_once(": ").unwrap();
        assert!(kind == want_kind && why.contains(part), "{code}: {kind}: {why}");
    }
}

/// After a crash nobody knows where a CNAME led, but whose entry it was.
#[tokio::test]
async fn an_entry_at_the_end_of_a_forgotten_cname_is_taken_away_with_its_owners_proofs() {
    let rig = Rig::new(Settings::default());
    let at_end = [Proof::Txt { fqdn: "x.acme.test".parse().unwrap(), values: vec!["a".into()] }];
    let other = Owner("ns/other".into());
    rig.solver.present(&rig.owner, &at_end).await.unwrap();
    rig.solver.present(&other, &at_end).await.unwrap();
    rig.observe("Pending");
    rig.solver.memory().clear();
    rig.solver.cleanup(&rig.owner, &proof(&[])).await.unwrap();
    let left = rig.objects();
    let owner = &left[0]["metadata"]["annotations"][ANNOTATION_OWNER];
    assert_eq!((left.len(), owner), (1, &json!("ns/other")));
}

#[tokio::test]
async fn a_chain_that_leads_nowhere_is_somebodys_to_mend() {
    let rig = Rig::new(Settings::default());
    let challenge: DnsName = "_acme-challenge.example.org".parse().unwrap();
    for (alias, authoritative, want) in [
        (None, true, Ok("_acme-challenge.example.org")),
        (Some(challenge.as_str()), true, Err("found recursive CNAME record to _acme-challenge.")),
        // Behind a firewall the only server may be a resolver.
        (None, false, Ok("_acme-challenge.example.org")),
    ] {
        *rig.world.1.lock().unwrap() = alias.map(|alias| alias.parse().unwrap());
        rig.publish(authoritative, &[]);
        match (rig.solver.follow(&challenge).await, want) {
            (Ok(found), Ok(want)) => assert_eq!(found.as_str(), want),
            (Err(SolveError::Misconfigured(why)), Err(want)) => {
                assert!(why.contains(want), "{why}");
            }
            (found, _) => panic!("{found:?}"),
        }
    }
}
