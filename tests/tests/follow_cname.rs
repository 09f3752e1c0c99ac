//! Certificates whose challenge names are CNAMEs into the test environment's zone. The DNS
//! controller cannot write the zone of the CNAMEs.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tests::{
    Look, eventually,
    namespace::Namespace,
    objects::{acme_issuer, apply, state},
    run,
    test_env::{TestEnv, TestEnvOptions, ZONE},
};

const SOON: Duration = Duration::from_secs(60);

/// The records of `company.test`: a name, a sibling with the same target, and a wildcard.
fn company() -> String {
    format!(
        "_acme-challenge.app CNAME both.acme.{ZONE}.\n\
         _acme-challenge.api CNAME api-of-company\n\
         api-of-company CNAME both.acme.{ZONE}.\n\
         _acme-challenge.other CNAME other.acme.{ZONE}.\n\
         *.lazy CNAME web\n\
         web A 127.0.0.1\n"
    )
}

/// A test environment with an issuer that checks the server of all zones and not the manager's,
/// which does not know `company.test`.
async fn env() -> Result<TestEnv> {
    let options = TestEnvOptions {
        zones: vec![("company.test", company())],
        arguments: vec!["--precheck-additional-wait=0s".to_owned()],
        ..TestEnvOptions::default()
    };
    let env = TestEnv::with_issuer(options).await?;
    let mut issuer = acme_issuer("everywhere", &env.pebble.directory())?;
    let port = env.bind.as_ref().context("there is no BIND")?.port();
    issuer["spec"]["acme"]["precheckNameservers"] = json!([format!("127.0.0.1:{port}")]);
    apply(&env.control_plane.client(), "default", &issuer).await?;
    env.until_issuer("everywhere", "Ready", SOON).await?;
    Ok(env)
}

fn certificate_with_cname(names: &[&str], issuer: &str) -> Value {
    json!({
        "dnsNames": names, "followCNAME": true, "secretName": format!("{}-tls", names[0]),
        "issuerRef": {"name": issuer},
    })
}

async fn until_message(space: &Namespace, name: &str, wanted: &str) -> Result<()> {
    eventually(SOON, &format!("{name} says {wanted}"), || async {
        let (state, message) = state(&space.read("Certificate", name).await?);
        let seen = format!("{state}: {message}");
        Ok(if seen.contains(wanted) { Look::Done(()) } else { Look::NotYet(seen) })
    })
    .await
}

#[test]
fn delegated_challenges_are_published_at_their_cname_targets() {
    run(async {
        let env = env().await?;
        let space = Namespace::new(&env, "delegated").await?;

        // Two names with the same target, and the apex of a wildcard, in one order.
        let names = ["app.company.test", "*.app.company.test", "api.company.test"];
        space.certificate("both", certificate_with_cname(&names, "everywhere")).await?;
        // Another owner uses the same target at the same time.
        space.certificate("again", certificate_with_cname(&names[2..], "everywhere")).await?;
        space.until("both", "Ready", SOON).await?;
        space.until("again", "Ready", SOON).await?;
        assert_eq!(space.leaf("app.company.test-tls").await?.names.len(), 3);

        // A CNAME from a wildcard is not for challenges.
        let lazy = certificate_with_cname(&["lazy.company.test"], "everywhere");
        space.certificate("lazy", lazy).await?;
        until_message(&space, "lazy", "comes from the wildcard *.lazy.company.test").await?;

        // A name without a CNAME is proved at its own name.
        let own = format!("own.{}", space.domain);
        space.certificate("own", certificate_with_cname(&[&own], "everywhere")).await?;
        space.until("own", "Ready", SOON).await?;

        env.until_nothing_is_left(SOON).await
    })
    .unwrap();
}

#[test]
fn records_at_a_cname_target_are_shown_and_removed_after_a_crash() {
    run(async {
        let env = env().await?;
        let mut issuer = acme_issuer("elsewhere", &env.pebble.directory())?;
        let port = env.bind.as_ref().context("there is no BIND")?.port();
        // The second server never has a record, so the order waits.
        let silent = tests::processes::free_port()?;
        issuer["spec"]["acme"]["precheckNameservers"] =
            json!([format!("127.0.0.1:{port}"), format!("127.0.0.1:{silent}")]);
        apply(&env.control_plane.client(), "default", &issuer).await?;
        env.until_issuer("elsewhere", "Ready", SOON).await?;

        let space = Namespace::new(&env, "crashed").await?;
        space
            .certificate("other", certificate_with_cname(&["other.company.test"], "elsewhere"))
            .await?;
        let end = format!("CNAMEs lead to other.acme.{ZONE}");
        until_message(&space, "other", &end).await?;
        let entries = space.dns_entries().await?;
        assert_eq!(entries[0].data["spec"]["dnsName"], format!("other.acme.{ZONE}"));

        env.replace_manager().await?;
        space.delete("Certificate", "other").await?;
        space.until_no_dns_entry(SOON).await?;
        env.until_nothing_is_left(SOON).await
    })
    .unwrap();
}
