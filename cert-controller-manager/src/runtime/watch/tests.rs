use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use http::{Request, Response};
use k8s_openapi::api::networking::v1::Ingress;
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tokio::sync::watch;

use kube::ResourceExt;

use super::*;

/// Records the calls of an event handler.
#[derive(Default)]
struct Recorder {
    known: Mutex<BTreeSet<ObjectKey>>,
    lines: Mutex<Vec<String>>,
}

impl Recorder {
    fn line(&self, line: String) {
        self.lines.lock().unwrap().push(line);
    }
}

impl EventHandler<Ingress> for Recorder {
    fn applied(&self, object: Ingress) {
        self.known.lock().unwrap().insert(ObjectKey::of(&object));
        self.line(format!("+{}", object.name_any()));
    }

    fn gone(&self, key: &ObjectKey) {
        self.known.lock().unwrap().remove(key);
        self.line(format!("-{}", key.name));
    }

    fn keys(&self) -> Vec<ObjectKey> {
        self.known.lock().unwrap().iter().cloned().collect()
    }

    fn complete(&self) {
        self.line("complete".into());
    }
}

fn object(name: &str) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"namespace": "ns", "name": name, "resourceVersion": "1"},
    })
}

fn list(names: &[&str]) -> (u16, Value) {
    let items: Vec<_> = names.iter().map(|name| object(name)).collect();
    let list = json!({
        "apiVersion": "v1", "kind": "IngressList",
        "metadata": {"resourceVersion": "1"}, "items": items,
    });
    (200, list)
}

fn status(code: u16) -> (u16, Value) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "no", "reason": "no", "code": code,
    });
    (code, status)
}

fn event(kind: &str, object: &Value) -> (u16, Value) {
    (200, json!({"type": kind, "object": object}))
}

/// A response that never arrives.
fn watching() -> (u16, Value) {
    (0, Value::Null)
}

/// Watches an API server that returns `answers` and then no more responses. Returns the recorded calls
/// and the published availability, in order.
async fn recorded(answers: Vec<(u16, Value)>) -> (String, Vec<Availability>) {
    recorded_with(answers, Lister::detached(), std::future::pending()).await
}

/// The response of `/apis` if the group of the kind is absent.
fn no_groups() -> Value {
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": [] })
}

/// Like `recorded`, with a concurrent task.
async fn recorded_with(
    answers: Vec<(u16, Value)>,
    lister: Lister,
    beside: impl Future<Output = ()>,
) -> (String, Vec<Availability>) {
    let answers = Arc::new(Mutex::new(answers.into_iter()));
    let service = tower::service_fn(move |request: Request<Body>| {
        let answer = match request.uri().path() {
            "/apis" => Some((200, no_groups())),
            _ => answers.lock().unwrap().next(),
        };
        async move {
            let Some((code, body)) = answer.filter(|(code, _)| *code != 0) else {
                return std::future::pending().await;
            };
            let body = Body::from(format!("{body}\n").into_bytes());
            Ok::<_, tower::BoxError>(Response::builder().status(code).body(body).unwrap())
        }
    });
    let api: Api<Ingress> = Api::all(Client::new(service, "default"));
    let (recorder, (sender, mut receiver)) =
        (Recorder::default(), watch::channel(Availability::Unknown));
    let mut published = Vec::new();
    let watching = async {
        while receiver.changed().await.is_ok() {
            published.push(*receiver.borrow_and_update());
        }
    };
    let config = watcher::Config::default();
    let beside = async { tokio::join!(watching, beside) };
    let watch_task = watch(api, config, &recorder, &sender, lister);
    let both = async { tokio::join!(watch_task, beside) };
    // The paused clock advances only when all tasks are idle.
    assert!(timeout(Duration::from_secs(50), both).await.is_err());
    let lines = recorder.lines.into_inner().unwrap();
    (lines.join(" "), published)
}

#[tokio::test(start_paused = true)]
async fn an_absent_kind_is_probed_until_it_exists() {
    let answers = vec![status(404), status(404), list(&["a", "b"])];
    let (lines, published) = recorded(answers).await;
    assert_eq!(lines, "complete complete +a +b complete");
    assert_eq!(published, [Availability::Absent, Availability::Present]);
}

#[tokio::test(start_paused = true)]
async fn a_404_without_discovery_deletes_no_objects() {
    // A proxy in front of an unreachable API server returns 404 for every path.
    let service = tower::service_fn(|_: Request<Body>| async {
        let (code, body) = status(404);
        let body = Body::from(format!("{body}\n").into_bytes());
        Ok::<_, tower::BoxError>(Response::builder().status(code).body(body).unwrap())
    });
    let api: Api<Ingress> = Api::all(Client::new(service, "default"));
    let (recorder, sender) = (Recorder::default(), watch::Sender::new(Availability::Unknown));
    let watch_task = watch(api, watcher::Config::default(), &recorder, &sender, Lister::detached());
    assert!(timeout(Duration::from_secs(50), watch_task).await.is_err());
    assert_eq!(recorder.lines.into_inner().unwrap(), [""; 0]);
    assert_eq!(*sender.borrow(), Availability::Unknown);
}

#[tokio::test(start_paused = true)]
async fn objects_missing_in_a_new_list_are_deleted() {
    let expired = status(410).1;
    let answers = vec![
        list(&["a", "b"]),
        event("ADDED", &object("c")),
        event("DELETED", &object("a")),
        event("ERROR", &expired),
        list(&["c"]),
    ];
    let (lines, published) = recorded(answers).await;
    assert_eq!(lines, "+a +b complete +c -a +c -b complete");
    assert_eq!(published, [Availability::Present]);
}

#[tokio::test(start_paused = true)]
async fn the_objects_of_a_removed_kind_are_deleted() {
    let answers = vec![list(&["a"]), status(404), status(404), list(&["b"])];
    let (lines, published) = recorded(answers).await;
    assert_eq!(lines, "+a complete -a complete complete +b complete");
    use Availability::{Absent, Present};
    assert_eq!(published, [Present, Absent, Present]);
}

#[tokio::test(start_paused = true)]
async fn a_revoked_right_deletes_no_objects() {
    let answers = vec![list(&["a"]), status(403), status(500), list(&["a"])];
    let (lines, published) = recorded(answers).await;
    assert_eq!(lines, "+a complete +a complete");
    use Availability::{Denied, Present};
    assert_eq!(published, [Present, Denied, Present]);
}

#[tokio::test(start_paused = true)]
async fn a_running_watch_lists_again_on_request() {
    let relist = Relist::default();
    let (lister, mut listing) = relist.watch();
    assert!(!listing.is_listed_since(0));
    let asking = async {
        listing.wait_since(0).await;
        // A watch without a response is running.
        sleep(Duration::from_secs(1)).await;
        let request = relist.request();
        assert!(!listing.is_listed_since(request));
        listing.wait_since(request).await;
    };
    let answers = vec![list(&["a", "b"]), watching(), list(&["b", "c"])];
    let (lines, _) = recorded_with(answers, lister, asking).await;
    assert_eq!(lines, "+a +b complete +b +c -a complete");
}

#[tokio::test(start_paused = true)]
async fn an_absent_kind_counts_as_listed_and_a_request_ends_the_pause() {
    let relist = Relist::default();
    let (lister, mut listing) = relist.watch();
    let asking = async {
        let start = tokio::time::Instant::now();
        listing.wait_since(0).await;
        listing.wait_since(relist.request()).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    };
    let (lines, published) = recorded_with(vec![status(404), list(&["a"])], lister, asking).await;
    assert_eq!(lines, "complete +a complete");
    assert_eq!(published, [Availability::Absent, Availability::Present]);
}

#[test]
fn all_handlers_of_a_fan_out_are_called() {
    let recorders = [Arc::new(Recorder::default()), Arc::new(Recorder::default())];
    let fan_out = FanOut(recorders.iter().map(|recorder| recorder.clone() as _).collect());
    let object = |name| serde_json::from_value::<Ingress>(object(name)).unwrap();
    recorders[1].applied(object("b"));
    fan_out.applied(object("a"));
    assert_eq!(fan_out.keys(), [ObjectKey::new("ns", "a"), ObjectKey::new("ns", "b")]);
    fan_out.gone(&ObjectKey::new("ns", "a"));
    fan_out.complete();
    let lines = recorders.map(|recorder| recorder.lines.lock().unwrap().join(" "));
    assert_eq!(lines, ["+a -a complete", "+b +a -a complete"]);
}

#[tokio::test(start_paused = true)]
async fn a_kind_is_watched_in_the_given_version() {
    use crate::api::{
        istio::GatewaySpec,
        source::{Foreign, Version},
    };
    #[derive(Default)]
    struct IgnoreEvents;
    impl EventHandler<Foreign<GatewaySpec>> for IgnoreEvents {
        fn applied(&self, _: Foreign<GatewaySpec>) {}
        fn gone(&self, _: &ObjectKey) {}
        fn keys(&self) -> Vec<ObjectKey> {
            Vec::new()
        }
    }
    let paths = Arc::new(Mutex::new(BTreeSet::new()));
    let seen = paths.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        seen.lock().unwrap().insert(request.uri().path().to_owned());
        let (code, body) = status(404);
        let body = Body::from(format!("{body}\n").into_bytes());
        async move { Ok::<_, tower::BoxError>(Response::builder().status(code).body(body).unwrap()) }
    });
    let (client, version) = (Client::new(service, "default"), Version("v1alpha3"));
    let api: Api<Foreign<GatewaySpec>> = Api::all_with(client, &version);
    let sender = watch::Sender::new(Availability::Unknown);
    let config = watcher::Config::default();
    let watch_task = watch_as(version, api, config, &IgnoreEvents, &sender, Lister::detached());
    assert!(timeout(Duration::from_secs(1), watch_task).await.is_err());
    let paths: Vec<String> = paths.lock().unwrap().iter().cloned().collect();
    assert_eq!(paths, ["/apis", "/apis/networking.istio.io/v1alpha3/gateways"]);
}
