//! The objects of one kind that a controller reads and writes: those of an API server, or in memory in
//! unit tests of a pass.

use std::{fmt::Debug, sync::Arc};

use async_trait::async_trait;
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, ListParams, ObjectList, Patch, PatchParams, PostParams},
    core::{NamespaceResourceScope, PartialObjectMeta},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// The objects in one namespace. The methods are those of [`Api`].
#[async_trait]
pub trait Store<K: Clone>: Send + Sync {
    /// Reads an object, if it exists.
    async fn get_opt(&self, name: &str) -> kube::Result<Option<K>>;

    /// Reads the metadata of an object, if it exists.
    async fn get_metadata_opt(&self, name: &str) -> kube::Result<Option<PartialObjectMeta<K>>>;

    /// Lists the metadata of objects.
    async fn list_metadata(
        &self,
        params: &ListParams,
    ) -> kube::Result<ObjectList<PartialObjectMeta<K>>>;

    /// Lists objects.
    async fn list(&self, params: &ListParams) -> kube::Result<ObjectList<K>>;

    /// Creates an object.
    async fn create(&self, object: &K) -> kube::Result<K>;

    /// Changes an object.
    async fn patch(
        &self,
        name: &str,
        params: &PatchParams,
        patch: &Patch<Value>,
    ) -> kube::Result<K>;

    /// Changes the status of an object.
    async fn patch_status(&self, name: &str, patch: &Patch<Value>) -> kube::Result<K>;

    /// Deletes an object.
    async fn delete(&self, name: &str, params: &DeleteParams) -> kube::Result<()>;
}

#[async_trait]
impl<K> Store<K> for Api<K>
where
    K: Resource + Clone + DeserializeOwned + Serialize + Debug + Send + Sync + 'static,
{
    async fn get_opt(&self, name: &str) -> kube::Result<Option<K>> {
        Self::get_opt(self, name).await
    }

    async fn get_metadata_opt(&self, name: &str) -> kube::Result<Option<PartialObjectMeta<K>>> {
        Self::get_metadata_opt(self, name).await
    }

    async fn list_metadata(
        &self,
        params: &ListParams,
    ) -> kube::Result<ObjectList<PartialObjectMeta<K>>> {
        Self::list_metadata(self, params).await
    }

    async fn list(&self, params: &ListParams) -> kube::Result<ObjectList<K>> {
        Self::list(self, params).await
    }

    async fn create(&self, object: &K) -> kube::Result<K> {
        Self::create(self, &PostParams::default(), object).await
    }

    async fn patch(
        &self,
        name: &str,
        params: &PatchParams,
        patch: &Patch<Value>,
    ) -> kube::Result<K> {
        Self::patch(self, name, params, patch).await
    }

    async fn patch_status(&self, name: &str, patch: &Patch<Value>) -> kube::Result<K> {
        Self::patch_status(self, name, &PatchParams::default(), patch).await
    }

    async fn delete(&self, name: &str, params: &DeleteParams) -> kube::Result<()> {
        Self::delete(self, name, params).await.map(drop)
    }
}

/// The objects of one kind in all namespaces of a cluster.
pub struct Stores<K: Clone>(Arc<AtNamespace<K>>);

type AtNamespace<K> = dyn Fn(&str) -> Arc<dyn Store<K>> + Send + Sync;

impl<K: Clone> Clone for Stores<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Clone> Stores<K> {
    /// The stores that `at` returns for each namespace.
    #[must_use]
    pub fn new(at: impl Fn(&str) -> Arc<dyn Store<K>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(at))
    }

    /// The objects in `namespace`.
    #[must_use]
    pub fn at(&self, namespace: &str) -> Arc<dyn Store<K>> {
        (self.0)(namespace)
    }
}

impl<K> Stores<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + Serialize
        + Debug
        + Send
        + Sync
        + 'static,
{
    /// Those of an API server.
    #[must_use]
    pub fn of(client: Client) -> Self {
        Self::new(move |namespace| Arc::new(Api::<K>::namespaced(client.clone(), namespace)))
    }
}

/// A server-side apply of an object.
///
/// # Errors
/// The object cannot be serialized.
pub fn apply<K: Serialize>(object: &K) -> kube::Result<Patch<Value>> {
    Ok(Patch::Apply(serde_json::to_value(object).map_err(kube::Error::SerdeError)?))
}
