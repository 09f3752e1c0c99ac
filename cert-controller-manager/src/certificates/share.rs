//! Takes the certificate and key of another Certificate that asks for the same, and lets one order serve
//! all of them: a CA counts each certificate for the same names, and so does a quota.
//!
//! Taken is only what a Certificate in the index has in a Secret that it may write, as both say that it was
//! issued for the same request by the same issuer. All of this can be written by a user with edit rights in
//! the namespace, who gains nothing by it there. A certificate of another namespace takes a record, too.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use cert_lib::{
    model::{
        reason::Reason,
        request::{Fingerprint, Request, Subject},
    },
    plan::{Ordered, Record, SecretState, Shared, Stored, Want},
};
use jiff::{SignedDuration, Timestamp};
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{
    act::{Pass, Step},
    consent::Consent,
    index::Twins,
    observe::Observed,
    reconcile::Controller,
    secret::{self, Body},
};
use crate::{
    api::{
        Certificate, CertificateKey, IssuerKey, ObjectKey,
        certificate::{RotationPolicy, State},
        is_served,
        issuer::IssuerKind,
        marks,
        secret::is_revoked,
    },
    issuers::{asked::fingerprint, choice::Chosen},
    runtime::{heavy::reading, pause},
};

/// How many Certificates that ask for the same are looked at.
const MOST: usize = 64;
/// How many of them are woken when there is a certificate; the others look by themselves.
const MOST_WOKEN: usize = 1_000;
/// The Secrets of how many of them are read.
const READ: usize = 3;
/// How long the order of another is waited for.
const PATIENCE: SignedDuration = SignedDuration::from_mins(15);
/// How long one that is about to place an order keeps others from it.
const CLAIM: SignedDuration = SignedDuration::from_mins(1);

/// What a pass knows of others that ask for the same.
#[derive(Clone, Debug, Default)]
pub struct Sharing {
    /// What stands for what they ask for; `None` where nothing is shared.
    pub(super) number: Option<u64>,
    /// The Secret with a certificate that can be taken.
    pub(super) from: Option<ObjectKey>,
}

/// A Secret that may hold the certificate.
struct Candidate {
    secret: ObjectKey,
    /// The label that it must have.
    label: Fingerprint,
    /// Whose it is, where that is another tenant's.
    elsewhere: Option<CertificateKey>,
}

/// Who is about to place an order that others wait for: it is known to all only when the CA has it.
#[derive(Debug, Default)]
pub struct Claims(Mutex<HashMap<(u64, IssuerKey), (CertificateKey, Timestamp)>>);

impl Claims {
    /// Lets `key` place the order, unless another one that `counts` is about to.
    fn take(
        &self,
        (number, issuer): (u64, &IssuerKey),
        key: &CertificateKey,
        now: Timestamp,
        counts: impl Fn(&CertificateKey) -> bool,
    ) -> bool {
        let mut claims = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        claims.retain(|_, (_, since)| is_fresh(*since, now));
        let held = claims.entry((number, issuer.clone())).or_insert_with(|| (key.clone(), now));
        if held.0 != *key && !counts(&held.0) {
            *held = (key.clone(), now);
        }
        held.0 == *key
    }

    /// Who is about to place it, and until when that counts.
    fn holder(
        &self,
        number: u64,
        issuer: &IssuerKey,
        now: Timestamp,
    ) -> Option<(CertificateKey, Timestamp)> {
        let claims = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (holder, since) = claims.get(&(number, issuer.clone()))?;
        let until = since.saturating_add(CLAIM).unwrap_or(*since);
        is_fresh(*since, now).then(|| (holder.clone(), until))
    }
}

fn is_fresh(since: Timestamp, now: Timestamp) -> bool {
    now.duration_since(since) < CLAIM
}

impl Controller {
    /// Looks for what others have of the same request. Returns whether there is something.
    pub(super) async fn look_for_shared(
        &self,
        key: &CertificateKey,
        certificate: &Certificate,
        want: &Want,
        observed: &mut Observed,
        now: Timestamp,
    ) -> bool {
        let Ok(request) = &want.request else { return false };
        if matches!(request.subject, Subject::Csr(_)) {
            return false;
        }
        let twins = self.index.twins(key, certificate, MOST);
        let mut best: Option<(ObjectKey, Stored)> = None;
        for candidate in self.candidates((key, certificate), request, observed, &twins) {
            let Candidate { secret, label, elsewhere } = candidate;
            let Ok(Some(facts)) = self.secrets.get(&secret).await else { continue };
            let found = secret::held(&facts).filter(|it| it.fingerprint.as_ref() == Some(&label));
            let found =
                found.filter(|found| may_take_key(certificate, &observed.have.secret, found));
            let Some(found) = found else { continue };
            if let Some(other) = elsewhere
                && !self.is_recorded(&other, &found, &observed.issuer).await
            {
                continue;
            }
            if best.as_ref().is_none_or(|(_, it)| it.leaf.not_after < found.leaf.not_after) {
                best = Some((secret, found));
            }
        }
        let ordered = self.ordered((key, certificate), observed, &twins, now);
        let (from, held) = best.unzip();
        observed.sharing = Sharing { number: twins.number, from };
        observed.have.shared = Shared { held, ordered };
        observed.have.shared != Shared::default()
    }

    /// Secrets that may hold the certificate: the one that the Certificate had before its `secretName` was
    /// changed, and those of others that ask for the same.
    fn candidates(
        &self,
        (key, certificate): (&CertificateKey, &Certificate),
        request: &Request,
        observed: &Observed,
        twins: &Twins,
    ) -> Vec<Candidate> {
        let mut all = Vec::new();
        if let Some(former) = certificate.former_secret() {
            let labels = [Some(&request.fingerprint), observed.have.noted.as_ref()];
            all.extend(labels.into_iter().flatten().map(|label| Candidate {
                secret: former.clone(),
                label: label.clone(),
                elsewhere: None,
            }));
        }
        let issuer = &observed.issuer.key;
        let others = twins.others.iter().filter(|(key, other)| self.may_give(key, other, issuer));
        let mut others: Vec<_> = others.collect();
        others.sort_by_key(|(_, it)| it.status.as_ref().and_then(|it| it.expiration_date.clone()));
        let latest = others.into_iter().rev().take(READ);
        all.extend(latest.filter_map(|(other, certificate)| {
            let label = Fingerprint::stored(certificate.labels().get(marks::HASH)?);
            let is_elsewhere = other.object.namespace != key.object.namespace;
            let elsewhere = is_elsewhere.then(|| other.clone());
            Some(Candidate { secret: certificate.secret_key(), label, elsewhere })
        }));
        all.retain(|candidate| candidate.secret != observed.secret);
        all
    }

    /// Whether the issuer issued the certificate for the Certificate `other`: its Secret is in the hands of
    /// another tenant, so it takes a record. Only certificates of ACME issuers have one.
    async fn is_recorded(&self, other: &CertificateKey, found: &Stored, issuer: &Chosen) -> bool {
        issuer.kind == Some(IssuerKind::Acme)
            && self
                .find_record(other, &found.leaf, &issuer.key)
                .await
                .is_ok_and(|record| record == Record::Found)
    }

    /// Whether the Certificate `other` has what it asks `issuer` for, in a Secret that is its own.
    fn may_give(&self, key: &CertificateKey, other: &Certificate, issuer: &IssuerKey) -> bool {
        let secret = other.secret_key();
        let may_write = self.settings.cross_namespace_secrets
            || self.consents.of(&key.object.namespace, &secret) == Consent::Given;
        let noted = other.labels().get(marks::HASH);
        may_write
            && is_served(other, &self.settings.classes)
            && other.metadata.deletion_timestamp.is_none()
            && noted.is_some_and(|noted| {
                noted == fingerprint(&other.spec, &self.settings, issuer).as_str()
            })
            && self.rival(other, &secret).is_none()
    }

    /// The order that another one has placed, or is about to.
    fn ordered(
        &self,
        (key, certificate): (&CertificateKey, &Certificate),
        observed: &Observed,
        twins: &Twins,
        now: Timestamp,
    ) -> Option<Ordered> {
        let issuer = &observed.issuer.key;
        let running = twins.others.iter().find_map(|(other, certificate)| {
            let order = self.orders.get(other)?;
            let is_same = order.issuer == issuer.to_string()
                && is_served(certificate.as_ref(), &self.settings.classes)
                && *order.progress.fingerprint()
                    == fingerprint(&certificate.spec, &self.settings, issuer);
            let until = order.progress.started().saturating_add(PATIENCE).ok()?;
            (is_same && now < until).then(|| Ordered { by: other.object.to_string(), until })
        });
        running.or_else(|| {
            let (holder, until) = self.claims.holder(twins.number?, issuer, now)?;
            let counts = holder != *key && self.index.are_twins((key, certificate), &holder);
            counts.then(|| Ordered { by: holder.object.to_string(), until })
        })
    }

    /// Whether this Certificate is the one that places the order for all that ask for the same.
    pub(super) fn claims_order(&self, pass: &Pass<'_>) -> bool {
        let issuer = &pass.observed.issuer.key;
        let Some(number) = pass.observed.sharing.number else { return true };
        let this = (pass.key, pass.certificate);
        let counts = |holder: &CertificateKey| self.index.are_twins(this, holder);
        self.claims.take((number, issuer), pass.key, pass.now, counts)
    }

    /// There is a certificate: those that ask for the same may take it.
    pub(super) fn wake_twins(&self, pass: &Pass<'_>) {
        let twins = self.index.twins(pass.key, pass.certificate, MOST_WOKEN);
        twins.others.into_iter().for_each(|(key, _)| self.queue.push(key));
    }

    /// Writes the Secret with the certificate and key of another one.
    ///
    /// # Errors
    /// When a Secret could not be read or written.
    pub(super) async fn share(&self, pass: &Pass<'_>, request: &Request) -> kube::Result<Step> {
        let Some((from, expected)) =
            pass.observed.sharing.from.as_ref().zip(pass.observed.have.shared.held.as_ref())
        else {
            return Ok(Step::Again);
        };
        if let Err(again) = self.setbacks.may_rewrite(pass.key, pass.now) {
            let secret = &pass.observed.secret;
            let message = format!(
                "Secret {secret} was deleted or overwritten again and again: it is filled again at {again}"
            );
            let mut outcome = pass.outcome(State::Error, message);
            outcome.reason = Reason::LoopSuspected;
            return Ok(Step::Say(Box::new(outcome), again));
        }
        let held = self.secrets.api(from).get_opt(&from.name).await?;
        let held = held.filter(|held| !reading(held, || is_revoked(held)));
        let bundle = held.as_ref();
        let bundle = bundle.and_then(|held| reading(held, || secret::bundle(held)).ok());
        let bundle = bundle.filter(|it| it.leaf == expected.leaf && it.key.is_some());
        let (Some(held), Some(bundle)) = (held, bundle) else {
            let message = format!("the certificate in Secret {from} has just changed");
            let outcome = pass.outcome(State::Waiting, message);
            return Ok(Step::Say(Box::new(outcome), pass.now + pause::UNREACHABLE));
        };
        let body = match Body::held(&held, &bundle, pass.observed.wishes.encoding) {
            Ok(body) => body,
            Err(error) => return Ok(secret::write::unwritable(pass, &error)),
        };
        let kind = pass.observed.facts.as_ref().map(|facts| facts.kind.as_str());
        let ready = self.complete(pass, request, body, expected.requested_at, kind).await;
        let written = self.put(pass, &ready.secret).await?;
        if written.is_some_and(|facts| facts.revoked) {
            let unmark = json!({ "metadata": { "annotations": { marks::REVOKED: null } } });
            let patch = Patch::Merge(unmark);
            self.secrets.write(&pass.observed.secret, &PatchParams::default(), &patch).await?;
        }
        tracing::info!(certificate = %pass.key, "certificate {}: took the certificate in Secret {from}, which was issued for the same request", pass.key);
        self.setbacks.forgive(pass.key);
        self.call_next(pass.key);
        Ok(Step::Again)
    }
}

/// Whether a Certificate whose key stays may take this one: it has none yet, or the same.
fn may_take_key(certificate: &Certificate, own: &SecretState, found: &Stored) -> bool {
    let policy = certificate.spec.private_key.as_ref().and_then(|key| key.rotation_policy);
    match own {
        SecretState::Holds(own) if policy == Some(RotationPolicy::Never) => {
            own.leaf.public_key == found.leaf.public_key
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Home;

    #[test]
    fn one_of_those_that_ask_for_the_same_orders_and_another_may_after_a_minute() {
        let claims = Claims::default();
        let key = |name: &str| CertificateKey::new(Home::Source, ObjectKey::new("ns", name));
        let issuer = |name: &str| IssuerKey::Default(name.to_owned());
        let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
        let (a, b) = (issuer("a"), issuer("b"));
        let take = |number, issuer, name: &str, second| {
            claims.take((number, issuer), &key(name), at(second), |_| true)
        };
        assert!(take(1, &a, "first", 0));
        assert!(!take(1, &a, "second", 1));
        assert!(take(1, &a, "first", 30), "it may try again");
        assert_eq!(claims.holder(1, &a, at(1)), Some((key("first"), at(60))));
        assert!(take(2, &a, "second", 1), "for something else");
        assert!(take(1, &b, "second", 1), "by another issuer");
        assert_eq!(claims.holder(1, &a, at(60)), None);
        assert!(take(1, &a, "second", 60));
        assert!(claims.take((1, &a), &key("third"), at(61), |_| false), "who had it is gone");
    }
}
