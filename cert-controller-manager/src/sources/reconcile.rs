//! The pass of all source kinds: reads an object and its Certificates from the caches, calls
//! [`decide`], and executes the changes.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    act::{Act, Failure},
    controller::Sources,
    decide::{Decision, decide},
    entry::Entries,
    extract::{Extracted, extract},
    index::Known,
    key::SourceKey,
    owned_certificates::OwnedCertificate,
    state::SourceState,
};
use crate::runtime::heavy::heavy;

/// How long an object must be missing before its Certificates are deleted. Normal deletions do
/// not wait for this: owner references or finalizers delete the Certificates. The delay protects
/// against kinds that disappear for a short time.
const DELETE_AFTER: Duration = Duration::from_secs(10);
/// Maximum number of entries, routes and Certificates that are processed on the async workers, which
/// takes a few milliseconds. Larger objects use a blocking thread, which costs memory.
const MAX_INLINE: usize = 50;
const MIN_RETRY_DELAY: Duration = Duration::from_secs(2);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(300);

impl Sources {
    /// Reconciles one object. Returns the delay until the next attempt, if one is necessary.
    pub async fn reconcile(&self, key: SourceKey) -> Option<Duration> {
        // The object is enqueued again when the missing lists are complete.
        if !self.watches.known(key.kind, self.since())
            || !self.owned.complete(self.certificate_clusters())
        {
            return None;
        }
        let known = self.index.find(&key);
        let owned = self.owned.of(&key);
        if let Some(wait) = self.missing(&key, &known, &owned) {
            return wait;
        }
        let mut extracted = known.object.as_ref().map_or_else(Extracted::default, |object| {
            let classes = &self.settings.classes;
            let parent = known.parent.as_ref().map(|gateway| (gateway, known.labels.as_deref()));
            let extract = || extract(&key, object, parent, &known.routes, classes);
            let entries = match &object.entries {
                Entries::All(entries) => entries.len(),
                Entries::TooMany | Entries::NoRoom => 0,
            };
            if entries + known.routes.len() > MAX_INLINE { heavy(extract) } else { extract() }
        });
        let (failures, left_out) = self.sync(&key, &known, &extracted, &owned).await;
        extracted.problems.extend(left_out);
        self.report(&key, &known, &extracted, &owned, &failures);
        self.retry_delay(key, &failures)
    }

    /// For a missing object, the result with which the reconciliation ends; `None` to continue.
    fn missing(
        &self,
        key: &SourceKey,
        known: &Known,
        owned: &[OwnedCertificate],
    ) -> Option<Option<Duration>> {
        let mut retry_states = self.retry_states();
        if known.object.is_some() {
            if let Some(retry_states) = retry_states.get_mut(key) {
                retry_states.missing_since = None;
            }
            return None;
        }
        if owned.is_empty() {
            retry_states.remove(key);
            drop(retry_states);
            self.feedback.forget(key);
            return Some(None);
        }
        let now = Instant::now();
        let since = *retry_states.entry(key.clone()).or_default().missing_since.get_or_insert(now);
        let left = DELETE_AFTER.saturating_sub(now.duration_since(since));
        (!left.is_zero()).then_some(Some(left))
    }

    async fn sync(
        &self,
        key: &SourceKey,
        known: &Known,
        extracted: &Extracted,
        owned: &[OwnedCertificate],
    ) -> (Vec<Failure>, Option<String>) {
        let object = known.object.as_ref();
        let has_target = self.clusters.target.is_some();
        let settings = &self.settings;
        let state = SourceState { key, object, extracted, owned, has_target, settings };
        let act = Act { clusters: &self.clusters, state: &state, feedback: &self.feedback };
        let mut failures = Vec::new();
        let is_quick = extracted.certificates.len() + owned.len() <= MAX_INLINE;
        let Decision { changes, problem } =
            if is_quick { decide(&state) } else { heavy(|| decide(&state)) };
        for change in changes {
            if let Err(failure) = act.run(&change).await {
                tracing::info!(source = %key, "{key}: {failure}");
                failures.push(failure);
            }
        }
        (failures, problem)
    }

    fn report(
        &self,
        key: &SourceKey,
        known: &Known,
        extracted: &Extracted,
        owned: &[OwnedCertificate],
        failures: &[Failure],
    ) {
        let Some(object) = &known.object else { return };
        let refused = failures.iter().filter(|failure| failure.is_refusal).map(ToString::to_string);
        let problems: Vec<String> = extracted.problems.iter().cloned().chain(refused).collect();
        self.feedback.report_problems(key, object, &problems);
        if !extracted.certificates.is_empty() {
            self.feedback.report_states(key, object, owned);
        }
        // Even without certificates: invalid routes may be the reason.
        if extracted.responsible {
            self.feedback.report_route_problems(self.index.problems(key));
        }
    }

    fn retry_delay(&self, key: SourceKey, failures: &[Failure]) -> Option<Duration> {
        let mut retry_states = self.retry_states();
        if failures.is_empty() {
            retry_states.remove(&key);
            return None;
        }
        let retry_states = retry_states.entry(key).or_default();
        retry_states.failures = retry_states.failures.saturating_add(1);
        let factor = 1 << retry_states.failures.saturating_sub(1).min(10);
        Some((MIN_RETRY_DELAY * factor).min(MAX_RETRY_DELAY))
    }
}
