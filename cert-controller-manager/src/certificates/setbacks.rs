//! What went wrong for a Certificate, and how often a Secret had to be put in order again: in memory,
//! because the cluster with the Certificate's status may be away or refuse it, and a status that
//! cannot be written must not mean that there is no back-off.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use cert_lib::plan::backoff::Backoff;
use jiff::{SignedDuration, Timestamp};

use super::status;
use crate::api::{Certificate, CertificateKey};

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Setbacks(Mutex<HashMap<CertificateKey, Memory>>);

#[derive(Debug, Default)]
struct Memory {
    /// With the generation of the specification that failed.
    backoff: Option<(Option<i64>, Backoff)>,
    rewrites: Option<Rewrites>,
}

/// How often in a row a Secret was put in order, and when last.
#[derive(Clone, Copy, Debug)]
struct Rewrites {
    times: u32,
    last: Timestamp,
}

/// Somebody else may undo what we do once or twice; after that we wait between the tries.
const FREE_REWRITES: u32 = 3;
const FIRST_PAUSE: SignedDuration = SignedDuration::from_mins(1);
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_hours(1);

impl Setbacks {
    /// What is left of the last failure of the specification as it is: in the status or in memory,
    /// whichever is later.
    #[must_use]
    pub fn backoff(&self, key: &CertificateKey, certificate: &Certificate) -> Option<Backoff> {
        let memory = self.lock().get(key).and_then(|memory| memory.backoff);
        let here = memory.filter(|(generation, _)| *generation == certificate.metadata.generation);
        let here = here.map(|(_, backoff)| backoff);
        status::backoff(certificate).into_iter().chain(here).max_by_key(|backoff| backoff.until)
    }

    /// The specification of this generation has failed.
    pub fn note(&self, key: &CertificateKey, generation: Option<i64>, backoff: Backoff) {
        self.lock().entry(key.clone()).or_default().backoff = Some((generation, backoff));
    }

    /// Whether a Secret may be put in order now; if not, when.
    ///
    /// # Errors
    /// The instant from which on it may.
    pub fn may_rewrite(&self, key: &CertificateKey, now: Timestamp) -> Result<(), Timestamp> {
        let mut memories = self.lock();
        let memory = memories.entry(key.clone()).or_default();
        let recent = memory.rewrites.filter(|it| now.duration_since(it.last) < LONGEST_PAUSE);
        let times = recent.map_or(0, |it| it.times);
        if let Some(recent) = recent.filter(|it| it.times >= FREE_REWRITES) {
            let doublings = (recent.times - FREE_REWRITES).min(6);
            let pause = (FIRST_PAUSE * 2_i32.pow(doublings)).min(LONGEST_PAUSE);
            let from = recent.last.saturating_add(pause).unwrap_or(now);
            if now < from {
                return Err(from);
            }
        }
        memory.rewrites = Some(Rewrites { times: times.saturating_add(1), last: now });
        Ok(())
    }

    /// It went well, somebody asked for another try, or the Certificate is gone.
    pub fn forget(&self, key: &CertificateKey) {
        self.lock().remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CertificateKey, Memory>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Home, ObjectKey};
    use serde_json::json;

    fn key() -> CertificateKey {
        CertificateKey::new(Home::Source, ObjectKey::new("ns", "a"))
    }

    fn time(minutes: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + 60 * minutes).unwrap()
    }

    #[test]
    fn a_failure_counts_for_its_specification_though_the_status_does_not_show_it() {
        let certificate = |generation: i64| -> Certificate {
            serde_json::from_value(json!({
                "apiVersion": "cert.gardener.cloud/v1alpha1", "kind": "Certificate",
                "metadata": { "namespace": "ns", "name": "a", "generation": generation },
                "spec": { "commonName": "a.example" },
            }))
            .unwrap()
        };
        let setbacks = Setbacks::default();
        let backoff = Backoff { until: time(5), interval: SignedDuration::from_mins(5) };
        setbacks.note(&key(), Some(1), backoff);
        assert_eq!(setbacks.backoff(&key(), &certificate(1)), Some(backoff));
        assert_eq!(setbacks.backoff(&key(), &certificate(2)), None);
        setbacks.forget(&key());
        assert_eq!(setbacks.backoff(&key(), &certificate(1)), None);
    }

    #[test]
    fn a_secret_that_somebody_undoes_again_and_again_is_put_in_order_ever_more_rarely() {
        let setbacks = Setbacks::default();
        let done: Vec<i64> =
            (0..120).filter(|at| setbacks.may_rewrite(&key(), time(*at)).is_ok()).collect();
        assert_eq!(done, [0, 1, 2, 3, 5, 9, 17, 33, 65]);
    }
}
