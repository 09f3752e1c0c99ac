//! Reads waiting items again when the index has room, one at a time.

use std::{convert::Infallible, sync::Arc, time::Duration};

use kube::{
    Client, Resource,
    api::{ListParams, ObjectList, Request},
};
use tokio::time::timeout;

use super::{
    budget::{Item, Ticket},
    index::Index,
    kind::{Kind, SourceKey},
    object::{Source, keep},
    routes::{Attached, Route, RouteKey, RouteKind},
};
use crate::{
    api::{
        ObjectKey,
        gateway::{self, GrpcRoute, HttpRoute, ListenerSet, TlsRoute, XListenerSet},
        istio,
        source::{Foreign, IngressSpec, ServiceSpec, Shape, Version},
    },
    runtime::errors::brief,
};

/// Delay of an item after a failed read. Others are read meanwhile: the API server may fail for one
/// kind only.
const POSTPONED: Duration = Duration::from_secs(30);
/// How often postponed items are checked.
const PAUSE: Duration = Duration::from_secs(5);

/// Reads waiting items that fit. Never returns.
pub async fn reread(client: Client, index: Arc<Index>) -> Infallible {
    loop {
        let Some((item, version, ticket)) = index.next_waiting() else {
            let _ = timeout(PAUSE, index.room()).await;
            continue;
        };
        let read = Reread { client: &client, index: &index, version, ticket };
        let is_read = match &item {
            Item::Object(key) => read.object(key.clone()).await,
            Item::Route(key) => read.route(key.clone()).await,
        };
        match is_read {
            Ok(true) => {}
            // The watch reports the deletion soon.
            Ok(false) => index.postpone(&item, ticket, POSTPONED),
            // An object that cannot be decoded must not block the others.
            Err(kube::Error::SerdeError(_)) => index.give_up(&item, ticket),
            Err(error) => {
                tracing::debug!("an object cannot be read again now: {}", brief(&error));
                index.postpone(&item, ticket, POSTPONED);
            }
        }
    }
}

/// One item to read.
struct Reread<'a> {
    client: &'a Client,
    index: &'a Index,
    version: &'static str,
    ticket: Ticket,
}

impl Reread<'_> {
    async fn object(&self, key: SourceKey) -> kube::Result<bool> {
        match key.kind {
            Kind::Ingress => self.object_of::<IngressSpec>(key).await,
            Kind::Service => self.object_of::<ServiceSpec>(key).await,
            Kind::IstioGateway => self.object_of::<istio::GatewaySpec>(key).await,
            Kind::Gateway => self.object_of::<gateway::GatewaySpec>(key).await,
            Kind::ListenerSet => self.object_of::<ListenerSet>(key).await,
            Kind::XListenerSet => self.object_of::<XListenerSet>(key).await,
        }
    }

    async fn route(&self, key: RouteKey) -> kube::Result<bool> {
        match key.0 {
            RouteKind::VirtualService => self.route_of::<istio::VirtualServiceSpec>(key).await,
            RouteKind::Http => self.route_of::<HttpRoute>(key).await,
            RouteKind::Grpc => self.route_of::<GrpcRoute>(key).await,
            RouteKind::Tls => self.route_of::<TlsRoute>(key).await,
        }
    }

    async fn object_of<S: Source>(&self, key: SourceKey) -> kube::Result<bool> {
        let Some(object) = self.find::<S>(&key.object).await? else { return Ok(false) };
        let (key, object) = keep(&object, self.version);
        self.index.put(key, object, Some(self.ticket));
        Ok(true)
    }

    async fn route_of<S: Attached>(&self, key: RouteKey) -> kube::Result<bool> {
        let Some(object) = self.find::<S>(&key.1).await? else { return Ok(false) };
        let route = Route::of(&object, self.version);
        self.index.put_route(key, Some(route), Some(self.ticket));
        Ok(true)
    }

    /// Uses a list request with a field selector, because our role does not allow `get` for all kinds.
    async fn find<S: Shape>(&self, key: &ObjectKey) -> kube::Result<Option<Foreign<S>>> {
        let url = Foreign::<S>::url_path(&Version(self.version), Some(&key.namespace));
        let one = ListParams::default().fields(&format!("metadata.name={}", key.name));
        let request = Request::new(url).list(&one).map_err(kube::Error::BuildRequest)?;
        let mut found: ObjectList<Foreign<S>> = self.client.request(request).await?;
        Ok(found.items.pop())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::Response;
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        runtime::queue::Queue,
        sources::{budget::Budget, index::Objects, object::Entries},
    };

    fn ingress(name: &str, hosts: usize) -> Value {
        let hosts: Vec<String> = (0..hosts).map(|number| format!("h{number}.test")).collect();
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {
                "namespace": "ns", "name": name, "uid": name,
                "annotations": {"cert.gardener.cloud/purpose": "managed"},
            },
            "spec": {"tls": [{"hosts": hosts, "secretName": "s"}]},
        })
    }

    /// A client whose server answers every list with these objects.
    fn server(items: &Value) -> Client {
        let list = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "IngressList", "metadata": {},
            "items": items,
        });
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let uri = request.uri().to_string();
            assert!(uri.contains("/namespaces/ns/ingresses?") && uri.contains("metadata.name%3Db"));
            let body = Body::from(list.to_string().into_bytes());
            async move { Ok::<_, tower::BoxError>(Response::new(body)) }
        });
        Client::new(service, "default")
    }

    /// Fills the room with `a`, lets `b` wait, and deletes `a`. Returns the entries of `b`.
    async fn after_room_appeared(client: Client) -> Option<Entries> {
        let full = Budget::of(2_000);
        let index = Arc::new(Index::new(Arc::new(Queue::default())).within(full));
        let ingresses = Objects::<IngressSpec>::new(index.clone(), "v1");
        for name in ["a", "b"] {
            let object = serde_json::from_value(ingress(name, 10)).unwrap();
            crate::runtime::watch::EventHandler::applied(&ingresses, object);
        }
        let rereading = reread(client, index.clone());
        let key = ObjectKey::new("ns", "b");
        crate::runtime::watch::EventHandler::gone(&ingresses, &ObjectKey::new("ns", "a"));
        // The paused clock advances only when all tasks are idle.
        assert!(timeout(Duration::from_secs(60), rereading).await.is_err());
        index.find(&SourceKey { kind: Kind::Ingress, object: key }).object.map(|it| it.entries)
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_object_is_read_in_its_current_state() {
        let kept = after_room_appeared(server(&json!([ingress("b", 3)]))).await;
        let Some(Entries::All(entries)) = kept else { panic!("{kept:?}") };
        assert_eq!(entries[0].hosts.len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unreadable_object_keeps_waiting() {
        for items in [json!([]), json!([{"metadata": 7}])] {
            assert_eq!(after_room_appeared(server(&items)).await, Some(Entries::NoRoom));
        }
    }
}
