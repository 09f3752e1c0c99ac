//! Publishes events on objects in the background. Events are dropped if the API server does not
//! respond and the backlog is full.

use std::convert::Infallible;

use jiff::Timestamp;
use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tokio::sync::mpsc;

use super::errors::brief;

/// Maximum number of waiting events.
const MAX_WAITING: usize = 4_096;
/// Maximum number of concurrent requests.
const MAX_CONCURRENT: usize = 8;
const CONTROLLER: &str = "cert-controller-manager";
/// Maximum length of a note. events.k8s.io allows 1024 bytes.
const MAX_NOTE: usize = 1_000;

/// Accepts events. Cheap to clone.
///
/// The recorder of kube aggregates repeated events. Ours are published only for changes, so there is
/// nothing to aggregate.
#[derive(Clone)]
pub struct EventRecorder(mpsc::Sender<Event>);

impl EventRecorder {
    /// A recorder, and the task that publishes its events with `client`.
    pub fn new(client: Client) -> (Self, impl Future<Output = Infallible> + Send) {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        (Self(sender), post(client, receiver))
    }

    /// Publishes a normal event.
    pub fn normal(&self, about: ObjectReference, reason: &str, note: &str) {
        self.send(about, "Normal", reason, note);
    }

    /// Publishes a warning.
    pub fn warning(&self, about: ObjectReference, reason: &str, note: &str) {
        self.send(about, "Warning", reason, note);
    }

    fn send(&self, about: ObjectReference, kind: &str, reason: &str, note: &str) {
        let mut end = note.len().min(MAX_NOTE);
        while !note.is_char_boundary(end) {
            end -= 1;
        }
        let namespace = about.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let event = Event {
            metadata: ObjectMeta {
                namespace: Some(namespace),
                generate_name: about.name.as_ref().map(|name| format!("{name}-")),
                ..ObjectMeta::default()
            },
            regarding: Some(about),
            type_: Some(kind.to_owned()),
            reason: Some(reason.to_owned()),
            note: Some(note.get(..end).unwrap_or_default().to_owned()),
            action: Some("reconcile".to_owned()),
            event_time: Some(MicroTime(now())),
            reporting_controller: Some(CONTROLLER.to_owned()),
            reporting_instance: Some(CONTROLLER.to_owned()),
            ..Event::default()
        };
        // The backlog is full after a long outage. The status of the object has the same information.
        let _ = self.0.try_send(event);
    }
}

/// The time is for display only, so the injected clock is not necessary.
fn now() -> Timestamp {
    Timestamp::now()
}

async fn post(client: Client, mut receiver: mpsc::Receiver<Event>) -> Infallible {
    let mut posting = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            Some(event) = receiver.recv(), if posting.len() < MAX_CONCURRENT => {
                let namespace = event.metadata.namespace.clone().unwrap_or_default();
                let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
                posting.spawn(async move {
                    if let Err(error) = api.create(&PostParams::default(), &event).await {
                        tracing::debug!("an event was lost: {}", brief(&error));
                    }
                });
            }
            Some(_) = posting.join_next() => {}
            else => std::future::pending().await,
        }
    }
}
