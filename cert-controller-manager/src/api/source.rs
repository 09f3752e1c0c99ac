//! Foreign objects that ask for certificates: the fields that we read, and nothing else.
//!
//! Others write them, and one object that cannot be read would stop the watch of all. So everything
//! has a default, and what has another type than expected is taken as absent. A value of these types
//! never replaces an object: write by patches.

use std::{borrow::Cow, fmt::Debug};

use k8s_openapi::{NamespaceResourceScope, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::Resource;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};

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

/// The fields that we read of the specification of a kind.
pub trait Shape: Clone + Debug + Default + DeserializeOwned + Send + Sync + 'static {
    /// The kind.
    const NAME: KindName;
}

/// A foreign object.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(bound(deserialize = "S: DeserializeOwned + Default"))]
pub struct Foreign<S> {
    /// Name, annotations and so on.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What is read of the specification.
    #[serde(default, deserialize_with = "lenient")]
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
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

/// Reads a list without the elements of another type, and of endless lists only the beginning.
///
/// # Errors
/// Only when the text is no JSON at all.
pub fn lenient_list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let serde_json::Value::Array(items) = serde_json::Value::deserialize(deserializer)? else {
        return Ok(Vec::new());
    };
    let items = items.into_iter().take(MAX_ITEMS);
    Ok(items.filter_map(|item| serde_json::from_value(item).ok()).collect())
}

/// How much of a list is read.
const MAX_ITEMS: usize = 1_000;

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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "literals of JSON read better so")]
    fn hosts(spec: Value) -> Vec<(String, Vec<String>)> {
        let object = json!({ "apiVersion": "v1", "kind": "Ingress", "metadata": {"name": "a"}, "spec": spec });
        let object: Foreign<IngressSpec> = serde_json::from_value(object).unwrap();
        object.spec.tls.into_iter().map(|tls| (tls.secret_name, tls.hosts)).collect()
    }

    #[test]
    fn an_object_of_any_shape_is_read_and_what_has_a_wrong_type_is_absent() {
        let nothing: Vec<(String, Vec<String>)> = Vec::new();
        for spec in [json!(null), json!(7), json!({}), json!({"tls": "x"}), json!({"tls": [1]})] {
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
