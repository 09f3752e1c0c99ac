//! Temporary failures of the manager's dependencies.

use std::time::{Duration, Instant};

use anyhow::ensure;
use tests::{
    Look, eventually,
    namespace::Namespace,
    objects::{list, state},
    pebble::PebbleOptions,
    run,
    test_env::{TestEnv, TestEnvOptions},
};

const OUTAGE: Duration = Duration::from_secs(30);

#[test]
fn certificates_are_issued_after_the_ca_was_down_for_thirty_seconds() {
    run(async {
        let env = TestEnv::with_issuer(TestEnvOptions::default()).await?;
        let namespace = Namespace::new(&env, "ca-down").await?;
        let client = env.control_plane.client();
        for number in 0..10 {
            namespace.simple(&format!("host-{number}")).await?;
        }
        eventually(Duration::from_secs(20), "an order is under way", || async {
            let entries = namespace.dns_entries().await?;
            Ok(if entries.is_empty() { Look::NotYet("none".into()) } else { Look::Done(()) })
        })
        .await?;
        env.pebble.stop().await?;
        let down = Instant::now();
        for number in 10..20 {
            namespace.simple(&format!("host-{number}")).await?;
        }
        eventually(OUTAGE, "a Certificate says what is wrong", || async {
            let all = list(&client, "Certificate", &namespace.name).await?;
            let open: Vec<_> = all.iter().map(state).filter(|state| state.0 != "Ready").collect();
            let is_reported = open.iter().any(|(_, message)| message.contains("cannot reach"));
            Ok(if is_reported { Look::Done(()) } else { Look::NotYet(format!("{open:?}")) })
        })
        .await?;
        // The outage, whose duration is part of the requirement.
        tokio::time::sleep(OUTAGE.saturating_sub(down.elapsed())).await;
        env.check_manager().await?;
        // The CA loses its state: it does not know the account and the running orders.
        env.pebble.resume().await?;
        namespace.until_all_ready(20, Duration::from_secs(90)).await?;
        env.until_nothing_is_left(Duration::from_secs(30)).await
    })
    .unwrap();
}

#[test]
fn certificates_are_issued_while_half_of_all_nonces_are_rejected() {
    run(async {
        let pebble = PebbleOptions { nonce_reject: 50, ..Default::default() };
        let env = TestEnv::with_issuer(TestEnvOptions { pebble, ..Default::default() }).await?;
        let namespace = Namespace::new(&env, "nonces").await?;
        for number in 0..20 {
            namespace.simple(&format!("host-{number}")).await?;
        }
        namespace.until_all_ready(20, Duration::from_secs(60)).await?;
        env.until_nothing_is_left(Duration::from_secs(30)).await?;
        ensure!(env.pebble.signed_count()? == 20, "{} were signed", env.pebble.signed_count()?);
        Ok(())
    })
    .unwrap();
}

#[test]
fn certificates_are_issued_once_although_the_api_server_restarts() {
    run(async {
        let env = TestEnv::with_issuer(TestEnvOptions::default()).await?;
        let namespace = Namespace::new(&env, "api-restart").await?;
        for number in 0..40 {
            namespace.simple(&format!("host-{number}")).await?;
        }
        eventually(Duration::from_secs(20), "the first are signed", || async {
            let signed = env.pebble.signed_count()?;
            Ok(if signed > 0 { Look::Done(()) } else { Look::NotYet("none is".to_owned()) })
        })
        .await?;
        env.control_plane.restart_apiserver().await?;
        namespace.until_all_ready(40, Duration::from_secs(90)).await?;
        env.until_nothing_is_left(Duration::from_secs(30)).await?;
        env.check_manager().await?;
        let signed = env.pebble.signed_by_names().await?;
        ensure!(signed.len() == 40 && signed.values().all(|count| *count == 1), "{signed:?}");
        Ok(())
    })
    .unwrap();
}
