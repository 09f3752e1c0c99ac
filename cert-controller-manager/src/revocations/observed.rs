//! The observed state of a pass, and the lists in the status. Values only.

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

/// The Certificate in `spec.certificateRef`.
#[derive(Clone, Debug, PartialEq)]
pub struct Subject {
    /// Value of its hash label.
    pub hash: Option<String>,
    /// Whether its state is `Revoked`.
    pub revoked: bool,
    /// Its issuer.
    pub issuer: Selection,
}

/// An affected Certificate and its Secret.
#[derive(Clone, Debug, PartialEq)]
pub struct SecretHolder {
    /// The Certificate.
    pub name: CertificateName,
    /// Its Secret.
    pub secret: ObjectKey,
    /// `spec.ensureRenewedAfter`
    pub renewed_after: Option<Timestamp>,
    /// Certificates requested before this time must be renewed with a new key.
    pub new_key_after: Option<Timestamp>,
    /// The certificate in its Secret.
    pub held: Option<HeldCertificate>,
}

/// A certificate in a Secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HeldCertificate {
    /// Digest of the certificate.
    pub leaf: LeafDigest,
    /// Serial number in the form of labels.
    pub serial: String,
    /// When it was requested.
    pub requested_at: Timestamp,
    /// Whether it is annotated as revoked.
    pub revoked: bool,
    /// Whether the Secret proves that the Certificate owns it: with its private key, in the same
    /// namespace.
    pub is_own: bool,
}

/// A certificate that may be revoked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Backup {
    /// Its backup; the certificate Secret if there is no backup.
    pub secret: ObjectKey,
    /// Digest of the certificate.
    pub leaf: LeafDigest,
    /// Serial number in lower-case hexadecimal digits without leading zeros. For display only; it
    /// is not unique.
    pub serial: String,
    /// Serial number with colons, as displayed.
    pub text: String,
    /// When it was requested.
    pub requested_at: Timestamp,
    /// notAfter of the certificate.
    pub not_after: Timestamp,
    /// Whether it is annotated as revoked.
    pub revoked: bool,
    /// Its issuer, if the backup names it.
    pub issuer: Option<IssuerKey>,
    /// Whether the backup names tenant and issuer.
    pub is_marked: bool,
    /// Whether a backup exists. Without one, a renewal would overwrite the only copy.
    pub is_recorded: bool,
}

impl Backup {
    pub(super) fn qualifies(&self, date: Timestamp, now: Timestamp) -> bool {
        !self.revoked && self.not_after > now && self.requested_at < date
    }

    /// Whether an entry of the status means this certificate. Upstream omits leading zeros. The
    /// status only selects among certificates that may be revoked.
    pub(super) fn is(&self, listed: &CertificateSecret) -> bool {
        self.secret.name == listed.name
            && self.secret.namespace == listed.namespace
            && self.serial == plain(&listed.serial_number)
    }

    /// The entry for the status.
    #[must_use]
    pub fn listed(&self) -> CertificateSecret {
        CertificateSecret {
            name: self.secret.name.clone(),
            namespace: self.secret.namespace.clone(),
            serial_number: self.text.clone(),
        }
    }
}

/// The observed state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// The Certificate in `spec.certificateRef`.
    pub subject: Option<Subject>,
    /// All affected Certificates. At the beginning, those with the same hash or the same
    /// certificate; later, those in the status.
    pub holders: Vec<SecretHolder>,
    /// The certificates of this request that may be revoked.
    pub backups: Vec<Backup>,
    /// Whether there are more than [`MAX_REVOKED`] Certificates.
    pub too_many: bool,
}

/// Maximum number of Certificates, and of certificates, in one revocation.
pub const MAX_REVOKED: usize = 100;

/// The lists in the status.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Lists {
    /// Certificates that are in progress.
    pub processing: BTreeSet<CertificateName>,
    /// Certificates with a new certificate.
    pub renewed: BTreeSet<CertificateName>,
    /// Certificates whose certificate is revoked.
    pub revoked: BTreeSet<CertificateName>,
    /// Certificates whose certificate could not be revoked.
    pub failed: BTreeSet<CertificateName>,
    /// Certificates (x509) that must be revoked.
    pub secrets: BTreeSet<CertificateSecret>,
    /// Certificates (x509) that are revoked.
    pub revoked_secrets: BTreeSet<CertificateSecret>,
    /// Certificates (x509) that the CA refused to revoke.
    pub failed_secrets: BTreeSet<CertificateSecret>,
}

impl Lists {
    /// The lists in the status; `None` if the revocation has not begun.
    #[must_use]
    pub fn of(status: Option<&CertificateRevocationStatus>) -> Option<Self> {
        // Tenants can write the status, too.
        fn set<T: Clone + Ord>(list: Option<&Vec<T>>) -> BTreeSet<T> {
            list.into_iter().flatten().take(MAX_REVOKED).cloned().collect()
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

/// A serial number in the form of labels.
pub(super) fn plain(text: &str) -> String {
    text.replace(':', "").trim_start_matches('0').to_owned()
}
