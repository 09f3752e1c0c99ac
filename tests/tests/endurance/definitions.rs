//! Resource definitions that are missing, or that another product installed.

use std::time::Duration;

use anyhow::ensure;
use serde_json::json;
use tests::{
    namespace::{Namespace, Outcome, certificate},
    objects::state,
    run,
    test_env::{Definitions, TestEnv, TestEnvOptions, define_dns_entry},
};

const SOON: Duration = Duration::from_secs(60);

#[test]
fn a_missing_dns_entry_definition_is_reported_and_used_when_it_appears() {
    run(async {
        let definitions = Definitions::NoDnsEntry;
        let arguments = vec!["--dns.disable-deploy-crds".to_owned()];
        let options = TestEnvOptions { definitions, arguments, ..Default::default() };
        let env = TestEnv::with_issuer(options).await?;
        let namespace = Namespace::new(&env, "no-dns-entry").await?;
        namespace.simple("patient").await?;
        let waiting = namespace.until("patient", "Error", SOON).await?;
        let (_, message) = state(&waiting);
        ensure!(message.contains("no DNSEntry resource"), "{message}");
        let condition = &waiting.data["status"]["conditions"][0];
        ensure!(condition["reason"] == "SolverNotReady" && condition["status"] == "False");
        ensure!(!env.pebble.requests()?.contains_key("POST /order-plz"), "an order was placed");
        define_dns_entry(&env.control_plane.client()).await?;
        namespace.until("patient", "Ready", SOON).await?;
        env.check_manager().await
    })
    .unwrap();
}

/// The validation rules of our definitions refuse most wrong input. Definitions of other products
/// do not have them, so the manager must refuse it.
#[test]
fn without_rules_in_the_definitions_the_manager_refuses_invalid_objects() {
    run(async {
        let definitions = Definitions::WithoutRules;
        let env =
            TestEnv::with_issuer(TestEnvOptions { definitions, ..Default::default() }).await?;
        let namespace = Namespace::new(&env, "tolerant").await?;
        let host = format!("a.{}", namespace.domain);
        let cases = [
            ("empty", json!({}), "either domains or csr must be specified"),
            ("both", json!({"commonName": host, "csr": "eA=="}), "cannot specify both"),
            ("long", json!({"commonName": "a".repeat(65)}), "limited to 64 characters"),
            (
                "names",
                json!({"commonName": host, "secretName": "a", "secretRef": {"name": "b"}}),
                "conflicting names",
            ),
            (
                "elsewhere",
                json!({"commonName": host, "secretRef": {"name": "b", "namespace": "default"}}),
                "--allow-cross-namespace-secrets",
            ),
        ];
        for (name, spec, wanted) in cases {
            match namespace.outcome(&certificate(name, spec), SOON).await? {
                Outcome::Settled { state, message } => {
                    ensure!(state == "Error" && message.contains(wanted), "{name}: {message}");
                }
                Outcome::Refused(message) => anyhow::bail!("{name} was refused: {message}"),
            }
        }
        ensure!(!env.pebble.requests()?.contains_key("POST /order-plz"), "an order was placed");
        env.check_manager().await
    })
    .unwrap();
}
