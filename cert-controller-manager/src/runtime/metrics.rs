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
mod labels;
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
use tokio::sync::watch;

pub use self::{
    census::{Census, CertificateEntry, SecretCounts},
    families::reference,
    issuers::{Account, IssuerFacts},
    labels::{IssuanceResult, QueryResult, Verb},
};
use self::{
    issuers::{Issuers, OTHER},
    labels::{CLASSES, METHODS, bool_word, class, method_word},
};
use crate::{
    api::{IssuerKey, issuer::IssuerKind},
    runtime::clusters::{Reachability, Role},
};

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
        Self { certificates: 10_000, issuers: 500 }
    }
}

struct Inner {
    registry: Registry,
    limits: Limits,
    issuers: RwLock<Issuers>,
    census: OnceLock<Arc<dyn Census>>,
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
            for code in CLASSES {
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
        self.0.kube_calls.with_label_values(&[role.name(), verb.word(), class(status)]).inc();
    }

    /// From now on each page says whether this cluster answers.
    pub fn watch_cluster(&self, role: Role, reachability: watch::Receiver<Reachability>) {
        let mut clusters = self.0.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        clusters.push((role, reachability));
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
        self.ask_clusters(&asked)?;
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

    fn ask_clusters(&self, registry: &Registry) -> Result<()> {
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

/// Whether there was a certificate that did its duty until then.
fn is_renewal(reason: Reason) -> bool {
    matches!(reason, Reason::RenewalDue | Reason::RenewalDemanded)
}

/// A certificate has 99 names at most; upstream's label is the plain number.
const MOST_CHALLENGES: usize = 100;
const BOOLS: [&str; 2] = ["true", "false"];
const NONE: &[&str; 0] = &[];

#[cfg(test)]
mod tests;
