//! Follows all objects of a kind for ever, and survives that the kind does not exist.
//!
//! Reads by a list and a watch, tells a [`Follower`] each change, and publishes whether the kind is
//! there. Keeps nothing itself: the follower's own index is what a new list is compared with.
//!
//! A running watch can be asked for a new list ([`Relist`]), and several can follow one ([`Fan`]).
//!
//! Not here: tasks. [`follow()`] is a future that its caller owns. And dead connections: the client
//! notices them, by asking the server every few seconds whether it is there.

mod absence;
mod fan_out;
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
    relist::{Lister, Listing, Relist},
};
use self::{pages::Pages, tolerant::Tolerant};
use crate::api::ObjectKey;

/// Whether a kind can be followed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Availability {
    /// Nothing has been heard yet.
    Unknown,
    /// All objects are known.
    Present,
    /// The API server does not know the kind.
    Absent,
    /// We may not list or watch the kind.
    Denied,
}

/// Who is told of changes. Its methods must be quick: nothing else is read meanwhile.
pub trait EventHandler<K> {
    /// `object` is there as it is. Said again for every object after each list.
    fn applied(&self, object: K);
    /// The object is not there any more.
    fn gone(&self, key: &ObjectKey);
    /// The objects that are thought to be there.
    fn keys(&self) -> Vec<ObjectKey>;
    /// Nothing is missing: every object that was there has been told.
    fn complete(&self) {}
}

/// Tells `follower` of all objects behind `api`, and publishes whether the kind is there. Never
/// ends. What fails is tried again, but not by all watches at the same instant. A kind that is absent
/// or denied is looked for every five seconds at first and every thirty after two minutes: a cluster
/// without gateways lacks a dozen kinds. When `lister` is asked, a list is made that shows everything
/// that was written until then.
pub async fn watch<K, F>(
    api: Api<K>,
    config: watcher::Config,
    follower: &F,
    availability: &Sender<Availability>,
    lister: Lister,
) -> Infallible
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    K::DynamicType: Default,
    F: EventHandler<K> + Sync,
{
    watch_as(K::DynamicType::default(), api, config, follower, availability, lister).await
}

/// The same for a kind that `api` speaks of as `dynamic` says, in another version for example.
pub async fn watch_as<K, F>(
    dynamic: K::DynamicType,
    api: Api<K>,
    config: watcher::Config,
    follower: &F,
    availability: &Sender<Availability>,
    mut lister: Lister,
) -> Infallible
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    F: EventHandler<K> + Sync,
{
    let kind = K::kind(&dynamic).into_owned();
    let pages = lister.pages();
    let (api, client) = lenient(api, &dynamic, &pages);
    let mut pause = FIRST_PAUSE;
    let mut missing_since = None;
    loop {
        let wish = lister.hear();
        let made = Made { wish, teller: lister.teller() };
        // The one before may have been given up in the middle of a page.
        pages.decoded();
        let once = watch_once(&api, &config, &kind, follower, availability, &made, &pages);
        let (progress, found) = tokio::select! {
            failed = once => failed,
            () = lister.asked() => continue,
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
            (None, Progress::None) => (pause * 2).min(LONGEST_PAUSE),
        };
        // An API server that has just started knows its roles a moment later than it answers.
        let is_early = found == Some(Availability::Denied)
            && *availability.borrow() == Availability::Unknown
            && missing_since.is_some_and(|since| since.elapsed() < ROLES_ARE_KNOWN);
        if let Some(found) = found.filter(|_| !is_early) {
            // What we may not see any more is most likely still there; what has no kind is not.
            if found == Availability::Absent {
                for key in follower.keys() {
                    follower.gone(&key);
                }
                follower.complete();
            }
            publish(&kind, availability, found);
            made.tell();
        }
        tokio::select! {
            () = sleep(spread(pause)) => {}
            () = lister.asked() => {}
        }
    }
}

/// The same objects, whatever is in them, listed in such pages.
fn lenient<K>(
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

/// Tells an object, unless it cannot be read: then it is as if nothing had happened to it.
fn tell<K>(
    follower: &impl EventHandler<K>,
    kind: &str,
    Tolerant { object, metadata }: Tolerant<K>,
) {
    match object {
        Ok(object) => follower.applied(object),
        Err(why) => {
            let (namespace, name) = (metadata.namespace.as_deref(), metadata.name.as_deref());
            warn!(%kind, namespace, name, "a {kind} cannot be read and is left alone: {why}");
        }
    }
}

/// A wish for a list, and who is told when it is made.
struct Made {
    wish: u64,
    teller: Sender<u64>,
}

impl Made {
    fn tell(&self) {
        self.teller.send_replace(self.wish);
    }
}

/// A pause between half of this and all of it: when a server comes back, not all lists are made at
/// once.
fn spread(pause: Duration) -> Duration {
    let random = u32::try_from(RandomState::new().hash_one(()) % 1024).unwrap_or_default();
    pause / 2 + pause / 2 * random / 1024
}

/// How long to wait before a kind is looked for that has been missing for so long.
fn retry_after(missing: Duration) -> Duration {
    (missing / 4).clamp(LONGEST_PAUSE, LONGEST_LOOK)
}

/// How far one watch came before it failed.
#[derive(Clone, Copy)]
enum Progress {
    None,
    Listed,
}

/// One list and its watch, until it fails for a reason that a new list may heal. Returns what was
/// found out about the kind, when it is not there for us.
async fn watch_once<K, F>(
    api: &Api<Tolerant<K>>,
    config: &watcher::Config,
    kind: &str,
    follower: &F,
    availability: &Sender<Availability>,
    made: &Made,
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
        // A watch that says nothing is a quiet kind, and the watcher bounds it; a list is not.
        let next = match progress {
            // Also a watch lists again, when it is too old.
            Progress::Listed => events.next().await,
            Progress::None => match timeout(LIST_DEADLINE, events.next()).await {
                Ok(next) => next,
                Err(_) => return (progress, None),
            },
        };
        pages.decoded();
        let Some(event) = next else { return (progress, None) };
        match event {
            Ok(Event::Init) => unseen = follower.keys().into_iter().collect(),
            Ok(Event::InitApply(object)) => {
                unseen.remove(&ObjectKey::of(&object));
                tell(follower, kind, object);
            }
            Ok(Event::InitDone) => {
                progress = Progress::Listed;
                for key in unseen.drain() {
                    follower.gone(&key);
                }
                follower.complete();
                publish(kind, availability, Availability::Present);
                made.tell();
            }
            Ok(Event::Apply(object)) => tell(follower, kind, object),
            Ok(Event::Delete(object)) => follower.gone(&ObjectKey::of(&object)),
            Err(error) => {
                debug!(%kind, %error, "watch of {kind} failed");
                match refused(&error) {
                    // Also when the kind vanishes under a running watch: a new one needs a new list.
                    Some(found) => return (progress, Some(found)),
                    None if matches!(progress, Progress::None) => {
                        warn!(%kind, %error, "cannot list {kind}");
                        return (progress, None);
                    }
                    // The watcher goes on where it was, or lists again by itself.
                    None => {
                        sleep(spread(pause)).await;
                        pause = (pause * 2).min(LONGEST_PAUSE);
                        continue;
                    }
                }
            }
        }
        pause = FIRST_PAUSE;
    }
}

/// Managed fields and kubectl's copy are more than half of an object, and nobody here reads them.
pub fn strip<K: Resource>(object: &mut K) {
    object.managed_fields_mut().clear();
    object.annotations_mut().remove("kubectl.kubernetes.io/last-applied-configuration");
}

/// What an error says about the kind, where it says anything.
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
        Availability::Present => info!(%kind, "following {kind}"),
        Availability::Absent => info!(%kind, "there is no {kind} in the cluster; looking for it"),
        Availability::Denied => warn!(%kind, "no right to list and watch {kind}"),
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Between two looks for a kind that is missing.
const LONGEST_LOOK: Duration = Duration::from_secs(30);
/// So long after the first refusal a second one is believed.
const ROLES_ARE_KNOWN: Duration = Duration::from_secs(2);
/// For one page of a list.
const LIST_DEADLINE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
