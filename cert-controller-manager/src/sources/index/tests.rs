use serde_json::{Value, json};

use super::*;
use crate::{
    api::{
        gateway::{GatewaySpec, HttpRoute, XListenerSet},
        source::{Foreign, IngressSpec, NamespaceSpec, Shape},
    },
    runtime::{queue::Queue, watch::EventHandler as _},
    sources::handlers::{
        Namespaces,
        fixtures::{kept, objects, routes},
    },
};

fn index() -> Arc<Index> {
    Arc::new(Index::new(Arc::new(Queue::default())))
}

#[expect(clippy::needless_pass_by_value, reason = "literals of JSON read better so")]
fn object<S: Shape>(name: &str, spec: Value) -> Foreign<S> {
    let metadata = json!({"namespace": "ns", "name": name, "annotations": {"cert.gardener.cloud/purpose": "managed"}});
    serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap()
}

fn key(kind: Kind, name: &str) -> SourceKey {
    SourceKey { kind, object: ObjectKey::new("ns", name) }
}

#[tokio::test]
async fn only_a_change_enqueues_an_object() {
    let index = index();
    let ingresses = objects::<IngressSpec>(&index, "v1");
    let one = || object("a", json!({"tls": [{"hosts": ["a"], "secretName": "s"}]}));
    ingresses.applied(one());
    ingresses.applied(one());
    assert_eq!(index.queue.len(), 1);
    assert_eq!(index.of_kind(Kind::Ingress), [key(Kind::Ingress, "a")]);
    assert!(index.find(&key(Kind::Ingress, "a")).object.is_some());
    ingresses.gone(&ObjectKey::new("ns", "a"));
    assert!(index.find(&key(Kind::Ingress, "a")).object.is_none());
}

#[tokio::test]
async fn a_route_enqueues_its_former_and_current_parents() {
    let index = index();
    let routes = routes::<HttpRoute>(&index, "v1");
    let to = |gateway: &str| {
        object(
            "r",
            json!({"parentRefs": [{"name": gateway, "sectionName": "l"}], "hostnames": ["a"]}),
        )
    };
    routes.applied(to("one"));
    assert_eq!(index.find(&key(Kind::Gateway, "one")).routes[0].section.as_deref(), Some("l"));
    routes.applied(to("two"));
    assert_eq!(index.find(&key(Kind::Gateway, "one")).routes, []);
    assert_eq!(index.find(&key(Kind::Gateway, "two")).routes.len(), 1);
    assert_eq!(index.queue.len(), 2);
    routes.gone(&ObjectKey::new("ns", "r"));
    assert_eq!(index.find(&key(Kind::Gateway, "two")).routes, []);
}

#[tokio::test]
async fn a_deletion_in_one_api_version_keeps_an_object_of_another() {
    let index = index();
    let old = objects::<GatewaySpec>(&index, "v1beta1");
    let new = objects::<GatewaySpec>(&index, "v1");
    old.applied(object("g", json!({})));
    assert_eq!((old.keys().len(), new.keys().len()), (1, 0));
    new.applied(object("g", json!({})));
    old.gone(&ObjectKey::new("ns", "g"));
    assert_eq!((old.keys().len(), new.keys().len()), (0, 1));
}

#[tokio::test]
async fn a_gateway_enqueues_its_listener_sets() {
    let index = index();
    let sets = objects::<XListenerSet>(&index, "v1alpha1");
    let gateways = objects::<GatewaySpec>(&index, "v1");
    sets.applied(object("set", json!({"parentRef": {"name": "g"}})));
    gateways.applied(object("g", json!({})));
    assert_eq!(index.queue.len(), 2);
    assert!(index.find(&key(Kind::XListenerSet, "set")).parent.is_some());
    gateways.gone(&ObjectKey::new("ns", "g"));
    assert!(index.find(&key(Kind::XListenerSet, "set")).parent.is_none());
}

#[tokio::test]
async fn labels_of_namespaces_enqueue_objects_that_select_by_them() {
    let index = index();
    let namespaces = Namespaces::new(index.clone());
    let gateways = objects::<GatewaySpec>(&index, "v1");
    let routes = routes::<HttpRoute>(&index, "v1");
    let namespace = |team: &str| {
        let metadata = json!({"name": "ns", "labels": {"team": team}});
        serde_json::from_value::<Foreign<NamespaceSpec>>(json!({ "metadata": metadata })).unwrap()
    };
    let allowed =
        json!({"namespaces": {"from": "Selector", "selector": {"matchLabels": {"team": "web"}}}});
    let listener = json!({
        "name": "l", "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "s"}]},
        "allowedRoutes": allowed,
    });
    gateways.applied(object("plain", json!({})));
    gateways.applied(object("g", json!({ "listeners": [listener] })));
    routes.applied(object("r", json!({"parentRefs": [{"name": "g"}], "hostnames": ["a.x"]})));
    let found = || index.find(&key(Kind::Gateway, "g"));
    assert_eq!(found().routes[0].labels, None);
    let before = index.queue.len();
    assert_eq!(index.selecting(), [key(Kind::Gateway, "g")]);
    namespaces.applied(namespace("web"));
    let team = |known: &Known| known.routes[0].labels.as_ref().map(|labels| labels["team"].clone());
    assert_eq!(team(&found()).as_deref(), Some("web"));
    assert_eq!(found().labels.unwrap()["team"], "web");
    assert_eq!((namespaces.keys(), index.queue.len()), (vec![ObjectKey::new("", "ns")], before));
    namespaces.gone(&ObjectKey::new("", "ns"));
    assert_eq!(found().routes[0].labels, None);
    gateways.gone(&ObjectKey::new("ns", "g"));
    assert_eq!(index.selecting(), []);
}

#[tokio::test]
async fn a_problem_of_a_route_is_reported_once_until_it_changes() {
    let index = index();
    let routes = routes::<HttpRoute>(&index, "v1");
    let route = |hostnames: &[&str]| {
        object("r", json!({"parentRefs": [{"name": "g"}], "hostnames": hostnames}))
    };
    let reported = || {
        let all = index.problems(&key(Kind::Gateway, "g"));
        all.into_iter().map(|it| (it.route.1.name, it.text)).collect::<Vec<_>>()
    };
    routes.applied(route(&["a.x", "10.0.0.9"]));
    let first = reported();
    assert!(first[0].0 == "r" && first[0].1.contains("10.0.0.9 is an IP address"), "{first:?}");
    assert_eq!(reported(), []);
    routes.applied(route(&["b.x", "10.0.0.9"]));
    assert_eq!(reported(), []);
    routes.applied(route(&["b.x", "a..b"]));
    assert_eq!(reported().len(), 1);
    routes.applied(route(&["b.x"]));
    assert_eq!(reported(), []);
    assert_eq!(*index.find(&key(Kind::Gateway, "g")).routes[0].hostnames, ["b.x".to_owned()]);
}

/// An Ingress with this number of hosts.
fn ingress(namespace: &str, name: &str, hosts: usize) -> Foreign<IngressSpec> {
    let hosts: Vec<String> = (0..hosts).map(|number| format!("h{number}.test")).collect();
    let mut object = object(name, json!({"tls": [{"hosts": hosts, "secretName": "s"}]}));
    object.metadata.namespace = Some(namespace.to_owned());
    object
}

fn entries(index: &Index, kind: Kind, namespace: &str, name: &str) -> Entries {
    let key = SourceKey { kind, object: ObjectKey::new(namespace, name) };
    index.find(&key).object.unwrap().entries
}

fn within(bytes: usize) -> Arc<Index> {
    Arc::new(Index::new(Arc::new(Queue::default())).within(Budget::of(bytes)))
}

#[tokio::test]
async fn an_object_without_room_is_read_when_another_of_its_namespace_is_deleted() {
    let size = kept(ingress("ns", "a", 10), "v1").1.size();
    let index = within(2 * size);
    let ingresses = objects::<IngressSpec>(&index, "v1");
    for name in ["a", "b", "c"] {
        ingresses.applied(ingress("ns", name, 10));
    }
    let is_kept = |name: &str| entries(&index, Kind::Ingress, "ns", name) != Entries::NoRoom;
    assert_eq!(["a", "b", "c"].map(is_kept), [true, true, false]);
    assert_eq!(index.next_waiting(), None);
    // A new list delivers the same objects again.
    for name in ["a", "b", "c"] {
        ingresses.applied(ingress("ns", name, 10));
    }
    assert_eq!(["a", "b", "c"].map(is_kept), [true, true, false]);

    ingresses.gone(&ObjectKey::new("ns", "a"));
    index.room().await;
    let (item, version, ticket) = index.next_waiting().unwrap();
    assert_eq!((&item, version), (&Item::Object(key(Kind::Ingress, "c")), "v1"));
    let read = |hosts| kept(ingress("ns", "c", hosts), "v1");
    let (name, object) = read(10);
    index.put(name, object, Some(ticket));
    assert!(is_kept("c"));
    assert_eq!(index.next_waiting(), None);
    // An outdated read is ignored.
    let (name, object) = read(1);
    index.put(name, object, Some(ticket));
    assert_eq!(index.find(&key(Kind::Ingress, "c")).object, Some(read(10).1));
}

#[tokio::test]
async fn a_large_object_uses_no_room_of_other_namespaces() {
    let index = within(10_000);
    let ingresses = objects::<IngressSpec>(&index, "v1");
    let mut hostile = ingress("hostile", "large", 10_000);
    let annotations = hostile.metadata.annotations.as_mut().unwrap();
    annotations.insert("cert.gardener.cloud/dnsnames".into(), "a.test,".repeat(4_000));
    annotations.insert("cert.gardener.cloud/class".into(), "mine".into());
    ingresses.applied(hostile);
    ingresses.applied(ingress("victim", "web", 5));
    let Entries::All(kept) = entries(&index, Kind::Ingress, "victim", "web") else { panic!() };
    assert_eq!(kept[0].hosts.len(), 5);
    let key = SourceKey { kind: Kind::Ingress, object: ObjectKey::new("hostile", "large") };
    let kept = index.find(&key).object.unwrap();
    assert_eq!((kept.entries, kept.annotations.len()), (Entries::NoRoom, 2));
}

#[tokio::test]
async fn a_gateway_is_held_while_routes_of_its_namespace_wait() {
    let index = within(5_000);
    let gateways = objects::<GatewaySpec>(&index, "v1");
    let routes = routes::<HttpRoute>(&index, "v1");
    let route = |namespace: &str, name: &str, hosts: usize| {
        let hosts: Vec<String> = (0..hosts).map(|number| format!("h{number}.test")).collect();
        let parent = json!([{"name": "g", "namespace": "ns"}]);
        let mut route: Foreign<HttpRoute> =
            object(name, json!({"parentRefs": parent, "hostnames": hosts}));
        route.metadata.namespace = Some(namespace.to_owned());
        route
    };
    gateways.applied(object("g", json!({})));
    gateways.applied(object("h", json!({})));
    let held = || ["g", "h"].map(|it| entries(&index, Kind::Gateway, "ns", it) == Entries::NoRoom);
    routes.applied(route("ns", "small", 2));
    routes.applied(route("other", "large", 200));
    assert_eq!(held(), [false, false], "routes of others hold nothing");
    routes.applied(route("ns", "large", 200));
    assert_eq!(held(), [true, true]);
    let ingresses = objects::<IngressSpec>(&index, "v1");
    ingresses.applied(ingress("ns", "web", 1));
    assert_ne!(entries(&index, Kind::Ingress, "ns", "web"), Entries::NoRoom);
    ingresses.gone(&ObjectKey::new("ns", "web"));
    let reported = index.problems(&key(Kind::Gateway, "g"));
    let about: Vec<_> = reported.iter().map(|it| it.route.1.namespace.as_str()).collect();
    assert_eq!(about, ["ns", "other"]);
    assert!(reported[0].text.contains("takes more than 32 MiB"), "{reported:?}");
    let names = |known: Known| known.routes.iter().map(|it| it.hostnames.len()).sum::<usize>();
    assert_eq!(names(index.find(&key(Kind::Gateway, "g"))), 2);

    while !index.queue.is_empty() {
        let key = index.queue.next().await;
        index.queue.done(key, None);
    }
    routes.applied(route("ns", "large", 3));
    assert_eq!(held(), [false, false]);
    assert_eq!(index.queue.len(), 2, "both are looked at again");
    assert_eq!(names(index.find(&key(Kind::Gateway, "g"))), 5);
}
