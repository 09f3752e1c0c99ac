//! The rows.

use super::{Cluster, Names, Part, Row};

const OURS: &str = "cert.gardener.cloud";
const READ: &str = "get list watch";
const READ_AND_MARK: &str = "get list watch patch";
const WRITE: &str = "get list watch create patch delete";
const ISSUER_DEFINITION: Names = Names::These(&["issuers.cert.gardener.cloud"]);
const CERTIFICATE_DEFINITIONS: Names = Names::These(&[
    "certificates.cert.gardener.cloud",
    "certificaterevocations.cert.gardener.cloud",
]);
const ENTRY_DEFINITION: Names = Names::These(&["dnsentries.dns.gardener.cloud"]);
const ALL_DEFINITIONS: Names = Names::These(&[
    "certificates.cert.gardener.cloud",
    "certificaterevocations.cert.gardener.cloud",
    "issuers.cert.gardener.cloud",
]);

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
    NEW_DEFINITIONS[0],
    NAMESPACE_OF_IDENTITY[0],
    CONFIG_MAP_OF_IDENTITY[0],
    row(
        (Cluster::Default, Part::MetricsAuthorization),
        ("authentication.k8s.io", "tokenreviews"),
        "create",
        "Whose token reads metrics, with `--metrics-authorization`",
    ),
    row(
        (Cluster::Default, Part::MetricsAuthorization),
        ("authorization.k8s.io", "subjectaccessreviews"),
        "create",
        "Whether that user may get the URL `/metrics`, with `--metrics-authorization`",
    ),
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
    REVOCATIONS[0],
    REVOCATION_STATUS[0],
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
        ("gateway.networking.k8s.io", "gateways listenersets"),
        READ_AND_MARK,
        "Annotated Gateways and ListenerSets become Certificates; patched for finalizers",
    ),
    row(
        (Cluster::Source, Part::Objects),
        ("gateway.networking.k8s.io", "httproutes grpcroutes tlsroutes"),
        READ,
        "The hosts of Gateways",
    ),
    row(
        (Cluster::Source, Part::Objects),
        ("", "namespaces"),
        READ,
        "Labels of namespaces, for Gateways whose selectors say whose routes and listeners they take",
    ),
    row(
        (Cluster::Source, Part::Objects),
        ("gateway.networking.x-k8s.io", "xlistenersets"),
        READ_AND_MARK,
        "The earlier name of ListenerSets",
    ),
    row(
        (Cluster::Source, Part::Objects),
        ("networking.istio.io", "gateways"),
        READ_AND_MARK,
        "Annotated Istio Gateways become Certificates; patched for finalizers",
    ),
    row(
        (Cluster::Source, Part::Objects),
        ("networking.istio.io", "virtualservices"),
        READ,
        "The hosts of Istio Gateways",
    ),
    row(
        (Cluster::Source, Part::Objects),
        ("events.k8s.io", "events"),
        "create",
        "Events on Certificates and on what they are derived from",
    ),
    definitions(Cluster::Source, CERTIFICATE_DEFINITIONS),
    NEW_DEFINITIONS[1],
    NAMESPACE_OF_IDENTITY[1],
    CONFIG_MAP_OF_IDENTITY[1],
    row(
        (Cluster::Dns, Part::Entries),
        ("dns.gardener.cloud", "dnsentries"),
        WRITE,
        "Challenge records are made, watched until the DNS provider has them, and deleted",
    ),
    row(
        (Cluster::Dns, Part::Answer),
        ("dns.gardener.cloud", "dnsentries"),
        READ,
        "What to answer, with `--answer-dns` or the command `answer`",
    ),
    row(
        (Cluster::Dns, Part::Answer),
        ("dns.gardener.cloud", "dnsentries/status"),
        "patch",
        "Says that a challenge record is answered",
    ),
    named(
        (Cluster::Dns, Part::Definitions),
        DEFINITIONS,
        ENTRY_DEFINITION,
        "get",
        "Whether there is a definition of DNSEntry, with `--answer-dns` or the command `answer`",
    ),
    row(
        (Cluster::Dns, Part::Definitions),
        DEFINITIONS,
        "create",
        "The definition of DNSEntry is created for the responder where it is missing, and never \
         changed; a creation cannot be limited to a name",
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
        READ,
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
    REVOCATIONS[1],
    REVOCATION_STATUS[1],
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
    definitions(Cluster::Target, ALL_DEFINITIONS),
    NEW_DEFINITIONS[2],
    NAMESPACE_OF_IDENTITY[3],
    CONFIG_MAP_OF_IDENTITY[3],
];

/// They are beside the Certificates, so on target where those of upstream's layout are.
const REVOCATIONS: [Row; 2] = both(
    "certificaterevocations",
    READ_AND_MARK,
    "CertificateRevocations are followed; patched for the date that none was given for",
);
const REVOCATION_STATUS: [Row; 2] =
    both("certificaterevocations/status", "patch", "How far a revocation is");

const fn both(resources: &'static str, verbs: &'static str, why: &'static str) -> [Row; 2] {
    let resources = (OURS, resources);
    [
        row((Cluster::Source, Part::Objects), resources, verbs, why),
        row((Cluster::Target, Part::Secrets), resources, verbs, why),
    ]
}

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

const DEFINITIONS: (&str, &str) = ("apiextensions.k8s.io", "customresourcedefinitions");

const fn definitions(cluster: Cluster, names: Names) -> Row {
    let why = "Our definitions are kept up to date";
    named((cluster, Part::Definitions), DEFINITIONS, names, "get update", why)
}

const NEW_DEFINITIONS: [Row; 3] = {
    let why = "Our definitions are created where they are missing; a creation cannot be limited to a name";
    let row = row((Cluster::Default, Part::Definitions), DEFINITIONS, "create", why);
    [row, Row { cluster: Cluster::Source, ..row }, Row { cluster: Cluster::Target, ..row }]
};

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
