//! `CertificateRevocation`: revokes the certificates of a Certificate.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::certificate::BackoffState;

/// Specification of a CertificateRevocation.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "cert.gardener.cloud",
    version = "v1alpha1",
    kind = "CertificateRevocation",
    namespaced,
    shortname = "certrevoke",
    status = "CertificateRevocationStatus",
    doc = "CertificateRevocation revokes certificates that were issued for a Certificate before a given time.",
    printcolumn = r#"{"name":"CERTIFICATE","type":"string","jsonPath":".spec.certificateRef.name","description":"Certificate to be revoked"}"#,
    printcolumn = r#"{"name":"STATUS","type":"string","jsonPath":".status.state","description":"state of the revocation"}"#,
    printcolumn = r#"{"name":"REVOKED_AT","type":"date","priority":500,"jsonPath":".status.revocationApplied","description":"end of the revocation"}"#,
    printcolumn = r#"{"name":"RENEW","type":"boolean","jsonPath":".spec.renew","description":"whether the certificate is renewed first"}"#,
    printcolumn = r#"{"name":"QUALIFIED_AT","type":"date","jsonPath":".spec.qualifyingDate","description":"certificates that were requested before this time are revoked"}"#,
    printcolumn = r#"{"name":"AGE","type":"date","jsonPath":".metadata.creationTimestamp","description":"object creation timestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct CertificateRevocationSpec {
    /// The Certificate. Certificates for it, and for other Certificates with the same request, are
    /// revoked.
    pub certificate_ref: CertificateName,
    /// Whether to renew the Certificates before the revocation. Otherwise they stay `Revoked` until
    /// a user renews them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew: Option<bool>,
    /// Only certificates that were requested before this time are revoked. Defaults to the current
    /// time.
    // A string, like all times: a decoding error would affect the whole list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "date_time")]
    pub qualifying_date: Option<String>,
}

/// Reference to a Certificate.
#[derive(
    Clone, Debug, Default, Deserialize, Eq, KubeSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
pub struct CertificateName {
    /// Name of the Certificate.
    pub name: String,
    /// Namespace of the Certificate. It must be that of the CertificateRevocation unless the manager
    /// allows others.
    pub namespace: String,
}

/// Status of a CertificateRevocation.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateRevocationStatus {
    /// Generation of the specification that the status refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Empty, `Pending`, `Error`, `Applied` or `PartialApplied`
    #[serde(default)]
    pub state: String,
    /// Description of the state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Progress of the Certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<RevokedObjects>,
    /// Progress of the certificates in backup Secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<RevokedSecrets>,
    /// End of the revocation, whether successful or not. It is final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "date_time")]
    pub revocation_applied: Option<String>,
    /// Back-off after a failed request to the CA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<BackoffState>,
}

/// Progress of Certificates.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
pub struct RevokedObjects {
    /// Certificates that are not renewed or revoked yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processing: Option<Vec<CertificateName>>,
    /// Renewed Certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewed: Option<Vec<CertificateName>>,
    /// Revoked Certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Vec<CertificateName>>,
    /// Certificates whose revocation failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Vec<CertificateName>>,
}

/// Progress of certificates.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
pub struct RevokedSecrets {
    /// Certificates that are not revoked yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processing: Option<Vec<CertificateSecret>>,
    /// Revoked certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Vec<CertificateSecret>>,
    /// Certificates whose revocation the CA refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Vec<CertificateSecret>>,
}

/// Reference to a certificate and its backup Secret.
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
    /// Serial number of the certificate: pairs of lower-case hexadecimal digits, separated by colons.
    pub serial_number: String,
}

fn date_time(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "string", "format": "date-time" })
}
