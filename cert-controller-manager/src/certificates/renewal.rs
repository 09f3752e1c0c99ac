//! Requests renewal information from CAs (RFC 9773).

use std::time::Duration;

use cert_lib::{
    issue::{Disposition, Issuer, RenewalInfo},
    model::{cert_id::CertId, reason::Reason},
    plan::{SecretState, Stored, Want, renewal::Suggested},
};
use jiff::Timestamp;
use kube::Resource;

use super::{
    controller::Controller,
    pass::Observed,
    renewals::{DEFAULT_INTERVAL, later},
};
use crate::{
    api::{Certificate, CertificateKey, time::seconds},
    issuers::registry::Lookup,
};

/// Maximum time for a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

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
