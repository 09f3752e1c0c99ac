//! The kinds of source objects.

use std::fmt;

use crate::api::{
    ObjectKey, gateway, istio,
    source::{self, KindName},
};

/// A kind of source objects.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// Ingress
    Ingress,
    /// Service of type LoadBalancer
    Service,
    /// Gateway of Istio
    IstioGateway,
    /// Gateway of the Gateway API
    Gateway,
    /// ListenerSet of the Gateway API
    ListenerSet,
    /// Experimental predecessor of ListenerSet
    XListenerSet,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 6] = [
        Self::Ingress,
        Self::Service,
        Self::IstioGateway,
        Self::Gateway,
        Self::ListenerSet,
        Self::XListenerSet,
    ];

    /// Group, kind, plural and versions.
    #[must_use]
    pub fn name(self) -> &'static KindName {
        match self {
            Self::Ingress => &source::INGRESS,
            Self::Service => &source::SERVICE,
            Self::IstioGateway => &istio::GATEWAY,
            Self::Gateway => &gateway::GATEWAY,
            Self::ListenerSet => &gateway::LISTENER_SET,
            Self::XListenerSet => &gateway::X_LISTENER_SET,
        }
    }

    /// The kind with this group and name, if it is a source kind.
    #[must_use]
    pub fn find(group: &str, kind: &str) -> Option<Self> {
        let is = |one: &Self| one.name().group == group && one.name().kind == kind;
        Self::ALL.into_iter().find(is)
    }

    /// Whether routes can be attached.
    #[must_use]
    pub fn takes_routes(self) -> bool {
        match self {
            Self::Ingress | Self::Service => false,
            Self::IstioGateway | Self::Gateway | Self::ListenerSet | Self::XListenerSet => true,
        }
    }

    /// The finalizer of upstream, which all kinds of a controller share.
    #[must_use]
    pub(super) fn finalizer(self) -> &'static str {
        match self {
            Self::Ingress => "cert.gardener.cloud/ingress-cert",
            Self::Service => "cert.gardener.cloud/service-cert",
            Self::IstioGateway => "cert.gardener.cloud/istio-gateways-dns",
            Self::Gateway | Self::ListenerSet | Self::XListenerSet => {
                "cert.gardener.cloud/k8s-gateways-dns"
            }
        }
    }
}

/// Identifies a source object.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SourceKey {
    /// Kind
    pub kind: Kind,
    /// Namespace and name
    pub object: ObjectKey,
}

impl fmt::Display for SourceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.name().kind, self.object)
    }
}
