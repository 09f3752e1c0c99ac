//! Labels and annotations on the objects that we write or read. They are upstream's, so that both
//! programs understand each other's objects, but where the comment says otherwise.

/// Field manager of our server-side applies.
pub const FIELD_MANAGER: &str = "cert-controller-manager";

/// Label on Certificates and Secrets: fingerprint of the request that the Secret fulfils.
pub const HASH: &str = "cert.gardener.cloud/hash";
/// Label on Secrets: `true` on every certificate Secret.
pub const CERTIFICATE: &str = "cert.gardener.cloud/certificate";
/// Label of ours on certificate Secrets: the certificate in it, see
/// [`digest_label`](super::secret::digest_label). A revocation finds by it who has the same certificate under
/// another [`HASH`].
pub const DIGEST: &str = "cert.gardener.cloud/certificate-digest";
/// Annotation on Secrets: when the certificate was requested (RFC 3339, UTC).
pub const REQUESTED_AT: &str = "cert.gardener.cloud/requestedAt";
/// Annotation on Secrets: `true` after a revocation.
pub const REVOKED: &str = "cert.gardener.cloud/revoked";
/// Annotation of ours on certificate Secrets and backups: which manager wrote them, see
/// [`Realm`](super::Realm). Only what carries its own is collected by a manager.
pub const REALM: &str = "cert.gardener.cloud/realm";
/// Annotation of ours on Secrets: which certificate [`REVOKED`] is about, as the digest of it, so that the
/// mark is void for another one. [`REPLACED`] is about one that is no longer there.
pub const REVOKED_CERTIFICATE: &str = "cert.gardener.cloud/revoked-certificate";
/// See [`REVOKED_CERTIFICATE`].
pub const REPLACED: &str = "replaced";
/// Annotation of ours on Secrets: which certificate their keystores were made for.
pub const KEYSTORES: &str = "cert.gardener.cloud/keystores";
/// Annotation on Certificates: first instant of the current certificate's validity.
pub const NOT_BEFORE: &str = "cert.gardener.cloud/not-before";
/// Annotation on Certificates and, of ours, on backups: last instant of the certificate's validity.
pub const NOT_AFTER: &str = "cert.gardener.cloud/not-after";
/// Annotation on Issuers and Certificates: which manager is responsible.
pub const CLASS: &str = "cert.gardener.cloud/class";
/// Annotation with which a person asks for something on Certificates and Issuers.
pub const OPERATION: &str = "gardener.cloud/operation";
/// What can be asked for: to try again now.
pub const RECONCILE: &str = "reconcile";
/// What can be asked for on Issuers: another key for the account.
pub const ROTATE_ACCOUNT_KEY: &str = "rotate-account-key";
/// The class of objects that name none.
pub const DEFAULT_CLASS: &str = "gardencert";
/// Label of ours on Secrets that hold the progress of an order.
pub const PROGRESS: &str = "cert.gardener.cloud/progress";
/// Annotation of ours on progress Secrets: whose they are, see [`Realm`](super::Realm).
pub const PROGRESS_REALM: &str = "cert.gardener.cloud/progress-realm";
/// Annotation of ours on progress Secrets: the Certificate, see
/// [`CertificateKey`](super::CertificateKey).
pub const PROGRESS_OF: &str = "cert.gardener.cloud/progress-of";
/// Annotation of ours on progress Secrets: the issuer that runs the order.
pub const PROGRESS_ISSUER: &str = "cert.gardener.cloud/progress-issuer";
/// Annotation of ours on progress Secrets: why the order was placed.
pub const PROGRESS_REASON: &str = "cert.gardener.cloud/progress-reason";
/// Annotation of ours on progress Secrets: the order must not go on before this instant.
pub const PROGRESS_NOT_BEFORE: &str = "cert.gardener.cloud/progress-not-before";

/// Annotation of ours on Certificates: the key of a certificate that was requested before this instant
/// (RFC 3339) is not certified again, whatever the rotation policy says. A revocation that renews sets
/// it, as the key may be why.
pub const NEW_KEY_AFTER: &str = "cert.gardener.cloud/new-key-after";
/// Annotation of ours on Secrets of account keys: the thumbprint (RFC 7638) of the key that we made and
/// nobody else has.
pub const MADE_KEY: &str = "cert.gardener.cloud/made-key";
/// Annotation of ours on Certificates and source objects: `false` where its certificate is not shared
/// with others that ask for the same.
pub const REUSE: &str = "cert.gardener.cloud/reuse";
/// Annotation on Certificates that a source object made: its Secret belongs to that object, too.
pub const FORWARD_OWNERS: &str = "cert.gardener.cloud/forward-owner-refs";
/// Annotation with the owners of an object that are in another namespace or cluster.
pub const OWNERS: &str = "resources.gardener.cloud/owners";
/// Finalizer of ours on Certificates whose Secret goes with them and cannot be owned by them.
pub const SECRET_FINALIZER: &str = "cert.gardener.cloud/certificate-secret";
/// Annotation of ours on Namespaces of the target cluster: the namespaces (comma list, or `*`) whose
/// Certificates may have their Secrets here.
pub const ALLOW_SECRETS_FROM: &str = "cert.gardener.cloud/allow-secrets-from";
/// Label on the copies of certificate Secrets that a revocation needs after a renewal.
pub const BACKUP: &str = "cert.gardener.cloud/backup";
/// Label on backup Secrets: lower-case hex of the serial number.
pub const SERIAL: &str = "cert.gardener.cloud/certificate-serialnumber";
/// Annotation of ours on backup Secrets: whose certificate it is, a comma list of
/// `<cluster>:<namespace>`. A revocation takes those of its own namespace only.
pub const BACKUP_OF: &str = "cert.gardener.cloud/backup-of";
/// Annotation of ours on backup Secrets: the issuer, as [`IssuerKey`](super::IssuerKey) is written.
pub const BACKUP_ISSUER: &str = "cert.gardener.cloud/backup-issuer";
/// Annotation of ours on Certificates that a source object made: the class of that object, so that they can
/// be cleaned up when it changes its class.
pub const SOURCE_CLASS: &str = "cert.gardener.cloud/source-class";
/// Annotations that Certificates have from the source object that made them.
pub const COPIED: [&str; 4] = [
    "cert.gardener.cloud/dnsrecord-provider-type",
    "cert.gardener.cloud/dnsrecord-secret-ref",
    "cert.gardener.cloud/dnsrecord-class",
    REUSE,
];
/// All labels and annotations of Certificates that are read: others are not kept in memory.
pub const OURS_OF_CERTIFICATES: [&str; 14] = [
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
