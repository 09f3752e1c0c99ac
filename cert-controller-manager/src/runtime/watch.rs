//! Watches all objects of a kind, even if the kind does not exist yet.
//!
//! Lists and watches the objects, passes each change to an [`EventHandler`], and publishes the
//! [`Availability`] of the kind. It keeps no objects: a new list is compared with the keys of the handler.
//!
//! A running watch lists again on request ([`Relist`]), and a watch can have several handlers
//! ([`FanOut`]).
//!
//! Not here: tasks, because [`watch()`] is a future that its caller runs; and dead connections, which
//! the client detects with HTTP/2 pings.

mod absence;
mod fan_out;
mod handler;
mod pages;
mod relist;
mod retries;
mod tolerant;

use std::{
    collections::HashSet, convert::Infallible, fmt::Debug, ops::ControlFlow, pin::pin, sync::Arc,
    time::Duration,
};

use futures::{Stream, StreamExt};
use kube::{
    Api, Client, Resource, ResourceExt,
    runtime::watcher::{self, Event},
};
use serde::de::DeserializeOwned;
use tokio::{
    sync::watch::Sender,
    time::{Instant, sleep, timeout},
};
use tracing::{debug, info, warn};

pub use self::{
    fan_out::{FanOut, Shared},
    handler::{Availability, EventHandler},
    relist::{Lister, Listing, Relist},
};
use self::{
    pages::Pages,
    retries::{FIRST_PAUSE, Progress, Retries, longer, with_jitter},
    tolerant::Tolerant,
};
use crate::api::ObjectKey;

/// Passes all objects of `api` to `handler`, and publishes the availability of the kind. Never returns.
///
/// Failures are retried with jitter. An absent or denied kind is probed every five seconds at first and
/// every thirty seconds after two minutes, because a cluster without gateways lacks a dozen kinds. A
/// request through `lister` causes a list that contains everything written before the request.
pub async fn watch<K, F>(
    api: Api<K>,
    config: watcher::Config,
    handler: &F,
    availability: &Sender<Availability>,
    lister: Lister,
) -> Infallible
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    K::DynamicType: Default,
    F: EventHandler<K> + Sync,
{
    watch_as(K::DynamicType::default(), api, config, handler, availability, lister).await
}

/// Like [`watch()`], for a kind with a dynamic type, for example another API version.
pub async fn watch_as<K, F>(
    dynamic: K::DynamicType,
    api: Api<K>,
    config: watcher::Config,
    handler: &F,
    availability: &Sender<Availability>,
    mut lister: Lister,
) -> Infallible
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    F: EventHandler<K> + Sync,
{
    let watched = WatchedKind { kind: K::kind(&dynamic).into_owned(), handler, availability };
    let pages = lister.pages();
    let (api, client) = tolerant_api(api, &dynamic, &pages);
    let mut retries = Retries::default();
    loop {
        let number = lister.latest_request();
        let request = RelistRequest { number, completed: lister.completed() };
        // The previous list may have been cancelled in the middle of a page.
        pages.decoded();
        let (progress, found) = tokio::select! {
            failed = watch_once(&api, &config, &watched, &request, &pages) => failed,
            () = lister.requested() => continue,
        };
        let found = match found {
            Some(Availability::Absent) if watched.availability() != Availability::Absent => {
                absence::is_absent::<K>(&client, &dynamic).await.then_some(Availability::Absent)
            }
            found => found,
        };
        let now = Instant::now();
        let pause = retries.record(progress, found, now);
        let is_early = |found: &Availability| retries.is_early(*found, watched.availability(), now);
        if let Some(found) = found.filter(|found| !is_early(found)) {
            watched.missing(found);
            request.complete();
        }
        tokio::select! {
            () = sleep(with_jitter(pause)) => {}
            () = lister.requested() => {}
        }
    }
}

/// Makes `api` decode objects tolerantly, and read lists in these pages.
fn tolerant_api<K>(
    api: Api<K>,
    dynamic: &K::DynamicType,
    pages: &Arc<Pages>,
) -> (Api<Tolerant<K>>, Client)
where
    K: Resource,
{
    let namespace = api.namespace().map(str::to_owned);
    let client = api.into_client();
    let paged = pages.client(&client);
    let api = match namespace {
        Some(namespace) => Api::namespaced_with(paged, &namespace, dynamic),
        None => Api::all_with(paged, dynamic),
    };
    (api, client)
}

/// A kind that is watched, and the receivers of its changes.
struct WatchedKind<'a, K> {
    kind: String,
    handler: &'a (dyn EventHandler<K> + Sync),
    availability: &'a Sender<Availability>,
}

impl<K: Resource> WatchedKind<'_, K> {
    fn availability(&self) -> Availability {
        *self.availability.borrow()
    }

    /// Passes an event to the handler. `unseen` are the known objects that the current list has not
    /// returned yet.
    fn handle(&self, event: Event<Tolerant<K>>, unseen: &mut HashSet<ObjectKey>) {
        match event {
            Event::Init => *unseen = self.handler.keys().into_iter().collect(),
            Event::InitApply(object) => {
                unseen.remove(&ObjectKey::of(&object));
                self.applied(object);
            }
            Event::InitDone => {
                unseen.drain().for_each(|key| self.handler.gone(&key));
                self.handler.complete();
                self.publish(Availability::Present);
            }
            Event::Apply(object) => self.applied(object),
            Event::Delete(object) => self.handler.gone(&ObjectKey::of(&object)),
        }
    }

    /// Passes an object to the handler. An object that cannot be decoded is ignored.
    fn applied(&self, Tolerant { object, metadata }: Tolerant<K>) {
        match object {
            Ok(object) => self.handler.applied(object),
            Err(why) => {
                let (kind, name) = (&self.kind, metadata.name.as_deref());
                let namespace = metadata.namespace.as_deref();
                warn!(%kind, namespace, name, "cannot decode an object of kind {kind}, it is ignored: {why}");
            }
        }
    }

    /// Whether an error ends the watch, and the availability of the kind that it shows.
    fn failed(
        &self,
        error: &watcher::Error,
        progress: Progress,
    ) -> ControlFlow<Option<Availability>> {
        let kind = &self.kind;
        debug!(%kind, %error, "watch of {kind} failed");
        match (refused(error), progress) {
            // The kind may also disappear during a watch, which then needs a new list.
            (Some(found), _) => ControlFlow::Break(Some(found)),
            (None, Progress::None) => {
                warn!(%kind, %error, "cannot list {kind}");
                ControlFlow::Break(None)
            }
            // The watcher resumes or lists again by itself.
            (None, Progress::Listed) => ControlFlow::Continue(()),
        }
    }

    /// Publishes that the kind is absent or denied.
    fn missing(&self, found: Availability) {
        // Objects of a denied kind probably still exist. Objects of an absent kind do not.
        if found == Availability::Absent {
            self.handler.keys().iter().for_each(|key| self.handler.gone(key));
            self.handler.complete();
        }
        self.publish(found);
    }

    fn publish(&self, now: Availability) {
        let replace = |known: &mut Availability| std::mem::replace(known, now) != now;
        if !self.availability.send_if_modified(replace) {
            return;
        }
        let kind = &self.kind;
        match now {
            Availability::Unknown => {}
            Availability::Present => info!(%kind, "watching {kind}"),
            Availability::Absent => info!(%kind, "the cluster has no kind {kind} yet"),
            Availability::Denied => warn!(%kind, "no right to list and watch {kind}"),
        }
    }
}

/// A relist request, and the channel that reports its completion.
struct RelistRequest {
    number: u64,
    completed: Sender<u64>,
}

impl RelistRequest {
    fn complete(&self) {
        self.completed.send_replace(self.number);
    }
}

/// Lists once and watches until a failure that requires a new list. Returns the availability if the kind
/// is absent or denied.
async fn watch_once<K>(
    api: &Api<Tolerant<K>>,
    config: &watcher::Config,
    watched: &WatchedKind<'_, K>,
    request: &RelistRequest,
    pages: &Pages,
) -> (Progress, Option<Availability>)
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut events = pin!(watcher::watcher(api.clone(), config.clone()));
    let mut unseen = HashSet::new();
    let mut progress = Progress::None;
    let mut pause = FIRST_PAUSE;
    loop {
        let Some(next) = next_event(&mut events, progress).await else { return (progress, None) };
        pages.decoded();
        match next {
            Ok(event) => {
                let is_listed = matches!(event, Event::InitDone);
                watched.handle(event, &mut unseen);
                if is_listed {
                    progress = Progress::Listed;
                    request.complete();
                }
                pause = FIRST_PAUSE;
            }
            Err(error) => {
                if let ControlFlow::Break(found) = watched.failed(&error, progress) {
                    return (progress, found);
                }
                sleep(with_jitter(pause)).await;
                pause = longer(pause);
            }
        }
    }
}

/// The next event; `None` after the deadline. A list needs one. A watch has one in the watcher, and may
/// be idle.
async fn next_event<S: Stream + Unpin>(events: &mut S, progress: Progress) -> Option<S::Item> {
    match progress {
        // This includes new lists of an expired watch.
        Progress::Listed => events.next().await,
        Progress::None => timeout(LIST_DEADLINE, events.next()).await.ok().flatten(),
    }
}

/// Removes managed fields and the last applied configuration of kubectl. They are more than half of an
/// object, and are not used.
pub fn strip<K: Resource>(object: &mut K) {
    object.managed_fields_mut().clear();
    object.annotations_mut().remove("kubectl.kubernetes.io/last-applied-configuration");
}

/// The availability of the kind that an error shows, if any.
fn refused(error: &watcher::Error) -> Option<Availability> {
    let status = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => status,
        watcher::Error::WatchError(status) => status,
        watcher::Error::InitialListFailed(_)
        | watcher::Error::WatchStartFailed(_)
        | watcher::Error::WatchFailed(_)
        | watcher::Error::NoResourceVersion => return None,
    };
    match status.code {
        404 => Some(Availability::Absent),
        403 => Some(Availability::Denied),
        _ => None,
    }
}

/// Deadline for one page of a list.
const LIST_DEADLINE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
