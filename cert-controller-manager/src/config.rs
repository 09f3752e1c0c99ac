//! Flags and environment become [`Settings`], once. Nothing else reads them.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use anyhow::Context;
use cert_lib::{model::name::DnsName, net::http::Roots, solve::dns01::Nameserver};
use clap::{Args, Parser, Subcommand};
use jiff::SignedDuration;

use crate::runtime::clusters::{ClusterOptions, ClusterSettings, Kubeconfig};

/// Manages X.509 certificates for fleets of Kubernetes clusters
#[derive(Debug, Parser)]
#[command(
    name = "cert-controller-manager",
    version,
    args_conflicts_with_subcommands = true,
    args_override_self = true
)]
pub struct Cli {
    /// What to do instead of managing certificates.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Flags of the manager.
    #[command(flatten)]
    pub run: RunArgs,
}

/// What to do instead of managing certificates.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Manage certificates (what happens without a command, too)
    Run(Box<RunArgs>),
    /// Answer DNS queries for challenge records, in place of a DNS provider
    Answer(AnswerArgs),
    /// Print files that are generated from the program
    Generate {
        /// What to print
        #[arg(value_enum)]
        what: crate::generate::What,
        /// Write files into this directory instead of printing
        #[arg(long, value_name = "DIRECTORY")]
        directory: Option<PathBuf>,
    },
}

/// Flags that every command with a cluster has.
#[derive(Args, Clone, Debug)]
pub struct LogArgs {
    /// error, warn, info, debug or trace, or a filter like `info,kube_client=debug`
    #[arg(short = 'D', long, default_value = "info", value_name = "LEVEL")]
    pub log_level: String,
    /// text or json
    #[arg(long, default_value = "text", value_parser = ["text", "json"], value_name = "FORMAT")]
    pub log_format: String,
}

/// Flags of the manager. Names and defaults are upstream's where upstream has the flag.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// Logs.
    #[command(flatten)]
    pub log: LogArgs,

    /// Kubeconfig of the default cluster: Issuers and account keys
    #[arg(long, help_heading = "Clusters", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Kubeconfig of the source cluster: Certificates [default: the default cluster]
    #[arg(long, help_heading = "Clusters", value_name = "FILE")]
    pub source: Option<PathBuf>,
    /// Kubeconfig of the dns cluster: DNSEntries [default: the default cluster]
    #[arg(long, help_heading = "Clusters", value_name = "FILE")]
    pub dns: Option<PathBuf>,
    /// Kubeconfig of the target cluster: certificate Secrets [default: the source cluster]
    #[arg(long, help_heading = "Clusters", value_name = "FILE")]
    pub target: Option<PathBuf>,
    /// Leave the CRD of Issuers in the default cluster alone
    #[arg(long = "kubeconfig.disable-deploy-crds", help_heading = "Clusters")]
    pub default_disable_deploy_crds: bool,
    /// Leave the CRD of Certificates in the source cluster alone
    #[arg(long = "source.disable-deploy-crds", help_heading = "Clusters")]
    pub source_disable_deploy_crds: bool,

    /// Namespace of the Issuers in the default cluster
    #[arg(long, help_heading = "Issuers", default_value = "default", value_name = "NAMESPACE")]
    pub issuer_namespace: String,
    /// Issuer of Certificates that name none
    #[arg(long, help_heading = "Issuers", default_value = "default-issuer", value_name = "NAME")]
    pub default_issuer: String,
    /// PEM file with root certificates of ACME servers; several are separated by a colon. They
    /// replace the system's roots unless LEGO_CA_SYSTEM_CERT_POOL is true
    #[arg(
        long,
        help_heading = "Issuers",
        env = "LEGO_CA_CERTIFICATES",
        value_delimiter = ':',
        value_name = "FILE"
    )]
    pub ca_certificates: Vec<PathBuf>,
    /// Trust the system's roots besides --ca-certificates
    #[arg(
        long,
        help_heading = "Issuers",
        env = "LEGO_CA_SYSTEM_CERT_POOL",
        value_parser = clap::builder::BoolishValueParser::new(),
        num_args = 0..=1,
        default_missing_value = "true",
        default_value = "false",
        value_name = "BOOL"
    )]
    pub ca_system_cert_pool: bool,

    /// Class of the Certificates and Issuers to serve
    #[arg(long, help_heading = "Certificates", default_value = "gardencert", value_name = "CLASS")]
    pub cert_class: String,
    /// How long before its end a certificate is renewed
    #[arg(
        long,
        help_heading = "Certificates",
        default_value = "720h",
        value_parser = duration,
        value_name = "DURATION"
    )]
    pub renewal_window: SignedDuration,
    /// Let Certificates name a Secret in another namespace
    #[arg(long, help_heading = "Certificates")]
    pub allow_cross_namespace_secrets: bool,
    /// How many orders of one issuer run at once
    #[arg(long, help_heading = "Certificates", default_value_t = 100, value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..))]
    pub orders_at_once: u32,

    /// Namespace of challenge DNSEntries [default: the namespace of the Certificate]
    #[arg(long, help_heading = "DNS challenges", default_value = "", value_name = "NAMESPACE")]
    pub dns_namespace: String,
    /// Class annotation of challenge DNSEntries [default: none]
    #[arg(long, help_heading = "DNS challenges", default_value = "", value_name = "CLASS")]
    pub dns_class: String,
    /// DNS servers (host or host:port) that must show a challenge record before the CA is told
    /// [default: the authoritative servers of its zone]
    #[arg(long, help_heading = "DNS challenges", value_delimiter = ',', value_name = "SERVER")]
    pub precheck_nameservers: Vec<String>,
    /// How long to wait after the record was seen [default: 10s, none if an authoritative server
    /// showed it]
    #[arg(long, help_heading = "DNS challenges", value_parser = duration, value_name = "DURATION")]
    pub precheck_additional_wait: Option<SignedDuration>,
    /// How long to wait for a record to be seen
    #[arg(
        long,
        help_heading = "DNS challenges",
        default_value = "2m",
        value_parser = duration,
        value_name = "DURATION"
    )]
    pub propagation_timeout: SignedDuration,

    /// Answer DNS queries for challenge records on this address, UDP and TCP
    #[arg(
        long,
        help_heading = "Embedded DNS",
        value_name = "ADDRESS:PORT",
        requires = "answer_zone"
    )]
    pub answer_dns: Vec<SocketAddr>,
    /// Zone that is delegated to --answer-dns
    #[arg(long, help_heading = "Embedded DNS", value_name = "ZONE", requires = "answer_dns")]
    pub answer_zone: Vec<DnsName>,
    /// Public address of --answer-dns, served as the address of its zones' name server
    #[arg(long, help_heading = "Embedded DNS", value_name = "IP")]
    pub answer_address: Vec<IpAddr>,
}

/// Flags of the stand-alone responder.
#[derive(Args, Clone, Debug)]
pub struct AnswerArgs {
    /// Logs.
    #[command(flatten)]
    pub log: LogArgs,
    /// Kubeconfig of the cluster with the DNSEntries
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Address to answer on, UDP and TCP
    #[arg(long, required = true, value_name = "ADDRESS:PORT")]
    pub dns: Vec<SocketAddr>,
    /// Zone that is delegated to us
    #[arg(long, required = true, value_name = "ZONE")]
    pub zone: Vec<DnsName>,
    /// Public address of this server, served as the address of its zones' name server
    #[arg(long, value_name = "IP")]
    pub answer_address: Vec<IpAddr>,
    /// Class annotation of the DNSEntries to answer for [default: those without]
    #[arg(long, default_value = "", value_name = "CLASS")]
    pub dns_class: String,
    /// Namespace of the DNSEntries [default: all]
    #[arg(long, default_value = "", value_name = "NAMESPACE")]
    pub dns_namespace: String,
}

/// Everything that the manager was told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the clusters are.
    pub clusters: ClusterSettings,
    /// Whom to trust as ACME server.
    pub roots: Roots,
    /// Namespace of the Issuers.
    pub issuer_namespace: String,
    /// What certificates are made of.
    pub certificates: CertificateSettings,
    /// How challenges are published and looked for.
    pub dns: DnsSettings,
    /// The embedded responder, if any.
    pub answer: Option<AnswerSettings>,
}

/// What holds for all Certificates.
#[derive(Clone, Debug)]
pub struct CertificateSettings {
    /// Class to serve.
    pub class: String,
    /// Issuer of Certificates that name none.
    pub default_issuer: String,
    /// Namespace of the Issuers.
    pub issuer_namespace: String,
    /// How long before its end a certificate is renewed.
    pub renewal_window: SignedDuration,
    /// Whether a Certificate may name a Secret in another namespace.
    pub cross_namespace_secrets: bool,
    /// How many orders of one issuer run at once.
    pub orders_at_once: usize,
}

/// How challenges are published and looked for.
#[derive(Clone, Debug)]
pub struct DnsSettings {
    /// Namespace of DNSEntries; `None` is the Certificate's.
    pub namespace: Option<String>,
    /// Class annotation; `None` is none.
    pub class: Option<String>,
    /// Servers to look at instead of the authoritative ones.
    pub nameservers: Vec<Nameserver>,
    /// How long to wait after the record was seen.
    pub additional_wait: Option<SignedDuration>,
    /// How long to wait for a record to be seen.
    pub propagation_timeout: SignedDuration,
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

/// Whom to trust: the system, or the given bundles, or both.
fn roots(files: &[PathBuf], system: bool) -> anyhow::Result<Roots> {
    let files: Vec<_> = files.iter().filter(|file| !file.as_os_str().is_empty()).collect();
    if files.is_empty() {
        return Ok(Roots::system());
    }
    let mut bundle = Vec::new();
    for file in files {
        let bytes =
            std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        bundle.extend(bytes);
        bundle.push(b'\n');
    }
    Ok(if system { Roots::system_and_pem(&bundle)? } else { Roots::only_pem(&bundle)? })
}

impl RunArgs {
    /// Checks what flags alone cannot, and reads the files that they name.
    ///
    /// # Errors
    /// The message names the flag and what is allowed.
    pub fn settings(self) -> anyhow::Result<Settings> {
        let roots = roots(&self.ca_certificates, self.ca_system_cert_pool)
            .context("--ca-certificates (LEGO_CA_CERTIFICATES)")?;
        let nameservers = self.precheck_nameservers.iter().filter(|text| !text.is_empty());
        let nameservers: Result<Vec<Nameserver>, _> =
            nameservers.map(|text| text.parse()).collect();
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        let answer = (!self.answer_dns.is_empty()).then_some(AnswerSettings {
            listen: self.answer_dns,
            zones: self.answer_zone,
            addresses: self.answer_address,
        });
        let cluster = |path: Option<PathBuf>, left_alone: bool| ClusterOptions {
            kubeconfig: path.map(Kubeconfig::Path),
            deploy_crds: !left_alone,
            ..ClusterOptions::default()
        };
        Ok(Settings {
            clusters: ClusterSettings {
                default: cluster(self.kubeconfig, self.default_disable_deploy_crds),
                source: cluster(self.source, self.source_disable_deploy_crds),
                dns: cluster(self.dns, false),
                target: cluster(self.target, false),
            },
            roots,
            issuer_namespace: self.issuer_namespace.clone(),
            certificates: CertificateSettings {
                class: self.cert_class,
                default_issuer: self.default_issuer,
                issuer_namespace: self.issuer_namespace,
                renewal_window: self.renewal_window,
                cross_namespace_secrets: self.allow_cross_namespace_secrets,
                orders_at_once: usize::try_from(self.orders_at_once)?,
            },
            dns: DnsSettings {
                namespace: some(self.dns_namespace),
                class: some(self.dns_class),
                nameservers: nameservers.context("--precheck-nameservers")?,
                additional_wait: self.precheck_additional_wait,
                propagation_timeout: self.propagation_timeout,
            },
            answer,
        })
    }
}

/// Reads a duration as Go writes it: `720h`, `1h30m`, `10s`, `1.5h`.
///
/// # Errors
/// When it is none.
pub fn duration(text: &str) -> Result<SignedDuration, String> {
    let wrong = || format!("{text:?} is no duration: write for example 90s, 2m or 720h");
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest == "0" {
        return Ok(SignedDuration::ZERO);
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let seconds = match unit {
            "h" => 3_600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return Err(wrong()),
        };
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = tail;
    }
    SignedDuration::try_from(total).map_err(|_| wrong())
}

/// Writes a duration as Go does: `720h0m0s`, `2m0s`, `1.5s`.
#[must_use]
pub fn go_duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let fraction = f64::from(duration.subsec_nanos()) / 1e9;
    #[expect(clippy::cast_precision_loss, reason = "below 60")]
    let seconds = seconds as f64 + fraction;
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_write_as_in_go() {
        for (text, seconds, go) in [
            ("720h", 2_592_000, "720h0m0s"),
            ("1h30m", 5_400, "1h30m0s"),
            ("2m", 120, "2m0s"),
            ("10s", 10, "10s"),
            ("0", 0, "0s"),
            ("1.5h", 5_400, "1h30m0s"),
        ] {
            let read = duration(text).unwrap();
            assert_eq!(read, SignedDuration::from_secs(seconds), "{text}");
            assert_eq!(go_duration(read), go);
        }
        for text in ["", "h", "10", "-5m", "5 m", "1e400h", "nonsense"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_command_lines_of_the_readme_are_understood() {
        let readme = include_str!("../../README.md");
        let lines = readme.lines().map(str::trim);
        let commands: Vec<&str> =
            lines.filter(|line| line.starts_with("cert-controller-manager --")).collect();
        assert!(!commands.is_empty());
        for command in commands {
            Cli::try_parse_from(command.split_whitespace()).expect(command);
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
