//! `Issuer`: an account at a CA, or a CA of one's own.

use k8s_openapi::api::core::v1::SecretReference;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::certificate::Condition;

/// Configures who signs certificates.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "cert.gardener.cloud",
    version = "v1alpha1",
    kind = "Issuer",
    namespaced,
    status = "IssuerStatus",
    doc = "Issuer configures who signs certificates: an account at an ACME server, a certificate authority, or nobody but the key itself.",
    printcolumn = r#"{"name":"SERVER","type":"string","jsonPath":".spec.acme.server","description":"ACME server"}"#,
    printcolumn = r#"{"name":"EMAIL","type":"string","jsonPath":".spec.acme.email","description":"contact of the ACME account"}"#,
    printcolumn = r#"{"name":"STATUS","type":"string","jsonPath":".status.state","description":"whether certificates can be issued"}"#,
    printcolumn = r#"{"name":"TYPE","type":"string","jsonPath":".status.type","description":"kind of issuer"}"#,
    printcolumn = r#"{"name":"AGE","type":"date","jsonPath":".metadata.creationTimestamp","description":"object creation timestamp"}"#,
    printcolumn = r#"{"name":"INCLUDED_DOMAINS","type":"string","priority":2000,"jsonPath":".spec.acme.domains.include","description":"domains that the issuer is for"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.acme) ? 1 : 0) + (has(self.ca) ? 1 : 0) + (has(self.selfSigned) ? 1 : 0) == 1")
        .message("exactly one of acme, ca and selfSigned must be set")
)]
pub struct IssuerSpec {
    /// An account at an ACME server (RFC 8555).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acme: Option<AcmeSpec>,
    /// A certificate authority whose key we hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CaSpec>,
    /// Certificates that are signed by their own key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_signed: Option<SelfSignedSpec>,
    /// How many certificates may be requested in a day; without it, or where it is not positive, the
    /// manager's default. Counts for ACME issuers only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_day_quota: Option<i64>,
}

/// What an issuer is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum IssuerKind {
    /// An account at an ACME server.
    Acme,
    /// A certificate authority whose key we hold.
    Ca,
    /// Nobody but the key itself.
    SelfSigned,
}

impl IssuerKind {
    /// What the specification says, `None` where it says nothing. Where it says more than one thing
    /// the first counts, as in upstream; nothing is issued then.
    #[must_use]
    pub fn of(spec: &IssuerSpec) -> Option<Self> {
        match spec {
            IssuerSpec { acme: Some(_), .. } => Some(Self::Acme),
            IssuerSpec { ca: Some(_), .. } => Some(Self::Ca),
            IssuerSpec { self_signed: Some(_), .. } => Some(Self::SelfSigned),
            IssuerSpec { acme: None, ca: None, self_signed: None, .. } => None,
        }
    }

    /// The word in `status.type` and in metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Acme => "acme",
            Self::Ca => "ca",
            Self::SelfSigned => "selfSigned",
        }
    }
}

/// An account at an ACME server.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AcmeSpec {
    /// URL of the server's directory.
    pub server: String,
    /// E-mail address that the CA may write to.
    pub email: String,
    /// Whether an account is registered, and its key made, when the Secret of the key is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_registration: Option<bool>,
    /// Secret with the account's private key in PEM under `privateKey`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key_secret_ref: Option<SecretReference>,
    /// Binds the account to one that exists elsewhere at the CA (RFC 8555 section 7.3.4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_account_binding: Option<ExternalAccountBinding>,
    /// Whether no DNS record is published, for test CAs that do not look.
    #[serde(
        default,
        rename = "skipDNSChallengeValidation",
        skip_serializing_if = "Option::is_none"
    )]
    pub skip_dns_challenge_validation: Option<bool>,
    /// Domains that this issuer is for. It signs nothing else, and Certificates without an issuerRef
    /// whose names are all among them choose it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domains: Option<DomainSelection>,
    /// Kind of certificates to order, one of those that the server's directory names; without it the
    /// server chooses. A Certificate may name another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Which of the CA's chains is taken where a Certificate does not say: the common name of an
    /// issuer in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_chain: Option<String>,
    /// DNS servers (`host` or `host:port`) that must show a challenge record before the CA is told,
    /// instead of the manager's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precheck_nameservers: Option<Vec<String>>,
}

/// Credentials that a CA hands out for registering an account.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExternalAccountBinding {
    /// Key identifier that the CA gave.
    #[serde(rename = "keyID")]
    pub key_id: String,
    /// Secret with the MAC key under `hmacKey`, in URL-safe base64.
    pub key_secret_ref: SecretReference,
    /// How the binding is signed with it; HS256 unless the CA demands another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_algorithm: Option<BindingAlgorithm>,
}

/// How an external account binding is signed.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, schemars::JsonSchema, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum BindingAlgorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
}

/// Domains that an issuer is for.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
pub struct DomainSelection {
    /// Domains that are served, with everything below them; `*.` before one is what is below it only.
    /// None is everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include: Option<Vec<String>>,
    /// Domains that are not served. Wins over `include`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclude: Option<Vec<String>>,
}

/// A certificate authority whose key we hold.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CaSpec {
    /// Secret of type kubernetes.io/tls with the CA's certificate and key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key_secret_ref: Option<SecretReference>,
}

/// Certificates that are signed by their own key: nothing to configure.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
pub struct SelfSignedSpec {}

/// What is known of an issuer.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IssuerStatus {
    /// Generation of the specification that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, `Error` or empty.
    pub state: String,
    /// What is wrong, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// `Ready`: certificates can be issued. `AccountRegistered`, of ACME issuers: the CA knows the
    /// account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::certificate::conditions")]
    pub conditions: Option<Vec<Condition>>,
    /// Until when the CA is asked nothing, where it said so (RFC 8555 section 6.6) while it was asked for
    /// an account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest: Option<ServerWait>,
    /// `acme`, `ca` or `selfSigned`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The account as the CA told it, its URL, and the hash of the Secret of its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free_form")]
    pub acme: Option<serde_json::Value>,
    /// The CA's certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free_form")]
    pub ca: Option<serde_json::Value>,
    /// How many certificates may be requested in a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_day_quota: Option<i64>,
    /// What is left of it. A request is noted here before the CA is asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<Requests>,
    /// What the CA said of its limits (RFC 8555 section 6.6) and until when: no order that they concern
    /// is placed before. What is over is taken out with the next entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Vec<Limit>>,
}

/// A time for which a CA wants to be left alone. Another CA, or with another key, may be asked.
// Text, as below.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerWait {
    /// Until when.
    #[schemars(schema_with = "date_time")]
    pub until: String,
    /// URL of the directory of the CA.
    pub server: String,
    /// Hash of the Secret with the key of the account.
    pub secret_hash: String,
}

/// A limit that the CA named.
// Text, as below.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
pub struct Limit {
    /// URL of the directory of the CA that named it.
    pub server: String,
    /// What is limited: `account`, `domain example.org` (a registered domain), `set …` (exactly the same
    /// names, by their hash) or `name www.example.org`.
    pub of: String,
    /// Until when.
    #[schemars(schema_with = "date_time")]
    pub until: String,
}

/// How many certificates could be requested at an instant; more may be from then on as time goes by.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
pub struct Requests {
    /// How many.
    pub available: i64,
    /// When.
    // Text: one object that cannot be read would stop the watch of all.
    #[schemars(schema_with = "date_time")]
    pub at: String,
}

fn date_time(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "string", "format": "date-time" })
}

fn free_form(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "nullable": true,
        "x-kubernetes-preserve-unknown-fields": true,
    })
}
