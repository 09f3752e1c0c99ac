//! Every metric there is: name, type, labels and meaning. The registry and the reference are made
//! from these definitions, so neither can differ from the other.
//!
//! Names and labels of the first block are upstream's. Its dashboards and alerts go on working; what
//! upstream counted wrongly is counted right (see the meaning of each).

use prometheus::{
    CounterVec, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry,
    Result,
};

/// One metric.
#[derive(Debug)]
pub struct Family {
    /// Name
    pub name: &'static str,
    /// Type
    pub kind: Kind,
    /// Names of the labels.
    pub labels: &'static [&'static str],
    /// Meaning, as on the metrics page and in the reference.
    pub help: &'static str,
}

/// Type of a metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Goes up; starts at zero with the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Distribution over buckets with these upper limits.
    Histogram(&'static [f64]),
}

impl Kind {
    /// The word on the metrics page.
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

    /// Counters for values with a fraction.
    pub(super) fn sums(&self, registry: &Registry) -> Result<CounterVec> {
        let family = CounterVec::new(Opts::new(self.name, self.help), self.labels)?;
        registry.register(Box::new(family.clone()))?;
        Ok(family)
    }

    /// Gauges for values with a fraction.
    pub(super) fn fractions(&self, registry: &Registry) -> Result<GaugeVec> {
        let family = GaugeVec::new(Opts::new(self.name, self.help), self.labels)?;
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

/// From a self-signed certificate to an order that waits for a slow DNS.
const ISSUANCE_SECONDS: &[f64] =
    &[1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0];
const CALL_SECONDS: &[f64] = &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

// Upstream's.
pub(super) const ACCOUNTS: Family = gauge(
    "cert_management_acme_account_registrations",
    &["uri", "email", "issuer"],
    "1 for each ACME account in use.",
);
pub(super) const ORDERS: Family = counter(
    "cert_management_acme_orders",
    &["issuer", "success", "dns_challenges", "renew"],
    "Finished ACME orders, also those that needed no challenge or failed before one. \
     dns_challenges is how many were published, 100 at most.",
);
pub(super) const CHALLENGES: Family = gauge(
    "cert_management_acme_active_dns_challenges",
    &["issuer"],
    "DNS names that running orders publish challenges for.",
);
pub(super) const ENTRIES: Family = gauge(
    "cert_management_cert_entries",
    &["issuertype", "issuer"],
    "Certificates of each issuer.",
);
pub(super) const EXPIRE: Family = gauge(
    "cert_management_cert_object_expire",
    &["namespace", "name"],
    "End of the certificate in unix seconds, 0 if there is none. Of those that end soonest only; \
     see cert_management_cert_object_expire_omitted.",
);
pub(super) const OVERDUE: Family = gauge(
    "cert_management_overdue_renewal_certificates",
    &[],
    "Certificates that should have been renewed by now (--renewal-overdue-window).",
);
pub(super) const REVOKED: Family =
    gauge("cert_management_revoked_certificates", &[], "Certificates that were revoked.");
pub(super) const SECRETS: Family = gauge(
    "cert_management_secrets",
    &["classification"],
    "Secrets with certificates: all of them (total), backups (backup), and those whose \
     certificate was revoked (revoked).",
);

// Ours: certificates.
pub(super) const EXPIRE_OMITTED: Family = gauge(
    "cert_management_cert_object_expire_omitted",
    &[],
    "Certificates without a series in cert_management_cert_object_expire, because there are too \
     many.",
);
pub(super) const STATES: Family = gauge(
    "cert_management_certificates",
    &["state"],
    "Certificates by state; the state is empty for those that were not looked at yet.",
);
pub(super) const REASONS: Family = gauge(
    "cert_management_certificates_by_reason",
    &["reason"],
    "Certificates by the reason of their Ready condition.",
);
pub(super) const NEXT_RENEWAL: Family = gauge(
    "cert_management_next_renewal_timestamp_seconds",
    &[],
    "When the next certificate is to be renewed, in unix seconds; 0 if there is none. In the past \
     when a renewal is late.",
);
pub(super) const NEXT_EXPIRY: Family = gauge(
    "cert_management_next_expiry_timestamp_seconds",
    &[],
    "When the first certificate ends, in unix seconds; 0 if there is none.",
);

// Ours: issuing.
pub(super) const ISSUANCES: Family = counter(
    "cert_management_issuances_total",
    &["issuer", "reason", "result"],
    "Tries to issue a certificate, by why it was wanted and by result: issued or failed.",
);
pub(super) const ISSUANCE_TIME: Family = histogram(
    "cert_management_issuance_seconds",
    &["issuer"],
    ISSUANCE_SECONDS,
    "From the order to the certificate, for those that were issued.",
);
pub(super) const LAST_SUCCESS: Family = gauge(
    "cert_management_last_success_timestamp_seconds",
    &["issuer"],
    "When the issuer last issued a certificate to this process, in unix seconds.",
);
pub(super) const ISSUERS_OMITTED: Family = gauge(
    "cert_management_issuers_omitted",
    &[],
    "Issuers without a label of their own, because there are too many; they are counted as \
     `other`.",
);

// Ours: calls.
pub(super) const ACME_CALLS: Family = counter(
    "cert_management_acme_requests_total",
    &["server", "method", "code"],
    "Requests to ACME servers by class of the answer's status: 2xx, 3xx, 4xx, 5xx, or error where \
     no answer came. server is the host of an issuer's directory, or other.",
);
pub(super) const ACME_TIME: Family = histogram(
    "cert_management_acme_request_seconds",
    &["server"],
    CALL_SECONDS,
    "How long requests to ACME servers took.",
);
pub(super) const DNS_CALLS: Family = counter(
    "cert_management_dns_queries_total",
    &["result"],
    "DNS queries about challenge records by result: found, empty, no_such_name, failed (the server \
     refused or failed), unreachable.",
);
pub(super) const DNS_TIME: Family = histogram(
    "cert_management_dns_query_seconds",
    &[],
    CALL_SECONDS,
    "How long DNS queries about challenge records took.",
);
pub(super) const KUBE_CALLS: Family = counter(
    "cert_management_kube_requests_total",
    &["cluster", "verb", "code"],
    "Requests to API servers by cluster (default, source, dns, target) and class of the answer's \
     status: 2xx, 3xx, 4xx, 5xx, or error where no answer came.",
);

// Ours: the process.
pub(super) const REACHABLE: Family =
    gauge("cert_management_cluster_reachable", &["cluster"], "1 if the cluster answers, 0 if not.");
pub(super) const LEADER: Family =
    gauge("cert_management_leader", &[], "1 if this process leads, 0 if it stands by.");
pub(super) const QUEUE_DEPTH: Family = gauge(
    "cert_management_queue_depth",
    &["controller"],
    "Objects that are ready for a pass and wait for their turn.",
);
pub(super) const PASSES: Family = gauge(
    "cert_management_running_passes",
    &["controller"],
    "Passes over objects that are running.",
);
pub(super) const BUILD: Family =
    gauge("cert_management_build_info", &["version"], "1; the label tells the version.");

// The usual ones of a process.
pub(super) const CPU: Family =
    counter("process_cpu_seconds_total", &[], "Processor time used, in seconds.");
pub(super) const RESIDENT: Family =
    gauge("process_resident_memory_bytes", &[], "Memory that is in RAM.");
pub(super) const VIRTUAL: Family =
    gauge("process_virtual_memory_bytes", &[], "Memory that is addressed.");
pub(super) const OPEN_FDS: Family = gauge("process_open_fds", &[], "Open file descriptors.");
pub(super) const MAX_FDS: Family =
    gauge("process_max_fds", &[], "How many file descriptors may be open.");
pub(super) const THREADS: Family = gauge("process_threads", &[], "Threads.");
pub(super) const START: Family =
    gauge("process_start_time_seconds", &[], "When the process started, in unix seconds.");

/// All of them, in the order of the reference.
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
    &REACHABLE,
    &LEADER,
    &QUEUE_DEPTH,
    &PASSES,
    &BUILD,
    &CPU,
    &RESIDENT,
    &VIRTUAL,
    &OPEN_FDS,
    &MAX_FDS,
    &THREADS,
    &START,
];

/// The reference as Markdown.
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
The label `issuer` is the name of an Issuer in the issuer namespace, `target:<namespace>/<name>` of one in the target cluster,
`other` where there are too many to have a label each, and empty where no such Issuer exists.
Gauges about Certificates and Secrets are counted when the page is asked for. Counters start at zero with each process.

| name | type | labels | meaning |
|---|---|---|---|
";
