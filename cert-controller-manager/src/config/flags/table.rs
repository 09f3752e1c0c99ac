//! The table of all flags. Names and defaults of upstream's flags are those of upstream.

use super::{
    flag::{
        Flag,
        Heading::{
            Certificates, Challenges, Clusters, Definitions, General, Idle, Issuers, Lease,
            Responder, Server, Sources,
        },
        flag,
    },
    kind::{
        Kind::{
            Addresses, Bool, Duration, Host, Kubeconfig, List, LogLevel, Mailbox, Nameservers,
            Number, Path, Paths, Ranges, Sockets, Text, Word, Zones,
        },
        NUMBER,
    },
};
use crate::{
    answer::ttl::MAX_TTL,
    config::controllers::{self, SourceController},
};

/// Flags of the manager.
pub const MANAGER: &[Flag] = &[
    flag(
        "config",
        Path,
        General,
        "YAML or JSON file with values of flags; its keys are their names",
    )
    .common(),
    flag("controllers", List("NAME,…"), General, controllers::HELP)
        .short('c')
        .default("all")
        .common(),
    LOG_LEVEL,
    LOG_FORMAT,
    flag("name", Text("NAME"), General, "Name of this manager; the lease is named after it")
        .default("cert-controller-manager"),
    //
    flag("kubeconfig", Kubeconfig, Clusters, KUBECONFIG)
        .unset("KUBECONFIG, then the service account of the pod")
        .variable("KUBECONFIG")
        .common(),
    flag("source", Kubeconfig, Clusters, SOURCE).unset("the default cluster").common(),
    flag("dns", Kubeconfig, Clusters, DNS).unset("the default cluster").common(),
    flag("target", Kubeconfig, Clusters, TARGET).unset("the source cluster").common(),
    flag("id", Text("ID"), Clusters, ID)
        .unset("the ConfigMap kube-system/cluster-identity")
        .each(CLUSTERS),
    flag("migration-ids", List("ID,…"), Clusters, MIGRATION_IDS).each(CLUSTERS),
    flag("qps", NUMBER, Clusters, QPS).each(CLUSTERS).default("0").differs("50", UNLIMITED),
    flag("burst", NUMBER, Clusters, BURST).each(CLUSTERS).default("0").differs("100", UNLIMITED),
    //
    flag("issuer-namespace", Text("NAMESPACE"), Issuers, ISSUER_NAMESPACE)
        .of(ISSUER)
        .default("default")
        .common(),
    flag("default-issuer", Text("NAME"), Issuers, "Issuer of Certificates without issuerRef")
        .of(ISSUER)
        .default("default-issuer")
        .common(),
    flag("default-issuer-domain-ranges", List("DOMAIN,…"), Issuers, DOMAIN_RANGES)
        .unset("all")
        .of(ISSUER),
    flag("default-requests-per-day-quota", POSITIVE, Issuers, QUOTA).of(ISSUER).default("10000"),
    flag("allow-target-issuers", Bool, Issuers, TARGET_ISSUERS).of(ISSUER).default("false"),
    flag("allowed-private-ranges", Ranges, Issuers, PRIVATE_RANGES).unset("none").ours(),
    flag("acme-deactivate-authorizations", Bool, Issuers, DEACTIVATE).of(ISSUER).default("false"),
    flag("ca-certificates", Paths, Issuers, CA_CERTIFICATES)
        .variable("LEGO_CA_CERTIFICATES")
        .ours()
        .common(),
    flag(
        "ca-system-cert-pool",
        Bool,
        Issuers,
        "Trust the root certificates of the system in addition to --ca-certificates",
    )
    .default("false")
    .variable("LEGO_CA_SYSTEM_CERT_POOL")
    .ours(),
    flag("orders-at-once", POSITIVE, Issuers, "Maximum number of concurrent orders of an issuer")
        .default("100")
        .ours(),
    flag("acme-limits", Word(&["auto", "letsencrypt", "off"]), Issuers, ACME_LIMITS)
        .default("auto")
        .ours(),
    //
    flag("cert-class", List("CLASS,…"), Certificates, CLASS)
        .of(ISSUER_AND_SOURCES)
        .default("gardencert")
        .common(),
    flag("renewal-window", Duration, Certificates, RENEWAL_WINDOW)
        .of(ISSUER)
        .default("720h")
        .common(),
    flag("default-renew-before-percentage", PERCENTAGE, Certificates, RENEW_BEFORE_PERCENTAGE)
        .unset("--renewal-window, or a third of a lifetime below 90 days")
        .ours(),
    flag("acme-renewal-info", Bool, Certificates, RENEWAL_INFO).default("true").ours(),
    flag("renewal-overdue-window", Duration, Certificates, OVERDUE).of(ISSUER).default("600h"),
    flag("cascade-delete", Bool, Certificates, CASCADE_DELETE).of(ISSUER).default("false").common(),
    flag("default-private-key-algorithm", Word(&["RSA", "ECDSA"]), Certificates, KEY_ALGORITHM)
        .unset("ECDSA, unless --default-rsa-private-key-size is set")
        .of(ISSUER)
        .differs("RSA", ECDSA),
    flag("default-rsa-private-key-size", Word(&["2048", "3072", "4096"]), Certificates, RSA_SIZE)
        .of(ISSUER)
        .default("2048"),
    flag("default-ecdsa-private-key-size", Word(&["256", "384"]), Certificates, ECDSA_SIZE)
        .of(ISSUER)
        .default("256"),
    flag("allow-cross-namespace-secrets", Bool, Certificates, CROSS_NAMESPACE)
        .default("false")
        .ours()
        .common(),
    flag("reuse-across-namespaces", Bool, Certificates, REUSE).default("false").ours(),
    //
    flag("dns-namespace", Text("NAMESPACE"), Challenges, DNS_NAMESPACE)
        .unset("the namespace of the Certificate")
        .of(ISSUER)
        .common(),
    flag("dns-class", Text("CLASS"), Challenges, DNS_CLASS).unset("none").of(ISSUER).common(),
    flag("dns-owner-id", Text("ID"), Challenges, "spec.ownerId of challenge DNSEntries").of(ISSUER),
    flag("use-dnsrecords", Bool, Challenges, DNSRECORDS).of(ISSUER).default("false"),
    flag("precheck-nameservers", Nameservers, Challenges, PRECHECK)
        .unset("the authoritative servers of its zone")
        .of(ISSUER)
        .differs("8.8.8.8:53,8.8.4.4:53", AUTHORITATIVE)
        .common(),
    flag("precheck-additional-wait", Duration, Challenges, ADDITIONAL_WAIT)
        .unset("10s, or none if an authoritative server returns the record")
        .of(ISSUER)
        .differs("10s", SHOWN_BY_AUTHORITY),
    flag("propagation-timeout", Duration, Challenges, PROPAGATION_TIMEOUT)
        .of(ISSUER)
        .default("2m")
        .differs("1m0s", "upstream's default, too, has been 2m0s since 2021"),
    //
    flag("cert-target-class", Text("CLASS"), Sources, TARGET_CLASS)
        .unset("none if the default class is served, else the main class")
        .of(SOURCES),
    flag("target-namespace", Text("NAMESPACE"), Sources, TARGET_NAMESPACE)
        .unset("that of the source object")
        .of(SOURCES)
        .common(),
    flag("target-name-prefix", Text("PREFIX"), Sources, NAME_PREFIX).of(SOURCES),
    //
    flag("answer-dns", Sockets, Responder, ANSWER_DNS).ours().common(),
    flag(
        "answer-zone",
        Zones,
        Responder,
        "Zone that is delegated to --answer-dns; may be repeated",
    )
    .ours()
    .common(),
    flag("answer-address", Addresses, Responder, ANSWER_ADDRESS).ours(),
    flag("answer-ns", Host, Responder, ANSWER_NS).unset("ns.<zone>").ours(),
    flag("answer-mailbox", Mailbox, Responder, ANSWER_MAILBOX).unset("hostmaster.<zone>").ours(),
    flag("answer-ttl", TTL, Responder, ANSWER_TTL).default("10").ours(),
    flag("answer-rate-limit", RATE, Responder, ANSWER_RATE_LIMIT).default("200").ours(),
    //
    flag("server-port-http", TCP_PORT, Server, PORT).unset("no server").common(),
    flag("bind-address-http", Text("IP"), Server, BIND_ADDRESS).unset("all"),
    flag("metrics-authorization", Bool, Server, METRICS_AUTHORIZATION).default("false").ours(),
    flag("metrics-per-certificate", NUMBER, Server, PER_CERTIFICATE).default("10000").ours(),
    flag("cpuprofile", Path, Server, "Write a CPU profile to this file"),
    //
    flag("omit-lease", Bool, Lease, OMIT_LEASE).default("false").common(),
    flag("namespace", Text("NAMESPACE"), Lease, LEASE_NAMESPACE)
        .unset("NAMESPACE, then the namespace of the pod, then kube-system")
        .default("kube-system")
        .variable("NAMESPACE"),
    flag("lease-name", Text("NAME"), Lease, "Name of the lease").unset("<name>-controllers"),
    flag("lease-duration", Duration, Lease, "How long a lease is valid without renewal")
        .default("15s"),
    flag("lease-renew-deadline", Duration, Lease, "How long a leader tries to renew its lease")
        .default("10s"),
    flag(
        "lease-retry-period",
        Duration,
        Lease,
        "Interval of attempts to acquire or renew the lease",
    )
    .default("2s"),
    flag("lease-resource-lock", Word(&["leases"]), Lease, "Kind of the lease")
        .default("leases")
        .idle("there is only one kind"),
    //
    flag("disable-deploy-crds", Bool, Definitions, NO_CRDS).each(CLUSTERS).default("false"),
    flag("conditional-deploy-crds", Bool, Definitions, CONDITIONAL).each(CLUSTERS).default("false"),
    flag("crds-shoot-no-cleanup-label", Bool, Definitions, NO_CLEANUP)
        .each(CLUSTERS)
        .default("false"),
    flag("maintainer", Text("KEY"), Definitions, MAINTAINER).default("cert-controller-manager"),
    flag("accepted-maintainers", List("KEY,…"), Definitions, ACCEPTED_MAINTAINERS),
    flag("force-crd-update", Bool, Definitions, "Update CRDs of all maintainers").default("false"),
    //
    flag("grace-period", Duration, Idle, "Deprecated; ignored")
        .idle("the manager stops without delay"),
    flag("plugin-file", Path, Idle, "Directory of Go plugins").idle("there are no plugins"),
    flag("namespace-local-access-only", Bool, Idle, "Restrict references to the own namespace")
        .short('n')
        .idle(RESTRICTION),
    flag("disable-namespace-restriction", Bool, Idle, "Lift the restriction of references")
        .idle(RESTRICTION),
    flag("pool.size", NUMBER, Idle, POOL_SIZE).of(CONTROLLERS_ALL).idle(POOLS),
    flag("pool.resync-period", Duration, Idle, RESYNC).of(ISSUER_AND_SOURCES).idle(POOLS),
    flag("default.pool.size", NUMBER, Idle, POOL_SIZE).of(CONTROLLERS_ALL).idle(POOLS),
    flag("default.pool.resync-period", Duration, Idle, RESYNC).of(ISSUER_AND_SOURCES).idle(POOLS),
    flag("issuers.pool.size", NUMBER, Idle, POOL_SIZE).of(ISSUER).idle(POOLS),
    flag("secrets.pool.size", NUMBER, Idle, POOL_SIZE).of(ISSUER).idle(POOLS),
    flag("revocations.pool.size", NUMBER, Idle, POOL_SIZE).of(ISSUER).idle(POOLS),
    flag("targets.pool.size", NUMBER, Idle, POOL_SIZE).of(SOURCES).idle(POOLS),
    flag("targetsources.pool.size", NUMBER, Idle, POOL_SIZE).of(ISTIO).idle(POOLS),
    flag("virtualservices.pool.size", NUMBER, Idle, POOL_SIZE).of(ISTIO).idle(POOLS),
    flag("httproutes.pool.size", NUMBER, Idle, POOL_SIZE).of(GATEWAY).idle(POOLS),
];

/// Flags of the command `answer`.
pub const ANSWER: &[Flag] = &[
    flag("kubeconfig", Kubeconfig, General, "Kubeconfig of the cluster with the DNSEntries")
        .variable("KUBECONFIG")
        .common(),
    flag("dns", Sockets, General, "Address of the DNS server, UDP and TCP; may be repeated")
        .ours()
        .common(),
    flag("zone", Zones, General, "Zone that is delegated to the responder; may be repeated")
        .ours()
        .common(),
    flag("answer-address", Addresses, General, ANSWER_ADDRESS).ours().common(),
    flag("ns", Host, General, ANSWER_NS).unset("ns.<zone>").ours().common(),
    flag("mailbox", Mailbox, General, ANSWER_MAILBOX).unset("hostmaster.<zone>").ours().common(),
    flag("ttl", TTL, General, ANSWER_TTL).default("10").ours().common(),
    flag("rate-limit", RATE, General, ANSWER_RATE_LIMIT).default("200").ours().common(),
    flag("dns-class", Text("CLASS"), General, ANSWER_CLASS).unset("those without").common(),
    flag("dns-namespace", Text("NAMESPACE"), General, "Namespace of the DNSEntries")
        .unset("all")
        .common(),
    flag("disable-deploy-crds", Bool, General, NO_ENTRY_CRD).default("false").ours().common(),
    flag("server-port-http", TCP_PORT, General, PORT).unset("no server").common(),
    flag("bind-address-http", Text("IP"), General, BIND_ADDRESS).unset("all").common(),
    LOG_LEVEL,
    LOG_FORMAT,
];

const LOG_LEVEL: Flag =
    flag("log-level", LogLevel, General, LEVELS).short('D').default("info").common();
const LOG_FORMAT: Flag = flag("log-format", Word(&["text", "json"]), General, "text or json")
    .default("text")
    .ours()
    .common();

const ISSUER: &[&str] = &["issuer"];
const ISTIO: &[&str] = &["istio-gateways-dns"];
const GATEWAY: &[&str] = &["k8s-gateways-dns"];
const SOURCES: &[&str] = &SourceController::NAMES;
const ISSUER_AND_SOURCES: &[&str] = CONTROLLERS_ALL.split_at(1 + SOURCES.len()).0;
const CONTROLLERS_ALL: &[&str] = &controllers::NAMES;
const CLUSTERS: &[&str] = &["kubeconfig", "source", "dns", "target"];
const PERCENTAGE: super::Kind = Number { least: 1, most: 99 };
const POSITIVE: super::Kind = Number { least: 1, most: u32::MAX };
const TCP_PORT: super::Kind = Number { least: 0, most: 65_535 };
const TTL: super::Kind = Number { least: 0, most: MAX_TTL };
const RATE: super::Kind = Number { least: 0, most: 1_000_000 };

const LEVELS: &str = "error, warn, info, debug or trace, or a filter such as \
     info,kube_client=debug";
const KUBECONFIG: &str = "Kubeconfig of the default cluster, with Issuers, account keys and \
     lease: a file, IN-CLUSTER or ENVIRONMENT";
const SOURCE: &str = "Kubeconfig of the source cluster, with Certificates, Ingresses, \
     Services and Gateways";
const DNS: &str = "Kubeconfig of the dns cluster, with challenge DNSEntries";
const TARGET: &str = "Kubeconfig of the target cluster, with the Secrets of certificates";
const ID: &str = "Id of the cluster in annotations";
const MIGRATION_IDS: &str = "Former ids of the cluster";
const QPS: &str = "Requests to the cluster per second; 0 is no limit";
const BURST: &str = "Burst of requests to the cluster above --<cluster>.qps; 0 is twice that \
     number";
const UNLIMITED: &str = "API priority and fairness limits requests, and the steady state sends \
     none";
const ISSUER_NAMESPACE: &str = "Namespace of the Issuers in the default cluster";
const DOMAIN_RANGES: &str = "Domains of the default issuer";
const QUOTA: &str = "Orders per day of an issuer without requestsPerDayQuota";
const TARGET_ISSUERS: &str = "Serve Issuers in the target cluster, too; it must differ from \
     the default cluster";
const PRIVATE_RANGES: &str = "Allowed ranges of private addresses, such as 10.0.0.0/8, for servers that \
     tenants choose: ACME servers of Issuers in the target cluster, and name servers of zones";
const DEACTIVATE: &str = "Deactivate authorizations after every order";
const CA_CERTIFICATES: &str = "PEM file with root certificates of ACME servers; several are \
     separated by a colon. They replace the root certificates of the system unless --ca-system-cert-pool is set";
const ACME_LIMITS: &str = "Rate limits to estimate in advance: those of Let's Encrypt for its \
     production server (auto), the same limits for every ACME server (letsencrypt), or none (off). \
     Limits that a server imposes always apply";
const CLASS: &str = "Classes of served objects (annotation cert.gardener.cloud/class); \
     the first is the main class";
const RENEWAL_WINDOW: &str = "How long before its expiry a certificate with a lifetime of 90 days or more \
     is renewed, unless the Certificate or the CA specifies another time";
const RENEW_BEFORE_PERCENTAGE: &str = "Percentage of the lifetime that is left when a certificate is \
     renewed, unless the Certificate or the CA specifies another time";
const RENEWAL_INFO: &str = "Use ACME renewal information (RFC 9773)";
const OVERDUE: &str = "How long before its expiry a certificate counts as overdue in the metrics";
const CASCADE_DELETE: &str = "Delete Secrets with their Certificates";
const REUSE: &str = "Reuse certificates and keys for Certificates with the same request in all namespaces \
     of a cluster, not only within each namespace";
const KEY_ALGORITHM: &str = "Algorithm of keys if the Certificate specifies none: RSA or ECDSA";
const ECDSA: &str = "smaller and faster; existing Secrets are kept until they are renewed";
const RSA_SIZE: &str = "Size of RSA keys if the Certificate specifies none: 2048, 3072 or 4096";
const ECDSA_SIZE: &str = "Size of ECDSA keys if the Certificate specifies none: 256 or 384";
const CROSS_NAMESPACE: &str = "Allow Secrets in other namespaces than the Certificate. Without this \
     flag, that namespace must allow it with the annotation cert.gardener.cloud/allow-secrets-from";
const DNS_NAMESPACE: &str = "Namespace of challenge DNSEntries";
const DNS_CLASS: &str = "Class annotation of challenge DNSEntries";
const DNSRECORDS: &str = "Use DNSRecords of Gardener for challenges instead of DNSEntries";
const PRECHECK: &str = "DNS servers (host, host:port or https://host/dns-query) that must return \
     a challenge record before the challenge is accepted";
const AUTHORITATIVE: &str = "they have new records first, and the CA queries them, too; an empty \
     value means the same";
const ADDITIONAL_WAIT: &str = "Delay after the record is visible";
const SHOWN_BY_AUTHORITY: &str = "also 10s, unless an authoritative server returns the record";
const PROPAGATION_TIMEOUT: &str =
    "Deadline for a record to become visible, and the TTL of the record";
const TARGET_CLASS: &str = "Class of generated Certificates";
const TARGET_NAMESPACE: &str = "Namespace of the Secrets in the target cluster, if it differs from \
     the source cluster";
const NAME_PREFIX: &str = "Prefix of generated names, if target and source cluster differ";
const ANSWER_DNS: &str = "Answer DNS queries for challenge records on this address, UDP and \
     TCP; may be repeated";
const ANSWER_ADDRESS: &str = "Public address of the responder, which its zones have as address of \
     the name server; may be repeated";
const ANSWER_NS: &str =
    "Host name of the name server, in NS and SOA records; it may be outside the zones";
const ANSWER_MAILBOX: &str = "Mailbox in SOA records, such as hostmaster@example.org";
const ANSWER_TTL: &str =
    "Maximum TTL of challenge records in seconds; negative answers have half of it";
const ANSWER_RATE_LIMIT: &str = "Maximum number of answers over UDP per second to a network of clients \
     (IPv4 /24, IPv6 /56), after five times as many at once; 0 is no limit";
const BIND_ADDRESS: &str = "Address of the HTTP server";
const ANSWER_CLASS: &str = "Class annotation of the published DNSEntries";
const PORT: &str = "Port of /healthz, /readyz and /metrics; 0 disables the server";
const PER_CERTIFICATE: &str = "Maximum number of Certificates with their own series in the metrics";
const OMIT_LEASE: &str = "Run without a lease; safe only if there is a single process";
const LEASE_NAMESPACE: &str = "Namespace of the lease";
const METRICS_AUTHORIZATION: &str = "Require a bearer token of the default cluster for /metrics, whose \
     user may get the URL /metrics";
const NO_ENTRY_CRD: &str = "Do not create a missing CRD of DNSEntry";
const NO_CRDS: &str = "Do not deploy CRDs to the cluster";
const CONDITIONAL: &str = "Update only CRDs that Gardener does not deploy as ManagedResources";
const NO_CLEANUP: &str = "Label CRDs with shoot.gardener.cloud/no-cleanup";
const MAINTAINER: &str = "Name of this manager in the maintainer annotation of CRDs";
const ACCEPTED_MAINTAINERS: &str = "Other maintainers whose CRDs are updated; UNMANAGED stands for CRDs \
     without maintainer";
const RESTRICTION: &str = "references are always restricted by namespace";
const POOL_SIZE: &str = "Number of workers";
const RESYNC: &str = "Interval of a full resync";
const POOLS: &str = "there are no worker pools, and every object has its own schedule";
