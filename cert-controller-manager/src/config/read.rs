//! Converts values of flags to [`Settings`]: validates combinations, and reads the files that flags name.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use cert_lib::{
    model::key::KeyType,
    net::{http::Roots, reach::AddressPolicy},
};
use jiff::SignedDuration;

use super::{
    controllers::{self, SourceController},
    flags::log_filter,
    settings::{
        AcmeLimits, AnswerArgs, CertificateSettings, ClusterOptions, ClusterSettings, Controllers,
        CrdSettings, DnsSettings, IssuerSettings, Kubeconfig, LeaseSettings, LogSettings, Settings,
        SourceSettings, SourcesSettings,
    },
    values::{Environment, Values},
};
use crate::{
    answer::{ServerOptions, ZoneOptions},
    api::Classes,
};

/// The settings of the manager.
///
/// # Errors
/// For invalid values; the message names the flag and what is allowed.
pub fn settings(values: &Values, environment: &Environment) -> anyhow::Result<Settings> {
    let clusters = clusters(values)?;
    let issuers = issuers(values, &clusters)?;
    Ok(Settings {
        log: log(values)?,
        name: text(values, "name"),
        namespace: lease_namespace(values, environment),
        controllers: controllers(values)?,
        crds: CrdSettings {
            maintainer: text(values, "maintainer"),
            accepted_maintainers: values.list("accepted-maintainers"),
            force_update: values.is_on("force-crd-update")?,
        },
        lease: lease(values, environment)?,
        server: server(values, environment)?,
        cpu_profile: values.path("cpuprofile"),
        roots: roots(values)?,
        address_policy: AddressPolicy::new(values.parsed_list("allowed-private-ranges")?),
        certificates: certificates(values, &issuers)?,
        dns: dns(values)?,
        sources: SourcesSettings::new(|controller| source(values, controller.name())),
        answer: answer(values)?,
        metrics_authorization: values.is_on("metrics-authorization")?,
        metrics_per_certificate: usize::try_from(values.number("metrics-per-certificate")?)?,
        without_effect: values.without_effect(),
        clusters,
        issuers,
    })
}

/// The settings of the command `answer`.
///
/// # Errors
/// For invalid values; the message names the flag and what is allowed.
pub fn answer_args(values: &Values, environment: &Environment) -> anyhow::Result<AnswerArgs> {
    let answer = responder(values, "", ["dns", "zone"])?;
    ensure!(!answer.listen.is_empty(), "answer needs --dns, the address to answer on");
    ensure!(
        !answer.zones.zones.is_empty(),
        "answer needs --zone, the zone that is delegated to it"
    );
    Ok(AnswerArgs {
        server: server(values, environment)?,
        log: log(values)?,
        kubeconfig: kubeconfig(values, "kubeconfig"),
        answer,
        dns_class: text(values, "dns-class"),
        dns_namespace: values.text("dns-namespace"),
        deploy_crds: !values.is_on("disable-deploy-crds")?,
    })
}

/// The settings of logging.
///
/// # Errors
/// For an invalid level.
fn log(values: &Values) -> anyhow::Result<LogSettings> {
    let filter = log_filter(&text(values, "log-level"));
    Ok(LogSettings {
        filter: filter.map_err(|why| values.wrong("log-level", why))?,
        json: text(values, "log-format").eq_ignore_ascii_case("json"),
    })
}

fn controllers(values: &Values) -> anyhow::Result<Controllers> {
    let mut chosen = Controllers::default();
    for name in values.list("controllers") {
        match name.as_str() {
            "issuer" | "certcontrollers" => chosen.issuer = true,
            // The source controllers watch for these definitions themselves.
            "watch-gateways-crds" => {}
            "certsources" => chosen.sources.extend(SourceController::ALL),
            "all" => {
                let sources = SourceController::ALL.into();
                chosen = Controllers { issuer: true, sources };
            }
            name => {
                let Some(source) = SourceController::find(name) else {
                    let known = controllers::NAMES.join(", ");
                    let why =
                        format!("{name:?} is none of {known}, certcontrollers, certsources, all");
                    return Err(values.wrong("controllers", why));
                };
                chosen.sources.insert(source);
            }
        }
    }
    Ok(chosen)
}

fn clusters(values: &Values) -> anyhow::Result<ClusterSettings> {
    Ok(ClusterSettings {
        default: cluster(values, "kubeconfig")?,
        source: cluster(values, "source")?,
        dns: cluster(values, "dns")?,
        target: cluster(values, "target")?,
    })
}

fn cluster(values: &Values, flag: &str) -> anyhow::Result<ClusterOptions> {
    let of = |option: &str| format!("{flag}.{option}");
    let qps = values.number(&of("qps"))?;
    let burst = match values.number(&of("burst"))? {
        0 => qps.saturating_mul(2),
        burst => burst,
    };
    Ok(ClusterOptions {
        kubeconfig: values.text(flag).and_then(|text| Kubeconfig::parse(&text)),
        id: values.text(&of("id")),
        migration_ids: values.list(&of("migration-ids")),
        deploy_crds: !values.is_on(&of("disable-deploy-crds"))?,
        conditional_deploy: values.is_on(&of("conditional-deploy-crds"))?,
        no_cleanup_label: values.is_on(&of("crds-shoot-no-cleanup-label"))?,
        qps,
        burst,
    })
}

fn kubeconfig(values: &Values, flag: &str) -> Option<Kubeconfig> {
    values.text(flag).and_then(|text| Kubeconfig::parse(&text))
}

fn lease_namespace(values: &Values, environment: &Environment) -> String {
    match (values.is_given("namespace"), &environment.pod_namespace) {
        (false, Some(namespace)) => namespace.clone(),
        _ => text(values, "namespace"),
    }
}

fn lease(values: &Values, environment: &Environment) -> anyhow::Result<Option<LeaseSettings>> {
    if values.is_on("omit-lease")? {
        return Ok(None);
    }
    let lease = LeaseSettings {
        name: values
            .text("lease-name")
            .unwrap_or_else(|| format!("{}-controllers", text(values, "name"))),
        namespace: lease_namespace(values, environment),
        duration: period(values, "lease-duration")?,
        renew_deadline: period(values, "lease-renew-deadline")?,
        retry_period: period(values, "lease-retry-period")?,
    };
    if lease.duration <= lease.renew_deadline {
        bail!("--lease-duration must be longer than --lease-renew-deadline");
    }
    if lease.duration.subsec_nanos() != 0 {
        bail!("--lease-duration must be whole seconds");
    }
    if lease.renew_deadline < 2 * lease.retry_period {
        bail!("--lease-renew-deadline must be at least twice --lease-retry-period");
    }
    ensure!(!lease.retry_period.is_zero(), "--lease-retry-period must be longer than 0");
    Ok(Some(lease))
}

fn period(values: &Values, path: &str) -> anyhow::Result<Duration> {
    Duration::try_from(duration(values, path)?).map_err(|why| values.wrong(path, why))
}

fn server(values: &Values, environment: &Environment) -> anyhow::Result<Option<SocketAddr>> {
    let port = u16::try_from(values.number("server-port-http")?)?;
    if port == 0 {
        return Ok(None);
    }
    let address: IpAddr = match values.text("bind-address-http").as_deref() {
        None if environment.dual_stack => Ipv6Addr::UNSPECIFIED.into(),
        None => Ipv4Addr::UNSPECIFIED.into(),
        Some("localhost") => Ipv4Addr::LOCALHOST.into(),
        Some(text) => {
            text.trim_start_matches('[').trim_end_matches(']').parse().map_err(|_| {
                values.wrong("bind-address-http", format!("{text:?} is no IP address"))
            })?
        }
    };
    Ok(Some(SocketAddr::new(address, port)))
}

/// Trusted root certificates: those of the system, of the given files, or both.
fn roots(values: &Values) -> anyhow::Result<Roots> {
    let files = values.list("ca-certificates");
    if files.is_empty() {
        return Ok(Roots::system());
    }
    let mut bundle = Vec::new();
    for file in &files {
        let bytes = std::fs::read(Path::new(file)).with_context(|| format!("cannot read {file}"));
        bundle.extend(bytes.map_err(|why| values.wrong("ca-certificates", format!("{why:#}")))?);
        bundle.push(b'\n');
    }
    let roots = match values.is_on("ca-system-cert-pool")? {
        true => Roots::system_and_pem(&bundle),
        false => Roots::only_pem(&bundle),
    };
    roots.map_err(|why| values.wrong("ca-certificates", format!("{}: {why}", files.join(":"))))
}

fn issuers(values: &Values, clusters: &ClusterSettings) -> anyhow::Result<IssuerSettings> {
    let allow_target_issuers = values.is_on("issuer.allow-target-issuers")?;
    if allow_target_issuers && clusters.target_is_default() {
        return Err(values.wrong(
            "issuer.allow-target-issuers",
            "the target cluster must differ from the default cluster: set --target or --source to \
             another kubeconfig than --kubeconfig",
        ));
    }
    Ok(IssuerSettings {
        namespace: text(values, "issuer.issuer-namespace"),
        default_issuer: text(values, "issuer.default-issuer"),
        default_ranges: values.list("issuer.default-issuer-domain-ranges"),
        requests_per_day: values.number("issuer.default-requests-per-day-quota")?,
        allow_target_issuers,
        acme_limits: match values.text("acme-limits").as_deref() {
            Some("off") => AcmeLimits::Off,
            Some("letsencrypt") => AcmeLimits::LetsEncrypt,
            Some(_) | None => AcmeLimits::Auto,
        },
        deactivate_authorizations: values.is_on("issuer.acme-deactivate-authorizations")?,
        classes: classes(values, "issuer"),
    })
}

fn certificates(values: &Values, issuers: &IssuerSettings) -> anyhow::Result<CertificateSettings> {
    let rsa = text(values, "issuer.default-rsa-private-key-size");
    let default_rsa = match rsa.as_str() {
        "3072" => KeyType::Rsa3072,
        "4096" => KeyType::Rsa4096,
        _ => KeyType::Rsa2048,
    };
    let ecdsa = text(values, "issuer.default-ecdsa-private-key-size");
    let default_ecdsa = if ecdsa == "384" { KeyType::P384 } else { KeyType::P256 };
    // The default of upstream is RSA, so setting only the size of RSA keys selects RSA.
    let algorithm = values.text("issuer.default-private-key-algorithm").unwrap_or_default();
    let default_key = if algorithm.eq_ignore_ascii_case("RSA") {
        Some(default_rsa)
    } else if algorithm.eq_ignore_ascii_case("ECDSA") {
        Some(default_ecdsa)
    } else if values.is_given("issuer.default-rsa-private-key-size") {
        Some(default_rsa)
    } else {
        values.is_given("issuer.default-ecdsa-private-key-size").then_some(default_ecdsa)
    };
    Ok(CertificateSettings {
        class: issuers.classes.main().to_owned(),
        classes: issuers.classes.clone(),
        default_issuer: issuers.default_issuer.clone(),
        issuer_namespace: issuers.namespace.clone(),
        renewal_window: duration(values, "issuer.renewal-window")?,
        renew_before_percentage: u8::try_from(values.number("default-renew-before-percentage")?)
            .ok()
            .filter(|percentage| *percentage > 0),
        renewal_info: values.is_on("acme-renewal-info")?,
        renewal_overdue_window: duration(values, "issuer.renewal-overdue-window")?,
        cross_namespace_secrets: values.is_on("allow-cross-namespace-secrets")?,
        reuse_across_namespaces: values.is_on("reuse-across-namespaces")?,
        orders_at_once: usize::try_from(values.number("orders-at-once")?)?,
        cascade_delete: values.is_on("issuer.cascade-delete")?,
        default_key,
        default_rsa,
        default_ecdsa,
        use_dnsrecords: values.is_on("issuer.use-dnsrecords")?,
    })
}

fn dns(values: &Values) -> anyhow::Result<DnsSettings> {
    Ok(DnsSettings {
        namespace: values.text("issuer.dns-namespace"),
        class: values.text("issuer.dns-class"),
        owner_id: values.text("issuer.dns-owner-id"),
        nameservers: values.parsed_list("issuer.precheck-nameservers")?,
        additional_wait: values.duration("issuer.precheck-additional-wait")?,
        propagation_timeout: duration(values, "issuer.propagation-timeout")?,
    })
}

fn source(values: &Values, controller: &str) -> SourceSettings {
    let of = |option: &str| values.text(&format!("{controller}.{option}"));
    let classes = classes(values, controller);
    // A manager must serve the Certificates that it generates.
    let main = (!classes.serves(None)).then(|| classes.main().to_owned());
    SourceSettings {
        target_class: of("cert-target-class").or(main),
        target_namespace: of("target-namespace"),
        target_name_prefix: of("target-name-prefix").unwrap_or_default(),
        classes,
    }
}

fn answer(values: &Values) -> anyhow::Result<Option<ServerOptions>> {
    let answer = responder(values, "answer-", ["answer-dns", "answer-zone"])?;
    match (answer.listen.is_empty(), answer.zones.zones.is_empty()) {
        (false, false) => Ok(Some(answer)),
        (false, true) => {
            bail!("--answer-dns needs --answer-zone, the zone that is delegated to it")
        }
        (true, false) => bail!("--answer-zone needs --answer-dns, the address to answer on"),
        (true, true) => Ok(None),
    }
}

/// The settings of the DNS server, whose flags have a prefix in the manager.
fn responder(
    values: &Values,
    prefix: &str,
    [listen, zone]: [&str; 2],
) -> anyhow::Result<ServerOptions> {
    let of = |name: &str| format!("{prefix}{name}");
    let zones = ZoneOptions {
        zones: values.parsed_list(zone)?,
        server: values.parsed_list(&of("ns"))?.pop(),
        mailbox: values.parsed_list(&of("mailbox"))?.pop(),
        addresses: values.parsed_list("answer-address")?,
        ttl: values.number(&of("ttl"))?,
    };
    for name in &zones.zones {
        let flags = format!("--{} and --{}", of("ns"), of("mailbox"));
        zones.authority(name).map_err(|why| values.wrong(zone, format!("{why} with {flags}")))?;
    }
    Ok(ServerOptions {
        listen: values.parsed_list(listen)?,
        zones,
        rate_limit: values.number(&of("rate-limit"))?,
    })
}

fn classes(values: &Values, controller: &str) -> Classes {
    Classes::new(&values.list(&format!("{controller}.cert-class")))
}

fn text(values: &Values, path: &str) -> String {
    values.text(path).unwrap_or_default()
}

fn duration(values: &Values, path: &str) -> anyhow::Result<SignedDuration> {
    Ok(values.duration(path)?.unwrap_or_default())
}
