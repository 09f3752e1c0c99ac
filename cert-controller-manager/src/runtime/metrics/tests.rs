use super::*;
use crate::api::ObjectKey;

/// Two Certificates of one issuer, one of an issuer that does not exist.
struct ThreeCertificates;

fn issuer(name: &str) -> IssuerKey {
    IssuerKey::Default(name.to_owned())
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

impl Inventory for ThreeCertificates {
    fn certificates(&self, visit: &mut dyn FnMut(&CertificateEntry<'_>)) {
        let good = CertificateEntry {
            namespace: "ns",
            name: "good",
            issuer: &issuer("ca"),
            state: "Ready",
            reason: "Ready",
            not_after: Some(time("2026-03-01T00:00:00Z")),
            renewal_at: Some(time("2026-02-01T00:00:00Z")),
            overdue: false,
        };
        visit(&good);
        visit(&CertificateEntry {
            name: "late",
            reason: "RenewalDue",
            state: "Pending",
            not_after: Some(time("2026-01-15T00:00:00Z")),
            renewal_at: Some(time("2026-01-01T00:00:00Z")),
            overdue: true,
            ..good
        });
        visit(&CertificateEntry {
            name: "hostile",
            issuer: &issuer("a name from\na tenant"),
            state: "a state from a tenant",
            reason: "likewise",
            not_after: None,
            renewal_at: None,
            ..good
        });
    }

    fn orders(&self, visit: &mut dyn FnMut(&IssuerKey, u64)) {
        visit(&issuer("ca"), 2);
        visit(&issuer("ca"), 1);
    }

    fn secrets(&self) -> SecretCounts {
        SecretCounts { total: 3, backup: 1, revoked: 0 }
    }
}

fn acme(server: &str) -> IssuerFacts {
    let account =
        Account { uri: format!("https://{server}/acct/1"), email: "user@example.org".to_owned() };
    IssuerFacts { kind: IssuerKind::Acme, server: Some(server.to_owned()), account: Some(account) }
}

fn issuance(issuer: &IssuerKey, reason: Reason, result: IssuanceResult) -> Issuance<'_> {
    let (challenges, took) = (2, Duration::from_secs(3));
    Issuance { issuer, reason, result, challenges, took, at: time("2026-01-01T00:00:00Z") }
}

fn filled() -> Metrics {
    let metrics = Metrics::new(Limits { certificates: 2, issuers: 2 }).unwrap();
    metrics.set_issuer(&issuer("ca"), &acme("ca.example:14000"));
    metrics.set_inventory(Arc::new(ThreeCertificates));
    metrics.issuance(&issuance(&issuer("ca"), Reason::SecretMissing, IssuanceResult::Issued));
    metrics.issuance(&issuance(&issuer("ca"), Reason::RenewalDue, IssuanceResult::Failed));
    let soon = Duration::from_millis(20);
    metrics.acme_call("ca.example:14000", &Method::POST, Some(StatusCode::CREATED), soon);
    metrics.acme_call("elsewhere", &Method::TRACE, None, soon);
    metrics.dns_call(QueryResult::Found, soon);
    metrics.kube_call(Role::Target, Verb::Patch, Some(StatusCode::OK));
    for code in [None, Some(0), Some(3), Some(16), Some(4095)] {
        metrics.answered(DnsTransport::Udp, code);
    }
    metrics.answer_limited(LimitedAnswer::Truncated);
    metrics.answer_connection(TcpConnection::Failed);
    for (role, reachability) in [
        (Role::Default, Reachability::Reachable),
        (Role::Source, Reachability::Unknown),
        (Role::Dns, Reachability::Away { since: time("2026-01-01T00:00:00Z"), why: String::new() }),
    ] {
        metrics.watch_cluster(role, watch::channel(reachability).1);
    }
    metrics.set_leader(true);
    metrics.watch_queue("certificates", || QueueSize { ready: 7, running: 3 });
    metrics
}

/// The samples, without process metrics and buckets.
fn samples(metrics: &Metrics) -> Vec<String> {
    let page = metrics.page().unwrap();
    let ours = page.lines().filter(|line| line.starts_with("cert_management_"));
    let plain = ours.filter(|line| !line.contains("_bucket{") && !line.contains("_sum"));
    plain.map(str::to_owned).collect()
}

#[test]
fn the_page_contains_all_samples() {
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!(
        r#"cert_management_acme_account_registrations{{email="user@example.org",issuer="ca",uri="https://ca.example:14000/acct/1"}} 1
cert_management_acme_active_dns_challenges{{issuer="ca"}} 3
cert_management_acme_orders{{dns_challenges="2",issuer="ca",renew="false",success="true"}} 1
cert_management_acme_orders{{dns_challenges="2",issuer="ca",renew="true",success="false"}} 1
cert_management_acme_request_seconds_count{{server="ca.example:14000"}} 1
cert_management_acme_request_seconds_count{{server="other"}} 1
cert_management_acme_requests_total{{code="2xx",method="POST",server="ca.example:14000"}} 1
cert_management_acme_requests_total{{code="error",method="other",server="other"}} 1
cert_management_answer_limited_total{{action="truncated"}} 1
cert_management_answer_queries_total{{code="BADVERS",transport="udp"}} 1
cert_management_answer_queries_total{{code="NOERROR",transport="udp"}} 1
cert_management_answer_queries_total{{code="NXDOMAIN",transport="udp"}} 1
cert_management_answer_queries_total{{code="none",transport="udp"}} 1
cert_management_answer_queries_total{{code="other",transport="udp"}} 1
cert_management_answer_tcp_connections_total{{result="failed"}} 1
cert_management_build_info{{version="{version}"}} 1
cert_management_cert_entries{{issuer="",issuertype=""}} 1
cert_management_cert_entries{{issuer="ca",issuertype="acme"}} 2
cert_management_cert_object_expire{{name="good",namespace="ns"}} 1772323200
cert_management_cert_object_expire{{name="late",namespace="ns"}} 1768435200
cert_management_cert_object_expire_omitted 1
cert_management_certificates{{state=""}} 0
cert_management_certificates{{state="Error"}} 0
cert_management_certificates{{state="Pending"}} 1
cert_management_certificates{{state="Ready"}} 1
cert_management_certificates{{state="Revoked"}} 0
cert_management_certificates{{state="Waiting"}} 0
cert_management_certificates{{state="other"}} 1
cert_management_cluster_reachable{{cluster="default"}} 1
cert_management_cluster_reachable{{cluster="dns"}} 0
cert_management_cluster_reachable{{cluster="source"}} 0
cert_management_dns_queries_total{{result="found"}} 1
cert_management_dns_query_seconds_count 1
cert_management_issuance_seconds_count{{issuer="ca"}} 1
cert_management_issuances_total{{issuer="ca",reason="RenewalDue",result="failed"}} 1
cert_management_issuances_total{{issuer="ca",reason="SecretMissing",result="issued"}} 1
cert_management_issuers_omitted 0
cert_management_kube_requests_total{{cluster="target",code="2xx",verb="patch"}} 1
cert_management_last_success_timestamp_seconds{{issuer="ca"}} 1767225600
cert_management_leader 1
cert_management_next_expiry_timestamp_seconds 1768435200
cert_management_next_renewal_timestamp_seconds 1767225600
cert_management_overdue_renewal_certificates 1
cert_management_queue_depth{{controller="certificates"}} 7
cert_management_revoked_certificates 0
cert_management_running_passes{{controller="certificates"}} 3
cert_management_secrets{{classification="backup"}} 1
cert_management_secrets{{classification="revoked"}} 0
cert_management_secrets{{classification="total"}} 3"#
    );
    let mut seen = samples(&filled());
    seen.retain(|line| !line.starts_with("cert_management_certificates_by_reason"));
    assert_eq!(seen.join("\n"), expected);
}

#[test]
fn every_metric_is_on_the_page_and_in_the_reference() {
    let page = filled().page().unwrap();
    let mut types: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    types.sort_unstable();
    let mut defined: Vec<_> = families::ALL
        .iter()
        .map(|family| format!("{} {}", family.name, family.kind.word()))
        .collect();
    defined.sort_unstable();
    assert_eq!(types, defined);
    let reference = reference();
    for family in families::ALL {
        assert!(reference.contains(&format!("| `{}` | {}", family.name, family.kind.word())));
        assert!(
            page.contains(&format!("# HELP {} {}", family.name, family.help)),
            "{}",
            family.name
        );
    }
}

#[test]
fn tenants_cannot_add_label_values_to_the_counts() {
    let page = filled().page().unwrap();
    assert!(!page.contains("tenant") && !page.contains("likewise"), "{page}");
    assert!(page.contains("cert_management_certificates_by_reason{reason=\"\"} 1"));
    assert!(page.contains("cert_management_certificates_by_reason{reason=\"RenewalDue\"} 1"));
}

#[test]
fn a_deleted_issuer_leaves_no_series_behind() {
    let metrics = filled();
    metrics.forget_issuer(&issuer("ca"));
    let left: Vec<_> = samples(&metrics)
        .into_iter()
        .filter(|line| line.contains("\"ca\"") || line.contains("ca.example"))
        .collect();
    assert_eq!(left, [] as [String; 0]);
    // A late result does not add the series again.
    metrics.issuance(&issuance(&issuer("ca"), Reason::RenewalDue, IssuanceResult::Failed));
    assert!(!metrics.page().unwrap().contains("issuer=\"ca\""));
}

#[test]
fn the_series_of_a_shared_server_exist_as_long_as_one_issuer() {
    let metrics = filled();
    let tenant = IssuerKey::Target(ObjectKey::new("ns", "mine"));
    metrics.set_issuer(&tenant, &acme("ca.example:14000"));
    metrics.forget_issuer(&issuer("ca"));
    let requests = "cert_management_acme_requests_total{code=\"2xx\"";
    assert!(metrics.page().unwrap().contains(requests));
    metrics.set_issuer(&tenant, &acme("new.example"));
    assert!(!metrics.page().unwrap().contains(requests));
    let page = metrics.page().unwrap();
    assert!(
        page.contains("issuer=\"target:ns/mine\",uri=\"https://new.example/acct/1\""),
        "{page}"
    );
    assert!(!page.contains("https://ca.example:14000/acct/1"), "{page}");
}

#[test]
fn an_issuer_above_the_limit_is_counted_as_other_until_there_is_room() {
    let metrics = Metrics::new(Limits { certificates: 0, issuers: 1 }).unwrap();
    for name in ["first", "second"] {
        metrics.set_issuer(&issuer(name), &acme("ca.example"));
    }
    let second = issuer("second");
    let failed = issuance(&second, Reason::RenewalDue, IssuanceResult::Failed);
    metrics.issuance(&failed);
    let page = metrics.page().unwrap();
    assert!(page.contains("issuances_total{issuer=\"other\""), "{page}");
    assert!(page.contains("cert_management_issuers_omitted 1"), "{page}");
    metrics.forget_issuer(&issuer("first"));
    metrics.issuance(&failed);
    assert!(metrics.page().unwrap().contains("issuances_total{issuer=\"second\""));
}

#[test]
fn the_verb_of_a_request_follows_from_its_path_and_query() {
    let cases = [
        ("/api/v1/secrets", None, Verb::List),
        ("/api/v1/secrets", Some("limit=5&watch=true"), Verb::Watch),
        ("/api/v1/namespaces", None, Verb::List),
        ("/api/v1/namespaces/ns", None, Verb::Get),
        ("/api/v1/namespaces/ns/secrets", None, Verb::List),
        ("/api/v1/namespaces/ns/secrets/watch", Some("watchful=true"), Verb::Get),
        ("/apis/g/v1/things", Some("watch=1"), Verb::Watch),
        ("/apis/g/v1/namespaces/ns/things/one/status", None, Verb::Get),
        ("/version", None, Verb::Get),
    ];
    for (path, query, verb) in cases {
        assert_eq!(Verb::of(&Method::GET, path, query), verb, "{path} {query:?}");
    }
    assert_eq!(Verb::of(&Method::PATCH, "/api/v1/namespaces/ns/secrets/s", None), Verb::Patch);
}

#[test]
fn the_committed_reference_is_the_generated_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/metrics.md");
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == reference(),
        "run `cert-controller-manager generate metrics --directory docs/reference`"
    );
}

#[test]
fn the_operations_pages_list_every_reason_and_only_existing_metrics() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations");
    let pages: String = std::fs::read_dir(directory)
        .unwrap()
        .map(|page| std::fs::read_to_string(page.unwrap().path()).unwrap())
        .collect();
    for reason in Reason::ALL {
        assert!(pages.contains(&format!("\n| `{reason}` | ")), "{reason} is missing");
    }
    let letters = |c: char| !(c.is_ascii_lowercase() || c == '_');
    for name in pages.split(letters).filter(|word| word.starts_with("cert_management_")) {
        let plain = name.trim_end_matches("_bucket");
        assert!(families::ALL.iter().any(|family| family.name == plain), "there is no {name}");
    }
}
