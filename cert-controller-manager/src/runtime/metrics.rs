//! What is counted and measured. One registry per process, no globals.
//!
//! Three kinds of metrics: counters that everybody holds a [`Metrics`] for; gauges about
//! Certificates, Secrets and queues, which are asked for when the page is ([`Census`]); and those of
//! the process. What they are called is in [`families`].
//!
//! Labels are bounded: they come from closed sets, from the issuers that exist (see
//! [`Metrics::know_issuer`]), and for the end of certificates from the first [`Limits::certificates`]
//! of them. Nothing that a tenant writes can make more.

pub mod calls;
pub mod census;
pub mod families;
mod issuers;
mod process;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard},
    time::Duration,
};

use ::http::{Method, StatusCode};
use cert_lib::model::reason::Reason;
use jiff::Timestamp;
use prometheus::{
    HistogramVec, IntCounterVec, IntGaugeVec, Registry, Result, TextEncoder, proto::MetricFamily,
};

use self::issuers::{Issuers, OTHER};
pub use self::{
    census::{Census, CertificateEntry, SecretCounts},
    families::reference,
    issuers::{Account, IssuerFacts, IssuerKind},
};
use crate::api::IssuerKey;

/// See the [module](self). Clones share everything.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

/// How many series there may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Certificates with a series of their own, those that end soonest.
    pub certificates: usize,
    /// Issuers with a label of their own, those that were there first.
    pub issuers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { certificates: 5_000, issuers: 500 }
    }
}

struct Inner {
    registry: Registry,
    limits: Limits,
    issuers: RwLock<Issuers>,
    census: OnceLock<Arc<dyn Census>>,
    queues: Mutex<Vec<(&'static str, Measure)>>,
    accounts: IntGaugeVec,
    orders: IntCounterVec,
    issuances: IntCounterVec,
    issuance_time: HistogramVec,
    last_success: IntGaugeVec,
    acme_calls: IntCounterVec,
    acme_time: HistogramVec,
    dns_calls: IntCounterVec,
    dns_time: HistogramVec,
    kube_calls: IntCounterVec,
    reachable: IntGaugeVec,
    leader: IntGaugeVec,
}

type Measure = Box<dyn Fn() -> QueueSize + Send + Sync>;

/// How much a controller has to do.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct QueueSize {
    /// Objects that wait for their turn.
    pub ready: usize,
    /// Passes that run.
    pub running: usize,
}

/// A try to issue a certificate that came to an end.
#[derive(Clone, Copy, Debug)]
pub struct Issuance<'a> {
    /// Who was asked.
    pub issuer: &'a IssuerKey,
    /// Why it was wanted: the reason of the plan that started it.
    pub reason: Reason,
    /// How it ended.
    pub result: IssuanceResult,
    /// For how many DNS names challenges were published.
    pub challenges: usize,
    /// From its start to its end.
    pub took: Duration,
    /// When it ended.
    pub at: Timestamp,
}

/// How a try to issue a certificate ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum IssuanceResult {
    /// There is a certificate.
    Issued,
    /// There is none, and the order is given up.
    Failed,
}

/// One of the four logical clusters, as a label.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// `--kubeconfig`
    Default,
    /// `--source`
    Source,
    /// `--dns`
    Dns,
    /// `--target`
    Target,
}

/// What an API server is asked to do, as a label.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verb {
    /// Read one object.
    Get,
    /// Read all.
    List,
    /// Follow all.
    Watch,
    /// Make one.
    Create,
    /// Replace one.
    Update,
    /// Change one.
    Patch,
    /// Remove one.
    Delete,
}

/// What came of a DNS query, as a label.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum QueryResult {
    /// There are records.
    Found,
    /// There is the name, and no such record.
    Empty,
    /// There is no such name.
    NoSuchName,
    /// The server refused or failed.
    Failed,
    /// No answer came.
    Unreachable,
}

impl Metrics {
    /// Everything at zero.
    ///
    /// # Errors
    /// When two metrics have the same name, which a test rules out.
    pub fn new(limits: Limits) -> Result<Self> {
        let registry = Registry::new();
        let build = families::BUILD.gauges(&registry)?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let leader = families::LEADER.gauges(&registry)?;
        leader.with_label_values(NONE).set(0);
        Ok(Self(Arc::new(Inner {
            limits,
            issuers: RwLock::new(Issuers::new(limits.issuers)),
            census: OnceLock::new(),
            queues: Mutex::default(),
            accounts: families::ACCOUNTS.gauges(&registry)?,
            orders: families::ORDERS.counters(&registry)?,
            issuances: families::ISSUANCES.counters(&registry)?,
            issuance_time: families::ISSUANCE_TIME.histograms(&registry)?,
            last_success: families::LAST_SUCCESS.gauges(&registry)?,
            acme_calls: families::ACME_CALLS.counters(&registry)?,
            acme_time: families::ACME_TIME.histograms(&registry)?,
            dns_calls: families::DNS_CALLS.counters(&registry)?,
            dns_time: families::DNS_TIME.histograms(&registry)?,
            kube_calls: families::KUBE_CALLS.counters(&registry)?,
            reachable: families::REACHABLE.gauges(&registry)?,
            leader,
            registry,
        })))
    }

    /// There is such an issuer, and this is known of it. Said again when something changes.
    pub fn know_issuer(&self, issuer: &IssuerKey, facts: &IssuerFacts) {
        let mut issuers = self.0.issuers.write().unwrap_or_else(PoisonError::into_inner);
        let before = issuers.put(issuer, facts.clone());
        let servers = servers(&issuers);
        let label = issuers.label(issuer).to_owned();
        drop(issuers);
        if let Some(before) = before {
            self.forget_facts(&label, &before, &servers);
        }
        if let Some(account) = facts.account.as_ref().filter(|_| label != OTHER) {
            let labels = [account.uri.as_str(), account.email.as_str(), label.as_str()];
            self.0.accounts.with_label_values(&labels).set(1);
        }
    }

    /// There is no such issuer any more: its series go.
    pub fn forget_issuer(&self, issuer: &IssuerKey) {
        let mut issuers = self.0.issuers.write().unwrap_or_else(PoisonError::into_inner);
        let Some((label, facts)) = issuers.remove(issuer) else { return };
        let servers = servers(&issuers);
        drop(issuers);
        let Some(label) = label else { return };
        self.forget_facts(&label, &facts, &servers);
        // What is not there cannot be removed, and need not.
        for success in BOOLS {
            for renew in BOOLS {
                for challenges in 0..=MOST_CHALLENGES {
                    let labels = [label.as_str(), success, &challenges.to_string(), renew];
                    let _ = self.0.orders.remove_label_values(&labels);
                }
            }
        }
        for reason in Reason::ALL {
            for result in [IssuanceResult::Issued, IssuanceResult::Failed] {
                let labels = [label.as_str(), reason.word(), result.word()];
                let _ = self.0.issuances.remove_label_values(&labels);
            }
        }
        let _ = self.0.issuance_time.remove_label_values(&[label.as_str()]);
        let _ = self.0.last_success.remove_label_values(&[label.as_str()]);
    }

    /// Removes the series of an account and of a server that nobody has any more.
    fn forget_facts(&self, label: &str, facts: &IssuerFacts, servers: &BTreeSet<String>) {
        if let Some(account) = &facts.account {
            let labels = [account.uri.as_str(), account.email.as_str(), label];
            let _ = self.0.accounts.remove_label_values(&labels);
        }
        let Some(server) = facts.server.as_deref().filter(|server| !servers.contains(*server))
        else {
            return;
        };
        for method in METHODS {
            for code in CODES {
                let _ = self.0.acme_calls.remove_label_values(&[server, method, code]);
            }
        }
        let _ = self.0.acme_time.remove_label_values(&[server]);
    }

    /// A try to issue a certificate came to an end.
    pub fn issuance(&self, issuance: &Issuance<'_>) {
        let issuers = self.issuers();
        let (label, kind) = issuers.label_and_kind(issuance.issuer);
        let Issuance { reason, result, .. } = *issuance;
        self.0.issuances.with_label_values(&[label, reason.word(), result.word()]).inc();
        let success = result == IssuanceResult::Issued;
        if kind == IssuerKind::Acme.word() {
            let challenges = issuance.challenges.min(MOST_CHALLENGES).to_string();
            let labels = [label, bool_word(success), &challenges, bool_word(is_renewal(reason))];
            self.0.orders.with_label_values(&labels).inc();
        }
        if success {
            self.0.issuance_time.with_label_values(&[label]).observe(issuance.took.as_secs_f64());
            self.0.last_success.with_label_values(&[label]).set(issuance.at.as_second());
        }
    }

    /// An ACME server was asked; `status` is `None` where no answer came.
    pub fn acme_call(
        &self,
        host: &str,
        method: &Method,
        status: Option<StatusCode>,
        took: Duration,
    ) {
        let issuers = self.issuers();
        let server = issuers.server(host);
        let labels = [server, method_word(method), class(status)];
        self.0.acme_calls.with_label_values(&labels).inc();
        self.0.acme_time.with_label_values(&[server]).observe(took.as_secs_f64());
    }

    /// A DNS server was asked.
    pub fn dns_call(&self, result: QueryResult, took: Duration) {
        self.0.dns_calls.with_label_values(&[result.word()]).inc();
        self.0.dns_time.with_label_values(NONE).observe(took.as_secs_f64());
    }

    /// An API server was asked; `status` is `None` where no answer came.
    pub fn kube_call(&self, role: Role, verb: Verb, status: Option<StatusCode>) {
        self.0.kube_calls.with_label_values(&[role.word(), verb.word(), class(status)]).inc();
    }

    /// Whether a cluster answers.
    pub fn cluster_reachable(&self, role: Role, reachable: bool) {
        self.0.reachable.with_label_values(&[role.word()]).set(i64::from(reachable));
    }

    /// Whether this process leads.
    pub fn leads(&self, leads: bool) {
        self.0.leader.with_label_values(NONE).set(i64::from(leads));
    }

    /// From now on each page asks how much `controller` has to do.
    pub fn watch_queue(
        &self,
        controller: &'static str,
        measure: impl Fn() -> QueueSize + Send + Sync + 'static,
    ) {
        let mut queues = self.0.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.push((controller, Box::new(measure)));
    }

    /// From now on each page asks `census`. The first one stays.
    pub fn count_with(&self, census: Arc<dyn Census>) {
        let _ = self.0.census.set(census);
    }

    /// The page: everything in Prometheus' text format. It may take a while where there are many
    /// Certificates, so it belongs on a thread that may block.
    ///
    /// # Errors
    /// When two metrics have the same name, which a test rules out.
    pub fn page(&self) -> Result<String> {
        let asked = Registry::new();
        process::take(&asked)?;
        let issuers = self.issuers();
        if let Some(census) = self.0.census.get() {
            census::take(census.as_ref(), &issuers, self.0.limits.certificates, &asked)?;
        }
        let omitted = i64::try_from(issuers.omitted()).unwrap_or(i64::MAX);
        families::ISSUERS_OMITTED.gauges(&asked)?.with_label_values(NONE).set(omitted);
        drop(issuers);
        self.measure_queues(&asked)?;
        let mut all: Vec<MetricFamily> = self.0.registry.gather();
        all.extend(asked.gather());
        all.sort_by(|left, right| left.name().cmp(right.name()));
        TextEncoder::new().encode_to_string(&all)
    }

    fn measure_queues(&self, registry: &Registry) -> Result<()> {
        let depth = families::QUEUE_DEPTH.gauges(registry)?;
        let passes = families::PASSES.gauges(registry)?;
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        for (name, measure) in self.0.queues.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let size = measure();
            depth.with_label_values(&[*name]).set(count(size.ready));
            passes.with_label_values(&[*name]).set(count(size.running));
        }
        Ok(())
    }

    fn issuers(&self) -> RwLockReadGuard<'_, Issuers> {
        self.0.issuers.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IssuanceResult {
    fn word(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Failed => "failed",
        }
    }
}

impl Role {
    /// The label.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Source => "source",
            Self::Dns => "dns",
            Self::Target => "target",
        }
    }
}

impl Verb {
    /// The verb of a request: a read of many is a list, or a watch where its query says so.
    #[must_use]
    pub fn of(method: &Method, path: &str, query: Option<&str>) -> Self {
        match *method {
            Method::POST => Self::Create,
            Method::PUT => Self::Update,
            Method::PATCH => Self::Patch,
            Method::DELETE => Self::Delete,
            _ if query.is_some_and(asks_for_watch) => Self::Watch,
            _ if names_one(path) => Self::Get,
            _ => Self::List,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
        }
    }
}

fn asks_for_watch(query: &str) -> bool {
    query.split('&').any(|pair| matches!(pair, "watch" | "watch=true" | "watch=1"))
}

/// Whether a path of the Kubernetes API names one object: `…/<plural>/<name>` behind the version and
/// the namespace. What is not about objects, like `/version`, counts as one.
fn names_one(path: &str) -> bool {
    let mut parts = path.trim_matches('/').split('/');
    let resource = match parts.next() {
        Some("api") => parts.nth(1),
        Some("apis") => parts.nth(2),
        _ => return true,
    };
    let rest: Vec<_> = parts.collect();
    match (resource, rest.as_slice()) {
        (None, _) => true,
        // The namespace itself, or what is in it.
        (Some("namespaces"), [_] | [_, _, _, ..]) => true,
        (Some("namespaces"), [] | [_, _]) => false,
        (Some(_), names) => !names.is_empty(),
    }
}

impl QueryResult {
    fn word(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Empty => "empty",
            Self::NoSuchName => "no_such_name",
            Self::Failed => "failed",
            Self::Unreachable => "unreachable",
        }
    }
}

fn servers(issuers: &Issuers) -> BTreeSet<String> {
    issuers.servers().into_iter().map(str::to_owned).collect()
}

/// Whether there was a certificate that did its duty until then.
fn is_renewal(reason: Reason) -> bool {
    matches!(reason, Reason::RenewalDue | Reason::RenewalDemanded)
}

fn bool_word(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

fn method_word(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        _ => OTHER,
    }
}

/// Class of a status.
fn class(status: Option<StatusCode>) -> &'static str {
    match status.map(|status| status.as_u16() / 100) {
        Some(1) => "1xx",
        Some(2) => "2xx",
        Some(3) => "3xx",
        Some(4) => "4xx",
        Some(_) => "5xx",
        None => "error",
    }
}

/// A certificate has 99 names at most; upstream's label is the plain number.
const MOST_CHALLENGES: usize = 100;
const BOOLS: [&str; 2] = ["true", "false"];
const METHODS: [&str; 4] = ["GET", "HEAD", "POST", OTHER];
const CODES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "error"];
const NONE: &[&str; 0] = &[];

#[cfg(test)]
mod tests;
