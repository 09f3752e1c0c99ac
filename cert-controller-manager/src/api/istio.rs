//! `Gateway` and `VirtualService` of `networking.istio.io`, with the fields that we read. See
//! [`source`](super::source).

use serde::Deserialize;

use super::source::{KindName, Shape, tolerant, tolerant_list};

const GROUP: &str = "networking.istio.io";
/// Istio before 1.5, and clusters that were upgraded from it, serve only `v1alpha3`.
const VERSIONS: &[&str] = &["v1", "v1beta1", "v1alpha3"];

/// `Gateway` of Istio
pub const GATEWAY: KindName =
    KindName { group: GROUP, versions: VERSIONS, kind: "Gateway", plural: "gateways" };
/// `VirtualService`
pub const VIRTUAL_SERVICE: KindName = KindName {
    group: GROUP,
    versions: VERSIONS,
    kind: "VirtualService",
    plural: "virtualservices",
};

/// `spec` of an Istio Gateway.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct GatewaySpec {
    /// `servers`
    #[serde(default, deserialize_with = "tolerant_list")]
    pub servers: Vec<Server>,
}

/// A server of a Gateway.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Server {
    /// `host`, `namespace/host`, `./host` or `*/host`; the host may be `*` or a wildcard.
    #[serde(default, deserialize_with = "tolerant_list")]
    pub hosts: Vec<String>,
    /// TLS configuration.
    #[serde(default, deserialize_with = "tolerant")]
    pub tls: ServerTls,
}

/// TLS configuration of a server.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerTls {
    /// Name of the Secret. Empty for TLS passthrough.
    #[serde(default, deserialize_with = "tolerant")]
    pub credential_name: String,
}

impl Shape for GatewaySpec {
    const NAME: KindName = GATEWAY;
}

/// `spec` of a VirtualService.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct VirtualServiceSpec {
    /// Host names.
    #[serde(default, deserialize_with = "tolerant_list")]
    pub hosts: Vec<String>,
    /// `name` in the same namespace, `namespace/name`, or `mesh`.
    #[serde(default, deserialize_with = "tolerant_list")]
    pub gateways: Vec<String>,
}

impl Shape for VirtualServiceSpec {
    const NAME: KindName = VIRTUAL_SERVICE;
}
