//! Writes the status of our objects: certificates, issuers and revocations.
//!
//! Only changed fields are written, and nothing in the steady state. A status has one writer, so writes
//! need no version of the object; the uid keeps them off an object of the same name that was created
//! since. Not here: what the status contains, and the events about it.

use kube::{Resource, ResourceExt, api::Patch};
use serde::Serialize;
use serde_json::{Value, json};

use super::{merge::difference, store::Store};

/// Changes the status of `object` from `current` to `desired`. Returns the written object, or `None` if
/// nothing has changed or the object does not exist any more, which its watch reports.
///
/// # Errors
/// The status cannot be written.
pub async fn publish<K: Resource + Clone, S: Serialize>(
    store: &dyn Store<K>,
    object: &K,
    current: Option<&S>,
    desired: &S,
) -> kube::Result<Option<K>> {
    let Some(status) = difference(&json!(current), &json!(desired)) else { return Ok(None) };
    match write(store, &object.name_any(), object.uid(), status).await {
        Ok(written) => Ok(Some(written)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes these fields of the status of an object, which must have the `uid` if one is given.
///
/// # Errors
/// The status cannot be written, for example because the object does not exist.
pub async fn write<K: Clone>(
    store: &dyn Store<K>,
    name: &str,
    uid: Option<String>,
    status: Value,
) -> kube::Result<K> {
    let mut patch = json!({ "status": status });
    if let Some(uid) = uid {
        patch["metadata"] = json!({ "uid": uid });
    }
    store.patch_status(name, &Patch::Merge(patch)).await
}
