//! A cluster in memory, whose writes can fail.

use std::{
    collections::BTreeMap,
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
};

use async_trait::async_trait;
use kube::{
    api::{DeleteParams, ListParams, ObjectList, Patch, PatchParams},
    core::{PartialObjectMeta, Status, response::StatusSummary},
};
use parking_lot::Mutex;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    api::ObjectKey,
    runtime::{
        fence::NotLeading,
        store::{Store, Stores},
    },
};

/// How writes fail.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Failure {
    /// The cluster does not answer, for this number of writes.
    Away(usize),
    /// The cluster refuses this number of writes.
    Refused(usize),
    /// The process ends before the write.
    KilledBefore,
    /// The process ends after the write.
    KilledAfter,
    /// The process no longer leads.
    NotLeading,
}

/// The writes to all clusters.
#[derive(Default)]
pub(super) struct Writes {
    count: AtomicUsize,
    failure: Mutex<Option<(usize, Failure)>>,
    failed: AtomicBool,
    /// Whether the process has ended.
    pub(super) is_dead: Mutex<bool>,
    /// What was written, for messages.
    pub(super) log: Mutex<Vec<String>>,
}

impl Writes {
    /// Lets the write with this number fail, counted from one.
    pub(super) fn fail(&self, number: usize, failure: Failure) {
        *self.failure.lock() = Some((number, failure));
    }

    pub(super) fn count(&self) -> usize {
        self.count.load(SeqCst)
    }

    /// Counts a write. Returns whether it fails after it is done.
    fn write(&self, what: String) -> kube::Result<bool> {
        if *self.is_dead.lock() {
            return Err(away());
        }
        let number = self.count.fetch_add(1, SeqCst) + 1;
        self.log.lock().push(what);
        let Some((from, failure)) = *self.failure.lock() else { return Ok(false) };
        let fails = |times: usize| number >= from && number < from + times;
        self.failed.fetch_or(number >= from, SeqCst);
        match failure {
            Failure::Away(times) if fails(times) => Err(away()),
            Failure::Refused(times) if fails(times) => Err(refused(403)),
            Failure::NotLeading if number >= from => {
                *self.is_dead.lock() = true;
                Err(kube::Error::Service(Box::new(NotLeading)))
            }
            Failure::KilledBefore if number == from => {
                *self.is_dead.lock() = true;
                Err(away())
            }
            Failure::KilledAfter if number == from => Ok(true),
            _ => Ok(false),
        }
    }

    fn after(&self, is_last: bool) -> kube::Result<()> {
        if !is_last {
            return Ok(());
        }
        *self.is_dead.lock() = true;
        Err(away())
    }

    /// A new process starts, after the failure that ended the previous one.
    pub(super) fn restart(&self) {
        if std::mem::take(&mut *self.is_dead.lock()) {
            *self.failure.lock() = None;
        }
    }

    /// Whether the failure has happened.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(SeqCst)
    }
}

fn away() -> kube::Error {
    kube::Error::Service("the cluster does not answer".into())
}

fn refused(code: u16) -> kube::Error {
    let reason = if code == 404 { "NotFound" } else { "Forbidden" };
    kube::Error::Api(Box::new(Status {
        status: Some(StatusSummary::Failure),
        code,
        reason: reason.to_owned(),
        message: format!("{reason} by the test"),
        ..Status::default()
    }))
}

/// The objects of one kind.
pub(super) struct Objects<K> {
    objects: Arc<Mutex<BTreeMap<(String, String), Value>>>,
    writes: Arc<Writes>,
    kind: PhantomData<K>,
}

impl<K> Clone for Objects<K> {
    fn clone(&self) -> Self {
        Self { objects: self.objects.clone(), writes: self.writes.clone(), kind: PhantomData }
    }
}

impl<K> Objects<K>
where
    K: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    pub(super) fn new(writes: Arc<Writes>) -> Self {
        Self { objects: Arc::default(), writes, kind: PhantomData }
    }

    pub(super) fn stores(&self) -> Stores<K> {
        let all = self.clone();
        Stores::new(move |namespace| {
            Arc::new(InNamespace { all: all.clone(), namespace: namespace.to_owned() })
        })
    }

    /// Adds an object, as a user does.
    pub(super) fn add(&self, object: &Value) {
        let key = key_of(object);
        self.objects.lock().insert(key, object.clone());
    }

    /// Removes an object, as a user does.
    pub(super) fn remove(&self, key: &ObjectKey) {
        self.objects.lock().remove(&(key.namespace.clone(), key.name.clone()));
    }

    pub(super) fn all(&self) -> Vec<K> {
        self.objects.lock().values().map(|object| decode(object.clone())).collect()
    }

    pub(super) fn get(&self, key: &ObjectKey) -> Option<K> {
        let objects = self.objects.lock();
        objects.get(&(key.namespace.clone(), key.name.clone())).cloned().map(decode)
    }
}

fn key_of(object: &Value) -> (String, String) {
    let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}

fn decode<T: DeserializeOwned>(object: Value) -> T {
    serde_json::from_value(object).unwrap()
}

struct InNamespace<K> {
    all: Objects<K>,
    namespace: String,
}

impl<K> InNamespace<K>
where
    K: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    fn read(&self, name: &str) -> Option<Value> {
        self.all.objects.lock().get(&(self.namespace.clone(), name.to_owned())).cloned()
    }

    fn write(&self, name: &str, patch: &Patch<Value>, is_status: bool) -> kube::Result<K> {
        let is_last =
            self.all.writes.write(format!("{}/{name} status: {is_status}", self.namespace))?;
        let key = (self.namespace.clone(), name.to_owned());
        let mut objects = self.all.objects.lock();
        let (patch, is_apply) = match patch {
            Patch::Merge(patch) => (patch, false),
            Patch::Apply(patch) => (patch, true),
            _ => panic!("the controller merges and applies"),
        };
        let before = objects.get(&key).cloned();
        let mut object = match (before, is_apply) {
            (Some(object), _) => object,
            (None, true) => json!({"metadata": {"namespace": self.namespace, "uid": "made"}}),
            (None, false) => return Err(refused(404)),
        };
        for precondition in ["uid", "resourceVersion"] {
            let wanted = &patch["metadata"][precondition];
            if !wanted.is_null() && *wanted != object["metadata"][precondition] {
                return Err(refused(409));
            }
        }
        let spec = object["spec"].clone();
        merge(&mut object, patch);
        let metadata = &mut object["metadata"];
        let version = self.all.writes.count() + 1_000;
        metadata["resourceVersion"] = json!(version.to_string());
        if spec != object["spec"] {
            let generation = object["metadata"]["generation"].as_i64().unwrap_or_default();
            object["metadata"]["generation"] = json!(generation + 1);
        }
        objects.insert(key, object.clone());
        drop(objects);
        self.all.writes.after(is_last)?;
        Ok(decode(object))
    }
}

/// RFC 7386.
fn merge(object: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        object.clone_from(patch);
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (name, change) in changes {
        match (object.as_object_mut(), change) {
            (Some(fields), Value::Null) => drop(fields.remove(name)),
            (Some(fields), change) => merge(fields.entry(name).or_insert(Value::Null), change),
            (None, _) => {}
        }
    }
}

#[async_trait]
impl<K> Store<K> for InNamespace<K>
where
    K: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    async fn get_opt(&self, name: &str) -> kube::Result<Option<K>> {
        Ok(self.read(name).map(decode))
    }

    async fn get_metadata_opt(&self, name: &str) -> kube::Result<Option<PartialObjectMeta<K>>> {
        Ok(self.read(name).map(|object| decode(json!({"metadata": object["metadata"]}))))
    }

    async fn list_metadata(
        &self,
        _: &ListParams,
    ) -> kube::Result<ObjectList<PartialObjectMeta<K>>> {
        Ok(decode(json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": []})))
    }

    async fn list(&self, _: &ListParams) -> kube::Result<ObjectList<K>> {
        let objects = self.all.objects.lock();
        let here = objects.iter().filter(|((namespace, _), _)| *namespace == self.namespace);
        let items: Vec<Value> = here.map(|(_, object)| object.clone()).collect();
        Ok(decode(json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items})))
    }

    async fn create(&self, object: &K) -> kube::Result<K> {
        let value = serde_json::to_value(object).unwrap();
        let name = key_of(&value).1;
        self.write(&name, &Patch::Apply(value), false)
    }

    async fn patch(&self, name: &str, _: &PatchParams, patch: &Patch<Value>) -> kube::Result<K> {
        self.write(name, patch, false)
    }

    async fn patch_status(&self, name: &str, patch: &Patch<Value>) -> kube::Result<K> {
        self.write(name, patch, true)
    }

    async fn delete(&self, name: &str, _: &DeleteParams) -> kube::Result<()> {
        let is_last = self.all.writes.write(format!("delete {}/{name}", self.namespace))?;
        let key = (self.namespace.clone(), name.to_owned());
        let found = self.all.objects.lock().remove(&key);
        self.all.writes.after(is_last)?;
        found.map(drop).ok_or_else(|| refused(404))
    }
}
