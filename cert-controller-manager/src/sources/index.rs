//! What is there: source objects, and the routes that are attached to them, as last heard of.
//!
//! Fed by watches, so that nothing is ever listed for one object. Whoever is concerned by a change
//! is put into the queue.

use std::{
    collections::{BTreeSet, HashMap},
    marker::PhantomData,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    domains::Attachment,
    kind::{Kind, SourceKey},
    object::{Object, Source, keep},
};
use crate::{
    api::{
        ObjectKey,
        source::{Foreign, Shape},
    },
    runtime::{follow::Follower, queue::Shared},
};

/// How long after an object vanished those that it concerns are looked at: when its kind, or the
/// version that we read, went away with it, that is heard of only afterwards.
const AFTER_GONE: Duration = Duration::from_secs(5);

/// A kind whose objects are attached to Gateways.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum RouteKind {
    /// `VirtualService`
    VirtualService,
    /// `HTTPRoute`
    Http,
    /// `GRPCRoute`
    Grpc,
    /// `TLSRoute`
    Tls,
}

/// A kind whose objects are attached to Gateways.
pub trait Attached: Shape {
    /// Which kind.
    const KIND: RouteKind;

    /// What `object` is attached to, and how.
    fn attachments(object: &Foreign<Self>) -> Vec<(SourceKey, Attachment)>;
}

type RouteKey = (RouteKind, ObjectKey);

/// See the [module](self).
pub struct Index {
    queue: Shared<SourceKey>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    objects: HashMap<SourceKey, Object>,
    /// ListenerSets by Gateway.
    children: HashMap<ObjectKey, BTreeSet<SourceKey>>,
    routes: HashMap<RouteKey, Route>,
    /// Routes by what they are attached to, in the order of their names: the order of the names in a
    /// certificate depends on it.
    attached: HashMap<SourceKey, BTreeSet<RouteKey>>,
}

#[derive(PartialEq)]
struct Route {
    version: &'static str,
    attachments: Vec<(SourceKey, Attachment)>,
}

/// What is known about one object.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The object, if it is there.
    pub object: Option<Object>,
    /// The Gateway that it belongs to, if there is one.
    pub parent: Option<Object>,
    /// What is attached to it.
    pub routes: Vec<Attachment>,
}

impl Index {
    /// Nothing yet. Whoever is concerned by a change is put into `queue`.
    #[must_use]
    pub fn new(queue: Shared<SourceKey>) -> Self {
        Self { queue, state: Mutex::default() }
    }

    /// What is known about one object.
    #[must_use]
    pub fn find(&self, key: &SourceKey) -> Known {
        let state = self.lock();
        let object = state.objects.get(key).cloned();
        let parent = object.as_ref().and_then(|object| object.parent.as_ref());
        let parent = parent.and_then(|parent| {
            state.objects.get(&SourceKey { kind: Kind::Gateway, object: parent.0.clone() })
        });
        let routes = state.attached.get(key).into_iter().flatten();
        let routes = routes.filter_map(|route| state.routes.get(route));
        let mine = routes.flat_map(|route| route.attachments.iter().filter(|(to, _)| to == key));
        Known {
            parent: parent.cloned(),
            routes: mine.map(|(_, attachment)| attachment.clone()).collect(),
            object,
        }
    }

    /// Every object of a kind.
    #[must_use]
    pub fn of_kind(&self, kind: Kind) -> Vec<SourceKey> {
        self.lock().objects.keys().filter(|key| key.kind == kind).cloned().collect()
    }

    fn put(&self, key: SourceKey, object: Object) {
        let mut state = self.lock();
        let parent = object.parent.clone();
        let before = state.objects.insert(key.clone(), object);
        if before.as_ref() == state.objects.get(&key) {
            return;
        }
        state.adopt(&key, before.and_then(|object| object.parent).map(|parent| parent.0), false);
        state.adopt(&key, parent.map(|parent| parent.0), true);
        let children = state.children_of(&key);
        drop(state);
        self.push(children);
        self.queue.push(key);
    }

    fn remove(&self, key: &SourceKey) {
        let mut state = self.lock();
        let Some(object) = state.objects.remove(key) else { return };
        state.adopt(key, object.parent.map(|parent| parent.0), false);
        let children = state.children_of(key);
        drop(state);
        for key in children {
            self.queue.push_after(key, AFTER_GONE);
        }
        self.queue.push(key.clone());
    }

    fn put_route(&self, key: RouteKey, route: Option<Route>) {
        let mut state = self.lock();
        let before = match &route {
            Some(route) if state.routes.get(&key) == Some(route) => return,
            _ => state.routes.remove(&key),
        };
        let mut concerned = BTreeSet::new();
        for (parent, _) in before.iter().flat_map(|route| &route.attachments) {
            if let Some(routes) = state.attached.get_mut(parent) {
                routes.remove(&key);
                if routes.is_empty() {
                    state.attached.remove(parent);
                }
            }
            concerned.insert(parent.clone());
        }
        let gone = route.is_none();
        if let Some(route) = route {
            for (parent, _) in &route.attachments {
                state.attached.entry(parent.clone()).or_default().insert(key.clone());
                concerned.insert(parent.clone());
            }
            state.routes.insert(key, route);
        }
        drop(state);
        if gone {
            concerned.into_iter().for_each(|key| self.queue.push_after(key, AFTER_GONE));
        } else {
            self.push(concerned);
        }
    }

    fn push(&self, keys: BTreeSet<SourceKey>) {
        keys.into_iter().for_each(|key| self.queue.push(key));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn adopt(&mut self, key: &SourceKey, parent: Option<ObjectKey>, is_child: bool) {
        let Some(parent) = parent else { return };
        let children = self.children.entry(parent.clone()).or_default();
        if is_child {
            children.insert(key.clone());
        } else {
            children.remove(key);
        }
        if children.is_empty() {
            self.children.remove(&parent);
        }
    }

    fn children_of(&self, key: &SourceKey) -> BTreeSet<SourceKey> {
        let children = self.children.get(&key.object).filter(|_| key.kind == Kind::Gateway);
        children.cloned().unwrap_or_default()
    }
}

/// Feeds the index with the objects of one kind, read in one version of the API.
pub struct Objects<S> {
    index: Arc<Index>,
    version: &'static str,
    kind: PhantomData<fn(S)>,
}

impl<S> Objects<S> {
    pub(super) fn new(index: Arc<Index>, version: &'static str) -> Self {
        Self { index, version, kind: PhantomData }
    }
}

impl<S: Source> Follower<Foreign<S>> for Objects<S> {
    fn applied(&self, object: Foreign<S>) {
        let (key, object) = keep(&object, self.version);
        self.index.put(key, object);
    }

    fn gone(&self, key: &ObjectKey) {
        let key = SourceKey { kind: S::KIND, object: key.clone() };
        // What was read in another version since is not gone.
        if self.index.lock().objects.get(&key).is_some_and(|known| known.version == self.version) {
            self.index.remove(&key);
        }
    }

    fn keys(&self) -> Vec<ObjectKey> {
        let state = self.index.lock();
        let ours = state.objects.iter().filter(|(_, known)| known.version == self.version);
        ours.filter(|(key, _)| key.kind == S::KIND).map(|(key, _)| key.object.clone()).collect()
    }
}

/// Feeds the index with the routes of one kind, read in one version of the API.
pub struct Routes<S> {
    index: Arc<Index>,
    version: &'static str,
    kind: PhantomData<fn(S)>,
}

impl<S> Routes<S> {
    pub(super) fn new(index: Arc<Index>, version: &'static str) -> Self {
        Self { index, version, kind: PhantomData }
    }
}

impl<S: Attached> Follower<Foreign<S>> for Routes<S> {
    fn applied(&self, object: Foreign<S>) {
        let route = Route { version: self.version, attachments: S::attachments(&object) };
        self.index.put_route((S::KIND, ObjectKey::of(&object)), Some(route));
    }

    fn gone(&self, key: &ObjectKey) {
        let key = (S::KIND, key.clone());
        if self.index.lock().routes.get(&key).is_some_and(|known| known.version == self.version) {
            self.index.put_route(key, None);
        }
    }

    fn keys(&self) -> Vec<ObjectKey> {
        let state = self.index.lock();
        let ours = state.routes.iter().filter(|(_, known)| known.version == self.version);
        ours.filter(|(key, _)| key.0 == S::KIND).map(|(key, _)| key.1.clone()).collect()
    }
}

#[cfg(test)]
mod tests;
