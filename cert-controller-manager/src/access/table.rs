//! The rows of the table.

use super::{
    row::{Cluster, Names, Part, Row},
    sources,
};

const OURS: &str = "cert.gardener.cloud";
const READ: &str = "get list watch";
const READ_AND_PATCH: &str = "get list watch patch";
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

/// All permissions of the manager.
#[must_use]
pub fn table() -> Vec<Row> {
    [ISSUERS_AND_CERTIFICATES, &sources::rows(), OTHERS].concat()
}

/// Permissions in the default cluster, and those for Certificates in the source cluster.
const ISSUERS_AND_CERTIFICATES: &[Row] = &[
    row(
        (Cluster::Default, Part::Issuers),
        (OURS, "issuers"),
        READ_AND_PATCH,
        "Watches Issuers; patches finalizers and the reference to a new account key",
    ),
    row(
        (Cluster::Default, Part::Issuers),
        (OURS, "issuers/status"),
        "patch",
        "Writes the status of Issuers",
    ),
    row(
        (Cluster::Default, Part::Issuers),
        ("", "secrets"),
        WRITE,
        "Reads account keys, EAB keys and CA keys; stores new account keys and running orders",
    ),
    row(
        (Cluster::Default, Part::Issuers),
        ("events.k8s.io", "events"),
        "create",
        "Publishes events on Issuers",
    ),
    row(
        (Cluster::Default, Part::Lease),
        ("coordination.k8s.io", "leases"),
        "create",
        "Creates the lease at the first start; RBAC cannot limit a creation to a name",
    ),
    named(
        (Cluster::Default, Part::Lease),
        ("coordination.k8s.io", "leases"),
        Names::Lease,
        "get list watch update",
        "Renews the lease; a standby watches it",
    ),
    definitions(Cluster::Default, ISSUER_DEFINITION),
    NEW_DEFINITIONS[0],
    NAMESPACE_OF_IDENTITY[0],
    CONFIG_MAP_OF_IDENTITY[0],
    row(
        (Cluster::Default, Part::MetricsAuthorization),
        ("authentication.k8s.io", "tokenreviews"),
        "create",
        "Authenticates readers of metrics, with `--metrics-authorization`",
    ),
    row(
        (Cluster::Default, Part::MetricsAuthorization),
        ("authorization.k8s.io", "subjectaccessreviews"),
        "create",
        "Authorizes readers of metrics, with `--metrics-authorization`",
    ),
    row(
        (Cluster::Source, Part::Objects),
        (OURS, "certificates"),
        WRITE,
        "Watches Certificates; creates and deletes those of Ingresses, Services and Gateways",
    ),
    row(
        (Cluster::Source, Part::Objects),
        (OURS, "certificates/status"),
        "patch",
        "Writes the status of Certificates",
    ),
    REVOCATIONS[0],
    REVOCATION_STATUS[0],
];

/// The other permissions.
const OTHERS: &[Row] = &[
    row(
        (Cluster::Source, Part::Objects),
        ("events.k8s.io", "events"),
        "create",
        "Publishes events on Certificates and source objects",
    ),
    definitions(Cluster::Source, CERTIFICATE_DEFINITIONS),
    NEW_DEFINITIONS[1],
    NAMESPACE_OF_IDENTITY[1],
    CONFIG_MAP_OF_IDENTITY[1],
    row(
        (Cluster::Dns, Part::Entries),
        ("dns.gardener.cloud", "dnsentries"),
        WRITE,
        "Creates, watches and deletes challenge records",
    ),
    row(
        (Cluster::Dns, Part::Answer),
        ("dns.gardener.cloud", "dnsentries"),
        READ,
        "Reads challenge records, with `--answer-dns` or the command `answer`",
    ),
    row(
        (Cluster::Dns, Part::Answer),
        ("dns.gardener.cloud", "dnsentries/status"),
        "patch",
        "Marks a challenge record as published",
    ),
    named(
        (Cluster::Dns, Part::Definitions),
        DEFINITIONS,
        ENTRY_DEFINITION,
        "get",
        "Checks whether the CRD of DNSEntry exists, with `--answer-dns` or the command `answer`",
    ),
    row(
        (Cluster::Dns, Part::Definitions),
        DEFINITIONS,
        "create",
        "Creates the CRD of DNSEntry for the responder if it is missing; RBAC cannot limit a \
         creation to a name",
    ),
    NAMESPACE_OF_IDENTITY[2],
    CONFIG_MAP_OF_IDENTITY[2],
    row(
        (Cluster::Target, Part::Secrets),
        ("", "secrets"),
        WRITE,
        "Writes certificate Secrets in the namespaces of Certificates, and their backups in \
         kube-system",
    ),
    row(
        (Cluster::Target, Part::Secrets),
        ("", "namespaces"),
        READ,
        "Reads which namespaces allow Secrets from Certificates of other namespaces",
    ),
    row(
        (Cluster::Target, Part::Secrets),
        (OURS, "certificates"),
        WRITE,
        "Serves Certificates in target if it differs from source, and creates them for \
         `--target-namespace`",
    ),
    row(
        (Cluster::Target, Part::Secrets),
        (OURS, "certificates/status"),
        "patch",
        "Writes the status of Certificates",
    ),
    REVOCATIONS[1],
    REVOCATION_STATUS[1],
    row(
        (Cluster::Target, Part::Secrets),
        ("events.k8s.io", "events"),
        "create",
        "Publishes events on Certificates",
    ),
    row(
        (Cluster::Target, Part::TargetIssuers),
        (OURS, "issuers"),
        READ_AND_PATCH,
        "Watches Issuers on target, with `--allow-target-issuers`",
    ),
    row(
        (Cluster::Target, Part::TargetIssuers),
        (OURS, "issuers/status"),
        "patch",
        "Writes the status of Issuers on target, with `--allow-target-issuers`",
    ),
    definitions(Cluster::Target, ALL_DEFINITIONS),
    NEW_DEFINITIONS[2],
    NAMESPACE_OF_IDENTITY[3],
    CONFIG_MAP_OF_IDENTITY[3],
];

/// CertificateRevocations are in the clusters of Certificates.
const REVOCATIONS: [Row; 2] = both(
    "certificaterevocations",
    READ_AND_PATCH,
    "Watches CertificateRevocations; sets a missing `qualifyingDate`",
);
const REVOCATION_STATUS: [Row; 2] =
    both("certificaterevocations/status", "patch", "Writes the status of CertificateRevocations");

const fn both(resources: &'static str, verbs: &'static str, why: &'static str) -> [Row; 2] {
    let resources = (OURS, resources);
    [
        row((Cluster::Source, Part::Objects), resources, verbs, why),
        row((Cluster::Target, Part::Secrets), resources, verbs, why),
    ]
}

/// A Role in a namespace permits to read that namespace.
const NAMESPACE_OF_IDENTITY: [Row; 4] = identity(
    "namespaces",
    Names::These(&["kube-system"]),
    "Reads its uid, the id of the cluster if the ConfigMap is missing",
);
const CONFIG_MAP_OF_IDENTITY: [Row; 4] =
    identity("configmaps", Names::These(&["cluster-identity"]), "Reads the id of the cluster");

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
    let why = "Updates our CRDs";
    named((cluster, Part::Definitions), DEFINITIONS, names, "get update", why)
}

const NEW_DEFINITIONS: [Row; 3] = {
    let why = "Creates our CRDs if they are missing; RBAC cannot limit a creation to a name";
    let row = row((Cluster::Default, Part::Definitions), DEFINITIONS, "create", why);
    [row, Row { cluster: Cluster::Source, ..row }, Row { cluster: Cluster::Target, ..row }]
};

const fn row(
    role: (Cluster, Part),
    resource: (&'static str, &'static str),
    verbs: &'static str,
    why: &'static str,
) -> Row {
    named(role, resource, Names::Any, verbs, why)
}

const fn named(
    (cluster, part): (Cluster, Part),
    (group, resource): (&'static str, &'static str),
    names: Names,
    verbs: &'static str,
    why: &'static str,
) -> Row {
    Row { cluster, part, group, resource, names, verbs, why }
}
