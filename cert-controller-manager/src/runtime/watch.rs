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
mod tolerant;

use std::{
    collections::HashSet,
    convert::Infallible,
    fmt::Debug,
    hash::{BuildHasher, RandomState},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
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
use self::{pages::Pages, tolerant::Tolerant};
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
    let kind = K::kind(&dynamic).into_owned();
    let pages = lister.pages();
    let (api, client) = tolerant_api(api, &dynamic, &pages);
    let mut pause = FIRST_PAUSE;
    let mut missing_since = None;
    loop {
        let number = lister.latest_request();
        let request = RelistRequest { number, completed: lister.completed() };
        // The previous list may have been cancelled in the middle of a page.
        pages.decoded();
        let once = watch_once(&api, &config, &kind, handler, availability, &request, &pages);
        let (progress, found) = tokio::select! {
            failed = once => failed,
            () = lister.requested() => continue,
        };
        let found = match found {
            Some(Availability::Absent) if *availability.borrow() != Availability::Absent => {
                absence::is_absent::<K>(&client, &dynamic).await.then_some(Availability::Absent)
            }
            found => found,
        };
        if matches!(progress, Progress::Listed) {
            missing_since = None;
        }
        pause = match (found, progress) {
            (Some(_), _) => {
                let since = *missing_since.get_or_insert_with(Instant::now);
                retry_after(since.elapsed())
            }
            (None, Progress::Listed) => FIRST_PAUSE,
            (None, Progress::None) => (pause * 2).min(MAX_PAUSE),
        };
        // An API server accepts requests shortly before it has loaded the roles.
        let is_early = found == Some(Availability::Denied)
            && *availability.borrow() == Availability::Unknown
            && missing_since.is_some_and(|since| since.elapsed() < ROLES_LOADED_AFTER);
        if let Some(found) = found.filter(|_| !is_early) {
            // Objects of a denied kind probably still exist. Objects of an absent kind do not.
            if found == Availability::Absent {
                for key in handler.keys() {
                    handler.gone(&key);
                }
                handler.complete();
            }
            publish(&kind, availability, found);
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

/// Passes an object to the handler. An object that cannot be decoded is ignored.
fn handle<K>(
    handler: &impl EventHandler<K>,
    kind: &str,
    Tolerant { object, metadata }: Tolerant<K>,
) {
    match object {
        Ok(object) => handler.applied(object),
        Err(why) => {
            let (namespace, name) = (metadata.namespace.as_deref(), metadata.name.as_deref());
            warn!(%kind, namespace, name, "cannot decode an object of kind {kind}, it is ignored: {why}");
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

/// Adds jitter: a delay between half of `pause` and `pause`. So watches do not list at the same time
/// when a server comes back.
fn with_jitter(pause: Duration) -> Duration {
    let random = u32::try_from(RandomState::new().hash_one(()) % 1024).unwrap_or_default();
    pause / 2 + pause / 2 * random / 1024
}

/// The delay before the next probe of a kind that has been missing for this time.
fn retry_after(missing: Duration) -> Duration {
    (missing / 4).clamp(MAX_PAUSE, MAX_PROBE_INTERVAL)
}

/// The progress of a watch before it failed.
#[derive(Clone, Copy)]
enum Progress {
    None,
    Listed,
}

/// Lists once and watches until a failure that requires a new list. Returns the availability if the kind
/// is absent or denied.
async fn watch_once<K, F>(
    api: &Api<Tolerant<K>>,
    config: &watcher::Config,
    kind: &str,
    handler: &F,
    availability: &Sender<Availability>,
    request: &RelistRequest,
    pages: &Pages,
) -> (Progress, Option<Availability>)
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    F: EventHandler<K> + Sync,
{
    let mut events = pin!(watcher::watcher(api.clone(), config.clone()));
    let mut unseen = HashSet::new();
    let mut progress = Progress::None;
    let mut pause = FIRST_PAUSE;
    loop {
        // A list needs a deadline. A watch has one in the watcher, and may be idle.
        let next = match progress {
            // This includes new lists of an expired watch.
            Progress::Listed => events.next().await,
            Progress::None => match timeout(LIST_DEADLINE, events.next()).await {
                Ok(next) => next,
                Err(_) => return (progress, None),
            },
        };
        pages.decoded();
        let Some(event) = next else { return (progress, None) };
        match event {
            Ok(Event::Init) => unseen = handler.keys().into_iter().collect(),
            Ok(Event::InitApply(object)) => {
                unseen.remove(&ObjectKey::of(&object));
                handle(handler, kind, object);
            }
            Ok(Event::InitDone) => {
                progress = Progress::Listed;
                for key in unseen.drain() {
                    handler.gone(&key);
                }
                handler.complete();
                publish(kind, availability, Availability::Present);
                request.complete();
            }
            Ok(Event::Apply(object)) => handle(handler, kind, object),
            Ok(Event::Delete(object)) => handler.gone(&ObjectKey::of(&object)),
            Err(error) => {
                debug!(%kind, %error, "watch of {kind} failed");
                match refused(&error) {
                    // The kind may also disappear during a watch, which then needs a new list.
                    Some(found) => return (progress, Some(found)),
                    None if matches!(progress, Progress::None) => {
                        warn!(%kind, %error, "cannot list {kind}");
                        return (progress, None);
                    }
                    // The watcher resumes or lists again by itself.
                    None => {
                        sleep(with_jitter(pause)).await;
                        pause = (pause * 2).min(MAX_PAUSE);
                        continue;
                    }
                }
            }
        }
        pause = FIRST_PAUSE;
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

fn publish(kind: &str, availability: &Sender<Availability>, now: Availability) {
    let changed = availability.send_if_modified(|known| std::mem::replace(known, now) != now);
    if !changed {
        return;
    }
    match now {
        Availability::Unknown => {}
        Availability::Present => info!(%kind, "watching {kind}"),
        Availability::Absent => info!(%kind, "the cluster has no kind {kind} yet"),
        Availability::Denied => warn!(%kind, "no right to list and watch {kind}"),
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// Maximum interval between two probes of a missing kind.
const MAX_PROBE_INTERVAL: Duration = Duration::from_secs(30);
/// A refusal counts only after this time.
const ROLES_LOADED_AFTER: Duration = Duration::from_secs(2);
/// Deadline for one page of a list.
const LIST_DEADLINE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
