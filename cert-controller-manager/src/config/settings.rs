//! What the program was told, as plain values. Nothing else reads flags or the environment.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use cert_lib::{
    model::{key::KeyType, name::DnsName},
    net::{http::Roots, reach::AddressPolicy},
    solve::dns01::Nameserver,
};
use jiff::SignedDuration;

use super::classes::Classes;
pub use crate::runtime::{
    clusters::{ClusterOptions, ClusterSettings, Kubeconfig},
    crds::CrdSettings,
    leader::LeaseSettings,
};

/// Everything that the manager was told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How to log.
    pub log: LogSettings,
    /// Name of this manager.
    pub name: String,
    /// Namespace of the lease.
    pub namespace: String,
    /// What to run.
    pub controllers: Controllers,
    /// Where the clusters are.
    pub clusters: ClusterSettings,
    /// Whose custom resource definitions we update.
    pub crds: CrdSettings,
    /// Leader election; `None` is without.
    pub lease: Option<LeaseSettings>,
    /// Where health and metrics are served.
    pub server: Option<SocketAddr>,
    /// Whether only those read metrics that the default cluster permits.
    pub metrics_authorization: bool,
    /// Where a CPU profile goes.
    pub cpu_profile: Option<PathBuf>,
    /// Whom to trust as ACME server.
    pub roots: Roots,
    /// Where servers may be that others than the operator choose.
    pub address_policy: AddressPolicy,
    /// Whom to ask for certificates.
    pub issuers: IssuerSettings,
    /// What certificates are made of.
    pub certificates: CertificateSettings,
    /// How challenges are published and looked for.
    pub dns: DnsSettings,
    /// Where Certificates come from that nobody wrote.
    pub sources: SourcesSettings,
    /// The embedded responder, if any.
    pub answer: Option<AnswerSettings>,
    /// Up to how many Certificates have a series of their own in the metrics.
    pub metrics_per_certificate: usize,
    /// Flags that were given and have no effect, with their dashes.
    pub without_effect: Vec<String>,
}

/// How to log.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// A level, or a filter with `=` or `,` in it.
    pub filter: String,
    /// JSON instead of text.
    pub json: bool,
}

/// What to run. The gateways' definitions are watched by the controllers themselves.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Controllers {
    /// Certificates and Issuers.
    pub issuer: bool,
    /// Ingresses.
    pub ingress: bool,
    /// Services.
    pub service: bool,
    /// Gateways of Istio.
    pub istio: bool,
    /// Gateways of the Gateway API.
    pub gateway: bool,
}

/// Whom to ask for certificates.
#[derive(Clone, Debug)]
pub struct IssuerSettings {
    /// Namespace of the Issuers in the default cluster.
    pub namespace: String,
    /// Issuer of Certificates that name none.
    pub default_issuer: String,
    /// Domains that it is for, as they were written; empty is all.
    pub default_ranges: Vec<String>,
    /// Orders per day of an issuer that says nothing about it; at least 1.
    pub requests_per_day: u32,
    /// Whether Issuers in the target cluster are served; it then differs from the default cluster.
    pub allow_target_issuers: bool,
    /// Which CAs' limits are kept without running into them.
    pub acme_limits: AcmeLimits,
    /// Whether authorizations are given up after each order.
    pub deactivate_authorizations: bool,
    /// Classes to serve.
    pub classes: Classes,
}

/// Which CAs' limits are kept without running into them. What a CA says itself always counts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum AcmeLimits {
    /// Let's Encrypt's production is kept to its published limits.
    #[default]
    Auto,
    /// Every CA is kept to Let's Encrypt's published limits.
    LetsEncrypt,
    /// Nobody is.
    Off,
}

/// What holds for all Certificates.
#[derive(Clone, Debug)]
pub struct CertificateSettings {
    /// The main class.
    pub class: String,
    /// Classes to serve.
    pub classes: Classes,
    /// Issuer of Certificates that name none.
    pub default_issuer: String,
    /// Namespace of the Issuers.
    pub issuer_namespace: String,
    /// How long before its end a certificate is renewed.
    pub renewal_window: SignedDuration,
    /// The same in hundredths of its life; counts more.
    pub renew_before_percentage: Option<u8>,
    /// Whether ACME servers are asked when they want a certificate to be renewed.
    pub renewal_info: bool,
    /// How long before its end a certificate counts as overdue, in the metrics only.
    pub renewal_overdue_window: SignedDuration,
    /// Whether a Certificate may name a Secret in another namespace, without asking there.
    pub cross_namespace_secrets: bool,
    /// Whether Certificates of several namespaces share certificates.
    pub reuse_across_namespaces: bool,
    /// How many orders of one issuer run at once.
    pub orders_at_once: usize,
    /// Whether Secrets are owned by their Certificates.
    pub cascade_delete: bool,
    /// Key of Certificates that name no algorithm; `None` where nobody asked for one: then it is
    /// ECDSA P-256, and the fingerprint leaves it out.
    pub default_key: Option<KeyType>,
    /// Key of Certificates that want RSA of no size.
    pub default_rsa: KeyType,
    /// Key of Certificates that want ECDSA of no size.
    pub default_ecdsa: KeyType,
    /// Whether challenges are DNSRecords.
    pub use_dnsrecords: bool,
}

/// What the program does when it is told nothing.
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

/// How challenges are published and looked for.
#[derive(Clone, Debug)]
pub struct DnsSettings {
    /// Namespace of DNSEntries; `None` is the Certificate's.
    pub namespace: Option<String>,
    /// Class annotation; `None` is none.
    pub class: Option<String>,
    /// `spec.ownerId` of DNSEntries.
    pub owner_id: Option<String>,
    /// Servers to look at instead of the authoritative ones.
    pub nameservers: Vec<Nameserver>,
    /// How long to wait after the record was seen.
    pub additional_wait: Option<SignedDuration>,
    /// How long to wait for a record to be seen.
    pub propagation_timeout: SignedDuration,
}

/// Where Certificates come from that nobody wrote.
#[derive(Clone, Debug, Default)]
pub struct SourcesSettings {
    /// `ingress-cert`
    pub ingress: SourceSettings,
    /// `service-cert`
    pub service: SourceSettings,
    /// `istio-gateways-dns`
    pub istio: SourceSettings,
    /// `k8s-gateways-dns`
    pub gateway: SourceSettings,
}

/// One kind of source.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SourceSettings {
    /// Classes of the source objects to serve.
    pub classes: Classes,
    /// Class annotation of what is generated; `None` is none.
    pub target_class: Option<String>,
    /// Namespace in the target cluster, where it differs from the source cluster; `None` is that of
    /// the source object.
    pub target_namespace: Option<String>,
    /// What generated names begin with, where target and source cluster differ.
    pub target_name_prefix: String,
}

/// The responder.
#[derive(Clone, Debug)]
pub struct AnswerSettings {
    /// Addresses to answer on.
    pub listen: Vec<SocketAddr>,
    /// Zones to answer for.
    pub zones: Vec<DnsName>,
    /// Public addresses of the responder.
    pub addresses: Vec<IpAddr>,
}

/// What `answer`, the responder alone, was told.
#[derive(Clone, Debug)]
pub struct AnswerArgs {
    /// How to log.
    pub log: LogSettings,
    /// The cluster with the DNSEntries; `None` is the environment's.
    pub kubeconfig: Option<Kubeconfig>,
    /// What to answer where.
    pub answer: AnswerSettings,
    /// Class annotation of the DNSEntries to answer for; empty is those without.
    pub dns_class: String,
    /// Namespace of the DNSEntries; `None` is all.
    pub dns_namespace: Option<String>,
    /// Whether the definition of DNSEntry is created where there is none.
    pub deploy_crds: bool,
}
