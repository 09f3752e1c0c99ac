//! Metrics. One registry per process, no globals.
//!
//! There are three kinds: counters, which components increment through a [`Metrics`]; gauges about
//! Certificates, Secrets and queues, which are computed for each scrape ([`Inventory`]); and metrics of
//! the process. [`families`] defines all of them.
//!
//! The number of label values is bounded. They come from closed sets, from existing issuers (see
//! [`Metrics::set_issuer`]), and from the [`Limits::certificates`] Certificates that expire first.
//! Tenants cannot create more.

mod answers;
pub mod calls;
pub mod families;
pub mod inventory;
mod issuers;
mod labels;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard},
    time::Duration,
};

use ::http::{Method, StatusCode};
use cert_lib::model::reason::Reason;
use jiff::Timestamp;
use prometheus::{
    HistogramVec, IntCounterVec, IntGaugeVec, Registry, Result, TextEncoder,
    process_collector::ProcessCollector, proto::MetricFamily,
};
use tokio::sync::watch;

use self::{
    answers::AnswerCounters,
    issuers::{Issuers, OTHER},
    labels::{CLASSES, METHODS, bool_word, class, method_word},
};
pub use self::{
    answers::{DnsTransport, LimitedAnswer, TcpConnection},
    families::reference,
    inventory::{CertificateEntry, Inventory, SecretCounts},
    issuers::{Account, IssuerFacts},
    labels::{IssuanceResult, QueryResult, Verb},
};
use crate::{
    api::{IssuerKey, issuer::IssuerKind},
    runtime::role::{Reachability, Role},
};

/// See the [module](self). Clones share everything.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

/// Maximum numbers of series.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Certificates with their own series; those that expire first are selected.
    pub certificates: usize,
    /// Issuers with their own label value; the first ones are selected.
    pub issuers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { certificates: 10_000, issuers: 500 }
    }
}

struct Inner {
    registry: Registry,
    limits: Limits,
    issuers: RwLock<Issuers>,
    inventory: OnceLock<Arc<dyn Inventory>>,
    queues: Mutex<Vec<(&'static str, Measure)>>,
    clusters: Mutex<Vec<(Role, watch::Receiver<Reachability>)>>,
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
    answers: AnswerCounters,
    leader: IntGaugeVec,
}

type Measure = Box<dyn Fn() -> QueueSize + Send + Sync>;

/// The size of the queue of a controller.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct QueueSize {
    /// Objects that are ready to be reconciled.
    pub ready: usize,
    /// Objects that are being reconciled.
    pub running: usize,
}

/// A finished issuance attempt.
#[derive(Clone, Copy, Debug)]
pub struct Issuance<'a> {
    /// The issuer.
    pub issuer: &'a IssuerKey,
    /// The trigger: the reason of the plan that started it.
    pub reason: Reason,
    /// The result.
    pub result: IssuanceResult,
    /// Number of DNS names with published challenges.
    pub challenges: usize,
    /// Duration.
    pub took: Duration,
    /// End time.
    pub at: Timestamp,
}

impl Metrics {
    /// All metrics, at zero.
    ///
    /// # Errors
    /// When two metrics have the same name, which a test excludes.
    pub fn new(limits: Limits) -> Result<Self> {
        let registry = Registry::new();
        registry.register(Box::new(ProcessCollector::for_self()))?;
        let build = families::BUILD.gauges(&registry)?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let leader = families::LEADER.gauges(&registry)?;
        leader.with_label_values(NONE).set(0);
        Ok(Self(Arc::new(Inner {
            limits,
            issuers: RwLock::new(Issuers::new(limits.issuers)),
            inventory: OnceLock::new(),
            queues: Mutex::default(),
            clusters: Mutex::default(),
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
            answers: AnswerCounters::new(&registry)?,
            leader,
            registry,
        })))
    }

    /// Adds or updates an issuer.
    pub fn set_issuer(&self, issuer: &IssuerKey, facts: &IssuerFacts) {
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

    /// Removes a deleted issuer with all its series.
    pub fn forget_issuer(&self, issuer: &IssuerKey) {
        let mut issuers = self.0.issuers.write().unwrap_or_else(PoisonError::into_inner);
        let Some((label, facts)) = issuers.remove(issuer) else { return };
        let servers = servers(&issuers);
        drop(issuers);
        let Some(label) = label else { return };
        self.forget_facts(&label, &facts, &servers);
        // Removing a series that does not exist has no effect.
        for success in BOOLS {
            for renew in BOOLS {
                for challenges in 0..=MAX_CHALLENGES {
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

    /// Removes the series of an account, and of a server without other issuers.
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
            for code in CLASSES {
                let _ = self.0.acme_calls.remove_label_values(&[server, method, code]);
            }
        }
        let _ = self.0.acme_time.remove_label_values(&[server]);
    }

    /// Counts a finished issuance attempt.
    pub fn issuance(&self, issuance: &Issuance<'_>) {
        let issuers = self.issuers();
        let (label, kind) = issuers.label_and_kind(issuance.issuer);
        let Issuance { reason, result, .. } = *issuance;
        self.0.issuances.with_label_values(&[label, reason.word(), result.word()]).inc();
        let success = result == IssuanceResult::Issued;
        if kind == IssuerKind::Acme.word() {
            let challenges = issuance.challenges.min(MAX_CHALLENGES).to_string();
            let labels = [label, bool_word(success), &challenges, bool_word(is_renewal(reason))];
            self.0.orders.with_label_values(&labels).inc();
        }
        if success {
            self.0.issuance_time.with_label_values(&[label]).observe(issuance.took.as_secs_f64());
            self.0.last_success.with_label_values(&[label]).set(issuance.at.as_second());
        }
    }

    /// Counts a request to an ACME server; `status` is `None` without a response.
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

    /// Counts a DNS query.
    pub fn dns_call(&self, result: QueryResult, took: Duration) {
        self.0.dns_calls.with_label_values(&[result.word()]).inc();
        self.0.dns_time.with_label_values(NONE).observe(took.as_secs_f64());
    }

    /// Counts a query to the DNS responder by the code of its answer; `None` without an answer.
    pub fn answered(&self, transport: DnsTransport, code: Option<u16>) {
        self.0.answers.answered(transport, code);
    }

    /// Counts an answer of the DNS responder above the rate limit.
    pub fn answer_limited(&self, answer: LimitedAnswer) {
        self.0.answers.limited(answer);
    }

    /// Counts a TCP connection of the DNS responder.
    pub fn answer_connection(&self, connection: TcpConnection) {
        self.0.answers.connection(connection);
    }

    /// Counts a request to an API server; `status` is `None` without a response.
    pub fn kube_call(&self, role: Role, verb: Verb, status: Option<StatusCode>) {
        self.0.kube_calls.with_label_values(&[role.name(), verb.word(), class(status)]).inc();
    }

    /// Adds the reachability of a cluster.
    pub fn watch_cluster(&self, role: Role, reachability: watch::Receiver<Reachability>) {
        let mut clusters = self.0.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        clusters.push((role, reachability));
    }

    /// Sets whether this process leads.
    pub fn set_leader(&self, leads: bool) {
        self.0.leader.with_label_values(NONE).set(i64::from(leads));
    }

    /// Adds the queue of a controller.
    pub fn watch_queue(
        &self,
        controller: &'static str,
        measure: impl Fn() -> QueueSize + Send + Sync + 'static,
    ) {
        let mut queues = self.0.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.push((controller, Box::new(measure)));
    }

    /// Sets the source of gauges about Certificates and Secrets, once.
    pub fn set_inventory(&self, inventory: Arc<dyn Inventory>) {
        let _ = self.0.inventory.set(inventory);
    }

    /// Renders all metrics in the text format of Prometheus. Needs a blocking thread, because it visits
    /// all Certificates.
    ///
    /// # Errors
    /// When two metrics have the same name, which a test excludes.
    pub fn page(&self) -> Result<String> {
        let scraped = Registry::new();
        let issuers = self.issuers();
        if let Some(inventory) = self.0.inventory.get() {
            inventory::take(inventory.as_ref(), &issuers, self.0.limits.certificates, &scraped)?;
        }
        let omitted = i64::try_from(issuers.omitted()).unwrap_or(i64::MAX);
        families::ISSUERS_OMITTED.gauges(&scraped)?.with_label_values(NONE).set(omitted);
        drop(issuers);
        self.measure_queues(&scraped)?;
        self.measure_clusters(&scraped)?;
        let mut all: Vec<MetricFamily> = self.0.registry.gather();
        all.extend(scraped.gather());
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

    fn measure_clusters(&self, registry: &Registry) -> Result<()> {
        let reachable = families::REACHABLE.gauges(registry)?;
        let clusters = self.0.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        for (role, reachability) in clusters.iter() {
            let answers = *reachability.borrow() == Reachability::Reachable;
            reachable.with_label_values(&[role.name()]).set(i64::from(answers));
        }
        Ok(())
    }

    fn issuers(&self) -> RwLockReadGuard<'_, Issuers> {
        self.0.issuers.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn servers(issuers: &Issuers) -> BTreeSet<String> {
    issuers.servers().into_iter().map(str::to_owned).collect()
}

/// Whether the trigger is the renewal of a valid certificate.
fn is_renewal(reason: Reason) -> bool {
    matches!(reason, Reason::RenewalDue | Reason::RenewalDemanded)
}

/// Maximum value of the label. The label contains the plain number, as in upstream.
const MAX_CHALLENGES: usize = 100;
const BOOLS: [&str; 2] = ["true", "false"];
const NONE: &[&str; 0] = &[];

#[cfg(test)]
mod tests;
