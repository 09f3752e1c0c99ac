//! Cache of source objects and of the routes that are attached to them.
//!
//! [`handlers`](super::handlers) fill it. Each change enqueues the source objects that it affects.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::{
    budget::{Budget, Item, Ticket},
    domains::Attachment,
    entry::{Entries, Labels},
    key::{Kind, RouteKey, RouteKind, SourceKey},
    object::{Object, Parent},
    routes::{Problem, Route},
};
use crate::{api::ObjectKey, runtime::queue::Shared};

/// Delay before objects are enqueued that depend on a deleted object. If its kind or API version
/// disappears at the same time, that becomes known only later.
const AFTER_GONE: Duration = Duration::from_secs(5);
/// Maximum number of route problems that are reported in one pass.
const MAX_PROBLEMS_PER_PASS: usize = 20;

/// See the [module](self).
pub struct Index {
    queue: Shared<SourceKey>,
    state: Mutex<State>,
    /// Notified when a waiting item may fit.
    room: Notify,
}

#[derive(Default)]
struct State {
    objects: HashMap<SourceKey, Object>,
    /// ListenerSets, by Gateway.
    children: HashMap<SourceKey, BTreeSet<SourceKey>>,
    routes: HashMap<RouteKey, Route>,
    /// Routes, by parent. Their order determines the order of the names in a certificate.
    attached: HashMap<SourceKey, BTreeSet<RouteKey>>,
    /// Routes with a reported problem.
    reported: HashSet<RouteKey>,
    /// Labels of namespaces.
    labels: HashMap<String, Arc<Labels>>,
    /// Objects that select namespaces by labels.
    selecting: BTreeSet<SourceKey>,
    budget: Budget,
}

/// A source object with everything that determines its certificates.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The object, if it exists.
    pub object: Option<Object>,
    /// The Gateway of a ListenerSet, if it exists.
    pub parent: Option<Object>,
    /// The attached routes.
    pub routes: Vec<Attachment>,
    /// The labels of its namespace, if known.
    pub labels: Option<Arc<Labels>>,
}

impl Index {
    /// An empty index. Affected objects are put into `queue`.
    #[must_use]
    pub fn new(queue: Shared<SourceKey>) -> Self {
        Self { queue, state: Mutex::default(), room: Notify::new() }
    }

    #[cfg(test)]
    pub(super) fn within(self, budget: Budget) -> Self {
        self.lock().budget = budget;
        self
    }

    /// Returns an object with its parent and its routes.
    #[must_use]
    pub fn find(&self, key: &SourceKey) -> Known {
        let state = self.lock();
        let mut object = state.objects.get(key).cloned();
        // Names of routes may be missing, so the Certificates must not change. Waiting routes of other
        // namespaces have no such effect: they lose only their own names.
        if let Some(object) = object.as_mut()
            && key.kind.takes_routes()
            && state.budget.has_waiting_routes(&key.object.namespace)
        {
            object.entries = Entries::NoRoom;
        }
        let parent = object.as_ref().and_then(|object| object.parent.as_ref());
        let parent = parent.and_then(|parent| state.objects.get(&parent.0));
        let routes = state.attached.get(key).into_iter().flatten();
        let routes = routes.filter_map(|route| state.routes.get(route));
        let attached =
            routes.flat_map(|route| route.attachments.iter().filter(|(to, _)| to == key));
        let labelled = |(_, attachment): &(SourceKey, Attachment)| Attachment {
            labels: state.labels.get(&*attachment.namespace).cloned(),
            ..attachment.clone()
        };
        Known {
            parent: parent.cloned(),
            routes: attached.map(labelled).collect(),
            labels: state.labels.get(&key.object.namespace).cloned(),
            object,
        }
    }

    /// Returns new problems of the attached routes, each once until it changes, and at most
    /// [`MAX_PROBLEMS_PER_PASS`].
    pub fn problems(&self, key: &SourceKey) -> Vec<Problem> {
        let mut state = self.lock();
        let routes = state.attached.get(key).into_iter().flatten();
        let unreported = routes.filter(|route| !state.reported.contains(*route));
        let problem = |key: &RouteKey| Some((key.clone(), state.routes.get(key)?.problem(key)?));
        let fresh: Vec<_> = unreported.filter_map(problem).take(MAX_PROBLEMS_PER_PASS).collect();
        let tell = |(key, problem)| {
            state.reported.insert(key);
            problem
        };
        fresh.into_iter().map(tell).collect()
    }

    /// All objects of a kind.
    #[must_use]
    pub fn of_kind(&self, kind: Kind) -> Vec<SourceKey> {
        self.lock().objects.keys().filter(|key| key.kind == kind).cloned().collect()
    }

    /// The objects of a kind that were read in an API version.
    pub(super) fn objects(&self, kind: Kind, version: &str) -> Vec<ObjectKey> {
        let state = self.lock();
        let ours = state.objects.iter().filter(|(_, known)| known.version == version);
        ours.filter(|(key, _)| key.kind == kind).map(|(key, _)| key.object.clone()).collect()
    }

    /// Adds or replaces an object. With a ticket, only if that version still waits.
    pub(super) fn put(&self, key: SourceKey, object: Object, ticket: Option<Ticket>) {
        let mut state = self.lock();
        let item = Item::Object(key.clone());
        if ticket.is_some_and(|ticket| !state.budget.is_waiting(&item, ticket)) {
            return;
        }
        let before = state.objects.get(&key).map_or(0, Object::size);
        let has_room = state.budget.replace(&item, before, object.size());
        let object = if has_room { object } else { object.without_entries() };
        self.notify_room(&state, &item);
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
        state.link_parent(&key, before.and_then(|object| object.parent), false);
        state.link_parent(&key, parent, true);
        let children = state.children_of(&key);
        drop(state);
        self.push(children);
        self.queue.push(key);
    }

    /// Removes an object that was read in this API version. It may have been read in another one since.
    pub(super) fn remove(&self, key: &SourceKey, version: &str) {
        let mut state = self.lock();
        if state.objects.get(key).is_none_or(|known| known.version != version) {
            return;
        }
        let Some(object) = state.objects.remove(key) else { return };
        state.selecting.remove(key);
        let item = Item::Object(key.clone());
        state.budget.remove(&item, object.size());
        self.notify_room(&state, &item);
        state.link_parent(key, object.parent, false);
        let children = state.children_of(key);
        drop(state);
        for key in children {
            self.queue.push_after(key, AFTER_GONE);
        }
        self.queue.push(key.clone());
    }

    /// Replaces the labels of a namespace, and enqueues all objects that select by labels: these are few.
    pub(super) fn put_labels(&self, namespace: String, labels: Option<Labels>) {
        let mut state = self.lock();
        if state.labels.get(&namespace).map(Arc::as_ref) == labels.as_ref() {
            return;
        }
        match labels {
            Some(labels) => state.labels.insert(namespace, Arc::new(labels)),
            None => state.labels.remove(&namespace),
        };
        let affected = state.selecting.clone();
        drop(state);
        self.push(affected);
    }

    /// The namespaces with known labels.
    pub(super) fn namespaces(&self) -> Vec<String> {
        self.lock().labels.keys().cloned().collect()
    }

    #[cfg(test)]
    fn selecting(&self) -> Vec<SourceKey> {
        self.lock().selecting.iter().cloned().collect()
    }

    /// A waiting item that fits and may be read now, with the API version that it was read in.
    pub(super) fn next_waiting(&self) -> Option<(Item, &'static str, Ticket)> {
        let state = self.lock();
        let (item, ticket) = state.budget.next(Instant::now())?;
        let version = match &item {
            Item::Object(key) => state.objects.get(key)?.version,
            Item::Route(key) => state.routes.get(key)?.version,
        };
        Some((item, version, ticket))
    }

    /// Delays an item that could not be read.
    pub(super) fn postpone(&self, item: &Item, ticket: Ticket, delay: Duration) {
        self.lock().budget.postpone(item, ticket, Instant::now() + delay);
    }

    /// Stops waiting for an item that cannot be read.
    pub(super) fn give_up(&self, item: &Item, ticket: Ticket) {
        self.lock().budget.give_up(item, ticket);
    }

    fn notify_room(&self, state: &State, changed: &Item) {
        if state.budget.next_of(changed.namespace(), Instant::now()).is_some() {
            self.room.notify_one();
        }
    }

    /// Waits until a waiting item may fit.
    pub(super) async fn room(&self) {
        self.room.notified().await;
    }

    /// The API version that a route was read in.
    pub(super) fn route_version(&self, key: &RouteKey) -> Option<&'static str> {
        self.lock().routes.get(key).map(|route| route.version)
    }

    /// The routes of a kind that were read in an API version.
    pub(super) fn routes(&self, kind: RouteKind, version: &str) -> Vec<ObjectKey> {
        let state = self.lock();
        let ours = state.routes.iter().filter(|(_, known)| known.version == version);
        ours.filter(|(key, _)| key.0 == kind).map(|(key, _)| key.1.clone()).collect()
    }

    /// Adds, replaces or removes a route. With a ticket, only if that version still waits.
    pub(super) fn put_route(&self, key: RouteKey, route: Option<Route>, ticket: Option<Ticket>) {
        let mut state = self.lock();
        let item = Item::Route(key.clone());
        if ticket.is_some_and(|ticket| !state.budget.is_waiting(&item, ticket)) {
            return;
        }
        let (route, mut affected) = state.fit_route(&item, &key, route);
        self.notify_room(&state, &item);
        let before = match &route {
            Some(route) if state.routes.get(&key) == Some(route) => return,
            _ => state.routes.remove(&key),
        };
        if !route.as_ref().is_some_and(|route| route.has_same_problem(before.as_ref())) {
            state.reported.remove(&key);
        }
        for (parent, _) in before.iter().flat_map(|route| &route.attachments) {
            if let Some(routes) = state.attached.get_mut(parent) {
                routes.remove(&key);
                if routes.is_empty() {
                    state.attached.remove(parent);
                }
            }
            affected.insert(parent.clone());
        }
        let gone = route.is_none();
        if let Some(route) = route {
            for (parent, _) in &route.attachments {
                state.attached.entry(parent.clone()).or_default().insert(key.clone());
                affected.insert(parent.clone());
            }
            state.routes.insert(key, route);
        }
        drop(state);
        if gone {
            affected.into_iter().for_each(|key| self.queue.push_after(key, AFTER_GONE));
        } else {
            self.push(affected);
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
    /// Returns the route, without names if it does not fit, and the objects of the namespace if its last
    /// waiting route fits now.
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
        let has_room_again = waited && !self.budget.has_waiting_routes(namespace);
        let of_namespace = self.objects.keys().filter(|key| key.object.namespace == namespace);
        let affected =
            if has_room_again { of_namespace.cloned().collect() } else { BTreeSet::new() };
        (route, affected)
    }

    fn link_parent(&mut self, key: &SourceKey, parent: Option<Parent>, is_child: bool) {
        let Some(Parent(parent)) = parent else { return };
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
        self.children.get(key).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
