//! The settings of the program, as plain values.

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf};

use cert_lib::{
    model::key::KeyType,
    net::{http::Roots, reach::AddressPolicy},
    solve::dns01::Nameserver,
};
use jiff::SignedDuration;

use super::controllers::SourceController;
pub use crate::answer::ServerOptions;
use crate::api::Classes;
pub use crate::runtime::{
    clusters::{ClusterOptions, ClusterSettings, Kubeconfig},
    crds::CrdSettings,
    leader::LeaseSettings,
};

/// The settings of the manager.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Logging.
    pub log: LogSettings,
    /// Name of the manager.
    pub name: String,
    /// Namespace of the lease.
    pub namespace: String,
    /// Enabled controllers.
    pub controllers: Controllers,
    /// Clusters.
    pub clusters: ClusterSettings,
    /// Deployment of CustomResourceDefinitions.
    pub crds: CrdSettings,
    /// Leader election; `None` if it is disabled.
    pub lease: Option<LeaseSettings>,
    /// Address of the administration port.
    pub server: Option<SocketAddr>,
    /// Whether readers of metrics need authorization.
    pub metrics_authorization: bool,
    /// File for a CPU profile.
    pub cpu_profile: Option<PathBuf>,
    /// Trusted root certificates of ACME servers.
    pub roots: Roots,
    /// Allowed addresses of servers that tenants choose.
    pub address_policy: AddressPolicy,
    /// Issuers.
    pub issuers: IssuerSettings,
    /// Certificates.
    pub certificates: CertificateSettings,
    /// DNS challenges.
    pub dns: DnsSettings,
    /// Source controllers.
    pub sources: SourcesSettings,
    /// Embedded responder, if it is enabled.
    pub answer: Option<ServerOptions>,
    /// Maximum number of Certificates with their own series in the metrics.
    pub metrics_per_certificate: usize,
    /// Given flags that have no effect, with dashes.
    pub without_effect: Vec<String>,
}

/// Logging.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// A level, or a filter with `=` or `,`.
    pub filter: String,
    /// Whether to log JSON instead of text.
    pub json: bool,
}

/// Enabled controllers.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Controllers {
    /// Certificates and Issuers.
    pub issuer: bool,
    /// Source objects.
    pub sources: BTreeSet<SourceController>,
}

/// Settings of issuers.
#[derive(Clone, Debug)]
pub struct IssuerSettings {
    /// Namespace of the Issuers in the default cluster.
    pub namespace: String,
    /// Issuer of Certificates without `issuerRef`.
    pub default_issuer: String,
    /// Domains of the default issuer, as written; empty for all domains.
    pub default_ranges: Vec<String>,
    /// Default quota of orders per day; at least 1.
    pub requests_per_day: u32,
    /// Whether Issuers in the target cluster are served. It must differ from the default cluster then.
    pub allow_target_issuers: bool,
    /// ACME servers whose published rate limits are estimated.
    pub acme_limits: AcmeLimits,
    /// Whether authorizations are deactivated after each order.
    pub deactivate_authorizations: bool,
    /// Served classes.
    pub classes: Classes,
}

/// ACME servers whose published rate limits are estimated. Limits that a server imposes always apply.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum AcmeLimits {
    /// The production server of Let's Encrypt.
    #[default]
    Auto,
    /// All servers, with the limits of Let's Encrypt.
    LetsEncrypt,
    /// No server.
    Off,
}

/// Settings of Certificates.
#[derive(Clone, Debug)]
pub struct CertificateSettings {
    /// The main class.
    pub class: String,
    /// Served classes.
    pub classes: Classes,
    /// Issuer of Certificates without `issuerRef`.
    pub default_issuer: String,
    /// Namespace of the Issuers.
    pub issuer_namespace: String,
    /// How long before its expiry a certificate is renewed.
    pub renewal_window: SignedDuration,
    /// The same as percentage of the lifetime; takes precedence.
    pub renew_before_percentage: Option<u8>,
    /// Whether to use ACME renewal information.
    pub renewal_info: bool,
    /// How long before its expiry a certificate counts as overdue in the metrics.
    pub renewal_overdue_window: SignedDuration,
    /// Whether Certificates may use Secrets in all other namespaces.
    pub cross_namespace_secrets: bool,
    /// Whether certificates are reused across namespaces.
    pub reuse_across_namespaces: bool,
    /// Maximum number of concurrent orders of an issuer.
    pub orders_at_once: usize,
    /// Whether Secrets are deleted with their Certificates.
    pub cascade_delete: bool,
    /// Key type of Certificates without algorithm. If `None`, it is ECDSA P-256 and not part of the
    /// fingerprint.
    pub default_key: Option<KeyType>,
    /// Key type of Certificates with RSA and without size.
    pub default_rsa: KeyType,
    /// Key type of Certificates with ECDSA and without size.
    pub default_ecdsa: KeyType,
    /// Whether challenges use DNSRecords.
    pub use_dnsrecords: bool,
}

/// The defaults of the flags.
impl Default for CertificateSettings {
    fn default() -> Self {
        Self {
            class: Classes::default().main().to_owned(),
            classes: Classes::default(),
            default_issuer: "default-issuer".to_owned(),
            issuer_namespace: "default".to_owned(),
            renewal_window: SignedDuration::from_hours(720),
            renew_before_percentage: None,
            renewal_info: true,
            renewal_overdue_window: SignedDuration::from_hours(600),
            cross_namespace_secrets: false,
            reuse_across_namespaces: false,
            orders_at_once: 100,
            cascade_delete: false,
            default_key: None,
            default_rsa: KeyType::Rsa2048,
            default_ecdsa: KeyType::P256,
            use_dnsrecords: false,
        }
    }
}

/// Settings of DNS challenges.
#[derive(Clone, Debug)]
pub struct DnsSettings {
    /// Namespace of DNSEntries; `None` for that of the Certificate.
    pub namespace: Option<String>,
    /// Class annotation of DNSEntries.
    pub class: Option<String>,
    /// `spec.ownerId` of DNSEntries.
    pub owner_id: Option<String>,
    /// Name servers for the propagation check instead of the authoritative ones.
    pub nameservers: Vec<Nameserver>,
    /// Delay after the record is visible.
    pub additional_wait: Option<SignedDuration>,
    /// Deadline for a record to become visible.
    pub propagation_timeout: SignedDuration,
}

/// Settings of the source controllers.
#[derive(Clone, Debug, Default)]
pub struct SourcesSettings([SourceSettings; SourceController::ALL.len()]);

impl SourcesSettings {
    /// The settings that `of` returns for each controller.
    #[must_use]
    pub fn new(of: impl FnMut(SourceController) -> SourceSettings) -> Self {
        Self(SourceController::ALL.map(of))
    }

    /// The settings of a controller.
    #[must_use]
    pub fn of(&self, controller: SourceController) -> &SourceSettings {
        &self.0[controller as usize]
    }

    /// The settings of all controllers.
    pub fn iter(&self) -> impl Iterator<Item = &SourceSettings> {
        self.0.iter()
    }
}

/// Settings of one source controller.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SourceSettings {
    /// Served classes of source objects.
    pub classes: Classes,
    /// Class annotation of generated Certificates.
    pub target_class: Option<String>,
    /// Namespace of the Secrets in a separate target cluster; `None` for that of the source object.
    pub target_namespace: Option<String>,
    /// Prefix of generated names, for a separate target cluster.
    pub target_name_prefix: String,
}

/// Settings of the command `answer`.
#[derive(Clone, Debug)]
pub struct AnswerArgs {
    /// Logging.
    pub log: LogSettings,
    /// Kubeconfig of the cluster with the DNSEntries; `None` for that of the environment.
    pub kubeconfig: Option<Kubeconfig>,
    /// Responder.
    pub answer: ServerOptions,
    /// Address of the administration port.
    pub server: Option<SocketAddr>,
    /// Class of the published DNSEntries; empty for those without class.
    pub dns_class: String,
    /// Namespace of the DNSEntries; `None` for all.
    pub dns_namespace: Option<String>,
    /// Whether to create the CustomResourceDefinition of DNSEntry if it is missing.
    pub deploy_crds: bool,
}
