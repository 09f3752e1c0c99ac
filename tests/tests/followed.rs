//! Certificates whose challenge names are delegated to the test environment's zone by CNAMEs in a zone that the
//! DNS controller cannot write.

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

/// The records of `company.test`: a name, its sibling with the same target, and a wildcard.
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

/// A test environment, with an issuer that looks at the server of all zones and not at the manager's, which does
/// not know `company.test`.
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

fn following(names: &[&str], issuer: &str) -> Value {
    json!({
        "dnsNames": names, "followCNAME": true, "secretName": format!("{}-tls", names[0]),
        "issuerRef": {"name": issuer},
    })
}

async fn until_said(space: &Namespace, name: &str, wanted: &str) -> Result<()> {
    eventually(SOON, &format!("{name} says {wanted}"), || async {
        let (state, message) = state(&space.read("Certificate", name).await?);
        let seen = format!("{state}: {message}");
        Ok(if seen.contains(wanted) { Look::Done(()) } else { Look::NotYet(seen) })
    })
    .await
}

#[test]
fn delegated_challenges_are_published_where_their_cnames_lead() {
    run(async {
        let env = env().await?;
        let space = Namespace::new(&env, "delegated").await?;

        // Two names that lead to one place, and the apex of a wildcard, in one order.
        let names = ["app.company.test", "*.app.company.test", "api.company.test"];
        space.certificate("both", following(&names, "everywhere")).await?;
        // Another owner proves the same place at the same time.
        space.certificate("again", following(&names[2..], "everywhere")).await?;
        space.until("both", "Ready", SOON).await?;
        space.until("again", "Ready", SOON).await?;
        assert_eq!(space.leaf("app.company.test-tls").await?.names.len(), 3);

        // Nobody wrote this CNAME for a challenge.
        let lazy = following(&["lazy.company.test"], "everywhere");
        space.certificate("lazy", lazy).await?;
        until_said(&space, "lazy", "comes from the wildcard *.lazy.company.test").await?;

        // What is not delegated is proved at its own name.
        let own = format!("own.{}", space.domain);
        space.certificate("own", following(&[&own], "everywhere")).await?;
        space.until("own", "Ready", SOON).await?;

        env.until_nothing_is_left(SOON).await
    })
    .unwrap();
}

#[test]
fn the_end_of_a_cname_is_shown_and_swept_after_a_crash() {
    run(async {
        let env = env().await?;
        let mut issuer = acme_issuer("elsewhere", &env.pebble.directory())?;
        let port = env.bind.as_ref().context("there is no BIND")?.port();
        // The second one never shows anything, so the order waits.
        let silent = tests::processes::free_port()?;
        issuer["spec"]["acme"]["precheckNameservers"] =
            json!([format!("127.0.0.1:{port}"), format!("127.0.0.1:{silent}")]);
        apply(&env.control_plane.client(), "default", &issuer).await?;
        env.until_issuer("elsewhere", "Ready", SOON).await?;

        let space = Namespace::new(&env, "crashed").await?;
        space.certificate("other", following(&["other.company.test"], "elsewhere")).await?;
        let end = format!("CNAMEs lead to other.acme.{ZONE}");
        until_said(&space, "other", &end).await?;
        let entries = space.dns_entries().await?;
        assert_eq!(entries[0].data["spec"]["dnsName"], format!("other.acme.{ZONE}"));

        env.replace_manager().await?;
        space.delete("Certificate", "other").await?;
        space.until_no_dns_entry(SOON).await?;
        env.until_nothing_is_left(SOON).await
    })
    .unwrap();
}
