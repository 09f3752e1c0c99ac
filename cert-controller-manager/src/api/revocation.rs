//! `CertificateRevocation`: a certificate that must not be trusted any more.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::certificate::BackoffState;

/// A certificate that must not be trusted any more.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "cert.gardener.cloud",
    version = "v1alpha1",
    kind = "CertificateRevocation",
    namespaced,
    shortname = "certrevoke",
    status = "CertificateRevocationStatus",
    doc = "CertificateRevocation asks the CA to revoke what it has issued for a Certificate until some instant.",
    printcolumn = r#"{"name":"CERTIFICATE","type":"string","jsonPath":".spec.certificateRef.name","description":"Certificate to be revoked"}"#,
    printcolumn = r#"{"name":"STATUS","type":"string","jsonPath":".status.state","description":"what is going on"}"#,
    printcolumn = r#"{"name":"REVOKED_AT","type":"date","priority":500,"jsonPath":".status.revocationApplied","description":"when it was finished"}"#,
    printcolumn = r#"{"name":"RENEW","type":"boolean","jsonPath":".spec.renew","description":"whether the certificate is renewed before"}"#,
    printcolumn = r#"{"name":"QUALIFIED_AT","type":"date","jsonPath":".spec.qualifyingDate","description":"what was requested before this instant is revoked"}"#,
    printcolumn = r#"{"name":"AGE","type":"date","jsonPath":".metadata.creationTimestamp","description":"object creation timestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct CertificateRevocationSpec {
    /// The Certificate. What was issued for it and for all others that ask for exactly the same is
    /// revoked.
    pub certificate_ref: CertificateName,
    /// Whether new certificates are issued before the old ones are revoked. Without it the
    /// Certificates are `Revoked` until somebody renews them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew: Option<bool>,
    /// Only certificates that were requested before this instant are revoked; filled in with the
    /// current time where it is missing.
    // Text, as all dates of ours: one object that cannot be read would stop the watch of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "date_time")]
    pub qualifying_date: Option<String>,
}

/// Names a Certificate.
#[derive(
    Clone, Debug, Default, Deserialize, Eq, KubeSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
pub struct CertificateName {
    /// Name of the Certificate.
    pub name: String,
    /// Namespace of the Certificate: that of the CertificateRevocation, unless the manager permits
    /// others.
    pub namespace: String,
}

/// How far a revocation is.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateRevocationStatus {
    /// Generation of the specification that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Empty, `Pending`, `Error`, `Applied` or `PartialApplied`.
    #[serde(default)]
    pub state: String,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What becomes of Certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<RevokedObjects>,
    /// What becomes of certificates: they are in backup Secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<RevokedSecrets>,
    /// When it was finished, well or not. Nothing happens after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "date_time")]
    pub revocation_applied: Option<String>,
    /// When the CA is asked again, after it did not answer well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<BackoffState>,
}

/// What becomes of Certificates.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
pub struct RevokedObjects {
    /// Still to be renewed, or with a certificate that is still to be revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processing: Option<Vec<CertificateName>>,
    /// They have a new certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewed: Option<Vec<CertificateName>>,
    /// Their certificate is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Vec<CertificateName>>,
    /// Their certificate could not be revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Vec<CertificateName>>,
}

/// What becomes of certificates.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
pub struct RevokedSecrets {
    /// Still to be revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processing: Option<Vec<CertificateSecret>>,
    /// Revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Vec<CertificateSecret>>,
    /// The CA refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Vec<CertificateSecret>>,
}

/// Names a certificate and the backup Secret that holds it.
#[derive(
    Clone, Debug, Default, Deserialize, Eq, KubeSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "camelCase")]
pub struct CertificateSecret {
    /// Name of the Secret.
    #[serde(default)]
    pub name: String,
    /// Namespace of the Secret.
    #[serde(default)]
    pub namespace: String,
    /// Serial number of the certificate: lower-case hexadecimal digits in pairs, joined by colons.
    pub serial_number: String,
}

fn date_time(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "string", "format": "date-time" })
}
