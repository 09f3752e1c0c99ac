//! `Certificate`: a requested certificate and its Secret.

use k8s_openapi::{ByteString, api::core::v1::SecretReference};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Specification of a Certificate.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "cert.gardener.cloud",
    version = "v1alpha1",
    kind = "Certificate",
    namespaced,
    shortname = "cert",
    status = "CertificateStatus",
    doc = "Certificate requests a certificate and stores it in a Secret.",
    printcolumn = r#"{"name":"COMMON NAME","type":"string","jsonPath":".status.commonName","description":"subject domain name"}"#,
    printcolumn = r#"{"name":"ISSUER","type":"string","jsonPath":".status.issuerRef.name","description":"issuer name"}"#,
    printcolumn = r#"{"name":"STATUS","type":"string","jsonPath":".status.state","description":"state of the certificate"}"#,
    printcolumn = r#"{"name":"EXPIRATION_DATE","type":"string","priority":500,"jsonPath":".status.expirationDate","description":"expiry of the current certificate"}"#,
    printcolumn = r#"{"name":"DNS_NAMES","type":"string","priority":2000,"jsonPath":".status.dnsNames","description":"subject alternative names"}"#,
    printcolumn = r#"{"name":"AGE","type":"date","jsonPath":".metadata.creationTimestamp","description":"object creation timestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.csr) || (has(self.commonName) && self.commonName != '') || (has(self.dnsNames) && self.dnsNames.size() > 0) || (has(self.profile) && has(self.ipAddresses) && self.ipAddresses.size() > 0)")
        .message("either domains or csr must be specified"),
    validation = Rule::new("!has(self.csr) || !((has(self.commonName) && self.commonName != '') || (has(self.dnsNames) && self.dnsNames.size() > 0))")
        .message("cannot specify both commonName and csr")
)]
pub struct CertificateSpec {
    /// Common name of the subject. It is also validated and added to the subject alternative names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub common_name: Option<String>,
    /// DNS names of the certificate, at most 99.
    #[serde(default, rename = "dnsNames", skip_serializing_if = "Option::is_none")]
    pub dns_names: Option<Vec<String>>,
    /// Email addresses of the certificate. Not supported by ACME issuers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email_addresses: Option<Vec<String>>,
    /// IP addresses of the certificate. ACME issuers need a `profile` that allows them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_addresses: Option<Vec<String>>,
    /// URIs of the certificate. Not supported by ACME issuers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uris: Option<Vec<String>>,
    /// Certificate signing request in PEM, instead of names. The Secret then contains no private key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "base64")]
    pub csr: Option<ByteString>,
    /// The issuer. Defaults to the default issuer of the manager.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer_ref: Option<IssuerRef>,
    /// Name of the Secret, in the namespace of the Certificate. The manager updates `secretRef` when it
    /// changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
    /// The Secret. The manager sets it if it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretReference>,
    /// Labels of the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_labels: Option<BTreeMap<String, String>>,
    /// Annotations of the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_annotations: Option<BTreeMap<String, String>>,
    /// Additional output formats of key and certificate in the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub additional_output_formats: Option<Vec<OutputFormat>>,
    /// Triggers a renewal. The manager removes the field and sets `ensureRenewedAfter`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew: Option<bool>,
    /// How long before its expiry the certificate is renewed, as a duration like `720h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_before: Option<String>,
    /// Like `renewBefore`, as percentage of the lifetime: 25 renews when a quarter of the lifetime is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 99))]
    pub renew_before_percentage: Option<i32>,
    /// Times at which the certificate may be renewed; at any time if unset. A certificate that expires
    /// soon is renewed outside of the windows, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewal_windows: Option<Vec<RenewalWindow>>,
    /// Triggers a renewal if the current certificate was requested before this time.
    // Times are strings, here and below. The API server accepts dates that we cannot represent, and
    // a decoding error would affect the whole list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "date_time")]
    pub ensure_renewed_after: Option<String>,
    /// Whether to follow a CNAME at `_acme-challenge` and publish the challenge record at its target.
    #[serde(default, rename = "followCNAME", skip_serializing_if = "Option::is_none")]
    pub follow_cname: Option<bool>,
    /// Keystores in the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keystores: Option<Keystores>,
    /// Profile of the ACME server, from its directory. Defaults to the profile of the issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Common name of an issuer in the preferred certificate chain of the CA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_chain: Option<String>,
    /// Parameters of the generated private key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key: Option<PrivateKeySpec>,
    /// Whether the certificate is a CA certificate. Not supported by ACME issuers.
    #[serde(default, rename = "isCA", skip_serializing_if = "Option::is_none")]
    pub is_ca: Option<bool>,
    /// Lifetime of the certificate, as a duration like `2160h`. Not supported by ACME issuers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
}

/// Reference to an issuer.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
pub struct IssuerRef {
    /// Name of the Issuer.
    pub name: String,
    /// Namespace of the Issuer. Defaults to the issuer namespace of the manager.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// Parameters of the generated private key.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.size) || !has(self.algorithm) || (self.algorithm == 'RSA' ? self.size in [2048, 3072, 4096] : self.size in [256, 384])")
        .message("RSA keys have 2048, 3072 or 4096 bits, ECDSA keys 256 or 384")
)]
pub struct PrivateKeySpec {
    /// `RSA` or `ECDSA`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<KeyAlgorithm>,
    /// Key size in bits
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "key_sizes")]
    pub size: Option<i32>,
    /// `PKCS1` or `PKCS8`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<KeyEncoding>,
    /// Whether a renewal generates a new private key: `Always` (the default) or `Never`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation_policy: Option<RotationPolicy>,
}

/// Whether a renewal generates a new private key.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, schemars::JsonSchema, Serialize)]
pub enum RotationPolicy {
    /// Each renewal generates a new key.
    Always,
    /// The key in the Secret is reused if it has the requested algorithm and size.
    Never,
}

/// Additional output format of key and certificate in the Secret.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
pub struct OutputFormat {
    /// `CombinedPEM` (`tls-combined.pem`: key, then chain) or `DER` (`key.der`: the key in binary).
    #[serde(rename = "type")]
    pub kind: OutputKind,
}

/// See [`OutputFormat`].
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, schemars::JsonSchema, Serialize)]
pub enum OutputKind {
    /// Key and chain in one entry, `tls-combined.pem`.
    #[serde(rename = "CombinedPEM")]
    CombinedPem,
    /// The key in binary PKCS#8, `key.der`.
    #[serde(rename = "DER")]
    Der,
}

/// A recurring time at which a certificate may be renewed.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RenewalWindow {
    /// Days on which the window begins: `Mon`, `Tue`, `Wed`, `Thu`, `Fri`, `Sat`, `Sun`. All if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<Vec<String>>,
    /// Begin of the window in hours and minutes, like `22:00`.
    pub start: String,
    /// Length of the window, as a duration like `6h`; at most a day.
    pub duration: String,
    /// Time zone of `start`, like `Europe/Berlin`; UTC if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

/// Algorithm of a private key.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, schemars::JsonSchema, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum KeyAlgorithm {
    /// RSA
    Rsa,
    /// ECDSA
    Ecdsa,
}

/// Encoding of a private key.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, schemars::JsonSchema, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum KeyEncoding {
    /// PKCS#1 for RSA, SEC1 for ECDSA
    Pkcs1,
    /// PKCS#8
    Pkcs8,
}

fn date_time(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "string", "format": "date-time" })
}

fn date_times(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "nullable": true,
        "items": { "type": "string", "format": "date-time" },
    })
}

fn base64(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "string", "format": "byte", "nullable": true })
}

fn key_sizes(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "integer",
        "format": "int32",
        "nullable": true,
        "enum": [256, 384, 2048, 3072, 4096],
    })
}

/// Keystores in the Secret.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
pub struct Keystores {
    /// Java keystore
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jks: Option<Keystore>,
    /// PKCS#12
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pkcs12: Option<Pkcs12Keystore>,
}

/// A PKCS#12 keystore in the Secret.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pkcs12Keystore {
    /// Whether to create the keystore.
    pub create: bool,
    /// Secret with the password of the keystore.
    pub password_secret_ref: PasswordRef,
    /// Ciphers: `Modern2023` (the default), or `LegacyDES` for old programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Pkcs12Profile>,
}

/// Ciphers of a PKCS#12 keystore.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, schemars::JsonSchema, Serialize)]
pub enum Pkcs12Profile {
    /// AES-256 and HMAC-SHA256 (RFC 8018's PBES2).
    Modern2023,
    /// Triple DES and HMAC-SHA1.
    #[serde(rename = "LegacyDES")]
    LegacyDes,
}

/// A keystore in the Secret.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Keystore {
    /// Whether to create the keystore.
    pub create: bool,
    /// Secret with the password of the keystore.
    pub password_secret_ref: PasswordRef,
}

/// Reference to a password.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PasswordRef {
    /// Name of the Secret, in the namespace of the certificate Secret.
    pub secret_name: String,
    /// Key in the Secret. Defaults to `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// Status of a Certificate.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateStatus {
    /// Generation of the specification that the status refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Empty, `Pending`, `Waiting`, `Ready`, `Error` or `Revoked`.
    pub state: String,
    /// Description of the state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Time of the last order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "date_time")]
    pub last_pending_timestamp: Option<String>,
    /// Common name of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub common_name: Option<String>,
    /// DNS names of the request.
    #[serde(default, rename = "dnsNames", skip_serializing_if = "Option::is_none")]
    pub dns_names: Option<Vec<String>>,
    /// The issuer in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer_ref: Option<UsedIssuer>,
    /// Start of the validity of the current certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuance_date: Option<String>,
    /// Renewal time of the current certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewal_date: Option<String>,
    /// Renewal information of the CA for the current certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewal_info: Option<RenewalInfoStatus>,
    /// End of the validity of the current certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration_date: Option<String>,
    /// Back-off after the last failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<BackoffState>,
    /// Times of recent requests because the Secret was missing or changed, or because a renewal was
    /// triggered; the latest is last. Frequent entries show that another client deletes or overwrites
    /// the Secret, or sets `renew` repeatedly. Further requests are then made at growing intervals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "date_times")]
    pub reissued: Option<Vec<String>>,
    /// Standard conditions. `Ready`: the Secret contains a valid certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Option<Vec<Condition>>,
}

/// The states of upstream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// An order is running.
    Pending,
    /// The order has not been placed yet.
    Waiting,
    /// The Secret contains the requested certificate.
    Ready,
    /// The last attempt failed.
    Error,
    /// The certificate was revoked.
    Revoked,
}

impl State {
    /// The value in `status.state`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Waiting => "Waiting",
            Self::Ready => "Ready",
            Self::Error => "Error",
            Self::Revoked => "Revoked",
        }
    }
}

/// Renewal information of the CA (RFC 9773), and the selected renewal time.
// Strings, as above: a CA may send any date.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RenewalInfoStatus {
    /// Unique identifier of the certificate (RFC 9773 section 4.1).
    pub certificate: String,
    /// Start of the suggested renewal window.
    #[schemars(schema_with = "date_time")]
    pub window_start: String,
    /// End of the suggested renewal window.
    #[schemars(schema_with = "date_time")]
    pub window_end: String,
    /// Randomly selected renewal time in the window. It changes only with the window.
    #[schemars(schema_with = "date_time")]
    pub selected: String,
    /// URL of an explanation by the CA.
    #[serde(default, rename = "explanationURL", skip_serializing_if = "Option::is_none")]
    pub explanation_url: Option<String>,
}

/// A standard condition (Kubernetes API conventions).
#[derive(Clone, Debug, Default, Deserialize, schemars::JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Type, for example `Ready`.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True` or `False`
    pub status: String,
    /// Machine-readable reason.
    pub reason: String,
    /// Human-readable message.
    pub message: String,
    /// Time of the last change of the status.
    #[schemars(schema_with = "date_time")]
    pub last_transition_time: String,
    /// Generation of the specification that the condition refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// The issuer in use.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
pub struct UsedIssuer {
    /// `default` or `target`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Name of the Issuer.
    pub name: String,
    /// Namespace of the Issuer.
    pub namespace: String,
}

/// Back-off after the last failure.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackoffState {
    /// Generation of the specification that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// No new order before this time.
    #[schemars(schema_with = "date_time")]
    pub recheck_after: String,
    /// Length of the back-off, as a duration like `2m0s`.
    pub recheck_interval: String,
    /// Number of consecutive failed validations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<i64>,
}

pub(super) fn conditions(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let item = generator.subschema_for::<Condition>();
    schemars::json_schema!({
        "type": "array",
        "nullable": true,
        "items": item,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    })
}
