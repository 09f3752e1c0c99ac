//! Events on objects: posted in the background, so that nothing ever waits for them, and dropped
//! rather than heaped up when the API server is away.

use std::convert::Infallible;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tokio::sync::mpsc;

/// How many events may wait.
const BACKLOG: usize = 4_096;
/// How many are posted at once.
const AT_ONCE: usize = 4;
/// Longest note that the API takes, with room for our words around it (events.k8s.io limits it to
/// 1024 bytes).
const MAX_NOTE: usize = 1_000;

/// Takes events. Cheap to clone.
#[derive(Clone)]
pub struct Reports(mpsc::Sender<Report>);

struct Report {
    about: ObjectReference,
    event: Event,
}

impl Reports {
    /// A place for events and the task that posts them to `client`.
    #[must_use]
    pub fn new(client: Client) -> (Self, impl Future<Output = Infallible> + Send) {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        (Self(sender), post(client, receiver))
    }

    /// Something went as it should.
    pub fn normal(&self, about: ObjectReference, reason: &str, note: &str) {
        self.send(about, EventType::Normal, reason, note);
    }

    /// Somebody should have a look.
    pub fn warning(&self, about: ObjectReference, reason: &str, note: &str) {
        self.send(about, EventType::Warning, reason, note);
    }

    fn send(&self, about: ObjectReference, type_: EventType, reason: &str, note: &str) {
        let mut end = note.len().min(MAX_NOTE);
        while !note.is_char_boundary(end) {
            end -= 1;
        }
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note.get(..end).unwrap_or_default().to_owned()),
            action: "reconcile".to_owned(),
            secondary: None,
        };
        // A full backlog means that the API server has been away for long: the status says it all.
        let _ = self.0.try_send(Report { about, event });
    }
}

async fn post(client: Client, mut receiver: mpsc::Receiver<Report>) -> Infallible {
    let reporter = Reporter { controller: "cert-controller-manager".to_owned(), instance: None };
    let recorder = Recorder::new(client, reporter);
    let mut posting = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            Some(Report { about, event }) = receiver.recv(), if posting.len() < AT_ONCE => {
                let recorder = recorder.clone();
                posting.spawn(async move {
                    if let Err(error) = recorder.publish(&event, &about).await {
                        tracing::debug!("an event was lost: {error}");
                    }
                });
            }
            Some(_) = posting.join_next() => {}
            else => std::future::pending().await,
        }
    }
}
