//! Tests of the command line: flags of upstream, precedence, and the help.

mod upstream;

use std::path::PathBuf;

use cert_lib::model::key::KeyType;
use jiff::SignedDuration;

use super::*;

/// The settings for these arguments, in an empty environment.
fn run(arguments: &[&str]) -> anyhow::Result<Settings> {
    run_in(arguments, &Environment::default())
}

fn run_in(arguments: &[&str], environment: &Environment) -> anyhow::Result<Settings> {
    let arguments = ["cert-controller-manager"].iter().chain(arguments).copied();
    match parse(arguments, environment)? {
        Outcome::Do(Command::Run(settings)) => Ok(*settings),
        Outcome::Do(other) => anyhow::bail!("{other:?}"),
        Outcome::Show(text) => anyhow::bail!("{text}"),
    }
}

fn refused(arguments: &[&str]) -> String {
    let error = run(arguments).expect_err(&arguments.join(" "));
    format!("{error:#}")
}

fn variables(pairs: &[(&str, &str)]) -> Environment {
    let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Environment { variables: pairs.collect(), ..Environment::default() }
}

/// A file that is deleted when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, content: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ccm-{}-{name}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        Self(path)
    }

    fn flag(&self) -> String {
        format!("--config={}", self.0.display())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn the_defaults_are_those_of_upstream() {
    let settings = run(&[]).unwrap();
    assert_eq!(
        (settings.name.as_str(), settings.namespace.as_str()),
        ("cert-controller-manager", "kube-system")
    );
    let lease = settings.lease.unwrap();
    assert_eq!(
        (lease.name.as_str(), lease.namespace.as_str()),
        ("cert-controller-manager-controllers", "kube-system")
    );
    let seconds = [lease.duration, lease.renew_deadline, lease.retry_period].map(|it| it.as_secs());
    assert_eq!(seconds, [15, 10, 2]);
    assert!(
        settings.controllers.issuer && settings.controllers.sources == SourceController::ALL.into()
    );
    assert_eq!(settings.server, None);
    assert!(settings.clusters.dns.deploy_crds);
    assert_eq!(settings.issuers.requests_per_day, 10_000);
    assert_eq!(settings.metrics_per_certificate, 10_000);
    assert!(settings.without_effect.is_empty());
    // The default of the type has the same values.
    let expected = format!("{:?}", settings.certificates);
    assert_eq!(expected, format!("{:?}", CertificateSettings::default()));
}

#[test]
fn the_flag_of_a_controller_overrides_the_shared_flag() {
    let file = Scratch::new("specific.yaml", "issuer:\n  renewal-window: 2h\n");
    for (arguments, hours) in [
        (vec!["--renewal-window=1h"], 1),
        (vec!["--renewal-window=1h", "--issuer.renewal-window=3h"], 3),
        (vec!["--issuer.renewal-window=3h", "--renewal-window=1h"], 3),
        (vec![&file.flag()], 2),
        (vec![&file.flag(), "--renewal-window=1h"], 2),
        (vec![&file.flag(), "--issuer.renewal-window=3h"], 3),
        (vec!["--issuer.renewal-window=3h", "--issuer.renewal-window=4h"], 4),
    ] {
        let settings = run(&arguments).unwrap();
        let window = settings.certificates.renewal_window;
        assert_eq!(window, SignedDuration::from_hours(hours), "{arguments:?}");
    }
}

#[test]
fn every_source_controller_has_its_own_classes() {
    let settings = run(&[
        "--cert-class=Shared,gardencert",
        "--ingress-cert.cert-class=mine",
        "--service-cert.cert-target-class=theirs",
        "--target-name-prefix=x-",
        "--istio-gateways-dns.target-name-prefix=istio-",
        "--k8s-gateways-dns.target-namespace=gateways",
    ]);
    let sources = settings.unwrap().sources;
    let [ingress, service, istio, gateway] = [
        SourceController::Ingress,
        SourceController::Service,
        SourceController::Istio,
        SourceController::Gateway,
    ]
    .map(|it| sources.of(it));
    assert!(ingress.classes.serves(Some("mine")) && !ingress.classes.serves(None));
    assert_eq!(
        ingress.target_class.as_deref(),
        Some("mine"),
        "generated Certificates must be served"
    );
    assert!(service.classes.serves(Some("shared")) && service.classes.serves(None));
    assert_eq!(service.target_class.as_deref(), Some("theirs"));
    assert_eq!(istio.target_class, None);
    assert_eq!([&istio.target_name_prefix, &gateway.target_name_prefix], ["istio-", "x-"]);
    assert_eq!(gateway.target_namespace.as_deref(), Some("gateways"));
    assert_eq!(ingress.target_namespace, None);
}

#[test]
fn a_file_has_flat_and_nested_keys_and_lists() {
    let text = "
kubeconfig: default.yaml
source:
  _: source.yaml
  id: source-id
  migration-ids: [old, older]
target.id: target-id
controllers:
- issuer
- ingress-cert
issuer: {default: {pool: {size: 3}}, cascade-delete: true, precheck-nameservers: '1.1.1.1, ns.example.org:5353'}
server-port-http: 8080
bind-address-http: 127.0.0.1
omit-lease:
answer-dns: ['127.0.0.1:53', '127.0.0.2:53']
answer-zone: acme.example.org
";
    let file = Scratch::new("flat.yaml", text);
    let settings = run(&[&file.flag(), "--kubeconfig", "IN-CLUSTER"]).unwrap();
    let ClusterSettings { default, source, target, .. } = settings.clusters;
    assert_eq!(default.kubeconfig, Some(Kubeconfig::InCluster), "the command line wins");
    assert_eq!(source.kubeconfig, Some(Kubeconfig::Path("source.yaml".into())));
    assert_eq!(source.id.as_deref(), Some("source-id"));
    assert_eq!(source.migration_ids, ["old", "older"]);
    assert_eq!((target.id.as_deref(), target.kubeconfig), (Some("target-id"), None));
    let chosen = Controllers { issuer: true, sources: [SourceController::Ingress].into() };
    assert_eq!(settings.controllers, chosen);
    assert!(settings.certificates.cascade_delete);
    assert_eq!(settings.dns.nameservers.len(), 2);
    assert_eq!(settings.server, Some("127.0.0.1:8080".parse().unwrap()));
    assert!(settings.lease.is_some(), "no value is not given");
    assert_eq!(settings.answer.unwrap().listen.len(), 2);
    assert_eq!(settings.without_effect, ["--issuer.default.pool.size"]);
}

#[test]
fn a_file_may_be_json() {
    let file =
        Scratch::new("flat.json", r#"{"issuer": {"renewal-window": "24h"}, "omit-lease": true}"#);
    let settings = run(&[&file.flag()]).unwrap();
    assert!(settings.lease.is_none());
    assert_eq!(settings.certificates.renewal_window, SignedDuration::from_hours(24));
}

#[test]
fn errors_of_a_file_name_the_file_and_the_key() {
    for (text, expected) in [
        (
            "isuer.renewal-window: 24h",
            "isuer.renewal-window: there is no such flag; did you mean issuer.renewal-window?",
        ),
        ("issuer: {renewal-window: 24x}", "issuer.renewal-window: \"24x\" is no duration"),
        ("source.id: a\nsource: {id: b}", "source.id is there twice"),
        ("config: other.yaml", "config cannot be set in a configuration file"),
        ("- a", "not a map"),
        ("lease-name: [{a: b}]", "lease-name has a list"),
        ("lease-name: [a, b]", "lease-name: takes one value"),
        ("_: a", "_: there is no such flag"),
        ("a: [", "no YAML"),
        ("omit-lease: maybe", "omit-lease: \"maybe\" is neither true nor false"),
    ] {
        let file = Scratch::new("wrong.yaml", text);
        let error = refused(&[&file.flag()]);
        assert!(error.contains(expected), "{text}: {error}");
        assert_eq!(error.matches("wrong.yaml: ").count(), 1, "{text}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn errors_of_the_command_line_have_one_line() {
    for (arguments, expected) in [
        (
            vec!["--renewl-window=3h"],
            "unknown flag --renewl-window; did you mean --renewal-window?",
        ),
        (vec!["--renewal-window"], "--renewal-window <DURATION> needs a value"),
        (vec!["--renewal-window=5x"], "--renewal-window: \"5x\" is no duration"),
        (vec!["bogus"], "unknown command bogus"),
        (vec!["-x"], "unknown flag -x"),
        (vec!["-c", "issuer,foo"], "--controllers: \"foo\" is none of issuer, ingress-cert"),
        (vec!["-D", "loud"], "--log-level: \"loud\" is none of error, warn"),
        (vec!["--issuer.default-requests-per-day-quota=0"], "is no number from 1 on"),
        (vec!["--server-port-http=70000"], "is no number from 0 to 65535"),
        (
            vec!["--server-port-http=80", "--bind-address-http=here"],
            "--bind-address-http: \"here\" is no IP",
        ),
        (
            vec!["--lease-duration=10s"],
            "--lease-duration must be longer than --lease-renew-deadline",
        ),
        (vec!["--lease-retry-period=6s"], "--lease-renew-deadline must be at least twice"),
        (vec!["--lease-duration=10.5s"], "--lease-duration must be whole seconds"),
        (vec!["--lease-retry-period=0"], "--lease-retry-period must be longer than 0"),
        (vec!["--answer-dns=127.0.0.1:53"], "--answer-dns needs --answer-zone"),
        (vec!["--answer-zone=a.example"], "--answer-zone needs --answer-dns"),
        (vec!["--ca-certificates=/nowhere.pem"], "--ca-certificates: cannot read /nowhere.pem"),
        (vec!["--config=/nowhere.yaml"], "cannot read /nowhere.yaml"),
        (vec!["generate", "foo"], "[possible values: crds"),
        (vec!["answer"], "answer needs --dns"),
        (vec!["--answer-ns=*.a.example"], "--answer-ns: \"*.a.example\" is a wildcard"),
        (vec!["--answer-ns=192.0.2.1"], "--answer-ns: \"192.0.2.1\": 192.0.2.1 is an IP address"),
        (vec!["--answer-zone=*.a.example"], "--answer-zone: \"*.a.example\" is a wildcard"),
        (
            vec!["--answer-mailbox=root"],
            "--answer-mailbox: \"root\" is no mailbox: it has no domain",
        ),
        (vec!["--answer-ttl=3601"], "--answer-ttl: \"3601\" is no number from 0 to 3600"),
        (vec!["--answer-rate-limit=-1"], "--answer-rate-limit: \"-1\" is no number from 0 to"),
        (vec!["answer", "--ns=a..b"], "--ns: \"a..b\": a..b has a label"),
    ] {
        let error = refused(&arguments);
        assert!(error.contains(expected), "{arguments:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn target_issuers_need_a_separate_target_cluster() {
    for (arguments, fine) in [
        (vec![], false),
        (vec!["--kubeconfig=a"], false),
        (vec!["--kubeconfig=a", "--source=a"], false),
        (vec!["--kubeconfig=a", "--source=b", "--target=a"], false),
        (vec!["--source=b"], true),
        (vec!["--kubeconfig=a", "--target=b"], true),
    ] {
        let arguments = [vec!["--allow-target-issuers"], arguments].concat();
        match run(&arguments) {
            Ok(settings) => assert!(fine && settings.issuers.allow_target_issuers, "{arguments:?}"),
            Err(error) => assert!(!fine && error.to_string().contains("--target"), "{error}"),
        }
    }
}

#[test]
fn the_default_key_is_set_only_by_flags() {
    for (arguments, key) in [
        (vec![], None),
        (vec!["--default-private-key-algorithm=RSA"], Some(KeyType::Rsa2048)),
        (vec!["--issuer.default-private-key-algorithm=ECDSA"], Some(KeyType::P256)),
        (vec!["--default-rsa-private-key-size=3072"], Some(KeyType::Rsa3072)),
        (vec!["--default-ecdsa-private-key-size=384"], Some(KeyType::P384)),
        (
            vec!["--default-private-key-algorithm=ECDSA", "--default-rsa-private-key-size=3072"],
            Some(KeyType::P256),
        ),
    ] {
        let certificates = run(&arguments).unwrap().certificates;
        assert_eq!(certificates.default_key, key, "{arguments:?}");
    }
    let certificates = run(&["--default-rsa-private-key-size=4096"]).unwrap().certificates;
    assert_eq!(
        (certificates.default_rsa, certificates.default_ecdsa),
        (KeyType::Rsa4096, KeyType::P256)
    );
}

#[test]
fn the_environment_provides_defaults() {
    let environment = variables(&[("NAMESPACE", "ours"), ("LEGO_CA_SYSTEM_CERT_POOL", "true")]);
    let environment =
        Environment { pod_namespace: Some("pod".into()), dual_stack: true, ..environment };
    assert_eq!(run_in(&[], &environment).unwrap().namespace, "ours");
    assert_eq!(
        run_in(&["--namespace=mine"], &environment).unwrap().lease.unwrap().namespace,
        "mine"
    );
    let server = run_in(&["--server-port-http=8080"], &environment).unwrap().server;
    assert_eq!(server, Some("[::]:8080".parse().unwrap()));
    let environment = Environment { variables: [].into(), ..environment };
    assert_eq!(run_in(&[], &environment).unwrap().namespace, "pod");
    assert_eq!(
        run(&["--server-port-http=8080"]).unwrap().server,
        Some("0.0.0.0:8080".parse().unwrap())
    );
    let wrong = variables(&[("LEGO_CA_CERTIFICATES", "/nowhere.pem")]);
    let error = run_in(&[], &wrong).unwrap_err().to_string();
    assert!(error.starts_with("LEGO_CA_CERTIFICATES (--ca-certificates): "), "{error}");
}

#[test]
fn the_default_burst_is_twice_the_rate() {
    let settings = run(&["--source.qps=30", "--target.qps=10", "--target.burst=100"]).unwrap();
    let ClusterSettings { default, source, target, .. } = settings.clusters;
    assert_eq!(
        [default, source, target].map(|it| (it.qps, it.burst)),
        [(0, 0), (30, 60), (10, 100)]
    );
}

#[test]
fn the_short_help_has_only_common_flags() {
    let Outcome::Show(text) = parse(["x", "-h"], &Environment::default()).unwrap() else {
        panic!("no help")
    };
    let text = text.to_string();
    let flags = text.lines().filter(|line| line.trim_start().starts_with('-')).count();
    assert!((18..=30).contains(&flags), "{flags} flags");
    for heading in ["General:", "Clusters:", "Issuers:", "Certificates:", "DNS challenges:"] {
        assert!(text.contains(&format!("\n{heading}\n")), "{heading}");
    }
    assert!(text.contains("--help shows all"), "{text}");
    assert!(!text.contains("--issuer."), "{text}");
}

#[test]
fn the_long_help_contains_every_flag_once() {
    let Outcome::Show(text) = parse(["x", "--help"], &Environment::default()).unwrap() else {
        panic!("no help")
    };
    let text = text.to_string();
    for flag in flags::MANAGER.iter().filter(|flag| !flag.is_pool()) {
        let spelling = flag.spellings().next().unwrap();
        let shown = text.lines().filter(|line| {
            let text = line.trim_start();
            let mut words = text.split([' ', '[', '=']);
            line.len() - text.len() < 10 && words.any(|word| word == format!("--{spelling}"))
        });
        assert_eq!(shown.count(), 1, "{spelling}");
    }
    assert!(text.contains("--issuer.renewal-window=240h"), "{text}");
    assert!(text.lines().count() < 320, "{}", text.lines().count());
}

#[test]
fn the_version_is_printed_by_both_flags_and_the_command() {
    for argument in ["-v", "--version"] {
        let Outcome::Show(text) = parse(["x", argument], &Environment::default()).unwrap() else {
            panic!("no version")
        };
        let text = text.to_string();
        assert_eq!(text.trim_end(), format!("cert-controller-manager {}", version()));
    }
    let outcome = parse(["x", "version"], &Environment::default()).unwrap();
    assert!(matches!(outcome, Outcome::Do(Command::Version)));
}

#[test]
fn the_command_answer_has_its_own_flags() {
    let required = ["x", "answer", "--dns=127.0.0.1:53", "--zone", "a.example", "--zone=b.example"];
    let all = [
        "--ns=dns.example.net",
        "--mailbox=jo@example.net",
        "--ttl=60",
        "--rate-limit=0",
        "--server-port-http=8080",
    ];
    let args = |arguments: &[&str]| match parse(arguments, &Environment::default()).unwrap() {
        Outcome::Do(Command::Answer(args)) => args,
        _ => panic!("not the responder"),
    };
    let plain = args(&required);
    let zones = plain.answer.zones;
    assert_eq!((plain.answer.listen.len(), zones.zones.len()), (1, 2));
    assert_eq!((plain.kubeconfig, plain.dns_namespace, plain.server), (None, None, None));
    assert_eq!(
        (zones.server, zones.mailbox, zones.ttl, plain.answer.rate_limit),
        (None, None, 10, 200)
    );
    let full = args(&[required.as_slice(), all.as_slice()].concat());
    let zones = full.answer.zones;
    assert_eq!(zones.server.unwrap().as_str(), "dns.example.net");
    assert_eq!(zones.mailbox, Some("jo.example.net".parse().unwrap()));
    assert_eq!((zones.ttl, full.answer.rate_limit), (60, 0));
    assert_eq!(full.server.unwrap().port(), 8080);
}

#[test]
fn the_responder_has_the_flags_of_the_command_answer_with_a_prefix() {
    let arguments = [
        "--answer-dns=127.0.0.1:53",
        "--answer-zone=a.example",
        "--answer-ns=dns.example.net",
        "--answer-mailbox=jo@example.net",
        "--answer-ttl=0",
        "--answer-rate-limit=5",
    ];
    let answer = run(&arguments).unwrap().answer.unwrap();
    assert_eq!(answer.zones.server.unwrap().as_str(), "dns.example.net");
    assert_eq!(answer.zones.mailbox, Some("jo@example.net".parse().unwrap()));
    assert_eq!((answer.zones.ttl, answer.rate_limit), (0, 5));
}

#[test]
fn a_zone_without_room_for_default_names_needs_a_name_server_and_a_mailbox() {
    let label = "a".repeat(61);
    let zone = format!("--answer-zone={}", [label.as_str(); 4].join("."));
    let error = refused(&["--answer-dns=127.0.0.1:53", &zone]);
    assert!(error.contains("is too long: set the name server and the mailbox with"), "{error}");
    let names = ["--answer-ns=dns.example.net", "--answer-mailbox=jo.example.net"];
    run(&["--answer-dns=127.0.0.1:53", &zone, names[0], names[1]]).unwrap();
}

#[test]
fn the_command_lines_of_the_readme_are_valid() {
    let readme = include_str!("../../../README.md");
    let lines = readme.lines().map(str::trim);
    let commands: Vec<&str> =
        lines.filter(|line| line.starts_with("cert-controller-manager --")).collect();
    assert!(!commands.is_empty());
    for command in commands {
        parse(command.split_whitespace(), &Environment::default()).expect(command);
    }
}

#[test]
fn the_command_line_definition_is_valid() {
    clap().debug_assert();
}

#[test]
fn the_committed_reference_is_up_to_date() {
    let committed = include_str!("../../../docs/reference/flags.md");
    assert!(committed == reference(), "run `make generate`");
}
