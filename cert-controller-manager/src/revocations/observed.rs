//! What a pass finds, and the lists that a status remembers. Values only.

use std::collections::BTreeSet;

use cert_lib::model::bundle::LeafDigest;
use jiff::Timestamp;

use crate::{
    api::{
        IssuerKey, ObjectKey,
        revocation::{CertificateName, CertificateRevocationStatus, CertificateSecret},
    },
    issuers::selection::Selection,
};

/// The Certificate that is named.
#[derive(Clone, Debug, PartialEq)]
pub struct Subject {
    /// Its request, as its label has it.
    pub hash: Option<String>,
    /// Whether its state is `Revoked`.
    pub revoked: bool,
    /// Its issuer.
    pub issuer: Selection,
}

/// A Certificate that is concerned, and its Secret.
#[derive(Clone, Debug, PartialEq)]
pub struct SecretHolder {
    /// The Certificate.
    pub name: CertificateName,
    /// Its Secret.
    pub secret: ObjectKey,
    /// `spec.ensureRenewedAfter`
    pub renewed_after: Option<Timestamp>,
    /// The key of what was requested before this is given up.
    pub new_key_after: Option<Timestamp>,
    /// What its Secret holds.
    pub held: Option<HeldCertificate>,
}

/// A certificate in a Secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HeldCertificate {
    /// Which one.
    pub leaf: LeafDigest,
    /// Its serial number as backups are labelled.
    pub serial: String,
    /// When it was requested.
    pub requested_at: Timestamp,
    /// Whether it is marked as revoked.
    pub revoked: bool,
    /// Whether it belongs to whoever writes the Certificate, beyond doubt.
    pub is_own: bool,
}

/// A certificate that may be revoked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Backup {
    /// The Secret: a backup or, where there is none, the certificate Secret itself.
    pub secret: ObjectKey,
    /// Which certificate.
    pub leaf: LeafDigest,
    /// Its serial number: lower-case hexadecimal digits, without leading zeros. It is for people and for
    /// the status, and identifies nothing.
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
    /// Whether a backup records that it was issued. Where none does, the CA decides alone, and a
    /// renewal would leave nothing to revoke.
    pub is_recorded: bool,
}

impl Backup {
    pub(super) fn qualifies(&self, date: Timestamp, now: Timestamp) -> bool {
        !self.revoked && self.not_after > now && self.requested_at < date
    }

    /// Whether the status means it. Upstream leaves leading zeros out and groups what is left. This
    /// chooses among what may be revoked, and permits nothing.
    pub(super) fn is(&self, listed: &CertificateSecret) -> bool {
        self.secret.name == listed.name
            && self.secret.namespace == listed.namespace
            && self.serial == plain(&listed.serial_number)
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
pub struct Observed {
    /// The Certificate that is named.
    pub subject: Option<Subject>,
    /// All Certificates that are concerned: before the begin, those with the same hash and those with a
    /// certificate of theirs; then those that the status names.
    pub holders: Vec<SecretHolder>,
    /// The certificates of this request that may be revoked.
    pub backups: Vec<Backup>,
    /// Whether there are more Certificates than one revocation is for.
    pub too_many: bool,
}

/// Most Certificates and most certificates that one revocation is for.
pub const MOST: usize = 100;

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
        // A status is written by people, too.
        fn set<T: Clone + Ord>(list: Option<&Vec<T>>) -> BTreeSet<T> {
            list.into_iter().flatten().take(MOST).cloned().collect()
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

/// A serial number as labels have it.
pub(super) fn plain(text: &str) -> String {
    text.replace(':', "").trim_start_matches('0').to_owned()
}
