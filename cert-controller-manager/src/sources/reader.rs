//! Watches and reads the objects of a kind, whatever their type. The handlers get converted objects.

use std::{convert::Infallible, sync::Arc};

use futures::{FutureExt, future::BoxFuture};
use kube::{
    Client, Resource,
    api::{ListParams, ObjectList, Request},
};

use super::{
    object::{RawObject, Source},
    routes::{Attached, Route},
    version_watch::VersionWatch,
};
use crate::{
    api::{
        ObjectKey,
        source::{Foreign, KindName, Shape, Version},
    },
    runtime::watch::EventHandler,
};

/// Handles converted objects with their keys.
pub type Handler<T> = Arc<dyn EventHandler<(ObjectKey, T)> + Send + Sync>;

/// The object, if it exists.
pub type Found<T> = kube::Result<Option<T>>;

/// The functions of one kind, whose objects are converted to `T`.
pub struct Reader<T: 'static> {
    /// Group, kind, plural and versions.
    pub name: KindName,
    /// Watches one API version.
    pub watch: fn(VersionWatch, Client, Handler<T>) -> BoxFuture<'static, Infallible>,
    /// Reads one object in an API version.
    pub read: fn(Client, ObjectKey, &'static str) -> BoxFuture<'static, Found<T>>,
}

impl Reader<RawObject> {
    /// The functions of a source kind.
    #[must_use]
    pub const fn objects<S: Source>() -> Self {
        Self {
            name: S::NAME,
            watch: |watch, client, handler| run(watch, client, handler, RawObject::of::<S>),
            read: |client, key, version| read(client, key, version, RawObject::of::<S>).boxed(),
        }
    }
}

impl Reader<Route> {
    /// The functions of a kind of routes.
    #[must_use]
    pub const fn routes<S: Attached>() -> Self {
        Self {
            name: S::NAME,
            watch: |watch, client, handler| {
                run::<S, _>(watch, client, handler, |object, version| Route::of(&object, version))
            },
            read: |client, key, version| {
                read::<S, _>(client, key, version, |object, version| Route::of(&object, version))
                    .boxed()
            },
        }
    }
}

/// Converts an object that was read in an API version.
type Convert<S, T> = fn(Foreign<S>, &'static str) -> T;

/// Converts objects for a handler.
pub(super) struct Converted<S, T> {
    pub(super) handler: Handler<T>,
    pub(super) convert: Convert<S, T>,
    pub(super) version: &'static str,
}

impl<S: Shape, T> EventHandler<Foreign<S>> for Converted<S, T> {
    fn applied(&self, object: Foreign<S>) {
        let key = ObjectKey::of(&object);
        self.handler.applied((key, (self.convert)(object, self.version)));
    }

    fn gone(&self, key: &ObjectKey) {
        self.handler.gone(key);
    }

    fn keys(&self) -> Vec<ObjectKey> {
        self.handler.keys()
    }
}

fn run<S: Shape, T: 'static>(
    watch: VersionWatch,
    client: Client,
    handler: Handler<T>,
    convert: Convert<S, T>,
) -> BoxFuture<'static, Infallible> {
    let version = watch.version;
    watch.run(client, Converted { handler, convert, version }).boxed()
}

/// Uses a list request with a field selector, because our role does not allow `get` for all kinds.
async fn read<S: Shape, T>(
    client: Client,
    key: ObjectKey,
    version: &'static str,
    convert: Convert<S, T>,
) -> Found<T> {
    let url = Foreign::<S>::url_path(&Version(version), Some(&key.namespace));
    let one = ListParams::default().fields(&format!("metadata.name={}", key.name));
    let request = Request::new(url).list(&one).map_err(kube::Error::BuildRequest)?;
    let mut found: ObjectList<Foreign<S>> = client.request(request).await?;
    Ok(found.items.pop().map(|object| convert(object, version)))
}
