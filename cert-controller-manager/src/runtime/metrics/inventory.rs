//! Gauges about Certificates and Secrets, computed for each scrape in one iteration.

use std::collections::{BTreeMap, BinaryHeap};

use cert_lib::model::reason::Reason;
use jiff::Timestamp;
use prometheus::{Registry, Result};

use crate::{
    api::IssuerKey,
    runtime::metrics::{families, issuers::Issuers},
};

/// The source of the gauges. Called for each scrape, by one thread at a time.
pub trait Inventory: Send + Sync {
    /// Visits each Certificate that the manager is responsible for.
    fn certificates(&self, visit: &mut dyn FnMut(&CertificateEntry<'_>));
    /// Visits each running order: its issuer, and its number of DNS names with challenges.
    fn orders(&self, visit: &mut dyn FnMut(&IssuerKey, u64));
    /// Counts the Secrets with certificates.
    fn secrets(&self) -> SecretCounts;
}

/// A Certificate. Its texts may come from an untrusted cluster, so they become label values only if they
/// are in a closed set.
#[derive(Clone, Copy, Debug)]
pub struct CertificateEntry<'a> {
    /// Namespace
    pub namespace: &'a str,
    /// Name
    pub name: &'a str,
    /// Its issuer, or the default issuer.
    pub issuer: &'a IssuerKey,
    /// `status.state`
    pub state: &'a str,
    /// Reason of its `Ready` condition; empty if there is none.
    pub reason: &'a str,
    /// Expiry of its certificate.
    pub not_after: Option<Timestamp>,
    /// When its certificate is to be renewed.
    pub renewal_at: Option<Timestamp>,
    /// Whether the renewal is overdue.
    pub overdue: bool,
}

/// Numbers of Secrets with certificates.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SecretCounts {
    /// All Secrets.
    pub total: u64,
    /// Backups
    pub backup: u64,
    /// Secrets with a revoked certificate.
    pub revoked: u64,
}

/// Values of `status.state`; every other value is counted as `other`.
const STATES: [&str; 6] = ["", "Pending", "Waiting", "Ready", "Error", "Revoked"];

/// Registers the gauges with `registry`. At most `series` Certificates get their own series.
pub(super) fn take(
    inventory: &dyn Inventory,
    issuers: &Issuers,
    series: usize,
    registry: &Registry,
) -> Result<()> {
    let mut tally = Tally::new(series);
    inventory.certificates(&mut |entry| tally.count(entry, issuers));
    tally.publish(registry)?;
    let challenges = families::CHALLENGES.gauges(registry)?;
    issuers.each_label(|label, _| challenges.with_label_values(&[label]).set(0));
    inventory.orders(&mut |issuer, names| {
        challenges.with_label_values(&[issuers.label(issuer)]).add(signed(names));
    });
    let counts = inventory.secrets();
    let secrets = families::SECRETS.gauges(registry)?;
    secrets.with_label_values(&["total"]).set(signed(counts.total));
    secrets.with_label_values(&["backup"]).set(signed(counts.backup));
    secrets.with_label_values(&["revoked"]).set(signed(counts.revoked));
    Ok(())
}

/// The sums over all Certificates.
struct Tally {
    states: BTreeMap<&'static str, i64>,
    reasons: BTreeMap<&'static str, i64>,
    entries: BTreeMap<(&'static str, String), i64>,
    overdue: i64,
    revoked: i64,
    next_renewal: Option<Timestamp>,
    next_expiry: Option<Timestamp>,
    series: usize,
    total: usize,
    /// The Certificates that expire first, the last one of them on top.
    soonest: BinaryHeap<(Timestamp, String, String)>,
}

impl Tally {
    fn new(series: usize) -> Self {
        Self {
            states: STATES.iter().map(|state| (*state, 0)).collect(),
            reasons: Reason::ALL.iter().map(|reason| (reason.word(), 0)).collect(),
            entries: BTreeMap::new(),
            overdue: 0,
            revoked: 0,
            next_renewal: None,
            next_expiry: None,
            series,
            total: 0,
            soonest: BinaryHeap::new(),
        }
    }

    fn count(&mut self, entry: &CertificateEntry<'_>, issuers: &Issuers) {
        let state = STATES.iter().find(|state| **state == entry.state).copied().unwrap_or("other");
        *self.states.entry(state).or_default() += 1;
        let reason = Reason::ALL.iter().map(|reason| reason.word());
        let reason = reason.into_iter().find(|word| *word == entry.reason).unwrap_or_default();
        *self.reasons.entry(reason).or_default() += 1;
        let (label, kind) = issuers.label_and_kind(entry.issuer);
        match self.entries.get_mut(&(kind, label.to_owned())) {
            Some(count) => *count += 1,
            None => drop(self.entries.insert((kind, label.to_owned()), 1)),
        }
        self.overdue += i64::from(entry.overdue);
        self.revoked += i64::from(entry.state == "Revoked");
        self.next_renewal = earlier(self.next_renewal, entry.renewal_at);
        self.next_expiry = earlier(self.next_expiry, entry.not_after);
        self.select(entry);
    }

    /// Certificates without expiry come last, so that a tenant cannot displace others with them.
    fn select(&mut self, entry: &CertificateEntry<'_>) {
        self.total += 1;
        let end = entry.not_after.unwrap_or(Timestamp::MAX);
        let fits = self.soonest.len() < self.series
            || self.soonest.peek().is_some_and(|(last, _, _)| end < *last);
        if fits {
            self.soonest.push((end, entry.namespace.to_owned(), entry.name.to_owned()));
        }
        if self.soonest.len() > self.series {
            self.soonest.pop();
        }
    }

    fn publish(self, registry: &Registry) -> Result<()> {
        let states = families::STATES.gauges(registry)?;
        for (state, count) in self.states {
            states.with_label_values(&[state]).set(count);
        }
        let reasons = families::REASONS.gauges(registry)?;
        for (reason, count) in self.reasons {
            reasons.with_label_values(&[reason]).set(count);
        }
        let entries = families::ENTRIES.gauges(registry)?;
        for ((kind, label), count) in self.entries {
            entries.with_label_values(&[kind, label.as_str()]).set(count);
        }
        let none: [&str; 0] = [];
        let one = |family: &families::Family, value: i64| -> Result<()> {
            family.gauges(registry)?.with_label_values(&none).set(value);
            Ok(())
        };
        one(&families::OVERDUE, self.overdue)?;
        one(&families::REVOKED, self.revoked)?;
        one(&families::NEXT_RENEWAL, self.next_renewal.map_or(0, Timestamp::as_second))?;
        one(&families::NEXT_EXPIRY, self.next_expiry.map_or(0, Timestamp::as_second))?;
        let omitted = self.total.saturating_sub(self.series);
        one(&families::EXPIRE_OMITTED, i64::try_from(omitted).unwrap_or(i64::MAX))?;
        let expire = families::EXPIRE.gauges(registry)?;
        for (end, namespace, name) in self.soonest {
            let end = if end == Timestamp::MAX { 0 } else { end.as_second() };
            expire.with_label_values(&[namespace.as_str(), name.as_str()]).set(end);
        }
        Ok(())
    }
}

fn earlier(known: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    known.into_iter().chain(other).min()
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
