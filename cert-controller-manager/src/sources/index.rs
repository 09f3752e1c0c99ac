//! What is there: source objects, and the routes that are attached to them, as last heard of.
//!
//! Fed by watches, so that nothing is ever listed for one object. Whoever is concerned by a change
//! is put into the queue.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    marker::PhantomData,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use super::{
    budget::{Budget, Item, Ticket},
    domains::Attachment,
    kind::{Kind, SourceKey},
    object::{Entries, Labels, Object, Source, keep},
    routes::{Problem, Route, RouteKey, RouteKind},
};
use crate::{
    api::{
        ObjectKey,
        source::{Foreign, NamespaceSpec},
    },
    runtime::{queue::Shared, watch::EventHandler},
};

/// How long after an object vanished those that it concerns are looked at: when its kind, or the
/// version that we read, went away with it, that is heard of only afterwards.
const AFTER_GONE: Duration = Duration::from_secs(5);
/// So many labels of a namespace are kept, the first ones in the order of their names.
const MAX_LABELS: usize = 100;
/// So many complaints about routes are told in one pass.
const COMPLAINTS_AT_ONCE: usize = 20;

/// See the [module](self).
pub struct Index {
    queue: Shared<SourceKey>,
    state: Mutex<State>,
    /// There may be room for something that waits.
    room: Notify,
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
    /// Routes whose complaint was told.
    told: HashSet<RouteKey>,
    /// Labels of namespaces.
    labels: HashMap<String, Arc<Labels>>,
    /// Objects for which labels of namespaces matter.
    selecting: BTreeSet<SourceKey>,
    budget: Budget,
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
    /// The labels of its namespace, where they are known.
    pub labels: Option<Arc<Labels>>,
}

impl Index {
    /// Nothing yet. Whoever is concerned by a change is put into `queue`.
    #[must_use]
    pub fn new(queue: Shared<SourceKey>) -> Self {
        Self { queue, state: Mutex::default(), room: Notify::new() }
    }

    #[cfg(test)]
    pub(super) fn within(self, budget: Budget) -> Self {
        self.lock().budget = budget;
        self
    }

    /// What is known about one object.
    #[must_use]
    pub fn find(&self, key: &SourceKey) -> Known {
        let state = self.lock();
        let mut object = state.objects.get(key).cloned();
        // Names of routes may be missing, and a certificate without them is none that was asked for. Routes
        // of other namespaces lose only their own names.
        if let Some(object) = object.as_mut()
            && key.kind.takes_routes()
            && state.budget.has_waiting_routes(&key.object.namespace)
        {
            object.entries = Entries::NoRoom;
        }
        let parent = object.as_ref().and_then(|object| object.parent.as_ref());
        let parent = parent.and_then(|parent| {
            state.objects.get(&SourceKey { kind: Kind::Gateway, object: parent.0.clone() })
        });
        let routes = state.attached.get(key).into_iter().flatten();
        let routes = routes.filter_map(|route| state.routes.get(route));
        let mine = routes.flat_map(|route| route.attachments.iter().filter(|(to, _)| to == key));
        let labelled = |(_, attachment): &(SourceKey, Attachment)| Attachment {
            labels: state.labels.get(&*attachment.namespace).cloned(),
            ..attachment.clone()
        };
        Known {
            parent: parent.cloned(),
            routes: mine.map(labelled).collect(),
            labels: state.labels.get(&key.object.namespace).cloned(),
            object,
        }
    }

    /// What is wrong with routes that are attached to this object, each thing once until it has
    /// changed. A few at a time.
    pub fn problems(&self, key: &SourceKey) -> Vec<Problem> {
        let mut state = self.lock();
        let routes = state.attached.get(key).into_iter().flatten();
        let untold = routes.filter(|route| !state.told.contains(*route));
        let complaint = |key: &RouteKey| Some((key.clone(), state.routes.get(key)?.problem(key)?));
        let fresh: Vec<_> = untold.filter_map(complaint).take(COMPLAINTS_AT_ONCE).collect();
        let tell = |(key, complaint)| {
            state.told.insert(key);
            complaint
        };
        fresh.into_iter().map(tell).collect()
    }

    /// Every object of a kind.
    #[must_use]
    pub fn of_kind(&self, kind: Kind) -> Vec<SourceKey> {
        self.lock().objects.keys().filter(|key| key.kind == kind).cloned().collect()
    }

    /// Replaces what is known about an object. With a ticket, only where it still waits so.
    pub(super) fn put(&self, key: SourceKey, object: Object, ticket: Option<Ticket>) {
        let mut state = self.lock();
        let item = Item::Object(key.clone());
        if ticket.is_some_and(|ticket| !state.budget.is_waiting(&item, ticket)) {
            return;
        }
        let before = state.objects.get(&key).map_or(0, Object::size);
        let has_room = state.budget.replace(&item, before, object.size());
        let object = if has_room { object } else { object.without_entries() };
        self.tell_room(&state, &item);
        let parent = object.parent.clone();
        if object.selects() {
            state.selecting.insert(key.clone());
        } else {
            state.selecting.remove(&key);
        }
        let before = state.objects.insert(key.clone(), object);
        if before.as_ref() == state.objects.get(&key) {
            return;
        }
        state.link_parent(
            &key,
            before.and_then(|object| object.parent).map(|parent| parent.0),
            false,
        );
        state.link_parent(&key, parent.map(|parent| parent.0), true);
        let children = state.children_of(&key);
        drop(state);
        self.push(children);
        self.queue.push(key);
    }

    fn remove(&self, key: &SourceKey) {
        let mut state = self.lock();
        let Some(object) = state.objects.remove(key) else { return };
        state.selecting.remove(key);
        let item = Item::Object(key.clone());
        state.budget.remove(&item, object.size());
        self.tell_room(&state, &item);
        state.link_parent(key, object.parent.map(|parent| parent.0), false);
        let children = state.children_of(key);
        drop(state);
        for key in children {
            self.queue.push_after(key, AFTER_GONE);
        }
        self.queue.push(key.clone());
    }

    /// Replaces the labels of a namespace. They matter to few objects, and then to all of them.
    fn put_labels(&self, namespace: String, labels: Option<Labels>) {
        let mut state = self.lock();
        if state.labels.get(&namespace).map(Arc::as_ref) == labels.as_ref() {
            return;
        }
        match labels {
            Some(labels) => state.labels.insert(namespace, Arc::new(labels)),
            None => state.labels.remove(&namespace),
        };
        let concerned = state.selecting.clone();
        drop(state);
        self.push(concerned);
    }

    #[cfg(test)]
    fn selecting(&self) -> Vec<SourceKey> {
        self.lock().selecting.iter().cloned().collect()
    }

    /// Something for which there is room now, with the version of the API that it was read in.
    pub(super) fn next_waiting(&self) -> Option<(Item, &'static str, Ticket)> {
        let state = self.lock();
        let (item, ticket) = state.budget.next()?;
        let version = match &item {
            Item::Object(key) => state.objects.get(key)?.version,
            Item::Route(key) => state.routes.get(key)?.version,
        };
        Some((item, version, ticket))
    }

    /// Something that waits cannot be read.
    pub(super) fn give_up(&self, item: &Item, ticket: Ticket) {
        self.lock().budget.give_up(item, ticket);
    }

    fn tell_room(&self, state: &State, changed: &Item) {
        if state.budget.next_of(changed.namespace()).is_some() {
            self.room.notify_one();
        }
    }

    /// Waits until there may be room for something that waits.
    pub(super) async fn room(&self) {
        self.room.notified().await;
    }

    /// The version of the API that a route was read in.
    pub(super) fn route_version(&self, key: &RouteKey) -> Option<&'static str> {
        self.lock().routes.get(key).map(|route| route.version)
    }

    /// The routes of a kind that were read in a version.
    pub(super) fn routes(&self, kind: RouteKind, version: &str) -> Vec<ObjectKey> {
        let state = self.lock();
        let ours = state.routes.iter().filter(|(_, known)| known.version == version);
        ours.filter(|(key, _)| key.0 == kind).map(|(key, _)| key.1.clone()).collect()
    }

    /// Replaces what is known about a route. With a ticket, only where it still waits so.
    pub(super) fn put_route(&self, key: RouteKey, route: Option<Route>, ticket: Option<Ticket>) {
        let mut state = self.lock();
        let item = Item::Route(key.clone());
        if ticket.is_some_and(|ticket| !state.budget.is_waiting(&item, ticket)) {
            return;
        }
        let (route, mut concerned) = state.fit_route(&item, &key, route);
        self.tell_room(&state, &item);
        let before = match &route {
            Some(route) if state.routes.get(&key) == Some(route) => return,
            _ => state.routes.remove(&key),
        };
        if !route.as_ref().is_some_and(|route| route.problem_reason(before.as_ref())) {
            state.told.remove(&key);
        }
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
    /// What is kept of a route, and the objects that can be read now, after others that had to wait.
    fn fit_route(
        &mut self,
        item: &Item,
        key: &RouteKey,
        route: Option<Route>,
    ) -> (Option<Route>, BTreeSet<SourceKey>) {
        let namespace = item.namespace();
        let waited = self.budget.has_waiting_routes(namespace);
        let before = self.routes.get(key).map_or(0, Route::size);
        let size = route.as_ref().map_or(0, Route::size);
        let has_room = self.budget.replace(item, before, size);
        let route = if has_room { route } else { route.map(Route::without_names) };
        let is_free = waited && !self.budget.has_waiting_routes(namespace);
        let of_namespace = self.objects.keys().filter(|key| key.object.namespace == namespace);
        let free = if is_free { of_namespace.cloned().collect() } else { BTreeSet::new() };
        (route, free)
    }

    fn link_parent(&mut self, key: &SourceKey, parent: Option<ObjectKey>, is_child: bool) {
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

impl<S: Source> EventHandler<Foreign<S>> for Objects<S> {
    fn applied(&self, object: Foreign<S>) {
        let (key, object) = keep(&object, self.version);
        self.index.put(key, object, None);
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

/// Feeds the index with the labels of namespaces.
pub struct Namespaces {
    index: Arc<Index>,
}

impl Namespaces {
    pub(super) fn new(index: Arc<Index>) -> Self {
        Self { index }
    }
}

impl EventHandler<Foreign<NamespaceSpec>> for Namespaces {
    fn applied(&self, namespace: Foreign<NamespaceSpec>) {
        let labels = namespace.metadata.labels.unwrap_or_default();
        let labels: Labels = labels.into_iter().take(MAX_LABELS).collect();
        self.index.put_labels(namespace.metadata.name.unwrap_or_default(), Some(labels));
    }

    fn gone(&self, key: &ObjectKey) {
        self.index.put_labels(key.name.clone(), None);
    }

    fn keys(&self) -> Vec<ObjectKey> {
        let state = self.index.lock();
        state.labels.keys().map(|name| ObjectKey::new("", name)).collect()
    }
}

#[cfg(test)]
mod tests;
