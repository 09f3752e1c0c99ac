//! Source objects of other APIs, with the fields that we read.
//!
//! A decoding error would affect the whole list. Therefore all fields have defaults, and values of
//! unexpected types are treated as absent. Never replace an object with a value of these types: use
//! patches.

use std::{
    borrow::Cow,
    fmt::{self, Debug},
    marker::PhantomData,
};

use k8s_openapi::{NamespaceResourceScope, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::Resource;
use serde::{
    Deserialize, Deserializer,
    de::{
        DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer,
    },
};
use serde_json::Value;

/// Group, versions, kind and plural of a resource.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KindName {
    /// API group, empty for the core group.
    pub group: &'static str,
    /// Supported versions, the preferred one first.
    pub versions: &'static [&'static str],
    /// Kind
    pub kind: &'static str,
    /// Plural, as in URLs.
    pub plural: &'static str,
}

/// `Ingress`
pub const INGRESS: KindName = KindName {
    group: "networking.k8s.io",
    versions: &["v1"],
    kind: "Ingress",
    plural: "ingresses",
};
/// `Service`
pub const SERVICE: KindName =
    KindName { group: "", versions: &["v1"], kind: "Service", plural: "services" };

/// `Namespace`
pub const NAMESPACE: KindName =
    KindName { group: "", versions: &["v1"], kind: "Namespace", plural: "namespaces" };

/// The specification of a kind, with the fields that we read.
pub trait Shape: Clone + Debug + Default + DeserializeOwned + Send + Sync + 'static {
    /// The kind.
    const NAME: KindName;
}

/// Treats scalar values as absent.
macro_rules! absent {
    ($value:expr) => {
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
            Ok($value)
        }
    };
}

/// An object of another API.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(bound(deserialize = "S: DeserializeOwned + Default"))]
pub struct Foreign<S> {
    /// Metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// Specification.
    #[serde(default, deserialize_with = "tolerant_fields")]
    pub spec: S,
}

/// The API version of requests; empty for the preferred one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Version(pub &'static str);

impl<S: Shape> Resource for Foreign<S> {
    type DynamicType = Version;
    type Scope = NamespaceResourceScope;

    fn kind(_: &Version) -> Cow<'_, str> {
        S::NAME.kind.into()
    }

    fn group(_: &Version) -> Cow<'_, str> {
        S::NAME.group.into()
    }

    fn version(version: &Version) -> Cow<'_, str> {
        let preferred = S::NAME.versions.first().copied().unwrap_or_default();
        if version.0.is_empty() { preferred.into() } else { version.0.into() }
    }

    fn plural(_: &Version) -> Cow<'_, str> {
        S::NAME.plural.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Decodes a value, or returns the default if it has another type.
///
/// # Errors
/// Only for invalid JSON.
pub fn tolerant<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned + Default,
{
    let value = Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

/// Decodes a structure, or returns the default if the value has another type. Does not copy the whole
/// value.
///
/// # Errors
/// For invalid JSON and duplicate fields.
pub fn tolerant_fields<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    struct Fields<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de> + Default> Visitor<'de> for Fields<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("anything")
        }

        fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(fields))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<T, A::Error> {
            while items.next_element::<IgnoredAny>()?.is_some() {}
            Ok(T::default())
        }

        absent!(T::default());
    }

    deserializer.deserialize_any(Fields(PhantomData))
}

/// Decodes at most [`MAX_ITEMS`] elements of a list, and skips elements of other types. Does not copy
/// the whole list.
///
/// # Errors
/// Only for invalid JSON.
pub fn tolerant_list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    struct Items<T>(PhantomData<T>);

    impl<'de, T: DeserializeOwned> Visitor<'de> for Items<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("anything")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
            let mut read = Vec::new();
            while read.len() < MAX_ITEMS
                && let Some(item) = items.next_element::<Value>()?
            {
                read.extend(serde_json::from_value::<T>(item).ok());
            }
            while items.next_element::<IgnoredAny>()?.is_some() {}
            Ok(read)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Vec<T>, A::Error> {
            while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok(Vec::new())
        }

        absent!(Vec::new());
    }

    deserializer.deserialize_any(Items(PhantomData))
}

/// Maximum number of decoded elements: one above the limit, so that a longer list is noticed.
const MAX_ITEMS: usize = 1_001;

/// `spec` of an Ingress.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct IngressSpec {
    /// TLS entries.
    #[serde(default, deserialize_with = "tolerant_list")]
    pub tls: Vec<IngressTls>,
}

/// A TLS entry.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IngressTls {
    /// Host names.
    #[serde(default, deserialize_with = "tolerant_list")]
    pub hosts: Vec<String>,
    /// Name of the Secret, in the namespace of the Ingress.
    #[serde(default, deserialize_with = "tolerant")]
    pub secret_name: String,
}

impl Shape for IngressSpec {
    const NAME: KindName = INGRESS;
}

/// `spec` of a Service.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ServiceSpec {
    /// `type`; only `LoadBalancer` gets certificates.
    #[serde(default, rename = "type", deserialize_with = "tolerant")]
    pub kind: String,
}

impl Shape for ServiceSpec {
    const NAME: KindName = SERVICE;
}

/// `spec` of a Namespace, which is not read.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct NamespaceSpec {}

impl Shape for NamespaceSpec {
    const NAME: KindName = NAMESPACE;
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "literals of JSON read better so")]
    fn hosts(spec: Value) -> Vec<(String, Vec<String>)> {
        let object = json!({ "apiVersion": "v1", "kind": "Ingress", "metadata": {"name": "a"}, "spec": spec });
        let text = object.to_string();
        let of_value: Foreign<IngressSpec> = serde_json::from_value(object).unwrap();
        let object: Foreign<IngressSpec> = serde_json::from_str(&text).unwrap();
        assert_eq!(format!("{of_value:?}"), format!("{object:?}"));
        object.spec.tls.into_iter().map(|tls| (tls.secret_name, tls.hosts)).collect()
    }

    #[test]
    fn values_of_unexpected_types_are_treated_as_absent() {
        let nothing: Vec<(String, Vec<String>)> = Vec::new();
        for spec in [
            json!(null),
            json!(true),
            json!(7),
            json!(-7),
            json!(0.5),
            json!("x"),
            json!([{"tls": []}]),
            json!({}),
            json!({"tls": "x"}),
            json!({"tls": null}),
            json!({"tls": -1}),
            json!({"tls": {"a": [1]}, "more": {"b": 1}}),
            json!({"tls": [1]}),
        ] {
            assert_eq!(hosts(spec), nothing);
        }
        let mixed = json!({"tls": [{"hosts": ["a", 1], "secretName": {}}, {"hosts": {}}, "x"]});
        let empty = String::new;
        assert_eq!(hosts(mixed), [(empty(), vec!["a".to_owned()]), (empty(), vec![])]);
        let many: Vec<String> = (0..5_000).map(|i| i.to_string()).collect();
        assert_eq!(hosts(json!({"tls": [{"hosts": many}]}))[0].1.len(), MAX_ITEMS);
    }

    #[test]
    fn the_url_has_the_requested_version() {
        type Ingress = Foreign<IngressSpec>;
        let url = |version| Ingress::url_path(&Version(version), Some("ns"));
        assert_eq!(url(""), "/apis/networking.k8s.io/v1/namespaces/ns/ingresses");
        assert_eq!(url("v1beta1"), "/apis/networking.k8s.io/v1beta1/namespaces/ns/ingresses");
        let services = Foreign::<ServiceSpec>::url_path(&Version::default(), None);
        assert_eq!(services, "/api/v1/services");
    }
}
