//! Takes the certificate and key of another Certificate that asks for the same, and lets one order serve
//! all of them: a CA counts each certificate for the same names, and so does a quota.
//!
//! Taken is only what a Certificate in the index has in a Secret that it may write, as both say that it was
//! issued for the same request by the same issuer. All of this can be written by a user with edit rights in
//! the namespace, so it counts only where the Secret is in that namespace, too: there he reads it anyway. A
//! certificate of another namespace, or in a Secret of one, takes a record.

use std::{
    cmp::Reverse,
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use cert_lib::{
    issue::verify::verify,
    model::{
        bundle::Bundle,
        reason::Reason,
        request::{Fingerprint, Request, Subject},
    },
    plan::{Ordered, SecretState, Shared, Stored, Want, can_take},
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use super::{
    act::{Pass, Step},
    consent::Consent,
    index::Twins,
    observe::Observed,
    reconcile::Controller,
    records::Whose,
    secret::{self, Body, Facts},
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
    /// Whether it is in the namespace of the Certificate that takes it.
    is_near: bool,
    /// For whom there must be a record of the certificate.
    recorded_for: Option<CertificateKey>,
}

/// What shows that a Secret may be read for a Certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Proof {
    /// Where it is.
    Place,
    /// A record that the certificate was issued for the namespace of the other Certificate.
    Record,
}

/// What shows that a Secret of another Certificate may be read for a Certificate; each is given by its own
/// namespace and that of its Secret. A namespace that may be written is not one that may be read: its
/// Secret could be of another tenant.
fn proof(
    (own, own_secret): (&str, &str),
    (other, secret): (&str, &str),
    is_open: bool,
    across: bool,
) -> Option<Proof> {
    let stays = is_open && secret == own_secret;
    match own == other && (secret == own || stays) {
        true => Some(Proof::Place),
        false => across.then_some(Proof::Record),
    }
}

/// Who is about to place an order that others wait for: it is known to all only when the CA has it.
#[derive(Debug, Default)]
pub struct Claims(Mutex<HashMap<(u64, IssuerKey), (CertificateKey, Timestamp)>>);

impl Claims {
    /// Lets `key` place the order, unless another one that `counts` is about to.
    ///
    /// It ends with the [order](Self::release), or after [`CLAIM`].
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

    /// What `key` was about to order is there, or there will be nothing.
    pub(super) fn release(&self, key: &CertificateKey) {
        let mut claims = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        claims.retain(|_, (holder, _)| holder != key);
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
        // A certificate does not say by which of them it was issued.
        if request.acme.profile.is_some() || request.acme.preferred_chain.is_some() {
            return false;
        }
        let twins = self.index.twins(key, certificate, MOST);
        let mut found = Vec::new();
        for candidate in self.candidates((key, certificate), request, observed, &twins) {
            let held = self.held(certificate, &candidate, observed).await;
            let held = held.filter(|it| can_take(want, &observed.have, &self.policy, now, it));
            found.extend(held.map(|held| (candidate.secret, held)));
        }
        found.sort_by_key(|(_, held)| Reverse(held.leaf.not_after));
        let mut best = None;
        for (secret, held) in found {
            if best.is_none()
                && self.taken(&secret, &held, request, now).await.is_ok_and(|it| it.is_some())
            {
                best = Some((secret, held));
            }
        }
        let ordered = self.ordered((key, certificate), want, observed, &twins, now);
        let (from, held) = best.unzip();
        observed.sharing = Sharing { number: twins.number, from };
        observed.have.shared = Shared { held, ordered };
        observed.have.shared != Shared::default()
    }

    /// What a candidate holds, where it is what it must be.
    async fn held(
        &self,
        certificate: &Certificate,
        candidate: &Candidate,
        observed: &Observed,
    ) -> Option<Stored> {
        let facts = self.secrets.get(&candidate.secret).await.ok()??;
        let mut found = secret::held(&facts, &self.realm, candidate.is_near)?;
        let own = &observed.have.secret;
        if found.fingerprint.as_ref() != Some(&candidate.label)
            || !may_take_key(certificate, own, &found)
        {
            return None;
        }
        if let Some(other) = &candidate.recorded_for {
            let Chosen { key: issuer, kind, .. } = &observed.issuer;
            let leaf = &found.leaf;
            let is_recorded = *kind == Some(IssuerKind::Acme)
                && self.is_recorded(other, leaf, issuer, Whose::Said).await.unwrap_or(false);
            return is_recorded.then_some(found);
        }
        if let SecretState::Holds(own) = own
            && own.leaf.digest == found.leaf.digest
        {
            found.suggested.clone_from(&own.suggested);
        }
        Some(found)
    }

    /// The Secret with the certificate `expected` and its key, where it is what `request` asks for.
    async fn taken(
        &self,
        from: &ObjectKey,
        expected: &Stored,
        request: &Request,
        now: Timestamp,
    ) -> kube::Result<Option<(Secret, Bundle)>> {
        let held = self.secrets.api(from).get_opt(&from.name).await?;
        let held = held.filter(|held| !reading(held, || is_revoked(held)));
        let bundle = held.as_ref();
        let bundle = bundle.and_then(|held| reading(held, || secret::bundle(held)).ok());
        let bundle = bundle.filter(|it| it.leaf == expected.leaf && it.key.is_some());
        Ok(held.zip(bundle.filter(|bundle| verify(bundle, request, now).is_ok())))
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
                is_near: true,
                recorded_for: None,
            }));
        }
        let issuer = &observed.issuer.key;
        let mut others: Vec<_> = twins
            .others
            .iter()
            .filter(|(other, it)| self.may_give(other, it, &request.fingerprint, issuer))
            .filter_map(|(other, it)| {
                let secret = it.secret_key();
                let proof = self.proof((key, &observed.secret), (other, &secret))?;
                Some((
                    it,
                    Candidate {
                        is_near: secret.namespace == key.object.namespace,
                        recorded_for: (proof == Proof::Record).then(|| other.clone()),
                        label: request.fingerprint.clone(),
                        secret,
                    },
                ))
            })
            .collect();
        others.sort_by_key(|(it, _)| it.status.as_ref().and_then(|it| it.expiration_date.clone()));
        all.extend(others.into_iter().rev().take(READ).map(|(_, candidate)| candidate));
        all.retain(|candidate| candidate.secret != observed.secret);
        all
    }

    fn proof(
        &self,
        (key, own): (&CertificateKey, &ObjectKey),
        (other, secret): (&CertificateKey, &ObjectKey),
    ) -> Option<Proof> {
        let is_open = self.consents.is_open(&secret.namespace);
        let namespaces = (key.object.namespace.as_str(), own.namespace.as_str());
        let theirs = (other.object.namespace.as_str(), secret.namespace.as_str());
        proof(namespaces, theirs, is_open, self.settings.reuse_across_namespaces)
    }

    /// Whether the Certificate `other` has what it asks `issuer` for, under the same hash, in a Secret that
    /// it may write.
    fn may_give(
        &self,
        key: &CertificateKey,
        other: &Certificate,
        wanted: &Fingerprint,
        issuer: &IssuerKey,
    ) -> bool {
        let secret = other.secret_key();
        let may_write = self.settings.cross_namespace_secrets
            || self.consents.of(&key.object.namespace, &secret) == Consent::Given;
        let noted = other.labels().get(marks::HASH);
        may_write
            && is_served(other, &self.settings.classes)
            && other.metadata.deletion_timestamp.is_none()
            && noted.is_some_and(|noted| noted == wanted.as_str())
            && fingerprint(&other.spec, &self.settings, issuer) == *wanted
            && self.rival(other, &secret).is_none()
    }

    /// The order that another one has placed, or is about to.
    fn ordered(
        &self,
        (key, certificate): (&CertificateKey, &Certificate),
        want: &Want,
        observed: &Observed,
        twins: &Twins,
        now: Timestamp,
    ) -> Option<Ordered> {
        let Chosen { key: issuer, kind, .. } = &observed.issuer;
        let running = twins.others.iter().find_map(|(other, certificate)| {
            let order = self.orders.get(other)?;
            let is_same = may_give_soon(key, other, *kind)
                && is_new_enough(want, order.progress.started(), now)
                && order.issuer == issuer.to_string()
                && is_served(certificate.as_ref(), &self.settings.classes)
                && *order.progress.fingerprint()
                    == fingerprint(&certificate.spec, &self.settings, issuer);
            let until = order.progress.started().saturating_add(PATIENCE).ok()?;
            (is_same && now < until).then(|| Ordered { by: other.object.to_string(), until })
        });
        running.or_else(|| {
            let (holder, until) = self.claims.holder(twins.number?, issuer, now)?;
            let counts = holder != *key
                && may_give_soon(key, &holder, *kind)
                && self.index.are_twins((key, certificate), &holder);
            counts.then(|| Ordered { by: holder.object.to_string(), until })
        })
    }

    /// Whether this Certificate is the one that places the order for all that ask for the same.
    pub(super) fn claims_order(&self, pass: &Pass<'_>) -> bool {
        let issuer = &pass.observed.issuer.key;
        let Some(number) = pass.observed.sharing.number else { return true };
        let this = (pass.key, pass.certificate);
        let kind = pass.observed.issuer.kind;
        let counts = |holder: &CertificateKey| {
            may_give_soon(pass.key, holder, kind) && self.index.are_twins(this, holder)
        };
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
        let taken = self.taken(from, expected, request, pass.now).await?;
        let Some((held, bundle)) = taken else {
            let message = format!("the certificate in Secret {from} has just changed");
            let outcome = pass.outcome(State::Waiting, message);
            return Ok(Step::Say(Box::new(outcome), pass.now + pause::UNREACHABLE));
        };
        let body = match Body::held(&held, &bundle, pass.observed.wishes.encoding) {
            Ok(body) => body,
            Err(error) => return Ok(secret::write::unwritable(pass, &error)),
        };
        let kind = pass.observed.facts.as_ref().map(|facts| facts.kind.as_str());
        let mut ready = self.complete(pass, request, body, expected.requested_at, kind).await;
        secret::write::void_mark(&mut ready.secret, pass.observed.facts.as_ref());
        let written = self.put(pass, &ready.secret).await?;
        if written.as_ref().is_some_and(Facts::is_marked_revoked) {
            self.unmark(&pass.observed.secret).await?;
        }
        tracing::info!(certificate = %pass.key, "certificate {}: took the certificate in Secret {from}, which was issued for the same request", pass.key);
        self.setbacks.forgive(pass.key);
        self.call_next(pass.key);
        Ok(Step::Again)
    }
}

/// Whether the order of another Certificate is worth waiting for: what a CA of ours signs is not given to
/// other namespaces.
fn may_give_soon(key: &CertificateKey, other: &CertificateKey, issuer: Option<IssuerKind>) -> bool {
    key.object.namespace == other.object.namespace || issuer == Some(IssuerKind::Acme)
}

/// Whether an order that was placed then brings what is wanted now.
fn is_new_enough(want: &Want, placed: Timestamp, now: Timestamp) -> bool {
    let renewed = want.renewed_after.filter(|after| *after <= now);
    renewed.into_iter().chain(want.new_key_after).all(|after| placed >= after)
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
        claims.release(&key("third"));
        assert!(take(1, &a, "fourth", 62), "its order has ended");
    }

    #[test]
    fn a_namespace_that_may_be_written_is_not_one_that_may_be_read() {
        let (place, record) = (Some(Proof::Place), Some(Proof::Record));
        for (own, other, is_open, proven, across) in [
            (("ns", "ns"), ("ns", "ns"), false, place, place),
            (("ns", "gw"), ("ns", "ns"), false, place, place),
            // The key of a victim would come out of `gw`.
            (("evil", "evil"), ("evil", "gw"), false, None, record),
            (("evil", "evil"), ("evil", "gw"), true, None, record),
            (("evil", "gw"), ("evil", "gw"), false, None, record),
            // It stays where the operator has all of them put.
            (("ns", "gw"), ("ns", "gw"), true, place, place),
            (("ns", "gw"), ("other", "gw"), true, None, record),
            (("ns", "ns"), ("other", "other"), false, None, record),
            // Somebody else writes into the own namespace.
            (("ns", "ns"), ("other", "ns"), false, None, record),
        ] {
            assert_eq!(proof(own, other, is_open, false), proven, "{own:?} {other:?}");
            assert_eq!(proof(own, other, is_open, true), across, "{own:?} {other:?}");
        }
    }

    #[test]
    fn an_order_is_waited_for_where_its_certificate_can_be_taken() {
        let key =
            |namespace: &str| CertificateKey::new(Home::Source, ObjectKey::new(namespace, "a"));
        for (issuer, other, waits) in [
            (IssuerKind::Acme, "ns", true),
            (IssuerKind::Acme, "other", true),
            (IssuerKind::Ca, "ns", true),
            (IssuerKind::Ca, "other", false),
            (IssuerKind::SelfSigned, "other", false),
        ] {
            let may = may_give_soon(&key("ns"), &key(other), Some(issuer));
            assert_eq!(may, waits, "{issuer:?} {other}");
        }
        let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
        let owner = cert_lib::solve::Owner("ns/a".into());
        let subject = Subject::Names {
            common_name: None,
            dns_names: vec!["a.example".parse().unwrap()],
            key: cert_lib::model::request::KeyChoice::default(),
        };
        let want = Want::new(Request::new(owner, Fingerprint::stored("x"), subject));
        for (renewed, new_key, placed, waits) in [
            (None, None, 0, true),
            (Some(5), None, 4, false),
            (Some(5), None, 5, true),
            (Some(50), None, 4, true),
            (None, Some(5), 4, false),
            (None, Some(5), 5, true),
        ] {
            let (renewed_after, new_key_after) = (renewed.map(at), new_key.map(at));
            let want = Want { renewed_after, new_key_after, ..want.clone() };
            assert_eq!(is_new_enough(&want, at(placed), at(10)), waits, "{renewed:?} {new_key:?}");
        }
    }
}
