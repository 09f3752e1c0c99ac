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

/// Writes down what it is told.
#[derive(Default)]
struct Diary {
    known: Mutex<BTreeSet<ObjectKey>>,
    lines: Mutex<Vec<String>>,
}

impl Diary {
    fn line(&self, line: String) {
        self.lines.lock().unwrap().push(line);
    }
}

impl EventHandler<Ingress> for Diary {
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

/// An answer that does not come.
fn watching() -> (u16, Value) {
    (0, Value::Null)
}

/// Follows an API server that gives `answers` in turn and then nothing any more. Returns what
/// the follower was told and what was published, in order.
async fn told(answers: Vec<(u16, Value)>) -> (String, Vec<Availability>) {
    told_to(answers, Lister::unasked(), std::future::pending()).await
}

/// What `/apis` says when the kind is absent, and so is its group.
fn no_groups() -> Value {
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": [] })
}

/// The same with a task beside it.
async fn told_to(
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
    let (diary, (sender, mut receiver)) = (Diary::default(), watch::channel(Availability::Unknown));
    let mut published = Vec::new();
    let watching = async {
        while receiver.changed().await.is_ok() {
            published.push(*receiver.borrow_and_update());
        }
    };
    let config = watcher::Config::default();
    let beside = async { tokio::join!(watching, beside) };
    let following = watch(api, config, &diary, &sender, lister);
    let both = async { tokio::join!(following, beside) };
    // Time stands still while anything happens, so this ends when nothing happens any more.
    assert!(timeout(Duration::from_secs(50), both).await.is_err());
    let lines = diary.lines.into_inner().unwrap();
    (lines.join(" "), published)
}

#[tokio::test(start_paused = true)]
async fn an_absent_kind_is_looked_for_until_it_is_there() {
    let answers = vec![status(404), status(404), list(&["a", "b"])];
    let (lines, published) = told(answers).await;
    assert_eq!(lines, "complete complete +a +b complete");
    assert_eq!(published, [Availability::Absent, Availability::Present]);
}

#[test]
fn the_longer_a_kind_is_missing_the_rarer_it_is_looked_for() {
    let after = |seconds| retry_after(Duration::from_secs(seconds)).as_secs();
    assert_eq!([0, 20, 60, 120, 86_400].map(after), [5, 5, 15, 30, 30]);
}

#[tokio::test(start_paused = true)]
async fn a_404_of_a_server_that_cannot_say_what_it_has_takes_no_object_away() {
    // What a proxy says when the API server behind it is away: to every path the same.
    let service = tower::service_fn(|_: Request<Body>| async {
        let (code, body) = status(404);
        let body = Body::from(format!("{body}\n").into_bytes());
        Ok::<_, tower::BoxError>(Response::builder().status(code).body(body).unwrap())
    });
    let api: Api<Ingress> = Api::all(Client::new(service, "default"));
    let (diary, sender) = (Diary::default(), watch::Sender::new(Availability::Unknown));
    let following = watch(api, watcher::Config::default(), &diary, &sender, Lister::unasked());
    assert!(timeout(Duration::from_secs(50), following).await.is_err());
    assert_eq!(diary.lines.into_inner().unwrap(), [""; 0]);
    assert_eq!(*sender.borrow(), Availability::Unknown);
}

#[tokio::test(start_paused = true)]
async fn what_a_new_list_lacks_is_gone() {
    let expired = status(410).1;
    let answers = vec![
        list(&["a", "b"]),
        event("ADDED", &object("c")),
        event("DELETED", &object("a")),
        event("ERROR", &expired),
        list(&["c"]),
    ];
    let (lines, published) = told(answers).await;
    assert_eq!(lines, "+a +b complete +c -a +c -b complete");
    assert_eq!(published, [Availability::Present]);
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_vanishes_takes_its_objects_with_it_and_may_come_back() {
    let answers = vec![list(&["a"]), status(404), status(404), list(&["b"])];
    let (lines, published) = told(answers).await;
    assert_eq!(lines, "+a complete -a complete complete +b complete");
    use Availability::{Absent, Present};
    assert_eq!(published, [Present, Absent, Present]);
}

#[tokio::test(start_paused = true)]
async fn a_right_that_is_taken_away_takes_no_objects_away() {
    let answers = vec![list(&["a"]), status(403), status(500), list(&["a"])];
    let (lines, published) = told(answers).await;
    assert_eq!(lines, "+a complete +a complete");
    use Availability::{Denied, Present};
    assert_eq!(published, [Present, Denied, Present]);
}

#[tokio::test(start_paused = true)]
async fn a_running_watch_lists_again_when_it_is_asked() {
    let relist = Relist::default();
    let (lister, mut listing) = relist.watch();
    assert!(!listing.is_since(0));
    let asking = async {
        listing.since(0).await;
        // A watch without an answer is a running one.
        sleep(Duration::from_secs(1)).await;
        let wish = relist.signal();
        assert!(!listing.is_since(wish));
        listing.since(wish).await;
    };
    let answers = vec![list(&["a", "b"]), watching(), list(&["b", "c"])];
    let (lines, _) = told_to(answers, lister, asking).await;
    assert_eq!(lines, "+a +b complete +b +c -a complete");
}

#[tokio::test(start_paused = true)]
async fn an_absent_kind_was_listed_too_and_a_wish_ends_the_pause() {
    let relist = Relist::default();
    let (lister, mut listing) = relist.watch();
    let asking = async {
        let start = tokio::time::Instant::now();
        listing.since(0).await;
        listing.since(relist.signal()).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    };
    let (lines, published) = told_to(vec![status(404), list(&["a"])], lister, asking).await;
    assert_eq!(lines, "complete +a complete");
    assert_eq!(published, [Availability::Absent, Availability::Present]);
}

#[test]
fn all_who_follow_one_watch_are_told() {
    let diaries = [Arc::new(Diary::default()), Arc::new(Diary::default())];
    let fan = FanOut(diaries.iter().map(|diary| diary.clone() as _).collect());
    let object = |name| serde_json::from_value::<Ingress>(object(name)).unwrap();
    diaries[1].applied(object("b"));
    fan.applied(object("a"));
    assert_eq!(fan.keys(), [ObjectKey::new("ns", "a"), ObjectKey::new("ns", "b")]);
    fan.gone(&ObjectKey::new("ns", "a"));
    fan.complete();
    let lines = diaries.map(|diary| diary.lines.lock().unwrap().join(" "));
    assert_eq!(lines, ["+a -a complete", "+b +a -a complete"]);
}

#[tokio::test(start_paused = true)]
async fn a_kind_is_asked_for_in_the_version_that_is_wanted() {
    use crate::api::{
        istio::GatewaySpec,
        source::{Foreign, Version},
    };
    #[derive(Default)]
    struct Nobody;
    impl EventHandler<Foreign<GatewaySpec>> for Nobody {
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
    let following = watch_as(version, api, config, &Nobody, &sender, Lister::unasked());
    assert!(timeout(Duration::from_secs(1), following).await.is_err());
    let paths: Vec<String> = paths.lock().unwrap().iter().cloned().collect();
    assert_eq!(paths, ["/apis", "/apis/networking.istio.io/v1alpha3/gateways"]);
}
