//! Identifies source objects and routes. The table of [`kinds`](super::kinds) describes their kinds.

use crate::api::ObjectKey;

/// A kind of source objects.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// Service of type LoadBalancer
    Service,
    /// Ingress
    Ingress,
    /// Gateway of the Gateway API
    Gateway,
    /// ListenerSet of the Gateway API
    ListenerSet,
    /// Experimental predecessor of ListenerSet
    XListenerSet,
    /// Gateway of Istio
    IstioGateway,
}

/// A kind of routes.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum RouteKind {
    /// `HTTPRoute`
    Http,
    /// `GRPCRoute`
    Grpc,
    /// `TLSRoute`
    Tls,
    /// `VirtualService`
    VirtualService,
}

/// Identifies a source object.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SourceKey {
    /// Kind
    pub kind: Kind,
    /// Namespace and name
    pub object: ObjectKey,
}

/// Identifies a route.
pub type RouteKey = (RouteKind, ObjectKey);
