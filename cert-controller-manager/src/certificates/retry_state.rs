//! Failures and retries of each Certificate, in memory. The status stores the back-off too, but its
//! cluster may be unavailable or refuse the write, and back-off must work anyway.

use std::collections::BTreeSet;

use cert_lib::{
    model::{name::DnsName, request::Request},
    plan::{backoff::Backoff, reissue_loop},
};
use jiff::{SignedDuration, Timestamp};

use super::{record::CertificateRecords, status};
use crate::api::{Certificate, CertificateKey};

/// Failures and retries of one Certificate. See the [module](self).
#[derive(Debug, Default)]
pub(super) struct RetryState {
    /// The back-off, with the generation of the failed specification.
    backoff: Option<(Option<i64>, Backoff)>,
    rewrites: Option<Rewrites>,
    /// Number of consecutive refused writes.
    refusals: u32,
    /// Times of requested retries.
    retries: Vec<Timestamp>,
    /// Times of recent reissuance, and the names of these certificates.
    reissued: Option<(BTreeSet<DnsName>, Vec<Timestamp>)>,
    /// Generation of the specification for which the CA refused to reuse the private key.
    key_refused: Option<Option<i64>>,
}

/// Number of consecutive rewrites of a Secret, and the time of the last one.
#[derive(Clone, Copy, Debug)]
struct Rewrites {
    times: u32,
    last: Timestamp,
}

/// Number of rewrites without a delay. Another client may overwrite the Secret again each time.
const FREE_REWRITES: u32 = 3;
const FIRST_PAUSE: SignedDuration = SignedDuration::from_mins(1);
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_hours(1);
/// Maximum number of requested retries per hour. Each may fail at the CA, and Let's Encrypt permits
/// five failures per name and hour.
const MAX_RETRIES: usize = 4;
const HOUR: SignedDuration = SignedDuration::from_hours(1);

impl CertificateRecords {
    /// The back-off of the current specification, from the status or from memory, whichever ends
    /// later.
    #[must_use]
    pub fn backoff(&self, key: &CertificateKey, certificate: &Certificate) -> Option<Backoff> {
        let in_memory = self.known_retry(key, |retry| retry.backoff);
        let in_memory =
            in_memory.filter(|(generation, _)| *generation == certificate.metadata.generation);
        let in_memory = in_memory.map(|(_, backoff)| backoff);
        status::backoff(certificate)
            .into_iter()
            .chain(in_memory)
            .max_by_key(|backoff| backoff.until)
    }

    /// Stores the back-off after a failure of this generation.
    pub fn record_failure(&self, key: &CertificateKey, generation: Option<i64>, backoff: Backoff) {
        self.retry(key, |retry| retry.backoff = Some((generation, backoff)));
    }

    /// Counts a refused write. Returns the number of consecutive refusals.
    pub fn record_refused_write(&self, key: &CertificateKey) -> u32 {
        self.retry(key, |retry| {
            retry.refusals = retry.refusals.saturating_add(1);
            retry.refusals
        })
    }

    /// Resets the number of refused writes.
    pub fn record_accepted_write(&self, key: &CertificateKey) {
        self.known_retry(key, |retry| {
            retry.refusals = 0;
            Some(())
        });
    }

    /// Permits a rewrite of the Secret and counts it.
    ///
    /// # Errors
    /// The time at which the next rewrite is permitted.
    pub fn may_rewrite(&self, key: &CertificateKey, now: Timestamp) -> Result<(), Timestamp> {
        self.retry(key, |retry| retry.may_rewrite(now))
    }

    /// Permits a requested retry, and clears failures and suspected loops. Rate limits of the CA
    /// are stored elsewhere and stay.
    ///
    /// # Errors
    /// The time at which the next retry is permitted.
    pub fn may_retry(&self, key: &CertificateKey, now: Timestamp) -> Result<(), Timestamp> {
        self.retry(key, |retry| retry.may_retry(now))
    }

    /// Counts a requested retry.
    pub fn record_retry(&self, key: &CertificateKey, now: Timestamp) {
        self.retry(key, |retry| retry.retries.push(now));
    }

    /// Stores notBefore of a certificate that was issued now.
    pub fn record_issued(&self, key: &CertificateKey, not_before: Timestamp) {
        self.change(key, |record| record.issued = Some(not_before));
    }

    /// notBefore of the certificate that this process issued last.
    #[must_use]
    pub fn last_issued(&self, key: &CertificateKey) -> Option<Timestamp> {
        self.with(key, |record| record.issued)
    }

    /// Clears the back-off: the certificate came from elsewhere.
    pub fn clear_failures(&self, key: &CertificateKey) {
        self.known_retry(key, |retry| retry.backoff.take());
    }

    /// Clears all failures after an issuance.
    pub fn record_success(&self, key: &CertificateKey) {
        self.with(key, |record| {
            let retry = record.retry.as_mut()?;
            (retry.backoff, retry.rewrites, retry.key_refused) = (None, None, None);
            if retry.is_empty() {
                record.retry = None;
            }
            Some(())
        });
    }

    /// Stores that the CA refused to reuse the private key for this generation.
    pub fn record_refused_key(&self, key: &CertificateKey, generation: Option<i64>) {
        self.retry(key, |retry| retry.key_refused = Some(generation));
    }

    /// Whether the CA has refused to reuse the private key since the last issuance.
    #[must_use]
    pub fn key_is_refused(&self, key: &CertificateKey, generation: Option<i64>) -> bool {
        self.known_retry(key, |retry| retry.key_refused) == Some(generation)
    }

    /// Times of recent reissuance for the names of `request`, from the status and from memory.
    #[must_use]
    pub fn reissued(
        &self,
        key: &CertificateKey,
        certificate: &Certificate,
        request: &Request,
        now: Timestamp,
    ) -> Vec<Timestamp> {
        let names: BTreeSet<DnsName> = request.names().into_iter().collect();
        let in_memory = self.known_retry(key, |retry| {
            let of_names = retry.reissued.as_ref().filter(|(of, _)| *of == names);
            of_names.map(|(_, times)| times.clone())
        });
        let in_status = status::reissued(certificate, &names);
        reissue_loop::kept(in_memory.into_iter().flatten().chain(in_status), now)
    }

    /// Stores the times of recent reissuance for `names`.
    pub fn record_reissued(
        &self,
        key: &CertificateKey,
        names: Vec<DnsName>,
        times: Vec<Timestamp>,
    ) {
        let names = names.into_iter().collect();
        self.retry(key, |retry| retry.reissued = Some((names, times)));
    }

    /// Changes the retry state, which is created if there is none.
    fn retry<R>(&self, key: &CertificateKey, change: impl FnOnce(&mut RetryState) -> R) -> R {
        self.change(key, |record| change(record.retry.get_or_insert_default()))
    }

    /// Calls a function with the retry state, if there is one.
    fn known_retry<R>(
        &self,
        key: &CertificateKey,
        call: impl FnOnce(&mut RetryState) -> Option<R>,
    ) -> Option<R> {
        self.with(key, |record| call(record.retry.as_mut()?))
    }
}

impl RetryState {
    fn may_rewrite(&mut self, now: Timestamp) -> Result<(), Timestamp> {
        let recent = self.rewrites.filter(|it| now.duration_since(it.last) < LONGEST_PAUSE);
        let times = recent.map_or(0, |it| it.times);
        if let Some(recent) = recent.filter(|it| it.times >= FREE_REWRITES) {
            let doublings = (recent.times - FREE_REWRITES).min(6);
            let pause = (FIRST_PAUSE * 2_i32.pow(doublings)).min(LONGEST_PAUSE);
            let from = recent.last.saturating_add(pause).unwrap_or(now);
            if now < from {
                return Err(from);
            }
        }
        self.rewrites = Some(Rewrites { times: times.saturating_add(1), last: now });
        Ok(())
    }

    fn may_retry(&mut self, now: Timestamp) -> Result<(), Timestamp> {
        self.retries.retain(|time| now.duration_since(*time) < HOUR);
        if let [first, ..] = self.retries.as_slice()
            && self.retries.len() >= MAX_RETRIES
        {
            return Err(first.saturating_add(HOUR).unwrap_or(now));
        }
        (self.backoff, self.rewrites) = (None, None);
        if let Some((_, times)) = &mut self.reissued {
            *times = reissue_loop::without_loop(times).to_vec();
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        let Self { backoff, rewrites, refusals, retries, reissued, key_refused } = self;
        backoff.is_none()
            && rewrites.is_none()
            && *refusals == 0
            && retries.is_empty()
            && reissued.as_ref().is_none_or(|(_, times)| times.is_empty())
            && key_refused.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{CertificateCluster, ObjectKey};
    use serde_json::json;

    fn key() -> CertificateKey {
        CertificateKey::new(CertificateCluster::Source, ObjectKey::new("ns", "a"))
    }

    fn time(minutes: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + 60 * minutes).unwrap()
    }

    #[test]
    fn a_failure_is_remembered_for_its_generation_and_uid() {
        let certificate = |generation: i64| -> Certificate {
            serde_json::from_value(json!({
                "apiVersion": "cert.gardener.cloud/v1alpha1", "kind": "Certificate",
                "metadata": { "namespace": "ns", "name": "a", "generation": generation },
                "spec": { "commonName": "a.example" },
            }))
            .unwrap()
        };
        let records = CertificateRecords::default();
        let interval = SignedDuration::from_mins(5);
        let backoff = Backoff { until: time(5), interval, failures: 1 };
        records.record_failure(&key(), Some(1), backoff);
        assert_eq!(records.backoff(&key(), &certificate(1)), Some(backoff));
        assert_eq!(records.backoff(&key(), &certificate(2)), None);
        records.forget(&key());
        assert_eq!(records.backoff(&key(), &certificate(1)), None);

        // A recreated Certificate has another uid.
        let made = |uid: &str| {
            let mut made = certificate(1);
            made.metadata.uid = Some(uid.to_owned());
            made
        };
        records.record_failure(&key(), Some(1), backoff);
        records.forget_other_uid(&key(), made("first").metadata.uid.as_deref());
        records.forget_other_uid(&key(), made("first").metadata.uid.as_deref());
        assert_eq!(records.backoff(&key(), &made("first")), Some(backoff));
        records.forget_other_uid(&key(), made("second").metadata.uid.as_deref());
        assert_eq!(records.backoff(&key(), &made("second")), None);
    }

    #[test]
    fn a_secret_that_is_overwritten_repeatedly_is_rewritten_at_growing_intervals() {
        let records = CertificateRecords::default();
        let done: Vec<i64> =
            (0..120).filter(|at| records.may_rewrite(&key(), time(*at)).is_ok()).collect();
        assert_eq!(done, [0, 1, 2, 3, 5, 9, 17, 33, 65]);
    }

    #[test]
    fn four_retries_an_hour_can_be_requested() {
        let records = CertificateRecords::default();
        let mut tries = Vec::new();
        for at in 0..125 {
            if records.may_retry(&key(), time(at)).is_ok() {
                records.record_retry(&key(), time(at));
                tries.push(at);
            }
        }
        assert_eq!(tries, [0, 1, 2, 3, 60, 61, 62, 63, 120, 121, 122, 123]);
        assert_eq!(records.may_retry(&key(), time(130)), Err(time(180)));
    }

    /// faults.md 3, 4 and 9
    #[test]
    fn the_back_off_in_the_status_survives_a_restart() {
        let certificate: Certificate = serde_json::from_value(json!({
            "apiVersion": "cert.gardener.cloud/v1alpha1", "kind": "Certificate",
            "metadata": { "namespace": "ns", "name": "a", "generation": 1 },
            "spec": { "commonName": "a.example" },
            "status": { "state": "Error", "backoff": {
                "observedGeneration": 1, "recheckAfter": "2027-01-15T09:00:00Z",
                "recheckInterval": "168h0m0s", "failures": 2,
            } },
        }))
        .unwrap();
        let after_restart = CertificateRecords::default();
        let interval = SignedDuration::from_hours(168);
        let until = "2027-01-15T09:00:00Z".parse().unwrap();
        let backoff = Backoff { until, interval, failures: 2 };
        assert_eq!(after_restart.backoff(&key(), &certificate), Some(backoff));
    }
}
