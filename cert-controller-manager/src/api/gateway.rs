//! The Gateway API: the fields that we read. See [`source`](super::source).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Deserialize;

use super::source::{KindName, Shape, lenient, lenient_list};

/// The group of everything but `XListenerSet`.
pub const GROUP: &str = "gateway.networking.k8s.io";
/// The group of what is tried out.
pub const EXPERIMENTAL_GROUP: &str = "gateway.networking.x-k8s.io";

/// `Gateway`
pub const GATEWAY: KindName =
    KindName { group: GROUP, versions: &["v1", "v1beta1"], kind: "Gateway", plural: "gateways" };
/// `ListenerSet`, which Gateway API 1.5 brings.
pub const LISTENER_SET: KindName =
    KindName { group: GROUP, versions: &["v1"], kind: "ListenerSet", plural: "listenersets" };
/// `XListenerSet`, as Gateway API 1.3 and 1.4 call it.
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
    /// Where the gateway listens.
    #[serde(default, deserialize_with = "lenient_list")]
    pub listeners: Vec<Listener>,
    /// Whose ListenerSets may add listeners.
    #[serde(default, deserialize_with = "lenient")]
    pub allowed_listeners: Allowed,
}

impl Shape for GatewaySpec {
    const NAME: KindName = GATEWAY;
}

/// A port with its host.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listener {
    /// What routes call it.
    #[serde(default, deserialize_with = "lenient")]
    pub name: String,
    /// Name or wildcard; everything when absent.
    #[serde(default, deserialize_with = "lenient")]
    pub hostname: Option<String>,
    /// `HTTPS`, `TLS` and others that need no certificate.
    #[serde(default, deserialize_with = "lenient")]
    pub protocol: String,
    /// The port.
    #[serde(default, deserialize_with = "lenient")]
    pub port: Option<i64>,
    /// How TLS is ended here.
    #[serde(default, deserialize_with = "lenient")]
    pub tls: Option<ListenerTls>,
    /// Whose routes it takes.
    #[serde(default, deserialize_with = "lenient")]
    pub allowed_routes: Allowed,
}

/// How TLS is ended.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerTls {
    /// `Terminate`, which is the default, or `Passthrough`.
    #[serde(default, deserialize_with = "lenient")]
    pub mode: Option<String>,
    /// Where the certificates are.
    #[serde(default, deserialize_with = "lenient_list")]
    pub certificate_refs: Vec<Reference>,
}

/// Names an object, and where it applies a part of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reference {
    /// API group; what is meant without it depends on the place.
    #[serde(default, deserialize_with = "lenient")]
    pub group: Option<String>,
    /// Kind; what is meant without it depends on the place.
    #[serde(default, deserialize_with = "lenient")]
    pub kind: Option<String>,
    /// Namespace; the referring object's without it.
    #[serde(default, deserialize_with = "lenient")]
    pub namespace: Option<String>,
    /// Name
    #[serde(default, deserialize_with = "lenient")]
    pub name: String,
    /// Name of a listener.
    #[serde(default, deserialize_with = "lenient")]
    pub section_name: Option<String>,
    /// Port of listeners.
    #[serde(default, deserialize_with = "lenient")]
    pub port: Option<i64>,
}

/// Whose objects may attach themselves.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Allowed {
    /// From which namespaces.
    #[serde(default, deserialize_with = "lenient")]
    pub namespaces: AllowedNamespaces,
}

/// From which namespaces.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct AllowedNamespaces {
    /// `All`, `Same`, `Selector` or `None`; what it is without it depends on the place.
    #[serde(default, deserialize_with = "lenient")]
    pub from: Option<String>,
    /// Labels of the namespaces, for `Selector`.
    #[serde(default, deserialize_with = "lenient")]
    pub selector: Option<LabelSelector>,
}

/// `spec` of a ListenerSet.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenersSpec {
    /// The Gateway that the listeners are added to.
    #[serde(default, deserialize_with = "lenient")]
    pub parent_ref: Reference,
    /// What is added.
    #[serde(default, deserialize_with = "lenient_list")]
    pub listeners: Vec<Listener>,
}

/// `spec` of a route.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteSpec {
    /// What the route is attached to.
    #[serde(default, deserialize_with = "lenient_list")]
    pub parent_refs: Vec<Reference>,
    /// Names that it serves.
    #[serde(default, deserialize_with = "lenient_list")]
    pub hostnames: Vec<String>,
}

/// Kinds that share a shape.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident($shape:ty) = $kind:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $shape);

        impl Shape for $name {
            const NAME: KindName = $kind;
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
