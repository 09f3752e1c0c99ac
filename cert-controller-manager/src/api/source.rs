//! Foreign objects that ask for certificates: the fields that we read, and nothing else.
//!
//! Others write them, and one object that cannot be read would stop the watch of all. So everything
//! has a default, and what has another type than expected is taken as absent. A value of these types
//! never replaces an object: write by patches.

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

/// What a foreign kind is called.
#[derive(Debug, Eq, PartialEq)]
pub struct KindName {
    /// API group, empty for the core group.
    pub group: &'static str,
    /// Versions that we read, the preferred one first.
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

/// The fields that we read of the specification of a kind.
pub trait Shape: Clone + Debug + Default + DeserializeOwned + Send + Sync + 'static {
    /// The kind.
    const NAME: KindName;
}

/// What is neither a list nor a structure is taken as absent.
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

/// A foreign object.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(bound(deserialize = "S: DeserializeOwned + Default"))]
pub struct Foreign<S> {
    /// Name, annotations and so on.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What is read of the specification.
    #[serde(default, deserialize_with = "lenient_fields")]
    pub spec: S,
}

/// The version of the API that is spoken; empty for the preferred one.
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

/// Reads a value; the default where it is of another type.
///
/// # Errors
/// Only when the text is no JSON at all.
pub fn lenient<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned + Default,
{
    let value = Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

/// Reads a structure field by field, so that a large one is in memory once; the default where the
/// value is of another type.
///
/// # Errors
/// When the text is no JSON, or has a field twice.
pub fn lenient_fields<'de, D, T>(deserializer: D) -> Result<T, D::Error>
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

/// Reads a list without the elements of another type, and of endless lists only the beginning. One
/// element after the other, so that a long list is in memory once.
///
/// # Errors
/// Only when the text is no JSON at all.
pub fn lenient_list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
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

/// How much of a list is read: one more than is looked at, so that more are noticed.
const MAX_ITEMS: usize = 1_001;

/// `spec` of an Ingress.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct IngressSpec {
    /// Secrets, and the hosts that they are for.
    #[serde(default, deserialize_with = "lenient_list")]
    pub tls: Vec<IngressTls>,
}

/// A Secret, and the hosts that it is for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IngressTls {
    /// Names to be certified.
    #[serde(default, deserialize_with = "lenient_list")]
    pub hosts: Vec<String>,
    /// Name of the Secret, in the namespace of the Ingress.
    #[serde(default, deserialize_with = "lenient")]
    pub secret_name: String,
}

impl Shape for IngressSpec {
    const NAME: KindName = INGRESS;
}

/// `spec` of a Service.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ServiceSpec {
    /// Only `LoadBalancer` gets certificates.
    #[serde(default, rename = "type", deserialize_with = "lenient")]
    pub kind: String,
}

impl Shape for ServiceSpec {
    const NAME: KindName = SERVICE;
}

/// `spec` of a Namespace, of which nothing is read.
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
    fn an_object_of_any_shape_is_read_and_what_has_a_wrong_type_is_absent() {
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
    fn a_kind_is_spoken_to_in_the_version_that_is_asked_for() {
        type Ingress = Foreign<IngressSpec>;
        let url = |version| Ingress::url_path(&Version(version), Some("ns"));
        assert_eq!(url(""), "/apis/networking.k8s.io/v1/namespaces/ns/ingresses");
        assert_eq!(url("v1beta1"), "/apis/networking.k8s.io/v1beta1/namespaces/ns/ingresses");
        let services = Foreign::<ServiceSpec>::url_path(&Version::default(), None);
        assert_eq!(services, "/api/v1/services");
    }
}
