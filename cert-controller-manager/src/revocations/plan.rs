//! What to do next for a CertificateRevocation. Pure.
//!
//! What was begun is remembered in the status: a renewed Certificate does not look as if it had ever
//! had another certificate. Everything else is seen anew in each pass, so that a crash repeats a step
//! and changes nothing.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::{
    api::{
        IssuerKey, ObjectKey,
        issuer::IssuerKind,
        revocation::{
            CertificateName, CertificateRevocationSpec, CertificateRevocationStatus,
            CertificateSecret,
        },
    },
    issuers::choice::Chosen,
};

/// What can be said before anything else is looked at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Admission {
    /// Not ours, or finished.
    Leave,
    /// The instant must be written into the specification first.
    Date,
    /// It cannot be done; the text says what permits it.
    Refuse(String),
    /// Whatever was requested before this may be revoked.
    Go(Timestamp),
}

/// Whether anything is to be done, in this namespace.
#[must_use]
pub fn admit(
    served: bool,
    namespace: &str,
    spec: &CertificateRevocationSpec,
    status: Option<&CertificateRevocationStatus>,
    anywhere: bool,
) -> Admission {
    if !served || status.is_some_and(|status| status.revocation_applied.is_some()) {
        return Admission::Leave;
    }
    let wanted = &spec.certificate_ref;
    if wanted.namespace != namespace && !anywhere {
        return Admission::Refuse(format!(
            "the Certificate {}/{} is in another namespace than the CertificateRevocation: create it \
             there, or ask for the manager's --allow-cross-namespace-secrets",
            wanted.namespace, wanted.name
        ));
    }
    match spec.qualifying_date.as_deref().filter(|text| !text.is_empty()) {
        None => Admission::Date,
        Some(text) => match text.parse() {
            Ok(date) => Admission::Go(date),
            Err(_) => Admission::Refuse(
                "qualifyingDate is no time between the years 0 and 9999".to_owned(),
            ),
        },
    }
}

/// The Certificate that is named.
#[derive(Clone, Debug, PartialEq)]
pub struct Subject {
    /// Its request, as its label has it.
    pub hash: Option<String>,
    /// Whether its state is `Revoked`.
    pub revoked: bool,
    /// Its issuer.
    pub issuer: Chosen,
}

/// A Certificate that is concerned, and its Secret.
#[derive(Clone, Debug, PartialEq)]
pub struct Holder {
    /// The Certificate.
    pub name: CertificateName,
    /// `spec.ensureRenewedAfter`
    pub renewed_after: Option<Timestamp>,
    /// What its Secret holds.
    pub held: Option<Held>,
}

/// A certificate in a Secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Held {
    /// Lower-case hexadecimal digits, without leading zeros.
    pub serial: String,
    /// When it was requested.
    pub requested_at: Timestamp,
    /// Whether it is marked as revoked.
    pub revoked: bool,
    /// Whether it belongs to whoever writes the Certificate, beyond doubt.
    pub is_own: bool,
}

/// A backup that may be revoked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Backup {
    /// The Secret.
    pub secret: ObjectKey,
    /// As in [`Held::serial`].
    pub serial: String,
    /// The same with colons, as people see it.
    pub text: String,
    /// When it was requested.
    pub requested_at: Timestamp,
    /// Its last instant.
    pub not_after: Timestamp,
    /// Whether it is marked as revoked.
    pub revoked: bool,
    /// Who issued it, where it says so.
    pub issuer: Option<IssuerKey>,
    /// Whether it says itself whose it is and who issued it.
    pub is_marked: bool,
}

impl Backup {
    fn qualifies(&self, date: Timestamp, now: Timestamp) -> bool {
        !self.revoked && self.not_after > now && self.requested_at < date
    }

    /// Whether the status means it. Upstream leaves leading zeros out and groups what is left.
    fn is(&self, listed: &CertificateSecret) -> bool {
        self.secret.name == listed.name && self.serial == plain(&listed.serial_number)
    }

    /// As the status names it.
    #[must_use]
    pub fn listed(&self) -> CertificateSecret {
        CertificateSecret {
            name: self.secret.name.clone(),
            namespace: self.secret.namespace.clone(),
            serial_number: self.text.clone(),
        }
    }
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// The Certificate that is named.
    pub subject: Option<Subject>,
    /// All Certificates that are concerned: before the begin, those with the same hash; then those
    /// that the status names.
    pub holders: Vec<Holder>,
    /// The backups of this request that may be revoked.
    pub backups: Vec<Backup>,
}

/// The lists in the status.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Lists {
    /// Certificates that wait for something.
    pub processing: BTreeSet<CertificateName>,
    /// Certificates with a new certificate.
    pub renewed: BTreeSet<CertificateName>,
    /// Certificates whose certificate is revoked.
    pub revoked: BTreeSet<CertificateName>,
    /// Certificates whose certificate could not be revoked.
    pub failed: BTreeSet<CertificateName>,
    /// Certificates still to be revoked at the CA.
    pub secrets: BTreeSet<CertificateSecret>,
    /// Revoked ones.
    pub revoked_secrets: BTreeSet<CertificateSecret>,
    /// Those that the CA refused to revoke.
    pub failed_secrets: BTreeSet<CertificateSecret>,
}

impl Lists {
    /// The lists of a status; `None` where nothing was begun.
    #[must_use]
    pub fn of(status: Option<&CertificateRevocationStatus>) -> Option<Self> {
        fn set<T: Clone + Ord>(list: Option<&Vec<T>>) -> BTreeSet<T> {
            list.into_iter().flatten().cloned().collect()
        }
        let status = status?;
        let secrets = status.secrets.as_ref()?;
        let objects = status.objects.clone().unwrap_or_default();
        Some(Self {
            processing: set(objects.processing.as_ref()),
            renewed: set(objects.renewed.as_ref()),
            revoked: set(objects.revoked.as_ref()),
            failed: set(objects.failed.as_ref()),
            secrets: set(secrets.processing.as_ref()),
            revoked_secrets: set(secrets.revoked.as_ref()),
            failed_secrets: set(secrets.failed.as_ref()),
        })
    }
}

/// The next step.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// Nothing can be done as things are; somebody must change something.
    Refuse(String),
    /// These Certificates need a backup of their Secret, or these backups a note whose they are.
    Secure {
        /// Certificates whose Secret has no backup.
        holders: Vec<CertificateName>,
        /// Backups without a note.
        backups: Vec<ObjectKey>,
    },
    /// This is what it is about: it must be remembered.
    Begin(Lists, String),
    /// These must be told to renew, then waited for.
    Renew(Lists, Vec<CertificateName>),
    /// These backups are to be revoked now.
    Revoke(Lists, Vec<Backup>),
    /// All is done that can be done.
    Finish(Lists),
}

/// What to do next about what was requested before `date`. `secured` says that [`Step::Secure`] was
/// done already.
#[must_use]
pub fn next(
    found: &Found,
    begun: Option<Lists>,
    renew: bool,
    date: Timestamp,
    secured: bool,
    now: Timestamp,
) -> Step {
    match begun {
        None => begin(found, renew, date, secured, now),
        Some(lists) => go_on(found, lists, renew, date),
    }
}

fn begin(found: &Found, renew: bool, date: Timestamp, secured: bool, now: Timestamp) -> Step {
    let Some(subject) = &found.subject else {
        return Step::Refuse("the Certificate does not exist".to_owned());
    };
    if let Some(refusal) = subject.refusal() {
        return Step::Refuse(refusal);
    }
    let has_old = |held: &Held| !held.revoked && held.requested_at < date;
    let holders: Vec<&Holder> =
        found.holders.iter().filter(|holder| holder.held.as_ref().is_some_and(has_old)).collect();
    let backups: Vec<&Backup> =
        found.backups.iter().filter(|backup| backup.qualifies(date, now)).collect();
    if !secured {
        let is_missing = |held: &Held| {
            held.is_own && !found.backups.iter().any(|backup| backup.serial == held.serial)
        };
        let missing = holders.iter().filter(|holder| holder.held.as_ref().is_some_and(is_missing));
        let missing: Vec<_> = missing.map(|holder| holder.name.clone()).collect();
        let unmarked = backups.iter().filter(|backup| !backup.is_marked);
        let unmarked: Vec<_> = unmarked.map(|backup| backup.secret.clone()).collect();
        if !missing.is_empty() || !unmarked.is_empty() {
            return Step::Secure { holders: missing, backups: unmarked };
        }
    }
    if backups.is_empty() {
        return Step::Refuse(format!(
            "find all old secrets failed: no valid secrets found older than {date}"
        ));
    }
    let count = holders.len();
    let message = match renew {
        true => format!("renewing {count} certificates"),
        false => format!("found {count} certificates to process"),
    };
    let lists = Lists {
        processing: holders.into_iter().map(|holder| holder.name.clone()).collect(),
        secrets: backups.into_iter().map(Backup::listed).collect(),
        ..Lists::default()
    };
    Step::Begin(lists, message)
}

impl Subject {
    /// Why nothing of this Certificate can be revoked.
    fn refusal(&self) -> Option<String> {
        if self.revoked {
            // Upstream's spelling.
            return Some("certficate already revoked".to_owned());
        }
        if let Some(why) = &self.issuer.refusal {
            return Some(why.clone());
        }
        if self.issuer.kind.is_some_and(|kind| kind != IssuerKind::Acme) {
            let why = "certificate revocation only supported for issuers of type ACME";
            return Some(why.to_owned());
        }
        let why =
            "the Certificate has no label cert.gardener.cloud/hash: nothing was issued for it";
        self.hash.is_none().then(|| why.to_owned())
    }
}

fn go_on(found: &Found, mut lists: Lists, renew: bool, date: Timestamp) -> Step {
    let holder = |name: &CertificateName| found.holders.iter().find(|it| it.name == *name);
    if renew {
        // Who is gone needs no certificate any more.
        lists.processing.retain(|name| holder(name).is_some());
        let is_renewed = |held: &Held| !held.revoked && held.requested_at >= date;
        let renewed: Vec<_> = lists
            .processing
            .iter()
            .filter(|name| holder(name).and_then(|it| it.held.as_ref()).is_some_and(is_renewed))
            .cloned()
            .collect();
        lists.processing.retain(|name| !renewed.contains(name));
        lists.renewed.extend(renewed);
        if !lists.processing.is_empty() {
            let is_told = |it: &Holder| it.renewed_after.is_some_and(|after| after >= date);
            let to_tell = lists.processing.iter().filter(|name| !holder(name).is_some_and(is_told));
            let to_tell = to_tell.cloned().collect();
            return Step::Renew(lists, to_tell);
        }
    }
    let mut to_revoke = Vec::new();
    for listed in std::mem::take(&mut lists.secrets) {
        match found.backups.iter().find(|backup| backup.is(&listed)) {
            // By us before a crash, or by somebody else.
            Some(backup) if backup.revoked => drop(lists.revoked_secrets.insert(listed)),
            Some(backup) => {
                to_revoke.push(backup.clone());
                lists.secrets.insert(backup.listed());
            }
            // Deleted meanwhile, or never ours: nobody can revoke it.
            None => drop(lists.failed_secrets.insert(listed)),
        }
    }
    if !to_revoke.is_empty() {
        return Step::Revoke(lists, to_revoke);
    }
    settle(found, &mut lists);
    Step::Finish(lists)
}

/// Nothing is left to be revoked: says of each Certificate what that means for it.
fn settle(found: &Found, lists: &mut Lists) {
    let among = |list: &BTreeSet<CertificateSecret>, held: &Held| {
        list.iter().any(|it| plain(&it.serial_number) == held.serial)
    };
    for name in std::mem::take(&mut lists.processing) {
        let Some(holder) = found.holders.iter().find(|it| it.name == name) else { continue };
        match &holder.held {
            Some(held) if held.revoked || among(&lists.revoked_secrets, held) => {
                lists.revoked.insert(name);
            }
            Some(held) if among(&lists.failed_secrets, held) => {
                lists.failed.insert(name);
            }
            // It has another one meanwhile, or none.
            Some(_) => drop(lists.renewed.insert(name)),
            None => drop(lists.revoked.insert(name)),
        }
    }
}

/// A serial number as labels have it.
fn plain(text: &str) -> String {
    text.replace(':', "").trim_start_matches('0').to_owned()
}

/// How it ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ending {
    /// Everything is revoked.
    Applied,
    /// Some of it.
    PartialApplied,
    /// Nothing.
    Error,
}

/// How it ended, in upstream's words; `before` is what went wrong.
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
