//! Decides the next step of a CertificateRevocation. Pure.
//!
//! The status stores what the revocation affects, because a renewed Certificate no longer shows its
//! previous certificate. Everything else is observed again in each pass, so that repeating a step
//! after a crash is harmless.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::observed::{
    Backup, HeldCertificate, Lists, MAX_REVOKED, Observed, SecretHolder, Subject,
};
use crate::api::{
    ObjectKey, backup,
    revocation::{
        CertificateName, CertificateRevocationSpec, CertificateRevocationStatus, CertificateSecret,
    },
    time::whole_up,
    well_known,
};

/// The result of the checks that need no other objects.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Admission {
    /// The object is not served, or finished.
    Ignore,
    /// The qualifying date must be set first.
    SetDate,
    /// The specification is refused; the message says what permits it.
    Refuse(String),
    /// Certificates requested before this time may be revoked.
    Proceed(Timestamp),
}

/// Checks the specification of a CertificateRevocation in `namespace`.
#[must_use]
pub fn admit(
    served: bool,
    namespace: &str,
    spec: &CertificateRevocationSpec,
    status: Option<&CertificateRevocationStatus>,
    across_namespaces: bool,
) -> Admission {
    if !served || status.is_some_and(|status| status.revocation_applied.is_some()) {
        return Admission::Ignore;
    }
    let wanted = &spec.certificate_ref;
    if wanted.namespace != namespace && !across_namespaces {
        return Admission::Refuse(format!(
            "Certificate {}/{} is in another namespace than the CertificateRevocation: create the \
             CertificateRevocation there, or run the manager with --allow-cross-namespace-secrets",
            wanted.namespace, wanted.name
        ));
    }
    match spec.qualifying_date.as_deref().filter(|text| !text.is_empty()) {
        None => Admission::SetDate,
        Some(text) => match text.parse() {
            // Request times have a resolution of one second.
            Ok(date) => Admission::Proceed(whole_up(date)),
            Err(_) => Admission::Refuse(
                "qualifyingDate is not a time between the years 0 and 9999".to_owned(),
            ),
        },
    }
}

/// The next step.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// Nothing can be done until the configuration changes.
    Refuse(String),
    /// Annotate these backups with tenant and issuer.
    Annotate(Vec<ObjectKey>),
    /// Store these lists in the status.
    Begin(Lists, String),
    /// Request renewal of these Certificates, then wait.
    Renew(Lists, Vec<CertificateName>),
    /// Revoke these certificates.
    Revoke(Lists, Vec<Backup>),
    /// Publish the final status.
    Finish(Lists),
}

/// The next step for certificates requested before `date`. `annotated` means that
/// [`Step::Annotate`] is done.
#[must_use]
pub fn next(
    observed: &Observed,
    begun: Option<Lists>,
    renew: bool,
    date: Timestamp,
    annotated: bool,
    now: Timestamp,
) -> Step {
    match begun {
        None => begin(observed, renew, date, annotated, now),
        Some(lists) => resume(observed, lists, renew, date, now),
    }
}

fn begin(
    observed: &Observed,
    renew: bool,
    date: Timestamp,
    annotated: bool,
    now: Timestamp,
) -> Step {
    if let Some(refusal) = observed.refusal() {
        return Step::Refuse(refusal);
    }
    let backups = observed.backups.iter().filter(|backup| backup.qualifies(date, now));
    let (recorded, unrecorded): (Vec<&Backup>, Vec<&Backup>) =
        backups.partition(|backup| backup.is_recorded);
    if !annotated {
        let unmarked = recorded.iter().filter(|backup| !backup.is_marked);
        let unmarked: Vec<_> = unmarked.map(|backup| backup.secret.clone()).collect();
        if !unmarked.is_empty() {
            return Step::Annotate(unmarked);
        }
    }
    if renew && let Some(lost) = unrecorded.first() {
        return Step::Refuse(format!(
            "no backup in {} records that the certificate in Secret {} was issued, and a renewal would \
             overwrite it: revoke it without renew, then set renew on the Certificate",
            backup::NAMESPACE,
            lost.secret
        ));
    }
    let backups: Vec<&Backup> = recorded.into_iter().chain(unrecorded).take(MAX_REVOKED).collect();
    if backups.is_empty() {
        return Step::Refuse(format!(
            "find all old secrets failed: no valid secrets found older than {date}"
        ));
    }
    let (lists, message) = first_status(observed.holders_before(date), &backups, renew);
    Step::Begin(lists, message)
}

/// The lists and the message of a revocation that begins.
fn first_status(
    holders: Vec<CertificateName>,
    backups: &[&Backup],
    renew: bool,
) -> (Lists, String) {
    let count = holders.len();
    let message = match renew {
        true => format!("renewing {count} certificates"),
        false => format!("found {count} certificates to process"),
    };
    let lists = Lists {
        processing: holders.into_iter().collect(),
        secrets: backups.iter().map(|backup| backup.listed()).collect(),
        ..Lists::default()
    };
    (lists, message)
}

impl Observed {
    /// Why the revocation cannot begin.
    fn refusal(&self) -> Option<String> {
        let Some(subject) = &self.subject else {
            return Some("the Certificate does not exist".to_owned());
        };
        if let Some(refusal) = subject.refusal() {
            return Some(refusal);
        }
        self.too_many.then(|| {
            format!(
                "more than {MAX_REVOKED} Certificates have the same label {} or the same certificate: \
                 change their requests, or delete those that are not needed",
                well_known::HASH
            )
        })
    }

    fn holder(&self, name: &CertificateName) -> Option<&SecretHolder> {
        self.holders.iter().find(|holder| holder.name == *name)
    }

    /// The Certificates with a certificate that was requested before `date`.
    fn holders_before(&self, date: Timestamp) -> Vec<CertificateName> {
        let is_affected = |held: &HeldCertificate| !held.revoked && held.requested_at < date;
        self.holders
            .iter()
            .filter(|holder| holder.held.as_ref().is_some_and(is_affected))
            .map(|holder| holder.name.clone())
            .collect()
    }
}

impl Subject {
    /// Why certificates of this Certificate cannot be revoked.
    fn refusal(&self) -> Option<String> {
        if self.revoked {
            // Upstream's spelling.
            return Some("certficate already revoked".to_owned());
        }
        if let Some(why) = &self.issuer.refusal {
            return Some(why.clone());
        }
        if self.issuer.kind.is_some_and(|kind| !kind.capabilities().revokes) {
            let why = "certificate revocation only supported for issuers of type ACME";
            return Some(why.to_owned());
        }
        let why =
            "the Certificate has no label cert.gardener.cloud/hash: nothing was issued for it";
        self.hash.is_none().then(|| why.to_owned())
    }
}

impl SecretHolder {
    /// Whether a renewal with a new key is requested for certificates from before `date`. It needs
    /// both fields: without `ensureRenewedAfter` nothing is renewed, and without the annotation the
    /// key may be reused. A date in the future, set by a user, would delay the renewal, so it does
    /// not count.
    fn is_renewal_requested(&self, date: Timestamp, now: Timestamp) -> bool {
        let (Some(after), Some(new_key_after)) = (self.renewed_after, self.new_key_after) else {
            return false;
        };
        after.min(new_key_after) >= date && after <= now.max(new_key_after)
    }
}

fn resume(
    observed: &Observed,
    mut lists: Lists,
    renew: bool,
    date: Timestamp,
    now: Timestamp,
) -> Step {
    if renew {
        move_renewed(observed, &mut lists, date);
        if !lists.processing.is_empty() {
            let is_requested = |name: &CertificateName| {
                observed.holder(name).is_some_and(|it| it.is_renewal_requested(date, now))
            };
            let to_renew = lists.processing.iter().filter(|name| !is_requested(name));
            let to_renew = to_renew.cloned().collect();
            return Step::Renew(lists, to_renew);
        }
    }
    let to_revoke = sort_secrets(observed, &mut lists);
    if !to_revoke.is_empty() {
        return Step::Revoke(lists, to_revoke);
    }
    finish_holders(observed, &mut lists, date);
    Step::Finish(lists)
}

/// Moves the Certificates with a new certificate to the list of renewed ones.
fn move_renewed(observed: &Observed, lists: &mut Lists, date: Timestamp) {
    let is_renewed = |held: &HeldCertificate| !held.revoked && held.requested_at >= date;
    for name in std::mem::take(&mut lists.processing) {
        // A deleted Certificate needs no renewal.
        let Some(holder) = observed.holder(&name) else { continue };
        let list = match holder.held.as_ref().is_some_and(is_renewed) {
            true => &mut lists.renewed,
            false => &mut lists.processing,
        };
        list.insert(name);
    }
}

/// Moves the certificates that are revoked, or cannot be, to their lists. Returns the others.
fn sort_secrets(observed: &Observed, lists: &mut Lists) -> Vec<Backup> {
    let mut to_revoke = Vec::new();
    for listed in std::mem::take(&mut lists.secrets) {
        match observed.backups.iter().find(|backup| backup.is(&listed)) {
            // Revoked by an earlier pass before a crash, or by another client.
            Some(backup) if backup.revoked => drop(lists.revoked_secrets.insert(listed)),
            Some(backup) => {
                to_revoke.push(backup.clone());
                lists.secrets.insert(backup.listed());
            }
            // The backup was deleted, or never permitted a revocation.
            None => drop(lists.failed_secrets.insert(listed)),
        }
    }
    to_revoke
}

/// Sorts the remaining Certificates into the final lists.
fn finish_holders(observed: &Observed, lists: &mut Lists, date: Timestamp) {
    let record =
        |held: &HeldCertificate| observed.backups.iter().find(|backup| backup.leaf == held.leaf);
    let among = |list: &BTreeSet<CertificateSecret>, held: &HeldCertificate| {
        record(held).is_some_and(|record| list.iter().any(|listed| record.is(listed)))
    };
    // The backup was deleted, or belongs to another tenant.
    let is_lost = |held: &HeldCertificate| record(held).is_none() && held.requested_at < date;
    for name in std::mem::take(&mut lists.processing) {
        let Some(holder) = observed.holder(&name) else { continue };
        match &holder.held {
            Some(held) if held.revoked || among(&lists.revoked_secrets, held) => {
                lists.revoked.insert(name);
            }
            Some(held) if among(&lists.failed_secrets, held) || is_lost(held) => {
                lists.failed.insert(name);
            }
            // The Certificate has another certificate by now, or none.
            Some(_) => drop(lists.renewed.insert(name)),
            None => drop(lists.revoked.insert(name)),
        }
    }
}

/// The result of a finished revocation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ending {
    /// All certificates are revoked.
    Applied,
    /// Some certificates are revoked.
    PartialApplied,
    /// No certificate is revoked.
    Error,
}

/// The final result and upstream's message; `before` contains the errors.
#[must_use]
pub fn ending(lists: &Lists, renew: bool, before: &str) -> (Ending, String) {
    if lists.revoked_secrets.is_empty() {
        return (Ending::Error, format!("revocation of certificate failed: {before}"));
    }
    let done = match renew {
        true => "certificate renewed and old certificate(s) revoked",
        false => "certificate(s) revoked",
    };
    if lists.failed.is_empty() && lists.failed_secrets.is_empty() {
        return (Ending::Applied, done.to_owned());
    }
    (Ending::PartialApplied, format!("{done} (ony partially successful)"))
}

#[cfg(test)]
mod tests;
