//! When to request renewal information of CAs (RFC 9773) for each Certificate, and the answers.
//!
//! The status stores the answer. The time of the next request is in memory only: after a restart,
//! the first requests are spread over a time that grows with the number of Certificates. Renewal
//! works without an answer, so failures are logged at debug level only.

use std::time::Duration;

use cert_lib::{
    model::{bundle::Leaf, cert_id::CertId},
    plan::renewal::{Suggested, deterministic_hash},
};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Semaphore;

use super::{record::CertificateRecords, schedule::Schedule};
use crate::api::{Certificate, CertificateKey, certificate::RenewalInfoStatus, time::seconds};

/// When to request renewal information for each Certificate. See the [module](self).
pub struct Renewals {
    /// If false, no CA is asked, and stored answers are ignored.
    pub(super) enabled: bool,
    records: CertificateRecords,
    /// Limits the number of passes that a slow CA can block.
    pub(super) requests: Semaphore,
}

impl Renewals {
    /// Keeps the schedule of each Certificate in its record.
    #[must_use]
    pub fn new(enabled: bool, records: CertificateRecords) -> Self {
        Self { enabled, records, requests: Semaphore::new(MAX_REQUESTS) }
    }

    /// The suggested renewal window of the certificate `id`. An answer for another certificate is
    /// dropped.
    pub(super) fn suggested(
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
    pub(super) fn is_due(
        &self,
        key: &CertificateKey,
        id: &CertId,
        count: usize,
        now: Timestamp,
    ) -> bool {
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
    pub(super) fn record_answer(
        &self,
        key: &CertificateKey,
        answer: Option<Suggested>,
        next: Timestamp,
    ) {
        self.known(key, |known| {
            known.next = next;
            known.failures = 0;
            known.answer = answer.map(Box::new).or(known.answer.take());
            Some(())
        });
    }

    /// Schedules a retry after 5 minutes, doubling up to 6 hours, and not before `retry_after`.
    pub(super) fn record_failure(
        &self,
        key: &CertificateKey,
        retry_after: Option<Timestamp>,
        now: Timestamp,
    ) {
        self.known(key, |known| {
            let wait = (FIRST_RETRY * (1 << known.failures.min(8))).min(DEFAULT_INTERVAL);
            known.failures = known.failures.saturating_add(1);
            let next = later(now, wait);
            known.next = retry_after.map_or(next, |time| time.max(next));
            Some(())
        });
    }

    /// Too many requests are running; schedules another attempt soon.
    pub(super) fn postpone(&self, key: &CertificateKey, now: Timestamp) {
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

pub(super) fn later(now: Timestamp, wait: Duration) -> Timestamp {
    let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX);
    now.saturating_add(wait).unwrap_or(now)
}

fn fraction_of(hash: u32) -> f64 {
    f64::from(hash) / f64::from(u32::MAX)
}

/// Maximum number of concurrent requests.
const MAX_REQUESTS: usize = 16;
/// Average time between first requests after a start.
const STARTUP_SPACING: Duration = Duration::from_millis(200);
/// Interval if the CA specifies none; half of the interval that Let's Encrypt recommends.
pub(super) const DEFAULT_INTERVAL: Duration = Duration::from_secs(6 * 3_600);
/// Minimum age of a certificate before its first request. Also slows down reissuance if a CA demands
/// immediate renewal of each certificate.
const MIN_AGE: Duration = Duration::from_secs(3_600);
const FIRST_RETRY: Duration = Duration::from_secs(300);
/// Postponed requests are repeated within this time.
const POSTPONE_WITHIN: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
