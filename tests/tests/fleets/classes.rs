//! Two managers with different classes that share all clusters.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use cert_controller_manager::access::Cluster;
use jiff::Timestamp;
use serde_json::json;
use tests::{
    Look, eventually,
    fleet::Fleet,
    namespace::{Namespace, certificate},
    objects::{acme_issuer, apply},
    run,
};

use crate::{
    SOON,
    outages::{OTHER_CLASS, fleet},
    requests_of, signed, until_orders_run, until_ready,
};

/// The writes of a manager to a kind in a namespace, by name.
fn touched(
    fleet: &Fleet,
    number: usize,
    since: Timestamp,
    resource: &str,
) -> Result<BTreeSet<String>> {
    let all = requests_of(fleet, number, since)?.into_iter();
    let writes = all.filter(|it| it.is_write() && it.resource == resource);
    Ok(writes.map(|it| it.name).filter(|name| !name.is_empty()).collect())
}

#[test]
fn managers_of_two_classes_do_not_touch_each_others_orders() {
    run(async {
        let fleet = fleet().await?;
        let since = Timestamp::now();
        fleet.restart(1).await?;
        until_ready(&fleet, 1).await?;
        let class = json!({"cert.gardener.cloud/class": OTHER_CLASS});
        let mut issuer = acme_issuer("acme-other", &fleet.pebble.directory())?;
        issuer["metadata"]["annotations"] = class.clone();
        apply(&fleet.client(Cluster::Default), "default", &issuer).await?;
        let namespace = Namespace::in_fleet(&fleet, "classes").await?;
        fleet.hold_dns()?;
        for number in 0..3 {
            namespace.simple(&format!("one-{number}")).await?;
            let name = format!("two-{number}");
            let mut theirs = certificate(
                &name,
                json!({
                    "commonName": format!("{name}.{}", namespace.domain),
                    "secretName": format!("{name}-tls"), "issuerRef": {"name": "acme-other"},
                }),
            );
            theirs["metadata"]["annotations"] = class.clone();
            namespace.apply(&theirs).await?;
        }
        until_orders_run(&fleet, 6).await?;
        // Each takes over the objects of its class, and sees those of the other.
        for number in [0, 1] {
            fleet.kill(number).await?;
            fleet.restart(number).await?;
        }
        for number in [0, 1] {
            until_leads(&fleet, number).await?;
        }
        until_orders_run(&fleet, 6).await?;
        fleet.resume_dns()?;
        namespace.until_all_ready(6, SOON).await?;
        fleet.until_nothing_is_left(SOON).await?;
        signed(&fleet, &namespace.domain, 6, 1).await?;
        for resource in ["secrets", "dnsentries", "certificates/status", "issuers/status"] {
            let one = touched(&fleet, 0, since, resource)?;
            let two = touched(&fleet, 1, since, resource)?;
            let both: Vec<_> = one.intersection(&two).collect();
            ensure!(both.is_empty(), "both wrote {resource} {both:?}");
            ensure!(resource.starts_with("issuers") || one.len() >= 3, "{resource}: {one:?}");
            ensure!(two.len() >= 3 || resource.starts_with("issuers"), "{resource}: {two:?}");
        }
        fleet.stop(0).await?;
        fleet.stop(1).await?;
        Ok(())
    })
    .unwrap();
}

async fn until_leads(fleet: &Fleet, number: usize) -> Result<()> {
    eventually(SOON, &format!("manager {number} leads"), || async {
        let leads = fleet.metrics(number).await?.value("cert_management_leader", &[]);
        let leads = leads.context("it does not say")? > 0.5;
        Ok(if leads { Look::Done(()) } else { Look::NotYet("it stands by".to_owned()) })
    })
    .await
}
