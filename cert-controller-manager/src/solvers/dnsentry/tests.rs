use cert_lib::{
    clock::Manual,
    net::{Answer, Record, RecordKind, ResolveError},
    solve::{Host, dns01::Nameserver},
};
use http::{Method, Request, Response, StatusCode};
use jiff::Timestamp;
use kube::client::Body;
use serde_json::{Value, json};
use std::net::SocketAddr;
use tokio::sync::mpsc::unbounded_channel;

use super::*;
use crate::api::{ClusterId, Realm, dnsentry::ANNOTATION_OWNER};
use crate::runtime::watch::{Availability, EventHandler};

/// An API server with its objects, or an error code for all requests.
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

/// A resolver whose servers return these values.
#[derive(Default)]
struct Dns(Mutex<(bool, Vec<String>)>, Mutex<Option<DnsName>>);

#[async_trait]
impl Resolver for Dns {
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

struct TestEnv {
    solver: DnsEntrySolver,
    api: Arc<Mutex<Api>>,
    dns: Arc<Dns>,
    clock: Arc<Manual>,
    owner: Owner,
}

impl TestEnv {
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
        let dns = Arc::new(Dns::default());
        let clock = Arc::new(Manual::at(Timestamp::UNIX_EPOCH));
        let nameserver = "192.0.2.1:53".parse().unwrap();
        let propagation =
            Arc::new(Propagation::new(vec![Nameserver::Address(nameserver)], clock.clone()));
        let client = Client::new(service, "default");
        let solver =
            DnsEntrySolver::new(client, entries, dns.clone(), propagation, clock.clone(), settings);
        Self { solver, api, dns, clock, owner: Owner("ns/web".into()) }
    }

    /// Delivers all objects to the cache, with `state` from the DNS controller.
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
        *self.dns.0.lock().unwrap() = (authoritative, values);
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
    [Proof::at_challenge(fqdn, values.iter().map(|v| (*v).to_owned()).collect())]
}

#[tokio::test]
async fn a_proof_is_published_as_an_entry_of_its_owner_and_removed() {
    let class = Some("mine".to_owned());
    let cluster = ClusterId { id: "s".to_owned(), former: vec![] };
    let settings = Settings {
        class,
        ttl: 60,
        namespace: Some("dns".into()),
        realm: Realm::new("gardencert", &cluster),
        ..Settings::default()
    };
    let env = TestEnv::new(settings);
    let proofs = proof(&["a", "b"]);
    env.solver.present(&env.owner, &proofs).await.unwrap();
    env.solver.present(&env.owner, &proofs).await.unwrap();

    let objects = env.objects();
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
        env.solver.cleanup(&env.owner, &proofs).await.unwrap();
        assert_eq!(env.objects(), [json!(null); 0]);
    }
}

#[tokio::test]
async fn two_owners_of_one_name_have_separate_entries() {
    let env = TestEnv::new(Settings::default());
    let other = Owner("ns/other".into());
    env.solver.present(&env.owner, &proof(&["a"])).await.unwrap();
    env.solver.present(&other, &proof(&["b"])).await.unwrap();
    env.observe("Ready");
    assert_eq!(env.objects().len(), 2);
    env.solver.sweep(&env.owner).await.unwrap();
    let left = env.objects();
    assert_eq!((left.len(), &left[0]["spec"]["text"]), (1, &json!(["b"])));
}

#[tokio::test]
async fn an_entry_of_another_owner_is_neither_written_nor_deleted() {
    let env = TestEnv::new(Settings::default());
    env.solver.present(&env.owner, &proof(&["a"])).await.unwrap();
    for object in env.api.lock().unwrap().objects.values_mut() {
        object["metadata"]["annotations"]["cert.gardener.cloud/challenge-owner"] =
            json!("ns/other");
    }
    env.observe("Ready");
    let before = env.objects();
    let error = env.solver.present(&env.owner, &proof(&["b"])).await.unwrap_err();
    assert!(error.to_string().ends_with("belongs to another Certificate: rename this one"));
    env.solver.cleanup(&env.owner, &proof(&["b"])).await.unwrap();
    assert_eq!(env.objects(), before);
}

#[tokio::test]
async fn an_order_of_an_older_version_keeps_its_entry() {
    let env = TestEnv::new(Settings::default());
    env.solver.present(&env.owner, &proof(&["a"])).await.unwrap();
    let [unpublished] = proof(&[]);
    let (fqdn, _) = unpublished.txt().unwrap();
    let older = name::of_older(&env.owner, &Realm::default(), "", fqdn);
    let mut object = env.objects().remove(0);
    object["metadata"]["name"] = json!(older);
    let entry = serde_json::from_value(object.clone()).unwrap();
    {
        let objects = &mut env.api.lock().unwrap().objects;
        let (mut place, _) = objects.drain().next().unwrap();
        place.truncate(place.rfind('/').unwrap() + 1);
        objects.insert(format!("{place}{older}"), object);
    }
    env.solver.entries.applied(entry);
    env.solver.present(&env.owner, &proof(&["b"])).await.unwrap();
    let objects = env.objects();
    assert_eq!((objects.len(), &objects[0]["spec"]["text"]), (1, &json!(["b"])));
    env.solver.cleanup(&env.owner, &proof(&["b"])).await.unwrap();
    assert_eq!(env.objects(), [json!(null); 0]);
}

#[tokio::test]
async fn ready_requires_the_entry_the_visible_record_and_the_additional_wait() {
    let env = TestEnv::new(Settings::default());
    let proofs = proof(&["a"]);
    env.solver.present(&env.owner, &proofs).await.unwrap();
    assert!(env.ready(&proofs).await.contains("does not exist [1]"));
    env.observe("Pending");
    assert!(env.ready(&proofs).await.contains("has state Pending"));
    env.observe("Ready");
    assert!(env.ready(&proofs).await.contains("192.0.2.1:53"));
    env.publish(false, &["a", "foreign"]);
    assert!(env.ready(&proofs).await.ends_with("waiting 10 s more [10]"));
    env.step(9);
    assert!(env.ready(&proofs).await.ends_with("waiting 1 s more [1]"));
    env.step(1);
    assert_eq!(env.ready(&proofs).await, "ready");
}

#[tokio::test]
async fn an_authoritative_answer_needs_no_wait_unless_configured() {
    for (wait, want) in [(None, "ready"), (Some(3), "the values are visible; waiting 3 s more [3]")]
    {
        let additional_wait = wait.map(SignedDuration::from_secs);
        let env = TestEnv::new(Settings { additional_wait, ..Settings::default() });
        env.solver.present(&env.owner, &proof(&["a"])).await.unwrap();
        env.observe("Ready");
        env.publish(true, &["a"]);
        assert_eq!(env.ready(&proof(&["a"])).await, want);
    }
}

#[tokio::test]
async fn a_stale_cache_is_not_ready() {
    let env = TestEnv::new(Settings::default());
    env.solver.present(&env.owner, &proof(&["old"])).await.unwrap();
    env.observe("Ready");
    env.publish(true, &["old", "new"]);
    env.solver.present(&env.owner, &proof(&["new"])).await.unwrap();
    assert!(env.ready(&proof(&["new"])).await.contains("not the version that was applied"));
    env.observe("Ready");
    assert_eq!(env.ready(&proof(&["new"])).await, "ready");
}

#[tokio::test]
async fn a_deleted_entry_is_written_again_after_a_delay() {
    let env = TestEnv::new(Settings::default());
    let proofs = proof(&["a"]);
    env.solver.present(&env.owner, &proofs).await.unwrap();
    env.observe("Ready");
    env.publish(true, &["a"]);
    env.api.lock().unwrap().objects.clear();
    for key in env.solver.entries.keys() {
        env.solver.entries.gone(&key);
    }
    assert!(env.ready(&proofs).await.contains("does not exist"));
    assert_eq!(env.objects().len(), 0);
    env.step(5);
    assert!(env.ready(&proofs).await.contains("does not exist"));
    assert_eq!(env.objects().len(), 1);
    env.observe("Ready");
    assert_eq!(env.ready(&proofs).await, "ready");
}

#[tokio::test]
async fn the_interval_of_checks_grows_with_time() {
    let env = TestEnv::new(Settings::default());
    env.solver.present(&env.owner, &proof(&["a"])).await.unwrap();
    let mut pauses = Vec::new();
    for seconds in [0, 4, 16, 40, 100] {
        env.step(seconds);
        env.observe("Pending");
        let text = env.ready(&proof(&["a"])).await;
        pauses.push(text.rsplit_once('[').unwrap().1.to_owned());
    }
    assert_eq!(pauses, ["1]", "1]", "5]", "15]", "15]"]);
}

#[tokio::test]
async fn only_a_missing_right_is_a_configuration_error() {
    let env = TestEnv::new(Settings::default());
    for (code, want) in [
        (StatusCode::FORBIDDEN, "Misconfigured: the right to patch dnsentries"),
        (StatusCode::NOT_FOUND, "Unavailable: no DNSEntry resource or no namespace ns"),
        (StatusCode::INTERNAL_SERVER_ERROR, "Unavailable: cannot patch DNSEntry ns/cert--"),
    ] {
        env.api.lock().unwrap().fails = Some(code);
        let (kind, why) = match env.solver.present(&env.owner, &proof(&["a"])).await {
            Err(SolveError::Misconfigured(why)) => ("Misconfigured", why),
            Err(SolveError::Unavailable(why)) => ("Unavailable", why),
            other => panic!("{other:?}"),
        };
        let (want_kind, part) = want.split_once(": ").unwrap();
        assert!(kind == want_kind && why.contains(part), "{code}: {kind}: {why}");
    }
}

#[tokio::test]
async fn an_http_proof_is_refused_before_anything_is_published() {
    let env = TestEnv::new(Settings::default());
    let host = Host::Name("example.org".parse().unwrap());
    let http = Proof::Http { host, token: "token".into(), body: "body".into() };
    let [txt] = proof(&["a"]);
    let proofs = [txt, http];
    let refused = |error| matches!(error, Err(SolveError::Misconfigured(_)));
    assert!(refused(env.solver.present(&env.owner, &proofs).await));
    assert_eq!(env.objects(), [json!(null); 0]);
    assert!(refused(env.solver.ready(&env.owner, &proofs[1..]).await.map(drop)));
    env.solver.cleanup(&env.owner, &proofs).await.unwrap();
}

/// After a crash, the target of a CNAME is unknown, but not the owner of its entry.
#[tokio::test]
async fn an_entry_at_a_forgotten_cname_target_is_removed_with_its_owner() {
    let env = TestEnv::new(Settings::default());
    let at_end = [Proof::at_challenge("x.acme.test".parse().unwrap(), vec!["a".into()])];
    let other = Owner("ns/other".into());
    env.solver.present(&env.owner, &at_end).await.unwrap();
    env.solver.present(&other, &at_end).await.unwrap();
    env.observe("Pending");
    env.solver.forget(&env.owner);
    env.solver.cleanup(&env.owner, &proof(&[])).await.unwrap();
    let left = env.objects();
    let owner = &left[0]["metadata"]["annotations"][ANNOTATION_OWNER];
    assert_eq!((left.len(), owner), (1, &json!("ns/other")));
}

#[tokio::test]
async fn an_unresolvable_cname_chain_is_a_configuration_error() {
    let env = TestEnv::new(Settings::default());
    let challenge: DnsName = "_acme-challenge.example.org".parse().unwrap();
    for (alias, authoritative, want) in [
        (None, true, Ok("_acme-challenge.example.org")),
        (Some(challenge.as_str()), true, Err("found recursive CNAME record to _acme-challenge.")),
        // Behind a firewall, the only available server may be a resolver.
        (None, false, Ok("_acme-challenge.example.org")),
    ] {
        *env.dns.1.lock().unwrap() = alias.map(|alias| alias.parse().unwrap());
        env.publish(authoritative, &[]);
        match (env.solver.follow(&env.owner, &challenge).await, want) {
            (Ok(found), Ok(want)) => assert_eq!(found.as_str(), want),
            (Err(SolveError::Misconfigured(why)), Err(want)) => {
                assert!(why.contains(want), "{why}");
            }
            (found, _) => panic!("{found:?}"),
        }
    }
}
