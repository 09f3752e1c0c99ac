//! The stand-alone DNS responder as a process: its own definition, load, and hostile datagrams.

use std::time::Duration;

use anyhow::ensure;
use tests::{
    Look,
    controlplane::ControlPlane,
    eventually,
    manager::Manager,
    objects::api,
    processes::free_port,
    responder_bench::{DEFINITION, Responder, ZONE},
    run,
    test_env::define_dns_entry,
};

/// `make bench RESPONDER=1` sends a million to the release build.
#[test]
fn mutated_datagrams_neither_stop_the_responder_nor_let_it_grow() {
    run(async {
        let responder = Responder::start(20).await?;
        // The first ones fill caches of the allocator and of the runtime.
        responder.flood(20_000).await?;
        let flood = responder.flood(100_000).await?;
        ensure!(flood.answered > 10_000, "{flood:?}");
        ensure!(flood.growth < 512 * 1024, "{flood:?}");
        ensure!(flood.amplification <= 10.0, "{flood:?}");
        let page = responder.metrics().await?;
        for series in [
            r#"cert_management_answer_queries_total{code="FORMERR",transport="udp"}"#,
            r#"cert_management_answer_queries_total{code="none",transport="udp"}"#,
            r#"cert_management_cluster_reachable{cluster="dns"} 1"#,
        ] {
            ensure!(page.contains(series), "no {series} in {page}");
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn an_existing_definition_of_dns_entries_is_never_changed() {
    run(async {
        let control_plane = ControlPlane::start().await?;
        let client = control_plane.client();
        define_dns_entry(&client).await?;
        let definitions = api(&client, "CustomResourceDefinition", "")?;
        let before = definitions.get(DEFINITION).await?;
        let responder = Responder::start_on(control_plane, 1).await?;
        let after = definitions.get(DEFINITION).await?;
        ensure!(before.data["spec"] == after.data["spec"]);
        ensure!(before.metadata.annotations == after.metadata.annotations);
        ensure!(before.metadata.uid == after.metadata.uid);
        drop(responder);
        Ok(())
    })
    .unwrap();
}

#[test]
fn without_the_right_to_create_the_definition_the_log_says_what_to_do() {
    run(async {
        let control_plane = ControlPlane::start().await?;
        let kubeconfig = control_plane.kubeconfig("unprivileged")?;
        let logs = control_plane.logs();
        let manager = Manager::answer(&kubeconfig, free_port()?, ZONE, logs)?;
        eventually(Duration::from_secs(30), "the advice is logged", || async {
            let log = manager.log()?;
            let advice = ["grant the role dns-definitions", "answer --disable-deploy-crds"];
            let logged = advice.iter().all(|it| log.contains(it));
            Ok(if logged { Look::Done(()) } else { Look::NotYet(log) })
        })
        .await
    })
    .unwrap();
}
