//! Well-known labels and annotations. They are those of upstream, for compatibility, unless the comment
//! says "not in upstream".

/// Field manager of server-side apply.
pub const FIELD_MANAGER: &str = "cert-controller-manager";

/// Label on Certificates and Secrets: hash of the request.
pub const HASH: &str = "cert.gardener.cloud/hash";
/// Label on certificate Secrets: `true`.
pub const CERTIFICATE: &str = "cert.gardener.cloud/certificate";
/// Label on certificate Secrets (not in upstream): digest of the certificate, see
/// [`digest_label`](super::secret::digest_label). A revocation uses it to find Secrets with the same
/// certificate and another [`HASH`].
pub const DIGEST: &str = "cert.gardener.cloud/certificate-digest";
/// Annotation on Secrets: time of the request (RFC 3339, UTC).
pub const REQUESTED_AT: &str = "cert.gardener.cloud/requestedAt";
/// Annotation on Secrets: `true` after a revocation.
pub const REVOKED: &str = "cert.gardener.cloud/revoked";
/// Annotation on certificate Secrets and backups (not in upstream): [`Realm`](super::Realm) of the
/// manager. A manager collects only garbage of its own realm.
pub const REALM: &str = "cert.gardener.cloud/realm";
/// Annotation on Secrets (not in upstream): digest of the certificate that [`REVOKED`] refers to, because
/// [`REVOKED`] is void for another certificate. [`REPLACED`] means a former certificate.
pub const REVOKED_CERTIFICATE: &str = "cert.gardener.cloud/revoked-certificate";
/// See [`REVOKED_CERTIFICATE`].
pub const REPLACED: &str = "replaced";
/// Annotation on Secrets (not in upstream): the certificate in the keystores.
pub const KEYSTORES: &str = "cert.gardener.cloud/keystores";
/// Annotation on Certificates: start of the validity of the current certificate.
pub const NOT_BEFORE: &str = "cert.gardener.cloud/not-before";
/// Annotation on Certificates, and on backups (not in upstream): end of the validity.
pub const NOT_AFTER: &str = "cert.gardener.cloud/not-after";
/// Annotation on Issuers and Certificates: class of the responsible manager.
pub const CLASS: &str = "cert.gardener.cloud/class";
/// Annotation on Certificates and Issuers: requests an operation.
pub const OPERATION: &str = "gardener.cloud/operation";
/// Operation: retry now.
pub const RECONCILE: &str = "reconcile";
/// Operation on Issuers: rotate the account key.
pub const ROTATE_ACCOUNT_KEY: &str = "rotate-account-key";
/// The class of objects without the annotation.
pub const DEFAULT_CLASS: &str = "gardencert";
/// Label on progress Secrets (not in upstream).
pub const PROGRESS: &str = "cert.gardener.cloud/progress";
/// Annotation on progress Secrets: [`Realm`](super::Realm) of the manager.
pub const PROGRESS_REALM: &str = "cert.gardener.cloud/progress-realm";
/// Annotation on progress Secrets: [`CertificateKey`](super::CertificateKey).
pub const PROGRESS_OF: &str = "cert.gardener.cloud/progress-of";
/// Annotation on progress Secrets: issuer of the order.
pub const PROGRESS_ISSUER: &str = "cert.gardener.cloud/progress-issuer";
/// Annotation on progress Secrets: reason of the order.
pub const PROGRESS_REASON: &str = "cert.gardener.cloud/progress-reason";
/// Annotation on progress Secrets: the order must not continue before this time.
pub const PROGRESS_NOT_BEFORE: &str = "cert.gardener.cloud/progress-not-before";

/// Annotation on Certificates (not in upstream): keys of certificates that were requested before this time
/// (RFC 3339) are not reused, whatever the rotation policy is. A revocation with renewal sets it, because
/// the key may be compromised.
pub const NEW_KEY_AFTER: &str = "cert.gardener.cloud/new-key-after";
/// Annotation on Secrets of account keys (not in upstream): thumbprint (RFC 7638) of a key that we
/// generated, so that no other client has it.
pub const MADE_KEY: &str = "cert.gardener.cloud/made-key";
/// Annotation on Certificates and source objects (not in upstream): `false` disables the reuse of an
/// existing certificate with the same request.
pub const REUSE: &str = "cert.gardener.cloud/reuse";
/// Annotation on Certificates of source objects: the Secret gets the same owners.
pub const FORWARD_OWNERS: &str = "cert.gardener.cloud/forward-owner-refs";
/// Annotation with owners in other namespaces or clusters.
pub const OWNERS: &str = "resources.gardener.cloud/owners";
/// Finalizer on Certificates (not in upstream) whose Secret is deleted with them and cannot have an owner
/// reference.
pub const SECRET_FINALIZER: &str = "cert.gardener.cloud/certificate-secret";
/// Annotation on Namespaces of the target cluster (not in upstream): namespaces (comma-separated, or `*`)
/// whose Certificates may write Secrets here.
pub const ALLOW_SECRETS_FROM: &str = "cert.gardener.cloud/allow-secrets-from";
/// Label on backups of certificate Secrets.
pub const BACKUP: &str = "cert.gardener.cloud/backup";
/// Label on backup Secrets: lower-case hex of the serial number.
pub const SERIAL: &str = "cert.gardener.cloud/certificate-serialnumber";
/// Annotation on backup Secrets (not in upstream): tenants of the certificate, a comma-separated list of
/// `<cluster>:<namespace>`. A revocation uses only backups of its own namespace.
pub const BACKUP_OF: &str = "cert.gardener.cloud/backup-of";
/// Annotation on backup Secrets (not in upstream): [`IssuerKey`](super::IssuerKey).
pub const BACKUP_ISSUER: &str = "cert.gardener.cloud/backup-issuer";
/// Annotation on Certificates of source objects (not in upstream): class of the source object, so that
/// they are deleted when it changes.
pub const SOURCE_CLASS: &str = "cert.gardener.cloud/source-class";
/// Annotations that are copied from source objects to Certificates.
pub const COPIED: [&str; 4] = [
    "cert.gardener.cloud/dnsrecord-provider-type",
    "cert.gardener.cloud/dnsrecord-secret-ref",
    "cert.gardener.cloud/dnsrecord-class",
    REUSE,
];
/// Labels and annotations of Certificates that are read. Others are not kept in memory.
pub const READ_ON_CERTIFICATES: [&str; 14] = [
    HASH,
    NOT_BEFORE,
    NOT_AFTER,
    CLASS,
    OPERATION,
    NEW_KEY_AFTER,
    REUSE,
    FORWARD_OWNERS,
    OWNERS,
    SOURCE_CLASS,
    COPIED[0],
    COPIED[1],
    COPIED[2],
    COPIED[3],
];
