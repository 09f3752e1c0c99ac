//! Resources of the Gateway API, with the fields that we read. See [`source`](super::source).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Deserialize;

use super::source::{KindName, Shape, tolerant, tolerant_list};

/// The group of all kinds but `XListenerSet`.
pub const GROUP: &str = "gateway.networking.k8s.io";
/// The group of experimental kinds.
pub const EXPERIMENTAL_GROUP: &str = "gateway.networking.x-k8s.io";

/// `Gateway`
pub const GATEWAY: KindName =
    KindName { group: GROUP, versions: &["v1", "v1beta1"], kind: "Gateway", plural: "gateways" };
/// `ListenerSet`, since Gateway API 1.5
pub const LISTENER_SET: KindName =
    KindName { group: GROUP, versions: &["v1"], kind: "ListenerSet", plural: "listenersets" };
/// `XListenerSet`, in Gateway API 1.3 and 1.4
pub const X_LISTENER_SET: KindName = KindName {
    group: EXPERIMENTAL_GROUP,
    versions: &["v1alpha1"],
    kind: "XListenerSet",
    plural: "xlistenersets",
};
/// `HTTPRoute`
pub const HTTP_ROUTE: KindName = KindName {
    group: GROUP,
    versions: &["v1", "v1beta1"],
    kind: "HTTPRoute",
    plural: "httproutes",
};
/// `GRPCRoute`
pub const GRPC_ROUTE: KindName =
    KindName { group: GROUP, versions: &["v1"], kind: "GRPCRoute", plural: "grpcroutes" };
/// `TLSRoute`
pub const TLS_ROUTE: KindName = KindName {
    group: GROUP,
    versions: &["v1", "v1alpha3", "v1alpha2"],
    kind: "TLSRoute",
    plural: "tlsroutes",
};

/// `spec` of a Gateway.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewaySpec {
    /// `listeners`
    #[serde(default, deserialize_with = "tolerant_list")]
    pub listeners: Vec<Listener>,
    /// Namespaces whose ListenerSets may add listeners.
    #[serde(default, deserialize_with = "tolerant")]
    pub allowed_listeners: Allowed,
}

impl Shape for GatewaySpec {
    const NAME: KindName = GATEWAY;
}

/// A listener.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listener {
    /// Name, for references of routes.
    #[serde(default, deserialize_with = "tolerant")]
    pub name: String,
    /// Name or wildcard; matches every name if missing.
    #[serde(default, deserialize_with = "tolerant")]
    pub hostname: Option<String>,
    /// `HTTPS`, `TLS`, or a protocol without certificates.
    #[serde(default, deserialize_with = "tolerant")]
    pub protocol: String,
    /// Port.
    #[serde(default, deserialize_with = "tolerant")]
    pub port: Option<i64>,
    /// TLS configuration.
    #[serde(default, deserialize_with = "tolerant")]
    pub tls: Option<ListenerTls>,
    /// Namespaces whose routes may attach.
    #[serde(default, deserialize_with = "tolerant")]
    pub allowed_routes: Allowed,
}

/// TLS configuration of a listener.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerTls {
    /// `Terminate` (the default) or `Passthrough`.
    #[serde(default, deserialize_with = "tolerant")]
    pub mode: Option<String>,
    /// References to the Secrets of certificates.
    #[serde(default, deserialize_with = "tolerant_list")]
    pub certificate_refs: Vec<Reference>,
}

/// Reference to an object, or to a part of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reference {
    /// API group; the default depends on the field.
    #[serde(default, deserialize_with = "tolerant")]
    pub group: Option<String>,
    /// Kind; the default depends on the field.
    #[serde(default, deserialize_with = "tolerant")]
    pub kind: Option<String>,
    /// Namespace; defaults to that of the referring object.
    #[serde(default, deserialize_with = "tolerant")]
    pub namespace: Option<String>,
    /// Name
    #[serde(default, deserialize_with = "tolerant")]
    pub name: String,
    /// Name of a listener.
    #[serde(default, deserialize_with = "tolerant")]
    pub section_name: Option<String>,
    /// Port of the listeners.
    #[serde(default, deserialize_with = "tolerant")]
    pub port: Option<i64>,
}

/// Which objects may attach.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Allowed {
    /// Their namespaces.
    #[serde(default, deserialize_with = "tolerant")]
    pub namespaces: AllowedNamespaces,
}

/// Namespaces of objects that may attach.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct AllowedNamespaces {
    /// `All`, `Same`, `Selector` or `None`; the default depends on the field.
    #[serde(default, deserialize_with = "tolerant")]
    pub from: Option<String>,
    /// Labels of the namespaces, for `Selector`.
    #[serde(default, deserialize_with = "tolerant")]
    pub selector: Option<LabelSelector>,
}

/// `spec` of a ListenerSet.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenersSpec {
    /// The Gateway.
    #[serde(default, deserialize_with = "tolerant")]
    pub parent_ref: Reference,
    /// The added listeners.
    #[serde(default, deserialize_with = "tolerant_list")]
    pub listeners: Vec<Listener>,
}

/// `spec` of a route.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteSpec {
    /// The parents.
    #[serde(default, deserialize_with = "tolerant_list")]
    pub parent_refs: Vec<Reference>,
    /// Host names.
    #[serde(default, deserialize_with = "tolerant_list")]
    pub hostnames: Vec<String>,
}

/// Defines kinds with the same fields.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident($shape:ty) = $kind:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $shape);

        impl Shape for $name {
            const NAME: KindName = $kind;
        }

        impl AsRef<$shape> for $name {
            fn as_ref(&self) -> &$shape {
                &self.0
            }
        }
    )*};
}

kinds! {
    /// `spec` of an HTTPRoute.
    HttpRoute(RouteSpec) = HTTP_ROUTE;
    /// `spec` of a GRPCRoute.
    GrpcRoute(RouteSpec) = GRPC_ROUTE;
    /// `spec` of a TLSRoute.
    TlsRoute(RouteSpec) = TLS_ROUTE;
    /// `spec` of a ListenerSet.
    ListenerSet(ListenersSpec) = LISTENER_SET;
    /// `spec` of an XListenerSet.
    XListenerSet(ListenersSpec) = X_LISTENER_SET;
}
