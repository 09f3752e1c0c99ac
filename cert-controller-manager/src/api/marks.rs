//! Labels and annotations on the objects that we write or read. They are upstream's, so that both
//! programs understand each other's objects, but where the comment says otherwise.

/// Field manager of our server-side applies.
pub const FIELD_MANAGER: &str = "cert-controller-manager";

/// Label on Certificates and Secrets: fingerprint of the request that the Secret fulfils.
pub const HASH: &str = "cert.gardener.cloud/hash";
/// Label on Secrets: `true` on every certificate Secret.
pub const CERTIFICATE: &str = "cert.gardener.cloud/certificate";
/// Annotation on Secrets: when the certificate was requested (RFC 3339, UTC).
pub const REQUESTED_AT: &str = "cert.gardener.cloud/requestedAt";
/// Annotation on Secrets: `true` after a revocation.
pub const REVOKED: &str = "cert.gardener.cloud/revoked";
/// Annotation on Certificates: first instant of the current certificate's validity.
pub const NOT_BEFORE: &str = "cert.gardener.cloud/not-before";
/// Annotation on Certificates: last instant of the current certificate's validity.
pub const NOT_AFTER: &str = "cert.gardener.cloud/not-after";
/// Annotation on Issuers and Certificates: which manager is responsible.
pub const CLASS: &str = "cert.gardener.cloud/class";
/// The class of objects that name none.
pub const DEFAULT_CLASS: &str = "gardencert";
/// Label of ours on Secrets that hold the progress of an order.
pub const PROGRESS: &str = "cert.gardener.cloud/progress";
/// Annotation of ours on progress Secrets: `namespace/name` of the Certificate.
pub const PROGRESS_OF: &str = "cert.gardener.cloud/progress-of";
/// Annotation of ours on progress Secrets: the issuer that runs the order.
pub const PROGRESS_ISSUER: &str = "cert.gardener.cloud/progress-issuer";
