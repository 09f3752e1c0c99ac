//! Requests renewal information from CAs (RFC 9773) and caches it.
//!
//! The status stores the answer. The time of the next request is in memory only: after a restart,
//! the first requests are spread over a time that grows with the number of Certificates. Renewal
//! works without an answer, so failures are logged at debug level only.

use std::time::Duration;

use cert_lib::{
    issue::{Disposition, Issuer, RenewalInfo},
    model::{bundle::Leaf, cert_id::CertId, reason::Reason},
    plan::{
        SecretState, Stored, Want,
        renewal::{Suggested, deterministic_hash},
    },
};
use jiff::{SignedDuration, Timestamp};
use kube::Resource;
use tokio::sync::Semaphore;

use super::{observe::Observed, reconcile::Controller, record::CertificateRecords};
use crate::{
    api::{Certificate, CertificateKey, certificate::RenewalInfoStatus, time::seconds},
    issuers::registry::Lookup,
};

/// When to request renewal information for each Certificate. See the [module](self).
#[derive(Debug)]
pub struct Renewals {
    /// If false, no CA is asked, and stored answers are ignored.
    enabled: bool,
    records: CertificateRecords,
    /// Limits the number of passes that a slow CA can block.
    requests: Semaphore,
}

#[derive(Debug)]
pub(super) struct Schedule {
    /// Hash of the certificate's ACME identifier.
    certificate: u32,
    /// Time of the next request.
    next: Timestamp,
    failures: u8,
    /// The answer of the CA, until the status contains it.
    answer: Option<Box<Suggested>>,
}

impl Renewals {
    /// Keeps the schedule of each Certificate in its record.
    #[must_use]
    pub fn new(enabled: bool, records: CertificateRecords) -> Self {
        Self { enabled, records, requests: Semaphore::new(MAX_REQUESTS) }
    }

    /// The suggested renewal window of the certificate `id`. An answer for another certificate is
    /// dropped.
    fn suggested(
        &self,
        key: &CertificateKey,
        certificate: &Certificate,
        id: &CertId,
    ) -> Option<Suggested> {
        if !self.enabled {
            return None;
        }
        let stored = stored_suggestion(certificate, id);
        let answer = self.known(key, |known| {
            // The status contains the answer, so the copy in memory is not needed.
            known.answer.take_if(|answer| Some(answer.as_ref()) == stored.as_ref());
            known.answer.clone().filter(|answer| answer.certificate == *id)
        });
        answer.map(|answer| *answer).or(stored)
    }

    /// Whether a request for the certificate `id` is due. A new entry gets a time that depends on
    /// the number of Certificates, `count`, so that a restart does not cause a burst.
    fn is_due(&self, key: &CertificateKey, id: &CertId, count: usize, now: Timestamp) -> bool {
        let certificate = deterministic_hash(&[id.as_str().as_bytes()]);
        let next =
            self.known(key, |known| (known.certificate == certificate).then_some(known.next));
        let next = next.unwrap_or_else(|| {
            let spread =
                (STARTUP_SPACING * u32::try_from(count).unwrap_or(u32::MAX)).min(DEFAULT_INTERVAL);
            let next = later(now, spread.mul_f64(fraction_of(certificate)));
            self.put(key, Schedule { certificate, next, failures: 0, answer: None });
            next
        });
        // A time this far in the future means that the clock was set back.
        next <= now || next > later(now, DEFAULT_INTERVAL * 2)
    }

    /// When the Certificate needs a pass for its next request; `None` if that time is over and
    /// something else delays the request.
    pub(super) fn next(&self, key: &CertificateKey, now: Timestamp) -> Option<Timestamp> {
        self.known(key, |known| Some(known.next).filter(|next| *next > now))
    }

    /// Schedules the first request for a certificate that was just issued.
    pub(super) fn issued(&self, key: &CertificateKey, leaf: &Leaf, now: Timestamp) {
        let Some(id) = leaf.id.as_ref().filter(|_| self.enabled) else { return };
        let certificate = deterministic_hash(&[id.as_str().as_bytes()]);
        let wait = MIN_AGE + (DEFAULT_INTERVAL - MIN_AGE).mul_f64(fraction_of(certificate));
        let known = Schedule { certificate, next: later(now, wait), failures: 0, answer: None };
        self.put(key, known);
    }

    /// Stores an answer of the CA; `None` if the CA has no renewal information.
    fn record_answer(&self, key: &CertificateKey, answer: Option<Suggested>, next: Timestamp) {
        self.known(key, |known| {
            known.next = next;
            known.failures = 0;
            known.answer = answer.map(Box::new).or(known.answer.take());
            Some(())
        });
    }

    /// Schedules a retry after 5 minutes, doubling up to 6 hours, and not before `retry_after`.
    fn record_failure(&self, key: &CertificateKey, retry_after: Option<Timestamp>, now: Timestamp) {
        self.known(key, |known| {
            let wait = (FIRST_RETRY * (1 << known.failures.min(8))).min(DEFAULT_INTERVAL);
            known.failures = known.failures.saturating_add(1);
            let next = later(now, wait);
            known.next = retry_after.map_or(next, |time| time.max(next));
            Some(())
        });
    }

    /// Too many requests are running; schedules another attempt soon.
    fn postpone(&self, key: &CertificateKey, now: Timestamp) {
        self.known(key, |known| {
            let wait = POSTPONE_WITHIN.mul_f64(fraction_of(known.certificate));
            known.next = later(now, wait.max(Duration::from_secs(1)));
            Some(())
        });
    }

    fn put(&self, key: &CertificateKey, schedule: Schedule) {
        self.records.change(key, |record| record.renewal = Some(schedule));
    }

    /// Calls a function with the schedule of a Certificate, if there is one.
    fn known<R>(
        &self,
        key: &CertificateKey,
        call: impl FnOnce(&mut Schedule) -> Option<R>,
    ) -> Option<R> {
        self.records.with(key, |record| call(record.renewal.as_mut()?))
    }
}

impl Controller {
    /// Adds the suggested renewal window to the observed state. Requests it from the CA if that is
    /// due.
    pub(super) async fn update_renewal_info(
        &self,
        key: &CertificateKey,
        certificate: &Certificate,
        want: &Want,
        observed: &mut Observed,
        now: Timestamp,
    ) {
        let may_request = may_request(observed, want, now);
        let lookup = self.issuers.lookup(&observed.issuer.key);
        let SecretState::Holds(stored) = &mut observed.have.secret else { return };
        let Some(id) = stored.leaf.id.clone() else { return };
        stored.suggested = self.renewals.suggested(key, certificate, &id).map(Box::new);
        let Lookup::Ready { issuer, .. } = lookup else { return };
        if !self.renewals.enabled
            || !may_request
            || !self.renewals.is_due(key, &id, self.index.count(), now)
        {
            return;
        }
        let Ok(_permit) = self.renewals.requests.try_acquire() else {
            return self.renewals.postpone(key, now);
        };
        if let Some(answer) = self.request_renewal_info(key, issuer.as_ref(), &id).await
            && stored.suggested.as_deref() != Some(&answer)
        {
            self.announce_renewal(key, certificate, &answer, now);
            stored.suggested = Some(Box::new(answer));
        }
    }

    async fn request_renewal_info(
        &self,
        key: &CertificateKey,
        issuer: &dyn Issuer,
        id: &CertId,
    ) -> Option<Suggested> {
        let outcome = tokio::time::timeout(REQUEST_TIMEOUT, issuer.renewal_info(id)).await;
        let now = self.clock.now();
        let (why, retry_after) = match outcome {
            Ok(Ok(None)) => {
                self.renewals.record_answer(key, None, later(now, DEFAULT_INTERVAL));
                return None;
            }
            Ok(Ok(Some(info))) => {
                let next = info.ask_again.min(later(now, DEFAULT_INTERVAL * 2));
                let answer = suggested(id, info);
                self.renewals.record_answer(key, Some(answer.clone()), next);
                return Some(answer);
            }
            Ok(Err(error)) => match error.disposition() {
                Disposition::Until(time) => (error.to_string(), Some(time)),
                Disposition::Retry(_) | Disposition::FixIssuer | Disposition::FixRequest => {
                    (error.to_string(), None)
                }
            },
            Err(_) => ("the CA did not answer in time".to_owned(), None),
        };
        self.renewals.record_failure(key, retry_after, now);
        tracing::debug!(certificate = %key, "no renewal information for certificate {key}: {why}");
        None
    }

    /// Publishes an event if the CA gives an explanation or demands renewal now.
    fn announce_renewal(
        &self,
        key: &CertificateKey,
        certificate: &Certificate,
        answer: &Suggested,
        now: Timestamp,
    ) {
        let Suggested { start, end, explanation_url, .. } = answer;
        if explanation_url.is_none() && *end > now {
            return;
        }
        let why = explanation_url.as_ref().map(|url| format!(", see {url}")).unwrap_or_default();
        let (start, end) = (seconds(*start), seconds(*end));
        let note = format!("the CA asks for renewal between {start} and {end}{why}");
        tracing::info!(certificate = %key, "certificate {key}: {note}");
        let events = &self.clusters.at(key.cluster).events;
        events.normal(certificate.object_ref(&()), Reason::RenewalDue.word(), &note);
    }
}

/// Whether the certificate in the Secret is in use, comes from this CA, and has no order running.
fn may_request(observed: &Observed, want: &Want, now: Timestamp) -> bool {
    let have = &observed.have;
    let idle = have.responsible && have.rival.is_none() && have.running.is_none();
    let request = want.request.as_ref().ok();
    let serves = |stored: &Stored| {
        !stored.revoked
            && stored.leaf.not_after > now
            && request.is_some_and(|it| stored.fingerprint.as_ref() == Some(&it.fingerprint))
    };
    idle && observed.issuer.capabilities().renewal_info
        && matches!(&have.secret, SecretState::Holds(stored) if serves(stored))
}

fn suggested(id: &CertId, info: RenewalInfo) -> Suggested {
    let RenewalInfo { start, end, explanation_url, ask_again: _ } = info;
    Suggested::new(id.clone(), (start, end), explanation_url)
}

/// The suggestion in the status, if it is for the certificate `id`.
fn stored_suggestion(certificate: &Certificate, id: &CertId) -> Option<Suggested> {
    let stored = certificate.status.as_ref()?.renewal_info.as_ref()?;
    let window = (stored.window_start.parse().ok()?, stored.window_end.parse().ok()?);
    (stored.certificate == id.as_str())
        .then(|| Suggested::new(id.clone(), window, stored.explanation_url.clone()))
}

/// The suggestion in the form of the status.
#[must_use]
pub fn note(suggested: &Suggested) -> RenewalInfoStatus {
    RenewalInfoStatus {
        certificate: suggested.certificate.to_string(),
        // With full precision: the selected time is derived from the window.
        window_start: suggested.start.to_string(),
        window_end: suggested.end.to_string(),
        selected: seconds(suggested.selected()),
        explanation_url: suggested.explanation_url.clone(),
    }
}

fn later(now: Timestamp, wait: Duration) -> Timestamp {
    let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX);
    now.saturating_add(wait).unwrap_or(now)
}

fn fraction_of(hash: u32) -> f64 {
    f64::from(hash) / f64::from(u32::MAX)
}

/// Maximum number of concurrent requests.
const MAX_REQUESTS: usize = 16;
/// Maximum time for a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Average time between first requests after a start.
const STARTUP_SPACING: Duration = Duration::from_millis(200);
/// Interval if the CA specifies none; half of the interval that Let's Encrypt recommends.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(6 * 3_600);
/// Minimum age of a certificate before its first request. Also slows down reissuance if a CA demands
/// immediate renewal of each certificate.
const MIN_AGE: Duration = Duration::from_secs(3_600);
const FIRST_RETRY: Duration = Duration::from_secs(300);
/// Postponed requests are repeated within this time.
const POSTPONE_WITHIN: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
