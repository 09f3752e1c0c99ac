//! Tolerant decoding of objects. The API server accepts values that our types refuse, like dates in the
//! year 9999 or base64 with trailing bits. Such an object must not make the whole list unreadable, or a
//! tenant could block the manager.

use std::{borrow::Cow, fmt};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, core::DynamicResourceScope};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::{Map, Value};

/// An object, or the error of its decoding.
#[derive(Clone)]
pub(super) struct Tolerant<K> {
    /// Namespace, name, uid and resource version only.
    pub(super) metadata: ObjectMeta,
    pub(super) object: Result<K, String>,
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Tolerant<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut value = Value::deserialize(deserializer)?;
        let metadata = value.get_mut("metadata").and_then(Value::as_object_mut);
        let metadata = metadata.map(strip).unwrap_or_default();
        let object = serde_json::from_value(value).map_err(|error| error.to_string());
        Ok(Self { metadata, object })
    }
}

/// Removes managed fields and the last applied configuration of kubectl, which are not used. Returns
/// the identifying metadata.
fn strip(metadata: &mut Map<String, Value>) -> ObjectMeta {
    metadata.remove("managedFields");
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    let text = |field: &str| metadata.get(field).and_then(Value::as_str).map(str::to_owned);
    ObjectMeta {
        namespace: text("namespace"),
        name: text("name"),
        uid: text("uid"),
        resource_version: text("resourceVersion"),
        ..ObjectMeta::default()
    }
}

impl<K> fmt::Debug for Tolerant<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tolerant").field(&self.metadata.name).finish()
    }
}

impl<K: Resource> Resource for Tolerant<K> {
    type DynamicType = K::DynamicType;
    type Scope = DynamicResourceScope;

    fn kind(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Secret;
    use kube::ResourceExt;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_undecodable_object_keeps_its_name_and_unused_fields_do_no_harm() {
        let secret = |data: Value, time: &str| -> Tolerant<Secret> {
            serde_json::from_value(json!({
                "metadata": {
                    "namespace": "ns", "name": "a", "resourceVersion": "7",
                    "managedFields": [{ "manager": "m", "time": time }],
                    "annotations": { "kubectl.kubernetes.io/last-applied-configuration": "{}" },
                },
                "data": data,
            }))
            .unwrap()
        };
        let good = secret(json!({ "k": "dg==" }), "9999-12-31T23:59:59Z");
        let object = good.object.unwrap();
        assert_eq!((object.name_any().as_str(), object.annotations().len()), ("a", 0));
        let bad = secret(json!({ "k": "QR==" }), "2026-01-01T00:00:00Z");
        assert!(bad.object.is_err());
        let meta = bad.meta();
        assert_eq!(
            (meta.namespace.as_deref(), meta.name.as_deref(), meta.resource_version.as_deref()),
            (Some("ns"), Some("a"), Some("7"))
        );
    }
}
