//! Events on objects: posted in the background, so that nothing ever waits for them, and dropped
//! rather than heaped up when the API server is away.

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

/// How many events may wait.
const BACKLOG: usize = 4_096;
/// How many are posted at once.
const AT_ONCE: usize = 8;
const CONTROLLER: &str = "cert-controller-manager";
/// Longest note that the API takes, with room for our words around it (events.k8s.io limits it to
/// 1024 bytes).
const MAX_NOTE: usize = 1_000;

/// Takes events. Cheap to clone.
///
/// kube's own recorder joins repeated events into series. Ours are sent when something has changed,
/// so there is nothing to join, and nothing needs to be remembered of them.
#[derive(Clone)]
pub struct EventRecorder(mpsc::Sender<Event>);

impl EventRecorder {
    /// A place for events and the task that posts them to `client`.
    pub fn new(client: Client) -> (Self, impl Future<Output = Infallible> + Send) {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        (Self(sender), post(client, receiver))
    }

    /// Something went as it should.
    pub fn normal(&self, about: ObjectReference, reason: &str, note: &str) {
        self.send(about, "Normal", reason, note);
    }

    /// Somebody should have a look.
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
        // A full backlog means that the API server has been away for long: the status says it all.
        let _ = self.0.try_send(event);
    }
}

/// When an event happened is for people only, so nobody decides on it.
fn now() -> Timestamp {
    Timestamp::now()
}

async fn post(client: Client, mut receiver: mpsc::Receiver<Event>) -> Infallible {
    let mut posting = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            Some(event) = receiver.recv(), if posting.len() < AT_ONCE => {
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
