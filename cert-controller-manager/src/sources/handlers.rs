//! Passes the events of watches to the index.

use std::sync::Arc;

use super::{
    convert::keep,
    entry::Labels,
    index::Index,
    key::{Kind, RouteKind, SourceKey},
    object::RawObject,
    routes::Route,
};
use crate::{
    api::{
        ObjectKey,
        source::{Foreign, NamespaceSpec},
    },
    runtime::watch::EventHandler,
};

/// Maximum number of labels of a namespace; the first ones in the order of names are kept.
const MAX_LABELS: usize = 100;

/// Adds the objects of one kind and API version to the index.
pub struct Objects {
    index: Arc<Index>,
    kind: Kind,
    version: &'static str,
}

impl Objects {
    /// A handler for the watch of a kind in an API version.
    #[must_use]
    pub fn new(index: Arc<Index>, kind: Kind, version: &'static str) -> Self {
        Self { index, kind, version }
    }

    fn key(&self, object: ObjectKey) -> SourceKey {
        SourceKey { kind: self.kind, object }
    }
}

impl EventHandler<(ObjectKey, RawObject)> for Objects {
    fn applied(&self, (key, object): (ObjectKey, RawObject)) {
        self.index.put(self.key(key), keep(self.kind, object), None);
    }

    fn gone(&self, key: &ObjectKey) {
        self.index.remove(&self.key(key.clone()), self.version);
    }

    fn keys(&self) -> Vec<ObjectKey> {
        self.index.objects(self.kind, self.version)
    }
}

/// Adds the routes of one kind and API version to the index.
pub struct Routes {
    index: Arc<Index>,
    kind: RouteKind,
    version: &'static str,
}

impl Routes {
    /// A handler for the watch of a kind in an API version.
    #[must_use]
    pub fn new(index: Arc<Index>, kind: RouteKind, version: &'static str) -> Self {
        Self { index, kind, version }
    }
}

impl EventHandler<(ObjectKey, Route)> for Routes {
    fn applied(&self, (key, route): (ObjectKey, Route)) {
        self.index.put_route((self.kind, key), Some(route), None);
    }

    fn gone(&self, key: &ObjectKey) {
        let key = (self.kind, key.clone());
        if self.index.route_version(&key) == Some(self.version) {
            self.index.put_route(key, None, None);
        }
    }

    fn keys(&self) -> Vec<ObjectKey> {
        self.index.routes(self.kind, self.version)
    }
}

/// Adds the labels of namespaces to the index.
pub struct Namespaces {
    index: Arc<Index>,
}

impl Namespaces {
    /// A handler for the watch of namespaces.
    #[must_use]
    pub fn new(index: Arc<Index>) -> Self {
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
        self.index.namespaces().iter().map(|name| ObjectKey::new("", name)).collect()
    }
}

#[cfg(test)]
pub mod fixtures {
    //! Handlers for objects as the API server sends them.

    use super::*;
    use crate::sources::{
        kinds::ROUTES,
        object::{Object, Source},
        reader::Converted,
        routes::Attached,
    };

    /// The kind with this specification.
    pub fn kind<S: Source>() -> Kind {
        Kind::find(S::NAME.group, S::NAME.kind).unwrap()
    }

    /// An object as the index keeps it.
    pub fn kept<S: Source>(object: Foreign<S>, version: &'static str) -> (SourceKey, Object) {
        let key = SourceKey { kind: kind::<S>(), object: ObjectKey::of(&object) };
        (key, keep(kind::<S>(), RawObject::of(object, version)))
    }

    /// A handler for source objects.
    pub fn objects<S: Source>(
        index: &Arc<Index>,
        version: &'static str,
    ) -> impl EventHandler<Foreign<S>> + use<S> {
        let handler = Arc::new(Objects::new(index.clone(), kind::<S>(), version));
        Converted { handler, convert: RawObject::of::<S>, version }
    }

    /// A handler for routes.
    pub fn routes<S: Attached>(
        index: &Arc<Index>,
        version: &'static str,
    ) -> impl EventHandler<Foreign<S>> + use<S> {
        let row = ROUTES.iter().find(|row| row.objects.name == S::NAME).unwrap();
        let handler = Arc::new(Routes::new(index.clone(), row.kind, version));
        Converted { handler, convert: |object, version| Route::of(&object, version), version }
    }
}
