//! `Certificate`: names to be certified, and the Secret to put the result in.

use k8s_openapi::{ByteString, api::core::v1::SecretReference};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Names to be certified, and the Secret to put the result in.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "cert.gardener.cloud",
    version = "v1alpha1",
    kind = "Certificate",
    namespaced,
    shortname = "cert",
    status = "CertificateStatus",
    doc = "Certificate asks for a certificate and says which Secret it goes to.",
    printcolumn = r#"{"name":"COMMON NAME","type":"string","jsonPath":".status.commonName","description":"subject domain name"}"#,
    printcolumn = r#"{"name":"ISSUER","type":"string","jsonPath":".status.issuerRef.name","description":"issuer name"}"#,
    printcolumn = r#"{"name":"STATUS","type":"string","jsonPath":".status.state","description":"what is going on"}"#,
    printcolumn = r#"{"name":"EXPIRATION_DATE","type":"string","priority":500,"jsonPath":".status.expirationDate","description":"end of the current certificate"}"#,
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
    /// Common name of the subject. It is also proved and listed as an alternative name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub common_name: Option<String>,
    /// DNS names to be certified, 99 at most.
    #[serde(default, rename = "dnsNames", skip_serializing_if = "Option::is_none")]
    pub dns_names: Option<Vec<String>>,
    /// E-mail addresses to be certified; not by ACME issuers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email_addresses: Option<Vec<String>>,
    /// IP addresses to be certified; by an ACME issuer only with a `profile` that allows them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_addresses: Option<Vec<String>>,
    /// URIs to be certified; not by ACME issuers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uris: Option<Vec<String>>,
    /// A signing request in PEM, instead of names. Its maker keeps the private key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "base64")]
    pub csr: Option<ByteString>,
    /// The issuer; without it, the manager's default issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer_ref: Option<IssuerRef>,
    /// Name of the Secret, in the namespace of the Certificate. Where it is changed, the manager
    /// changes `secretRef`, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
    /// The Secret; filled in by the manager where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretReference>,
    /// Labels that are added to the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_labels: Option<BTreeMap<String, String>>,
    /// Annotations that are added to the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_annotations: Option<BTreeMap<String, String>>,
    /// More forms in which key and certificate are written into the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub additional_output_formats: Option<Vec<OutputFormat>>,
    /// Asks for a new certificate at once. The manager removes it and sets `ensureRenewedAfter`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew: Option<bool>,
    /// How long before its end the certificate is renewed, as a duration like `720h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_before: Option<String>,
    /// The same as a part of the certificate's life: with 25, a quarter of it is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 99))]
    pub renew_before_percentage: Option<i32>,
    /// When the certificate may be renewed; at any time where it is unset. A certificate that is
    /// about to end is renewed nevertheless.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewal_windows: Option<Vec<RenewalWindow>>,
    /// Asks for a new certificate if the current one was requested before this instant.
    // Text, here and below: the API server takes dates that we cannot represent, and one object that
    // cannot be read would stop the watch of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "date_time")]
    pub ensure_renewed_after: Option<String>,
    /// Whether a CNAME at `_acme-challenge` is followed: the record is then published where it
    /// leads.
    #[serde(default, rename = "followCNAME", skip_serializing_if = "Option::is_none")]
    pub follow_cname: Option<bool>,
    /// Keystores in the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keystores: Option<Keystores>,
    /// Kind of certificate to order, one of those that the ACME server's directory names; without
    /// it the issuer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Which of the CA's chains is taken: the common name of an issuer in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_chain: Option<String>,
    /// The private key that is generated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key: Option<PrivateKeySpec>,
    /// Whether the certificate may sign others; not for ACME issuers.
    #[serde(default, rename = "isCA", skip_serializing_if = "Option::is_none")]
    pub is_ca: Option<bool>,
    /// How long the certificate is valid, as a duration like `2160h`; not for ACME issuers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
}

/// Names an issuer.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
pub struct IssuerRef {
    /// Name of the Issuer.
    pub name: String,
    /// Namespace of the Issuer; without it, the manager's issuer namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// The private key that is generated.
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
    /// Bits
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "key_sizes")]
    pub size: Option<i32>,
    /// `PKCS1` or `PKCS8`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<KeyEncoding>,
    /// Whether a renewed certificate gets a new key: `Always` (the default) or `Never`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation_policy: Option<RotationPolicy>,
}

/// Whether a renewed certificate gets a new key.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, schemars::JsonSchema, Serialize)]
pub enum RotationPolicy {
    /// A new one each time.
    Always,
    /// The key in the Secret stays while it is of the kind that is asked for.
    Never,
}

/// One more form in which key and certificate are written into the Secret.
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

/// A time of the week at which a certificate may be renewed.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RenewalWindow {
    /// Days on which it begins: `Mon`, `Tue`, `Wed`, `Thu`, `Fri`, `Sat`, `Sun`. All, where unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<Vec<String>>,
    /// When it begins: hours and minutes, like `22:00`.
    pub start: String,
    /// How long it is, as a duration like `6h`; a day at most.
    pub duration: String,
    /// Time zone of `start`, like `Europe/Berlin`; UTC, where unset.
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
    /// Whether it is made.
    pub create: bool,
    /// Secret with its password.
    pub password_secret_ref: PasswordRef,
    /// Ciphers: `Modern2023` (the default) or `LegacyDES` for programs that read nothing newer.
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
    /// Whether it is made.
    pub create: bool,
    /// Secret with its password.
    pub password_secret_ref: PasswordRef,
}

/// Names a password.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PasswordRef {
    /// Name of the Secret, in the namespace of the certificate's Secret.
    pub secret_name: String,
    /// Key in the Secret; `password` if not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// What is known of a certificate.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateStatus {
    /// Generation of the specification that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Empty, `Pending`, `Waiting`, `Ready`, `Error` or `Revoked`.
    pub state: String,
    /// What is going on, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When the last order was placed.
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
    /// First instant of the current certificate's validity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuance_date: Option<String>,
    /// When the current certificate will be renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewal_date: Option<String>,
    /// What the CA says about the renewal of the current certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewal_info: Option<RenewalInfoStatus>,
    /// Last instant of the current certificate's validity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration_date: Option<String>,
    /// What is left of the last failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<BackoffState>,
    /// When a certificate was requested again lately because the Secret was gone or held something
    /// else, or because a renewal was demanded, the latest last. Where that happens again and again,
    /// somebody else deletes or overwrites the Secret, or sets `renew` each time, and requests are made
    /// ever more rarely.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "date_times")]
    pub reissued: Option<Vec<String>>,
    /// Standard conditions. `Ready`: the Secret serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Option<Vec<Condition>>,
}

/// Upstream's words for how a certificate is doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// An order is running.
    Pending,
    /// Something else must happen before an order is placed.
    Waiting,
    /// The Secret holds what is asked for.
    Ready,
    /// Something is wrong.
    Error,
    /// The certificate was revoked.
    Revoked,
}

impl State {
    /// The word in `status.state`.
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

/// What the CA says about the renewal of a certificate (RFC 9773), and what we made of it.
// Text, as above: dates of a CA may be anything.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RenewalInfoStatus {
    /// The certificate that it is about, as its CA calls it (RFC 9773 section 4.1).
    pub certificate: String,
    /// First instant of the window that the CA suggests.
    #[schemars(schema_with = "date_time")]
    pub window_start: String,
    /// Last instant of it.
    #[schemars(schema_with = "date_time")]
    pub window_end: String,
    /// The instant in it that was drawn; drawn again only when the window changes.
    #[schemars(schema_with = "date_time")]
    pub selected: String,
    /// Where the CA explains itself.
    #[serde(default, rename = "explanationURL", skip_serializing_if = "Option::is_none")]
    pub explanation_url: Option<String>,
}

/// A standard condition (Kubernetes API conventions).
#[derive(Clone, Debug, Default, Deserialize, schemars::JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What it is about, `Ready` for example.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True` or `False`.
    pub status: String,
    /// Why, in one word.
    pub reason: String,
    /// Why, for people.
    pub message: String,
    /// When the status changed.
    #[schemars(schema_with = "date_time")]
    pub last_transition_time: String,
    /// Generation of the specification that this is about.
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

/// What is left of the last failure.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackoffState {
    /// Generation of the specification that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// No new order before this instant.
    #[schemars(schema_with = "date_time")]
    pub recheck_after: String,
    /// How long the wait was when it was set, as a duration like `2m0s`.
    pub recheck_interval: String,
    /// How many validations failed in a row.
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
