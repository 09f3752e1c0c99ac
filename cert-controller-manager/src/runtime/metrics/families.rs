//! Definitions of all metrics: name, type, labels and help. The registry and the reference are
//! generated from them.
//!
//! The first block has the names and labels of upstream, for existing dashboards and alerts. Errors of
//! upstream in counting are corrected (see the help of each metric).

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, Result};

/// One metric.
#[derive(Debug)]
pub struct Family {
    /// Name
    pub name: &'static str,
    /// Type
    pub kind: Kind,
    /// Label names.
    pub labels: &'static [&'static str],
    /// Help text, for the metrics page and the reference.
    pub help: &'static str,
}

/// Type of a metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only increases; starts at zero with the process.
    Counter,
    /// Increases and decreases.
    Gauge,
    /// Distribution over buckets with these upper bounds.
    Histogram(&'static [f64]),
}

impl Kind {
    /// The type on the metrics page.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

impl Family {
    pub(super) fn counters(&self, registry: &Registry) -> Result<IntCounterVec> {
        let family = IntCounterVec::new(Opts::new(self.name, self.help), self.labels)?;
        registry.register(Box::new(family.clone()))?;
        Ok(family)
    }

    pub(super) fn gauges(&self, registry: &Registry) -> Result<IntGaugeVec> {
        let family = IntGaugeVec::new(Opts::new(self.name, self.help), self.labels)?;
        registry.register(Box::new(family.clone()))?;
        Ok(family)
    }

    pub(super) fn histograms(&self, registry: &Registry) -> Result<HistogramVec> {
        let buckets = match self.kind {
            Kind::Histogram(limits) => limits.to_vec(),
            Kind::Counter | Kind::Gauge => Vec::new(),
        };
        let options = HistogramOpts::new(self.name, self.help).buckets(buckets);
        let family = HistogramVec::new(options, self.labels)?;
        registry.register(Box::new(family.clone()))?;
        Ok(family)
    }
}

const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Family {
    Family { name, kind: Kind::Counter, labels, help }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, labels, help }
}

const fn histogram(
    name: &'static str,
    labels: &'static [&'static str],
    buckets: &'static [f64],
    help: &'static str,
) -> Family {
    Family { name, kind: Kind::Histogram(buckets), labels, help }
}

/// From self-signed certificates to orders with slow DNS propagation.
const ISSUANCE_SECONDS: &[f64] =
    &[1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0];
const CALL_SECONDS: &[f64] = &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

// Metrics of upstream.
pub(super) const ACCOUNTS: Family = gauge(
    "cert_management_acme_account_registrations",
    &["uri", "email", "issuer"],
    "1 for each ACME account in use.",
);
pub(super) const ORDERS: Family = counter(
    "cert_management_acme_orders",
    &["issuer", "success", "dns_challenges", "renew"],
    "Finished ACME orders, including orders without challenges and orders that failed early. \
     dns_challenges is the number of published challenges, at most 100.",
);
pub(super) const CHALLENGES: Family = gauge(
    "cert_management_acme_active_dns_challenges",
    &["issuer"],
    "DNS names with published challenges of running orders.",
);
pub(super) const ENTRIES: Family = gauge(
    "cert_management_cert_entries",
    &["issuertype", "issuer"],
    "Certificates of each issuer.",
);
pub(super) const EXPIRE: Family = gauge(
    "cert_management_cert_object_expire",
    &["namespace", "name"],
    "Expiry of the certificate in Unix seconds, 0 if there is none. Only for the Certificates that \
     expire first; see cert_management_cert_object_expire_omitted.",
);
pub(super) const OVERDUE: Family = gauge(
    "cert_management_overdue_renewal_certificates",
    &[],
    "Certificates with an overdue renewal (--renewal-overdue-window).",
);
pub(super) const REVOKED: Family =
    gauge("cert_management_revoked_certificates", &[], "Revoked certificates.");
pub(super) const SECRETS: Family = gauge(
    "cert_management_secrets",
    &["classification"],
    "Secrets with certificates: all Secrets (total), backups (backup), and Secrets with a revoked \
     certificate (revoked).",
);

// Certificates.
pub(super) const EXPIRE_OMITTED: Family = gauge(
    "cert_management_cert_object_expire_omitted",
    &[],
    "Certificates above the limit of series in cert_management_cert_object_expire.",
);
pub(super) const STATES: Family = gauge(
    "cert_management_certificates",
    &["state"],
    "Certificates by state; the state is empty before the first reconciliation.",
);
pub(super) const REASONS: Family = gauge(
    "cert_management_certificates_by_reason",
    &["reason"],
    "Certificates by the reason of their Ready condition.",
);
pub(super) const NEXT_RENEWAL: Family = gauge(
    "cert_management_next_renewal_timestamp_seconds",
    &[],
    "Time of the next renewal in Unix seconds, 0 if there is none. In the past if a renewal is late.",
);
pub(super) const NEXT_EXPIRY: Family = gauge(
    "cert_management_next_expiry_timestamp_seconds",
    &[],
    "Time of the next expiry of a certificate in Unix seconds, 0 if there is none.",
);

// Issuance.
pub(super) const ISSUANCES: Family = counter(
    "cert_management_issuances_total",
    &["issuer", "reason", "result"],
    "Issuance attempts by trigger and result: issued or failed.",
);
pub(super) const ISSUANCE_TIME: Family = histogram(
    "cert_management_issuance_seconds",
    &["issuer"],
    ISSUANCE_SECONDS,
    "Duration of successful issuance attempts.",
);
pub(super) const LAST_SUCCESS: Family = gauge(
    "cert_management_last_success_timestamp_seconds",
    &["issuer"],
    "Time of the last successful issuance by this process in Unix seconds.",
);
pub(super) const ISSUERS_OMITTED: Family = gauge(
    "cert_management_issuers_omitted",
    &[],
    "Issuers above the limit of label values; they are counted as `other`.",
);

// Outgoing calls.
pub(super) const ACME_CALLS: Family = counter(
    "cert_management_acme_requests_total",
    &["server", "method", "code"],
    "Requests to ACME servers by class of the response status: 2xx, 3xx, 4xx, 5xx, or error without \
     a response. server is the host of an issuer's directory, or other.",
);
pub(super) const ACME_TIME: Family = histogram(
    "cert_management_acme_request_seconds",
    &["server"],
    CALL_SECONDS,
    "Duration of requests to ACME servers.",
);
pub(super) const DNS_CALLS: Family = counter(
    "cert_management_dns_queries_total",
    &["result"],
    "DNS queries for challenge records by result: found, empty, no_such_name, failed (the server \
     refused or failed), unreachable.",
);
pub(super) const DNS_TIME: Family = histogram(
    "cert_management_dns_query_seconds",
    &[],
    CALL_SECONDS,
    "Duration of DNS queries for challenge records.",
);
pub(super) const KUBE_CALLS: Family = counter(
    "cert_management_kube_requests_total",
    &["cluster", "verb", "code"],
    "Requests to API servers by cluster (default, source, dns, target) and class of the response \
     status: 2xx, 3xx, 4xx, 5xx, or error without a response.",
);

// The DNS responder.
pub(super) const ANSWERED: Family = counter(
    "cert_management_answer_queries_total",
    &["transport", "code"],
    "Queries to the DNS responder by transport (udp, tcp) and response code: NOERROR, NXDOMAIN, REFUSED, \
     FORMERR, NOTIMP, BADVERS, SERVFAIL, or none for messages that are no queries.",
);
pub(super) const ANSWERS_LIMITED: Family = counter(
    "cert_management_answer_limited_total",
    &["action"],
    "Answers of the DNS responder above --answer-rate-limit: dropped, or truncated, which lets the \
     client repeat its query over TCP.",
);
pub(super) const ANSWER_CONNECTIONS: Family = counter(
    "cert_management_answer_tcp_connections_total",
    &["result"],
    "TCP connections of the DNS responder: accepted, replaced (closed for a new one at the limit), \
     failed (could not be accepted).",
);

// The manager.
pub(super) const REACHABLE: Family = gauge(
    "cert_management_cluster_reachable",
    &["cluster"],
    "1 if the cluster is reachable, else 0.",
);
pub(super) const LEADER: Family =
    gauge("cert_management_leader", &[], "1 if this process is the leader, 0 if it is a standby.");
pub(super) const QUEUE_DEPTH: Family =
    gauge("cert_management_queue_depth", &["controller"], "Objects that wait to be reconciled.");
pub(super) const PASSES: Family =
    gauge("cert_management_running_passes", &["controller"], "Objects that are being reconciled.");
pub(super) const BUILD: Family =
    gauge("cert_management_build_info", &["version"], "Always 1; the label has the version.");

/// Standard process metrics, which prometheus' own collector measures.
const PROCESS: [Family; 7] = [
    counter("process_cpu_seconds_total", &[], "Total user and system CPU time spent in seconds."),
    gauge("process_resident_memory_bytes", &[], "Resident memory size in bytes."),
    gauge("process_virtual_memory_bytes", &[], "Virtual memory size in bytes."),
    gauge("process_open_fds", &[], "Number of open file descriptors."),
    gauge("process_max_fds", &[], "Maximum number of open file descriptors."),
    gauge("process_threads", &[], "Number of OS threads in the process."),
    gauge(
        "process_start_time_seconds",
        &[],
        "Start time of the process since unix epoch in seconds.",
    ),
];

/// All metrics, in the order of the reference.
pub const ALL: &[&Family] = &[
    &ACCOUNTS,
    &ORDERS,
    &CHALLENGES,
    &ENTRIES,
    &EXPIRE,
    &OVERDUE,
    &REVOKED,
    &SECRETS,
    &EXPIRE_OMITTED,
    &STATES,
    &REASONS,
    &NEXT_RENEWAL,
    &NEXT_EXPIRY,
    &ISSUANCES,
    &ISSUANCE_TIME,
    &LAST_SUCCESS,
    &ISSUERS_OMITTED,
    &ACME_CALLS,
    &ACME_TIME,
    &DNS_CALLS,
    &DNS_TIME,
    &KUBE_CALLS,
    &ANSWERED,
    &ANSWERS_LIMITED,
    &ANSWER_CONNECTIONS,
    &REACHABLE,
    &LEADER,
    &QUEUE_DEPTH,
    &PASSES,
    &BUILD,
    &PROCESS[0],
    &PROCESS[1],
    &PROCESS[2],
    &PROCESS[3],
    &PROCESS[4],
    &PROCESS[5],
    &PROCESS[6],
];

/// Renders the reference as Markdown.
#[must_use]
pub fn reference() -> String {
    let mut text = String::from(HEAD);
    for family in ALL {
        let labels: Vec<_> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = if labels.is_empty() { "–".to_owned() } else { labels.join(", ") };
        let (name, kind, help) = (family.name, family.kind.word(), family.help);
        text.push_str(&format!("| `{name}` | {kind} | {labels} | {help} |\n"));
    }
    text
}

const HEAD: &str = "\
<!-- Generated by `cert-controller-manager generate metrics`. Do not edit. -->
# Metrics

`/metrics` on the port that `--server-port-http` names, in Prometheus' text format.
The label `issuer` is the name of an Issuer in the issuer namespace, or `target:<namespace>/<name>` for the target cluster.
It is `other` for issuers above the limit of label values, and empty if the Issuer does not exist.
Gauges about Certificates and Secrets are computed for each scrape. Counters start at zero with each process.

| name | type | labels | meaning |
|---|---|---|---|
";
