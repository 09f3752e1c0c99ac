//! The table of source kinds, and the table of the routes that add host names to them.
//!
//! A row contains everything that depends on the kind. Watches, rights and checks follow from it.

mod gateway;
mod ingress;
mod istio;
mod service;

use std::fmt;

use super::{
    key::{Kind, RouteKind, SourceKey},
    object::RawObject,
    reader::Reader,
    routes::Route,
};
use crate::{
    api::{
        gateway::{GatewaySpec, GrpcRoute, HttpRoute, ListenerSet, TlsRoute, XListenerSet},
        istio::{GatewaySpec as IstioGatewaySpec, VirtualServiceSpec},
        source::{IngressSpec, KindName, NAMESPACE, ServiceSpec},
    },
    config::SourceController,
};

/// The source kinds, in the order of [`Kind`].
pub static KINDS: [SourceKind; 6] = [
    SourceKind {
        kind: Kind::Service,
        objects: Reader::objects::<ServiceSpec>(),
        controller: SourceController::Service,
        requested_by: RequestedBy::SecretName,
        parent: None,
        routes: &[],
        selects_namespaces: false,
        finalizer: "cert.gardener.cloud/service-cert",
        rights: read_and_patch("Watches annotated Services; patches finalizers"),
    },
    SourceKind {
        kind: Kind::Ingress,
        objects: Reader::objects::<IngressSpec>(),
        controller: SourceController::Ingress,
        requested_by: RequestedBy::Purpose,
        parent: None,
        routes: &[],
        selects_namespaces: false,
        finalizer: "cert.gardener.cloud/ingress-cert",
        rights: read_and_patch("Watches annotated Ingresses; patches finalizers"),
    },
    SourceKind {
        kind: Kind::Gateway,
        objects: Reader::objects::<GatewaySpec>(),
        controller: SourceController::Gateway,
        requested_by: RequestedBy::Purpose,
        parent: None,
        routes: GATEWAY_ROUTES,
        selects_namespaces: true,
        finalizer: GATEWAY_FINALIZER,
        rights: read_and_patch(GATEWAY_RIGHTS),
    },
    SourceKind {
        kind: Kind::ListenerSet,
        objects: Reader::objects::<ListenerSet>(),
        controller: SourceController::Gateway,
        requested_by: RequestedBy::Purpose,
        parent: Some(Kind::Gateway),
        routes: GATEWAY_ROUTES,
        selects_namespaces: true,
        finalizer: GATEWAY_FINALIZER,
        rights: read_and_patch(GATEWAY_RIGHTS),
    },
    SourceKind {
        kind: Kind::XListenerSet,
        objects: Reader::objects::<XListenerSet>(),
        controller: SourceController::Gateway,
        requested_by: RequestedBy::Purpose,
        parent: Some(Kind::Gateway),
        routes: GATEWAY_ROUTES,
        selects_namespaces: true,
        finalizer: GATEWAY_FINALIZER,
        rights: read_and_patch(
            "Watches XListenerSets, the experimental ListenerSets; patches finalizers",
        ),
    },
    SourceKind {
        kind: Kind::IstioGateway,
        objects: Reader::objects::<IstioGatewaySpec>(),
        controller: SourceController::Istio,
        requested_by: RequestedBy::Purpose,
        parent: None,
        routes: &[RouteKind::VirtualService],
        selects_namespaces: false,
        finalizer: "cert.gardener.cloud/istio-gateways-dns",
        rights: read_and_patch("Watches annotated Istio Gateways; patches finalizers"),
    },
];

/// The kinds of routes, in the order of [`RouteKind`].
pub static ROUTES: [RouteSource; 4] = [
    RouteSource {
        kind: RouteKind::Http,
        objects: Reader::routes::<HttpRoute>(),
        rights: read(ROUTE_RIGHTS),
    },
    RouteSource {
        kind: RouteKind::Grpc,
        objects: Reader::routes::<GrpcRoute>(),
        rights: read(ROUTE_RIGHTS).not_in_upstream(),
    },
    RouteSource {
        kind: RouteKind::Tls,
        objects: Reader::routes::<TlsRoute>(),
        rights: read(ROUTE_RIGHTS).not_in_upstream(),
    },
    RouteSource {
        kind: RouteKind::VirtualService,
        objects: Reader::routes::<VirtualServiceSpec>(),
        rights: read("Reads host names for Istio Gateways"),
    },
];

/// Namespaces, for the kinds that select namespaces by labels.
const NAMESPACES: Rights =
    read("Reads labels of namespaces, for selectors of Gateways").not_in_upstream();

const GATEWAY_ROUTES: &[RouteKind] = &[RouteKind::Http, RouteKind::Grpc, RouteKind::Tls];
const GATEWAY_FINALIZER: &str = "cert.gardener.cloud/k8s-gateways-dns";
const GATEWAY_RIGHTS: &str = "Watches annotated Gateways and ListenerSets; patches finalizers";
const ROUTE_RIGHTS: &str = "Reads host names of routes for Gateways";

/// A row of [`KINDS`].
pub struct SourceKind {
    /// The identifier.
    pub kind: Kind,
    /// The name, the API versions, and the extractor.
    pub objects: Reader<RawObject>,
    /// The controller, with the flags that enable and configure it.
    pub controller: SourceController,
    /// The annotations that request certificates.
    pub requested_by: RequestedBy,
    /// The kind of the parent, whose annotations it inherits.
    pub parent: Option<Kind>,
    /// The routes that can be attached.
    pub routes: &'static [RouteKind],
    /// Whether it selects namespaces by labels.
    pub selects_namespaces: bool,
    /// The finalizer of upstream, which all kinds of a controller share.
    pub finalizer: &'static str,
    /// Rights on the source cluster.
    pub rights: Rights,
}

/// A row of [`ROUTES`].
pub struct RouteSource {
    /// The identifier.
    pub kind: RouteKind,
    /// The name, the API versions, and the extractor.
    pub objects: Reader<Route>,
    /// Rights on the source cluster.
    pub rights: Rights,
}

/// The annotations that request certificates.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RequestedBy {
    /// The purpose. The names are those of the hosts, unless an annotation lists them.
    Purpose,
    /// The name of the Secret. The names are those of annotations, including that of the DNS manager.
    SecretName,
}

/// Rights to all objects of a kind.
#[derive(Clone, Copy, Debug)]
pub struct Rights {
    /// Verbs, separated by spaces.
    pub verbs: &'static str,
    /// Reason.
    pub why: &'static str,
    /// Whether upstream needs them, too. Otherwise the roles of an upstream installation lack them.
    pub in_upstream: bool,
}

const fn read(why: &'static str) -> Rights {
    Rights { verbs: "get list watch", why, in_upstream: true }
}

const fn read_and_patch(why: &'static str) -> Rights {
    Rights { verbs: "get list watch patch", why, in_upstream: true }
}

impl Rights {
    const fn not_in_upstream(self) -> Self {
        Self { in_upstream: false, ..self }
    }
}

/// A watched kind.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum WatchedKind {
    /// Source objects.
    Objects(Kind),
    /// Routes.
    Routes(RouteKind),
    /// Namespaces, for selectors of their labels.
    Namespaces,
}

impl WatchedKind {
    /// Group, kind, plural and versions.
    #[must_use]
    pub fn name(self) -> &'static KindName {
        match self {
            Self::Objects(kind) => &kind.row().objects.name,
            Self::Routes(kind) => &kind.row().objects.name,
            Self::Namespaces => &NAMESPACE,
        }
    }

    /// Rights on the source cluster.
    #[must_use]
    pub fn rights(self) -> Rights {
        match self {
            Self::Objects(kind) => kind.row().rights,
            Self::Routes(kind) => kind.row().rights,
            Self::Namespaces => NAMESPACES,
        }
    }
}

impl Kind {
    /// The row of the kind.
    #[must_use]
    pub fn row(self) -> &'static SourceKind {
        &KINDS[self as usize]
    }

    /// All kinds.
    #[must_use]
    pub fn all() -> [Self; KINDS.len()] {
        KINDS.each_ref().map(|row| row.kind)
    }

    /// Group, kind, plural and versions.
    #[must_use]
    pub fn name(self) -> &'static KindName {
        &self.row().objects.name
    }

    /// The kind with this group and name, if it is a source kind.
    #[must_use]
    pub fn find(group: &str, kind: &str) -> Option<Self> {
        let is =
            |row: &&SourceKind| row.objects.name.group == group && row.objects.name.kind == kind;
        KINDS.iter().find(is).map(|row| row.kind)
    }

    /// Whether routes can be attached.
    #[must_use]
    pub fn takes_routes(self) -> bool {
        !self.row().routes.is_empty()
    }

    /// Whether another kind inherits its annotations.
    #[must_use]
    pub fn is_parent(self) -> bool {
        KINDS.iter().any(|row| row.parent == Some(self))
    }

    /// The watched kinds that determine the certificates of this kind.
    #[must_use]
    pub fn needs(self) -> Vec<WatchedKind> {
        let row = self.row();
        let mut needs = vec![WatchedKind::Objects(self)];
        needs.extend(row.parent.map(WatchedKind::Objects));
        needs.extend(row.routes.iter().copied().map(WatchedKind::Routes));
        needs.extend(row.selects_namespaces.then_some(WatchedKind::Namespaces));
        needs
    }
}

impl RouteKind {
    /// The row of the kind.
    #[must_use]
    pub fn row(self) -> &'static RouteSource {
        &ROUTES[self as usize]
    }
}

impl fmt::Display for SourceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.name().kind, self.object)
    }
}

/// The position of a row is its identifier.
const _: () = {
    let mut index = 0;
    while index < KINDS.len() {
        assert!(KINDS[index].kind as usize == index, "KINDS is not in the order of Kind");
        index += 1;
    }
    index = 0;
    while index < ROUTES.len() {
        assert!(ROUTES[index].kind as usize == index, "ROUTES is not in the order of RouteKind");
        index += 1;
    }
};
