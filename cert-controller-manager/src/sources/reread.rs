//! Reads waiting items again when the index has room, one at a time.

use std::{convert::Infallible, sync::Arc, time::Duration};

use kube::Client;
use tokio::time::timeout;

use super::{
    budget::{Item, Ticket},
    convert::keep,
    index::Index,
    key::{RouteKey, SourceKey},
};
use crate::runtime::errors::brief;

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
        let read = key.kind.row().objects.read;
        let found = read(self.client.clone(), key.object.clone(), self.version).await?;
        let Some(object) = found else { return Ok(false) };
        self.index.put(key.clone(), keep(key.kind, object), Some(self.ticket));
        Ok(true)
    }

    async fn route(&self, key: RouteKey) -> kube::Result<bool> {
        let read = key.0.row().objects.read;
        let found = read(self.client.clone(), key.1.clone(), self.version).await?;
        let Some(route) = found else { return Ok(false) };
        self.index.put_route(key, Some(route), Some(self.ticket));
        Ok(true)
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
        api::{ObjectKey, source::IngressSpec},
        runtime::{queue::Queue, watch::EventHandler as _},
        sources::{budget::Budget, entry::Entries, handlers::fixtures, key::Kind},
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
        let ingresses = fixtures::objects::<IngressSpec>(&index, "v1");
        for name in ["a", "b"] {
            let object = serde_json::from_value(ingress(name, 10)).unwrap();
            ingresses.applied(object);
        }
        let rereading = reread(client, index.clone());
        let key = ObjectKey::new("ns", "b");
        ingresses.gone(&ObjectKey::new("ns", "a"));
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
