//! The rows.

use super::{Cluster, Names, Part, Row};

const OURS: &str = "cert.gardener.cloud";
const READ_AND_MARK: &str = "get list watch patch";
const WRITE: &str = "get list watch create patch delete";
const ISSUER_DEFINITION: Names = Names::These(&["issuers.cert.gardener.cloud"]);
const CERTIFICATE_DEFINITION: Names = Names::These(&["certificates.cert.gardener.cloud"]);
const BOTH_DEFINITIONS: Names =
    Names::These(&["certificates.cert.gardener.cloud", "issuers.cert.gardener.cloud"]);

/// Every need of the manager.
pub const TABLE: &[Row] = &[
    row(
        (Cluster::Default, Part::Issuers),
        (OURS, "issuers"),
        READ_AND_MARK,
        "Issuers are followed; patched for finalizers and for the reference to a new account key",
    ),
    row(
        (Cluster::Default, Part::Issuers),
        (OURS, "issuers/status"),
        "patch",
        "The state of an Issuer",
    ),
    row(
        (Cluster::Default, Part::Issuers),
        ("", "secrets"),
        WRITE,
        "Account keys, EAB keys and keys of CAs are read, new account keys are stored; orders under \
         way are kept in Secrets",
    ),
    row(
        (Cluster::Default, Part::Issuers),
        ("events.k8s.io", "events"),
        "create",
        "Events on Issuers",
    ),
    row(
        (Cluster::Default, Part::Lease),
        ("coordination.k8s.io", "leases"),
        "create",
        "The lease of the leader, at the first start; a creation cannot be limited to a name",
    ),
    named(
        (Cluster::Default, Part::Lease),
        ("coordination.k8s.io", "leases"),
        Names::Lease,
        "get list watch update",
        "The leader holds it, the standby looks at it",
    ),
    definitions(Cluster::Default, ISSUER_DEFINITION),
    NAMESPACE_OF_IDENTITY[0],
    CONFIG_MAP_OF_IDENTITY[0],
    row(
        (Cluster::Source, Part::Objects),
        (OURS, "certificates"),
        WRITE,
        "Certificates are followed; those of Ingresses, Services and gateways are made and deleted",
    ),
    row(
        (Cluster::Source, Part::Objects),
        (OURS, "certificates/status"),
        "patch",
        "The state of a Certificate",
    ),
    row(
        (Cluster::Source, Part::Objects),
        ("", "services"),
        READ_AND_MARK,
        "Annotated Services become Certificates; patched for finalizers",
    ),
    row(
        (Cluster::Source, Part::Objects),
        ("networking.k8s.io", "ingresses"),
        READ_AND_MARK,
        "Annotated Ingresses become Certificates; patched for finalizers",
    ),
    row(
        (Cluster::Source, Part::Objects),
        ("gateway.networking.k8s.io", "gateways httproutes grpcroutes tlsroutes listenersets"),
        READ_AND_MARK,
        "Annotated Gateways become Certificates, with the hosts of their routes; patched for \
         finalizers",
    ),
    row(
        (Cluster::Source, Part::Objects),
        ("gateway.networking.x-k8s.io", "xlistenersets"),
        READ_AND_MARK,
        "The earlier name of ListenerSets",
    ),
    row(
        (Cluster::Source, Part::Objects),
        ("networking.istio.io", "gateways virtualservices"),
        READ_AND_MARK,
        "Annotated Istio Gateways become Certificates, with the hosts of their VirtualServices; \
         patched for finalizers",
    ),
    row(
        (Cluster::Source, Part::Objects),
        ("events.k8s.io", "events"),
        "create",
        "Events on Certificates and on what they are derived from",
    ),
    definitions(Cluster::Source, CERTIFICATE_DEFINITION),
    NAMESPACE_OF_IDENTITY[1],
    CONFIG_MAP_OF_IDENTITY[1],
    row(
        (Cluster::Dns, Part::Entries),
        ("dns.gardener.cloud", "dnsentries"),
        WRITE,
        "Challenge records are made, watched until the DNS provider has them, and deleted",
    ),
    NAMESPACE_OF_IDENTITY[2],
    CONFIG_MAP_OF_IDENTITY[2],
    row(
        (Cluster::Target, Part::Secrets),
        ("", "secrets"),
        WRITE,
        "The Secrets of certificates, in whatever namespace a Certificate asks for, and their \
         backups in kube-system",
    ),
    row(
        (Cluster::Target, Part::Secrets),
        ("", "namespaces"),
        "get list watch",
        "Whether a namespace consents to Secrets from Certificates of another one",
    ),
    row(
        (Cluster::Target, Part::Secrets),
        (OURS, "certificates"),
        WRITE,
        "Where target is not source, Certificates found here are served too, and \
         `--target-namespace` may put them here",
    ),
    row(
        (Cluster::Target, Part::Secrets),
        (OURS, "certificates/status"),
        "patch",
        "The state of a Certificate",
    ),
    row(
        (Cluster::Target, Part::Secrets),
        ("events.k8s.io", "events"),
        "create",
        "Events on Certificates",
    ),
    row(
        (Cluster::Target, Part::TargetIssuers),
        (OURS, "issuers"),
        READ_AND_MARK,
        "Issuers on target, with `--allow-target-issuers`",
    ),
    row(
        (Cluster::Target, Part::TargetIssuers),
        (OURS, "issuers/status"),
        "patch",
        "The state of such an Issuer",
    ),
    definitions(Cluster::Target, BOTH_DEFINITIONS),
    NAMESPACE_OF_IDENTITY[3],
    CONFIG_MAP_OF_IDENTITY[3],
];

/// A namespaced Role permits to read the namespace that it is in.
const NAMESPACE_OF_IDENTITY: [Row; 4] = identity(
    "namespaces",
    Names::These(&["kube-system"]),
    "Its uid tells this cluster from others where nothing else does",
);
const CONFIG_MAP_OF_IDENTITY: [Row; 4] =
    identity("configmaps", Names::These(&["cluster-identity"]), "The name of this cluster");

const fn identity(resources: &'static str, names: Names, why: &'static str) -> [Row; 4] {
    let row = named((Cluster::Default, Part::Identity), ("", resources), names, "get", why);
    [
        row,
        Row { cluster: Cluster::Source, ..row },
        Row { cluster: Cluster::Dns, ..row },
        Row { cluster: Cluster::Target, ..row },
    ]
}

const fn definitions(cluster: Cluster, names: Names) -> Row {
    let resource = ("apiextensions.k8s.io", "customresourcedefinitions");
    let why = "Our definitions are applied at the start";
    named((cluster, Part::Definitions), resource, names, "get create patch", why)
}

const fn row(
    role: (Cluster, Part),
    resources: (&'static str, &'static str),
    verbs: &'static str,
    why: &'static str,
) -> Row {
    named(role, resources, Names::Any, verbs, why)
}

const fn named(
    (cluster, part): (Cluster, Part),
    (group, resources): (&'static str, &'static str),
    names: Names,
    verbs: &'static str,
    why: &'static str,
) -> Row {
    Row { cluster, part, group, resources, names, verbs, why }
}
