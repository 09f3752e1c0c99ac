//! The test harness itself.

use std::{
    net::{Ipv4Addr, TcpListener},
    process::Command,
    time::Duration,
};

use serde_json::json;
use tests::{
    Look,
    acme::{self, PublishNothing},
    baseline::Baseline,
    controlplane::{self, ControlPlane},
    eventually, locate,
    metrics::{Write, Writes},
    objects::{api, apply, documents, until_established},
    pebble::{Pebble, PebbleOptions},
    processes::{Process, free_port, logs},
    run,
    x509::Leaf,
};

/// A child process holds the sockets of its parent until it executes its program.
#[test]
fn a_free_port_stays_free_while_processes_start() {
    let logs = logs().unwrap();
    std::thread::scope(|scope| {
        let starting = scope.spawn(|| {
            for _ in 0..200 {
                Process::spawn("true", &mut Command::new("true"), &logs).unwrap();
            }
        });
        while !starting.is_finished() {
            let port = free_port().unwrap();
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        }
    });
}

#[test]
fn the_api_server_counts_writes_and_keeps_objects_across_restarts() {
    run(async {
        let plane = ControlPlane::start().await?;
        let client = plane.client();
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "kept"}, "type": "Opaque",
        });
        // The server does not create its own Service: it would write Events about it sometimes.
        let service = api(&client, "Service", "default")?.get("kubernetes").await?;
        assert_eq!(service.metadata.uid.as_deref(), Some(controlplane::SERVICE_UID));
        let before = plane.writes().await?;
        apply(&client, "default", &secret).await?;
        let applied = Write {
            verb: "APPLY".to_owned(),
            group: String::new(),
            resource: "secrets".to_owned(),
        };
        let writes = plane.writes().await?.since(&before);
        assert_eq!(writes.iter().collect::<Vec<_>>(), [(&applied, 1)]);
        plane.restart_apiserver().await?;
        assert!(api(&client, "Secret", "default")?.get_opt("kept").await?.is_some());
        Ok(())
    })
    .unwrap();
}

#[test]
fn pebble_counts_signed_certificates_by_name() {
    run(async {
        let (pebble, dns, account) = acme::with_dns().await?;
        let names = ["*.harness.test".to_owned(), "harness.test".to_owned()];
        let pem = acme::issue(&account, &names, &dns).await?;
        let leaf = Leaf::parse(pem.as_bytes())?;
        assert_eq!((leaf.key.as_str(), leaf.chain), ("EC 256 bit", 2));
        assert_eq!(pebble.signed_by_names().await?, [(names.to_vec(), 1)].into());
        assert_eq!(pebble.signed_count()?, 1);
        let requests = pebble.requests()?;
        assert_eq!(requests["POST /order-plz"], 1, "{requests:?}");
        pebble.stop().await?;
        pebble.resume().await?;
        assert_eq!(pebble.signed_count()?, 0);
        Ok(())
    })
    .unwrap();
}

#[test]
fn the_baseline_repeats_the_given_writes() {
    run(async {
        let plane = ControlPlane::start().await?;
        let client = plane.client();
        for definition in documents(&locate::dns_entry_definition().await?)? {
            apply(&client, "", &definition).await?;
        }
        until_established(&client, "dnsentries.dns.gardener.cloud").await?;
        let pebble = PebbleOptions { nonce_reject: 0, ..Default::default() };
        let pebble = Pebble::start(&pebble, plane.data(), plane.logs()).await?;
        let line = |group: &str, resource: &str, verb: &str, count: u32| {
            let resource = format!("resource=\"{resource}\",subresource=\"\"");
            format!(
                "apiserver_request_total{{group=\"{group}\",{resource},verb=\"{verb}\"}} {count}\n"
            )
        };
        let page = line("dns.gardener.cloud", "dnsentries", "POST", 10)
            + &line("dns.gardener.cloud", "dnsentries", "DELETE", 10)
            + &line("events.k8s.io", "events", "POST", 20)
            + &line("", "secrets", "APPLY", 15);
        let writes = Writes::parse(&page);
        let before = plane.writes().await?;
        let namespace = "kube-system";
        let baseline = Baseline {
            client,
            pebble: &pebble,
            namespace,
            count: 10,
            concurrency: 4,
            writes: &writes,
        };
        baseline.run().await?;
        assert_eq!(plane.writes().await?.since(&before), writes);
        assert_eq!(pebble.signed_count()?, 10);
        // The number of polls depends on the speed of the CA.
        let requests = pebble.requests()?;
        let counted = requests.iter().filter(|(line, _)| !line.contains("/my-order/"));
        let count: u64 = counted.map(|(_, count)| count).sum();
        assert!(count < 80, "{count} requests: {requests:?}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_challenge_that_is_not_in_the_dns_is_refused() {
    run(async {
        let (pebble, _dns, account) = acme::with_dns().await?;
        let error =
            acme::issue(&account, &["harness.test".to_owned()], &PublishNothing).await.unwrap_err();
        assert!(error.to_string().contains("No TXT records"), "{error:#}");
        assert_eq!(pebble.signed_count()?, 0);
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_process_ends_with_its_owner() {
    run(async {
        let logs = logs()?;
        let mut command = std::process::Command::new("tail");
        command.args(["-f", "/dev/null"]);
        let process = Process::spawn("tail", &mut command, &logs)?;
        let status = format!("/proc/{}/status", process.pid());
        assert!(std::fs::exists(&status)?);
        drop(process);
        assert!(!std::fs::exists(&status)?);
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_failed_test_prints_its_causes_and_no_backtrace() {
    let error = run(async { Err::<(), _>(anyhow::anyhow!("why").context("what")) }).unwrap_err();
    assert_eq!((format!("{error:?}"), error.to_string()), ("what: why".into(), "what: why".into()));
}

#[test]
fn a_failed_wait_prints_the_last_observation() {
    let error = run(eventually(Duration::from_millis(60), "the moon is full", || async {
        Ok(Look::<()>::NotYet("a crescent".to_owned()))
    }))
    .unwrap_err();
    assert_eq!(error.to_string(), "the moon is full: not within 60ms; last seen: a crescent");
}
