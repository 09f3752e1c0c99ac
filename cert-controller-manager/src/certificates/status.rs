//! Computes the status of a Certificate from the outcome of a pass. Pure.

use std::collections::BTreeSet;

use cert_lib::{
    model::{
        bundle::Leaf,
        name::DnsName,
        reason::Reason,
        request::{Fingerprint, MAX_DNS_NAMES, Request, Subject},
    },
    plan::{
        Policy, Want,
        backoff::{Backoff, step},
        renewal::{self, ServingCertificate, Suggested},
    },
};
use jiff::Timestamp;
use kube::ResourceExt;

use crate::{
    api::{
        Certificate,
        certificate::{BackoffState, CertificateStatus, Condition, State, UsedIssuer},
        time::{seconds, seconds_up},
        well_known,
    },
    certificates::renewals::note,
    config::{duration, go_duration},
    issuers::query::has_same_names,
};

/// The outcome of a pass.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// `status.state`, as in upstream.
    pub state: State,
    /// Reason of the condition and the event.
    pub reason: Reason,
    /// `status.message`
    pub message: String,
    /// Whether the Secret has a valid certificate.
    pub ready: bool,
    /// The certificate in the Secret.
    pub leaf: Option<Leaf>,
    /// When the certificate was requested.
    pub requested_at: Timestamp,
    /// The renewal window that the CA suggests.
    pub suggested: Option<Suggested>,
    /// The back-off after the last failure.
    pub backoff: Option<Backoff>,
    /// Times of recent reissuance.
    pub reissued: Vec<Timestamp>,
    /// When the running order was placed.
    pub pending_since: Option<Timestamp>,
    /// Whether the event is a warning although the certificate is ready.
    pub warns: bool,
}

/// `status.message` of a ready certificate, with times in Go's format, as in upstream.
#[must_use]
pub fn ready_message(leaf: &Leaf) -> String {
    let time = |time: Timestamp| time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string();
    format!("certificate ({leaf}) valid from {} to {}", time(leaf.not_before), time(leaf.not_after))
}

/// The message, cut to a maximum length: it can contain text of arbitrary length from other
/// parties.
#[must_use]
pub fn bounded(message: &str) -> &str {
    let mut end = message.len().min(MAX_MESSAGE);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message.get(..end).unwrap_or_default()
}

/// Maximum length of a message in bytes.
const MAX_MESSAGE: usize = 4_096;
/// Maximum length of a name in the status; names in Kubernetes and DNS are shorter.
const MAX_NAME: usize = 255;

/// The status of `certificate` after `outcome`.
#[must_use]
pub fn of(
    certificate: &Certificate,
    want: &Want,
    issuer: Option<UsedIssuer>,
    outcome: &Outcome,
    policy: &Policy,
    now: Timestamp,
) -> CertificateStatus {
    let (common_name, dns_names) = names(certificate, want.request.as_ref().ok());
    let issuer = issuer.filter(|it| it.name.len() <= MAX_NAME && it.namespace.len() <= MAX_NAME);
    let leaf = outcome.leaf.as_ref();
    let generation = certificate.metadata.generation;
    CertificateStatus {
        observed_generation: generation,
        state: outcome.state.word().to_owned(),
        message: Some(bounded(&outcome.message).to_owned()),
        last_pending_timestamp: outcome.pending_since.map(seconds),
        common_name,
        dns_names,
        issuer_ref: issuer,
        issuance_date: leaf.map(|leaf| seconds(leaf.not_before)),
        renewal_date: leaf.map(|leaf| seconds(renewal_date(leaf, outcome, want, policy, now))),
        renewal_info: outcome.suggested.as_ref().map(note),
        expiration_date: leaf.map(|leaf| seconds(leaf.not_after)),
        backoff: outcome.backoff.map(|backoff| BackoffState {
            observed_generation: generation,
            recheck_after: seconds_up(backoff.until),
            recheck_interval: go_duration(backoff.interval),
            failures: Some(backoff.failures.into()).filter(|failures| *failures > 0),
        }),
        reissued: Some(outcome.reissued.iter().map(ToString::to_string).collect())
            .filter(|times: &Vec<String>| !times.is_empty()),
        conditions: Some(vec![condition(certificate, outcome, now)]),
    }
}

fn renewal_date(
    leaf: &Leaf,
    outcome: &Outcome,
    want: &Want,
    policy: &Policy,
    now: Timestamp,
) -> Timestamp {
    let Outcome { requested_at, suggested, .. } = outcome;
    let serving =
        ServingCertificate { leaf, requested_at: *requested_at, suggested: suggested.as_ref() };
    renewal::due(&serving, want, policy, now).at
}

/// The back-off in the status, if it is for the current specification.
#[must_use]
pub fn backoff(certificate: &Certificate) -> Option<Backoff> {
    let backoff = certificate.status.as_ref()?.backoff.as_ref()?;
    let until = backoff.recheck_after.parse().ok()?;
    let interval = duration(&backoff.recheck_interval).unwrap_or_default();
    let failures = backoff.failures.and_then(|it| u32::try_from(it).ok());
    let failures = failures.unwrap_or_else(|| step(interval));
    (backoff.observed_generation == certificate.metadata.generation).then_some(Backoff {
        until,
        interval,
        failures,
    })
}

/// Times of recent reissuance in the status, if they are for `names`.
#[must_use]
pub fn reissued(certificate: &Certificate, names: &BTreeSet<DnsName>) -> Vec<Timestamp> {
    let Some(status) = &certificate.status else { return Vec::new() };
    let recorded = status.common_name.iter().chain(status.dns_names.iter().flatten());
    let recorded: BTreeSet<DnsName> = recorded.filter_map(|name| name.parse().ok()).collect();
    if recorded != *names {
        return Vec::new();
    }
    let times = status.reissued.iter().flatten();
    times.filter_map(|time| time.parse().ok()).collect()
}

/// Whether the hash label says that `request` was fulfilled.
#[must_use]
pub fn is_renewal_fulfilled(certificate: &Certificate, request: &Fingerprint) -> bool {
    certificate.labels().get(well_known::HASH).is_some_and(|hash| hash == request.as_str())
}

fn names(
    certificate: &Certificate,
    request: Option<&Request>,
) -> (Option<String>, Option<Vec<String>>) {
    let text = |names: &[DnsName]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    match request.map(|request| &request.subject) {
        Some(Subject::Csr(csr)) => {
            let others = usize::from(csr.common_name.is_some());
            (csr.common_name.as_ref().map(ToString::to_string), csr.names.get(others..).map(text))
        }
        Some(Subject::Names { .. }) | None => {
            let spec = &certificate.spec;
            // Until the Secret is rewritten for the new spelling of the same names, the status
            // keeps the old spelling: it shows that the request is the same.
            let is_old = certificate.labels().contains_key(well_known::HASH)
                && request.is_some_and(|it| !is_renewal_fulfilled(certificate, &it.fingerprint));
            let status = certificate.status.as_ref();
            match status.filter(|status| is_old && has_same_names(spec, status)) {
                Some(status) => (status.common_name.clone(), status.dns_names.clone()),
                None => {
                    let others = spec.dns_names.as_ref().map(|names| {
                        let names = names.iter().filter(|name| name.len() <= MAX_NAME);
                        names.take(MAX_DNS_NAMES).cloned().collect()
                    });
                    (spec.common_name.clone(), others)
                }
            }
        }
    }
}

/// The condition `Ready` depends on the certificate in the Secret, so it stays true during a
/// renewal.
fn condition(certificate: &Certificate, outcome: &Outcome, now: Timestamp) -> Condition {
    let status = if outcome.ready { "True" } else { "False" };
    let before = certificate
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref())
        .and_then(|conditions| conditions.iter().find(|condition| condition.type_ == "Ready"));
    let since = before.filter(|before| before.status == status);
    Condition {
        type_: "Ready".to_owned(),
        status: status.to_owned(),
        reason: outcome.reason.word().to_owned(),
        message: bounded(&outcome.message).to_owned(),
        observed_generation: certificate.metadata.generation,
        last_transition_time: since
            .map_or_else(|| seconds(now), |it| it.last_transition_time.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_the_status_does_not_depend_on_the_specification() {
        let large = "ä".repeat(500_000);
        let names: Vec<String> = (0..5_000).map(|i| format!("n{i}.example.org")).collect();
        let names = std::iter::once(large.clone()).chain(names).collect::<Vec<_>>();
        let certificate = serde_json::from_value(serde_json::json!({
            "apiVersion": "cert.gardener.cloud/v1alpha1", "kind": "Certificate",
            "metadata": { "namespace": "ns", "name": "c" }, "spec": { "dnsNames": names },
        }));
        let refusal = cert_lib::model::request::Refusal::Other(large.clone());
        let outcome = Outcome {
            state: State::Error,
            reason: Reason::SpecRefused,
            message: refusal.to_string(),
            ready: false,
            leaf: None,
            requested_at: Timestamp::UNIX_EPOCH,
            suggested: None,
            backoff: None,
            reissued: vec![],
            pending_since: None,
            warns: true,
        };
        let want = Want {
            request: Err(refusal),
            renew: false,
            renewed_after: None,
            new_key_after: None,
            renew_before: None,
            renew_before_percentage: None,
            renewal_windows: vec![],
        };
        let issuer = UsedIssuer { cluster: None, name: large, namespace: "ns".to_owned() };
        let policy = Policy {
            renewal_window: jiff::SignedDuration::from_hours(720),
            renew_before_percentage: None,
        };
        let now = Timestamp::UNIX_EPOCH;
        let status = of(&certificate.unwrap(), &want, Some(issuer), &outcome, &policy, now);
        assert_eq!(status.dns_names.as_ref().map(Vec::len), Some(MAX_DNS_NAMES));
        let size = serde_json::to_string(&status).unwrap().len();
        assert!(size < 16 << 10, "{size} bytes");
    }

    #[test]
    fn the_ready_message_equals_upstreams() {
        let leaf = Leaf {
            digest: cert_lib::model::bundle::LeafDigest::of(b"leaf"),
            serial: "74827d582f4a321a".into(),
            not_before: "2026-11-22T02:31:03Z".parse().unwrap(),
            not_after: "2046-11-17T02:31:02Z".parse().unwrap(),
            names: std::collections::BTreeSet::new(),
            public_key: vec![],
            is_ca: false,
            is_self_issued: false,
            id: None,
        };
        assert_eq!(
            ready_message(&leaf),
            "certificate (SN 74:82:7d:58:2f:4a:32:1a) valid from 2026-11-22 02:31:03 +0000 UTC to 2046-11-17 02:31:02 +0000 UTC"
        );
    }
}
