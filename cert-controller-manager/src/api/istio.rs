//! `Gateway` and `VirtualService` of `networking.istio.io`: the fields that we read. See
//! [`source`](super::source).

use serde::Deserialize;

use super::source::{KindName, Shape, lenient, lenient_list};

const GROUP: &str = "networking.istio.io";
/// Istio before 1.5 and clusters that were upgraded from it serve `v1alpha3` only.
const VERSIONS: &[&str] = &["v1", "v1beta1", "v1alpha3"];

/// Istio's `Gateway`
pub const GATEWAY: KindName =
    KindName { group: GROUP, versions: VERSIONS, kind: "Gateway", plural: "gateways" };
/// `VirtualService`
pub const VIRTUAL_SERVICE: KindName = KindName {
    group: GROUP,
    versions: VERSIONS,
    kind: "VirtualService",
    plural: "virtualservices",
};

/// `spec` of Istio's Gateway.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct GatewaySpec {
    /// Where the gateway listens.
    #[serde(default, deserialize_with = "lenient_list")]
    pub servers: Vec<Server>,
}

/// A port with its hosts.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Server {
    /// `host`, `namespace/host`, `./host` or `*/host`; the host may be or begin with `*`.
    #[serde(default, deserialize_with = "lenient_list")]
    pub hosts: Vec<String>,
    /// How TLS is ended here.
    #[serde(default, deserialize_with = "lenient")]
    pub tls: ServerTls,
}

/// How TLS is ended.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerTls {
    /// Name of the Secret. Servers that pass TLS through have none.
    #[serde(default, deserialize_with = "lenient")]
    pub credential_name: String,
}

impl Shape for GatewaySpec {
    const NAME: KindName = GATEWAY;
}

/// `spec` of a VirtualService.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct VirtualServiceSpec {
    /// Names that it serves.
    #[serde(default, deserialize_with = "lenient_list")]
    pub hosts: Vec<String>,
    /// `name` in its own namespace, `namespace/name` or `mesh`.
    #[serde(default, deserialize_with = "lenient_list")]
    pub gateways: Vec<String>,
}

impl Shape for VirtualServiceSpec {
    const NAME: KindName = VIRTUAL_SERVICE;
}
