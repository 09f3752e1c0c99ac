//! `Issuer`: an ACME account, a private CA, or self-signed certificates.

use cert_lib::{
    issue::{Capabilities, acme::AcmeIssuer, ca::CaIssuer, self_signed::SelfSignedIssuer},
    model::key::Encoding,
};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::SecretReference;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{certificate::Condition, solvers::SolverSpec};

/// Specification of an Issuer.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "cert.gardener.cloud",
    version = "v1alpha1",
    kind = "Issuer",
    namespaced,
    status = "IssuerStatus",
    doc = "Issuer configures a source of certificates: an account at an ACME server, a private certificate authority, or self-signed certificates.",
    printcolumn = r#"{"name":"SERVER","type":"string","jsonPath":".spec.acme.server","description":"ACME server"}"#,
    printcolumn = r#"{"name":"EMAIL","type":"string","jsonPath":".spec.acme.email","description":"contact of the ACME account"}"#,
    printcolumn = r#"{"name":"STATUS","type":"string","jsonPath":".status.state","description":"whether certificates can be issued"}"#,
    printcolumn = r#"{"name":"TYPE","type":"string","jsonPath":".status.type","description":"kind of issuer"}"#,
    printcolumn = r#"{"name":"AGE","type":"date","jsonPath":".metadata.creationTimestamp","description":"object creation timestamp"}"#,
    printcolumn = r#"{"name":"INCLUDED_DOMAINS","type":"string","priority":2000,"jsonPath":".spec.acme.domains.include","description":"domains of the issuer"}"#
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
    /// A private certificate authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CaSpec>,
    /// Self-signed certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_signed: Option<SelfSignedSpec>,
    /// Maximum number of certificate requests per day, for ACME issuers only. Defaults to the value of
    /// the manager if it is missing or not positive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_day_quota: Option<i64>,
}

/// The kind of an issuer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum IssuerKind {
    /// An account at an ACME server.
    Acme,
    /// A private certificate authority.
    Ca,
    /// Self-signed certificates.
    SelfSigned,
}

impl IssuerKind {
    /// The kind in the specification; `None` if none is set. If several are set, the first one counts, as
    /// in upstream, but nothing is issued.
    #[must_use]
    pub fn of(spec: &IssuerSpec) -> Option<Self> {
        match spec {
            IssuerSpec { acme: Some(_), .. } => Some(Self::Acme),
            IssuerSpec { ca: Some(_), .. } => Some(Self::Ca),
            IssuerSpec { self_signed: Some(_), .. } => Some(Self::SelfSigned),
            IssuerSpec { acme: None, ca: None, self_signed: None, .. } => None,
        }
    }

    /// The value in `status.type` and in metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Acme => "acme",
            Self::Ca => "ca",
            Self::SelfSigned => "selfSigned",
        }
    }

    /// The capabilities of all issuers of this kind, also before one is ready.
    #[must_use]
    pub fn capabilities(self) -> Capabilities {
        match self {
            Self::Acme => AcmeIssuer::CAPABILITIES,
            Self::Ca => CaIssuer::CAPABILITIES,
            Self::SelfSigned => SelfSignedIssuer::CAPABILITIES,
        }
    }

    /// Default validity of certificates, as in upstream. It has no effect where the CA decides.
    #[must_use]
    pub fn default_duration(self) -> SignedDuration {
        match self {
            Self::Acme | Self::SelfSigned => SignedDuration::from_hours(90 * 24),
            Self::Ca => SignedDuration::from_hours(180 * 24),
        }
    }

    /// Default encoding of new private keys, as in upstream.
    #[must_use]
    pub fn default_encoding(self) -> Encoding {
        match self {
            Self::Acme => Encoding::Pkcs8,
            Self::Ca | Self::SelfSigned => Encoding::Pkcs1,
        }
    }
}

/// A kind of solver, which publishes proofs of control.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum SolverKind {
    /// DNS-01 with DNSEntries.
    DnsEntry,
    /// Publishes nothing.
    Skip,
}

impl SolverKind {
    /// The solver of an issuer for all names.
    #[must_use]
    pub fn of(spec: &AcmeSpec) -> Self {
        match spec.skip_dns_challenge_validation {
            Some(true) => Self::Skip,
            Some(false) | None => Self::DnsEntry,
        }
    }

    /// The name in messages.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::DnsEntry => "DNSEntry",
            Self::Skip => "skip",
        }
    }
}

/// An account at an ACME server.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AcmeSpec {
    /// URL of the directory of the ACME server.
    pub server: String,
    /// Contact email address of the account.
    pub email: String,
    /// Whether to generate a key and register an account if the Secret of the key is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_registration: Option<bool>,
    /// Secret with the private key of the account in PEM, under `privateKey`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key_secret_ref: Option<SecretReference>,
    /// External account binding (RFC 8555 section 7.3.4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_account_binding: Option<ExternalAccountBinding>,
    /// Whether to skip DNS records, for test CAs without validation.
    #[serde(
        default,
        rename = "skipDNSChallengeValidation",
        skip_serializing_if = "Option::is_none"
    )]
    pub skip_dns_challenge_validation: Option<bool>,
    /// Domains of this issuer. It issues nothing else. A Certificate without issuerRef uses this
    /// issuer if all its names are in these domains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domains: Option<DomainSelection>,
    /// Profile of the ACME server, from its directory. Defaults to the choice of the server. A
    /// Certificate may set another profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Common name of an issuer in the preferred certificate chain of the CA. A Certificate may set
    /// another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_chain: Option<String>,
    /// How control over names is proved, each solver for the names of its selector. Without solvers,
    /// by DNSEntries in the dns cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub solvers: Option<Vec<SolverSpec>>,
    /// DNS servers (`host`, `host:port` or `https://host/dns-query`) that must return the challenge record before the challenge is
    /// accepted. Defaults to the servers of the manager.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precheck_nameservers: Option<Vec<String>>,
}

/// Credentials of the CA for the registration of an account.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExternalAccountBinding {
    /// Key identifier from the CA.
    #[serde(rename = "keyID")]
    pub key_id: String,
    /// Secret with the MAC key under `hmacKey`, in URL-safe base64.
    pub key_secret_ref: SecretReference,
    /// MAC algorithm. Defaults to HS256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_algorithm: Option<BindingAlgorithm>,
}

/// MAC algorithm of an external account binding.
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

/// Domains of an issuer.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
pub struct DomainSelection {
    /// Included domains with their subdomains; `*.` excludes the domain itself. All domains if empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include: Option<Vec<String>>,
    /// Excluded domains. Takes precedence over `include`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclude: Option<Vec<String>>,
}

/// A private certificate authority.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CaSpec {
    /// Secret of type kubernetes.io/tls with the certificate and key of the CA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key_secret_ref: Option<SecretReference>,
}

/// Self-signed certificates have no configuration.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
pub struct SelfSignedSpec {}

/// Status of an Issuer.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IssuerStatus {
    /// Generation of the specification that the status refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, `Error` or empty
    pub state: String,
    /// Description of the problem, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// `Ready`: the issuer can issue certificates. `AccountRegistered`, for ACME issuers: the account
    /// exists at the CA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::certificate::conditions")]
    pub conditions: Option<Vec<Condition>>,
    /// A rate limit of the CA for the registration of the account (RFC 8555 section 6.6).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest: Option<ServerWait>,
    /// `acme`, `ca` or `selfSigned`
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The account from the CA, its URL, and the hash of the Secret of its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free_form")]
    pub acme: Option<serde_json::Value>,
    /// The certificate of the CA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free_form")]
    pub ca: Option<serde_json::Value>,
    /// Maximum number of certificate requests per day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_day_quota: Option<i64>,
    /// Remaining requests of the quota. A request is recorded here before it is sent to the CA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<Requests>,
    /// Rate limits that the CA reported (RFC 8555 section 6.6). Affected orders wait until they end.
    /// Expired entries are removed with the next entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Vec<Limit>>,
}

/// A rate limit for requests to a CA with an account key.
// Strings, as below.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerWait {
    /// End of the limit.
    #[schemars(schema_with = "date_time")]
    pub until: String,
    /// URL of the directory of the CA.
    pub server: String,
    /// Hash of the Secret with the key of the account.
    pub secret_hash: String,
}

/// A rate limit that the CA reported.
// Strings, as below.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
pub struct Limit {
    /// URL of the directory of the CA.
    pub server: String,
    /// Scope of the limit: `account`, `domain example.org` (a registered domain), `set …` (exactly the
    /// same names, by their hash) or `name www.example.org`.
    pub of: String,
    /// End of the limit.
    #[schemars(schema_with = "date_time")]
    pub until: String,
}

/// Remaining requests of the quota at a time. They increase with time after that.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
pub struct Requests {
    /// Number of requests.
    pub available: i64,
    /// Time of this number.
    // A string: a decoding error would affect the whole list.
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
