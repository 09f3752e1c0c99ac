use serde_json::{Value, json};

use super::*;
use crate::{
    api::{
        gateway::{GatewaySpec, HttpRoute, XListenerSet},
        source::{IngressSpec, Shape},
    },
    runtime::queue::Queue,
    sources::routes::Routes,
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
async fn an_object_is_looked_at_when_it_changes_and_not_when_it_does_not() {
    let index = index();
    let ingresses = Objects::<IngressSpec>::new(index.clone(), "v1");
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
async fn a_route_wakes_what_it_is_attached_to_and_what_it_was() {
    let index = index();
    let routes = Routes::<HttpRoute>::new(index.clone(), "v1");
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
async fn what_was_read_in_another_version_is_not_gone_with_this_one() {
    let index = index();
    let old = Objects::<GatewaySpec>::new(index.clone(), "v1beta1");
    let new = Objects::<GatewaySpec>::new(index.clone(), "v1");
    old.applied(object("g", json!({})));
    assert_eq!((old.keys().len(), new.keys().len()), (1, 0));
    new.applied(object("g", json!({})));
    old.gone(&ObjectKey::new("ns", "g"));
    assert_eq!((old.keys().len(), new.keys().len()), (0, 1));
}

#[tokio::test]
async fn a_listener_set_is_woken_by_its_gateway() {
    let index = index();
    let sets = Objects::<XListenerSet>::new(index.clone(), "v1alpha1");
    let gateways = Objects::<GatewaySpec>::new(index.clone(), "v1");
    sets.applied(object("set", json!({"parentRef": {"name": "g"}})));
    gateways.applied(object("g", json!({})));
    assert_eq!(index.queue.len(), 2);
    assert!(index.find(&key(Kind::XListenerSet, "set")).parent.is_some());
    gateways.gone(&ObjectKey::new("ns", "g"));
    assert!(index.find(&key(Kind::XListenerSet, "set")).parent.is_none());
}

#[tokio::test]
async fn labels_of_namespaces_wake_those_that_select_by_them() {
    let index = index();
    let namespaces = Namespaces::new(index.clone());
    let gateways = Objects::<GatewaySpec>::new(index.clone(), "v1");
    let routes = Routes::<HttpRoute>::new(index.clone(), "v1");
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
async fn a_route_is_told_once_what_is_wrong_with_it_until_that_changes() {
    let index = index();
    let routes = Routes::<HttpRoute>::new(index.clone(), "v1");
    let route = |hostnames: &[&str]| {
        object("r", json!({"parentRefs": [{"name": "g"}], "hostnames": hostnames}))
    };
    let told = || {
        let all = index.complaints(&key(Kind::Gateway, "g"));
        all.into_iter().map(|it| (it.about.name.unwrap(), it.text)).collect::<Vec<_>>()
    };
    routes.applied(route(&["a.x", "10.0.0.9"]));
    let first = told();
    assert!(first[0].0 == "r" && first[0].1.contains("10.0.0.9 is an IP address"), "{first:?}");
    assert_eq!(told(), []);
    routes.applied(route(&["b.x", "10.0.0.9"]));
    assert_eq!(told(), []);
    routes.applied(route(&["b.x", "a..b"]));
    assert_eq!(told().len(), 1);
    routes.applied(route(&["b.x"]));
    assert_eq!(told(), []);
    assert_eq!(*index.find(&key(Kind::Gateway, "g")).routes[0].hostnames, ["b.x".to_owned()]);
}
