//! Failures and retries of each Certificate, in memory. The status stores the back-off too, but its
//! cluster may be unavailable or refuse the write, and back-off must work anyway.

use std::collections::{BTreeSet, HashMap};

use cert_lib::{
    model::{name::DnsName, request::Request},
    plan::{backoff::Backoff, reissue_loop},
};
use jiff::{SignedDuration, Timestamp};
use parking_lot::{Mutex, MutexGuard};

use super::{admission::Ticket, status};
use crate::api::{Certificate, CertificateKey};

/// The retry state of all Certificates. See the [module](self).
#[derive(Debug, Default)]
pub struct RetryStates(Mutex<HashMap<CertificateKey, RetryState>>);

#[derive(Debug, Default)]
struct RetryState {
    /// Uid of the Certificate, once known. A new Certificate can have the same name.
    uid: Option<String>,
    /// The back-off, with the generation of the failed specification.
    backoff: Option<(Option<i64>, Backoff)>,
    rewrites: Option<Rewrites>,
    /// Number of consecutive refused writes.
    refusals: u32,
    /// Times of requested retries.
    retries: Vec<Timestamp>,
    /// Times of recent reissuance, and the names of these certificates.
    reissued: Option<(BTreeSet<DnsName>, Vec<Timestamp>)>,
    /// notBefore of the certificate that this process issued last.
    issued: Option<Timestamp>,
    /// Generation of the specification for which the CA refused to reuse the private key.
    key_refused: Option<Option<i64>>,
    /// Its position in a queue of admission.
    ticket: Option<Ticket>,
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

impl RetryStates {
    /// The back-off of the current specification, from the status or from memory, whichever ends
    /// later.
    #[must_use]
    pub fn backoff(&self, key: &CertificateKey, certificate: &Certificate) -> Option<Backoff> {
        let state = self.lock().get(key).and_then(|state| state.backoff);
        let in_memory =
            state.filter(|(generation, _)| *generation == certificate.metadata.generation);
        let in_memory = in_memory.map(|(_, backoff)| backoff);
        status::backoff(certificate)
            .into_iter()
            .chain(in_memory)
            .max_by_key(|backoff| backoff.until)
    }

    /// Forgets the state of a previous Certificate with the same name. If a Certificate is deleted
    /// and recreated at once, no pass observes its absence.
    pub fn forget_other_uid(&self, key: &CertificateKey, certificate: &Certificate) {
        let mut states = self.lock();
        let Some(state) = states.get_mut(key) else { return };
        let uid = &certificate.metadata.uid;
        if state.uid.is_some() && state.uid != *uid {
            states.remove(key);
        } else if state.uid.is_none() {
            state.uid.clone_from(uid);
        }
    }

    /// Stores the back-off after a failure of this generation.
    pub fn record_failure(&self, key: &CertificateKey, generation: Option<i64>, backoff: Backoff) {
        self.lock().entry(key.clone()).or_default().backoff = Some((generation, backoff));
    }

    /// Counts a refused write. Returns the number of consecutive refusals.
    pub fn record_refused_write(&self, key: &CertificateKey) -> u32 {
        let mut states = self.lock();
        let state = states.entry(key.clone()).or_default();
        state.refusals = state.refusals.saturating_add(1);
        state.refusals
    }

    /// Resets the number of refused writes.
    pub fn record_accepted_write(&self, key: &CertificateKey) {
        if let Some(state) = self.lock().get_mut(key) {
            state.refusals = 0;
        }
    }

    /// Permits a rewrite of the Secret and counts it.
    ///
    /// # Errors
    /// The time at which the next rewrite is permitted.
    pub fn may_rewrite(&self, key: &CertificateKey, now: Timestamp) -> Result<(), Timestamp> {
        let mut states = self.lock();
        let state = states.entry(key.clone()).or_default();
        let recent = state.rewrites.filter(|it| now.duration_since(it.last) < LONGEST_PAUSE);
        let times = recent.map_or(0, |it| it.times);
        if let Some(recent) = recent.filter(|it| it.times >= FREE_REWRITES) {
            let doublings = (recent.times - FREE_REWRITES).min(6);
            let pause = (FIRST_PAUSE * 2_i32.pow(doublings)).min(LONGEST_PAUSE);
            let from = recent.last.saturating_add(pause).unwrap_or(now);
            if now < from {
                return Err(from);
            }
        }
        state.rewrites = Some(Rewrites { times: times.saturating_add(1), last: now });
        Ok(())
    }

    /// Permits a requested retry, and clears failures and suspected loops. Rate limits of the CA
    /// are stored elsewhere and stay.
    ///
    /// # Errors
    /// The time at which the next retry is permitted.
    pub fn may_retry(&self, key: &CertificateKey, now: Timestamp) -> Result<(), Timestamp> {
        let mut states = self.lock();
        let state = states.entry(key.clone()).or_default();
        state.retries.retain(|time| now.duration_since(*time) < HOUR);
        if let [first, ..] = state.retries.as_slice()
            && state.retries.len() >= MAX_RETRIES
        {
            return Err(first.saturating_add(HOUR).unwrap_or(now));
        }
        (state.backoff, state.rewrites) = (None, None);
        if let Some((_, times)) = &mut state.reissued {
            *times = reissue_loop::without_loop(times).to_vec();
        }
        Ok(())
    }

    /// Counts a requested retry.
    pub fn record_retry(&self, key: &CertificateKey, now: Timestamp) {
        self.lock().entry(key.clone()).or_default().retries.push(now);
    }

    /// Stores notBefore of a certificate that was issued now.
    pub fn record_issued(&self, key: &CertificateKey, not_before: Timestamp) {
        self.lock().entry(key.clone()).or_default().issued = Some(not_before);
    }

    /// notBefore of the certificate that this process issued last.
    #[must_use]
    pub fn last_issued(&self, key: &CertificateKey) -> Option<Timestamp> {
        self.lock().get(key)?.issued
    }

    /// Clears the back-off: the certificate came from elsewhere.
    pub fn clear_failures(&self, key: &CertificateKey) {
        if let Some(state) = self.lock().get_mut(key) {
            state.backoff = None;
        }
    }

    /// Clears all failures after an issuance.
    pub fn record_success(&self, key: &CertificateKey) {
        if let Some(state) = self.lock().get_mut(key) {
            (state.backoff, state.rewrites) = (None, None);
            state.key_refused = None;
        }
    }

    /// Stores that the CA refused to reuse the private key for this generation.
    pub fn record_refused_key(&self, key: &CertificateKey, generation: Option<i64>) {
        self.lock().entry(key.clone()).or_default().key_refused = Some(generation);
    }

    /// Whether the CA has refused to reuse the private key since the last issuance.
    #[must_use]
    pub fn key_is_refused(&self, key: &CertificateKey, generation: Option<i64>) -> bool {
        self.lock().get(key).is_some_and(|state| state.key_refused == Some(generation))
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
        let states = self.lock();
        let in_memory = states.get(key).and_then(|state| state.reissued.as_ref());
        let in_memory = in_memory.filter(|(of, _)| *of == names).map(|(_, times)| times.clone());
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
        let mut states = self.lock();
        let names = names.into_iter().collect();
        states.entry(key.clone()).or_default().reissued = Some((names, times));
    }

    /// Takes the position in a queue of admission, for one pass.
    #[must_use]
    pub fn take_ticket(&self, key: &CertificateKey) -> Option<Ticket> {
        self.lock().get_mut(key)?.ticket.take()
    }

    /// Keeps the position in a queue of admission until the next pass.
    pub fn keep_ticket(&self, key: &CertificateKey, ticket: Ticket) {
        self.lock().entry(key.clone()).or_default().ticket = Some(ticket);
    }

    /// Removes the state of a deleted Certificate.
    pub fn forget(&self, key: &CertificateKey) {
        self.lock().remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CertificateKey, RetryState>> {
        self.0.lock()
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
        let retry_states = RetryStates::default();
        let interval = SignedDuration::from_mins(5);
        let backoff = Backoff { until: time(5), interval, failures: 1 };
        retry_states.record_failure(&key(), Some(1), backoff);
        assert_eq!(retry_states.backoff(&key(), &certificate(1)), Some(backoff));
        assert_eq!(retry_states.backoff(&key(), &certificate(2)), None);
        retry_states.forget(&key());
        assert_eq!(retry_states.backoff(&key(), &certificate(1)), None);

        // A recreated Certificate has another uid.
        let made = |uid: &str| {
            let mut made = certificate(1);
            made.metadata.uid = Some(uid.to_owned());
            made
        };
        retry_states.record_failure(&key(), Some(1), backoff);
        retry_states.forget_other_uid(&key(), &made("first"));
        retry_states.forget_other_uid(&key(), &made("first"));
        assert_eq!(retry_states.backoff(&key(), &made("first")), Some(backoff));
        retry_states.forget_other_uid(&key(), &made("second"));
        assert_eq!(retry_states.backoff(&key(), &made("second")), None);
    }

    #[test]
    fn a_secret_that_is_overwritten_repeatedly_is_rewritten_at_growing_intervals() {
        let retry_states = RetryStates::default();
        let done: Vec<i64> =
            (0..120).filter(|at| retry_states.may_rewrite(&key(), time(*at)).is_ok()).collect();
        assert_eq!(done, [0, 1, 2, 3, 5, 9, 17, 33, 65]);
    }

    #[test]
    fn four_retries_an_hour_can_be_requested() {
        let retry_states = RetryStates::default();
        let mut tries = Vec::new();
        for at in 0..125 {
            if retry_states.may_retry(&key(), time(at)).is_ok() {
                retry_states.record_retry(&key(), time(at));
                tries.push(at);
            }
        }
        assert_eq!(tries, [0, 1, 2, 3, 60, 61, 62, 63, 120, 121, 122, 123]);
        assert_eq!(retry_states.may_retry(&key(), time(130)), Err(time(180)));
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
        let after_restart = RetryStates::default();
        let interval = SignedDuration::from_hours(168);
        let until = "2027-01-15T09:00:00Z".parse().unwrap();
        let backoff = Backoff { until, interval, failures: 2 };
        assert_eq!(after_restart.backoff(&key(), &certificate), Some(backoff));
    }
}
