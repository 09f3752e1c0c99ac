//! Two managers with the default lease, and the writes of each in the audit logs of two API
//! servers. The tests use one fleet in turn and leave it with two running managers.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use http::StatusCode;
use jiff::Timestamp;
use tests::{
    Look, eventually,
    fleet::{
        Fleet,
        options::{FleetOptions, Layout},
    },
    namespace::Namespace,
    pebble::PebbleOptions,
    run,
    scrape::page,
    stall_detector::StallDetector,
};
use tokio::sync::{Mutex, OnceCell};

use crate::{
    SOON, print_measurement, requests_of, signed, until_orders_run, until_ready, writes_of,
};

/// `--lease-duration` by default, and the margin of a takeover.
const LEASE: Duration = Duration::from_secs(15);
/// Two seconds at most on an idle machine.
const MARGIN: Duration = Duration::from_secs(5);
/// A released lease is acquired much sooner than an expired one.
const AT_ONCE: Duration = Duration::from_secs(10);
/// How long a leader is frozen.
const FROZEN: Duration = Duration::from_secs(60);

async fn fleet() -> Result<&'static Mutex<Fleet>> {
    static FLEET: OnceCell<Mutex<Fleet>> = OnceCell::const_new();
    let start = || async {
        let options = FleetOptions {
            layout: Layout::TWO,
            managers: 2,
            http: true,
            // The CA delays validation, so that the kill interrupts orders.
            pebble: PebbleOptions { validation: 8, ..PebbleOptions::default() },
            ..FleetOptions::default()
        };
        anyhow::Ok(Mutex::new(Fleet::with_issuer(options).await?))
    };
    FLEET.get_or_try_init(start).await
}

async fn leads(fleet: &Fleet, number: usize) -> Result<bool> {
    let value = fleet.metrics(number).await?.value("cert_management_leader", &[]);
    Ok(value.context("it does not say whether it leads")? > 0.5)
}

/// The leader and the standby, both ready, and the time of that observation.
async fn roles(fleet: &Fleet) -> Result<(usize, usize, Timestamp)> {
    // Cleans up after a failed test.
    fleet.resume_dns()?;
    for number in [0, 1] {
        if fleet.check().await.is_err() || fleet.usage(number).await.is_err() {
            fleet.restart(number).await?;
        }
        until_ready(fleet, number).await?;
    }
    eventually(SOON, "one of two leads", || async {
        Ok(match (leads(fleet, 0).await?, leads(fleet, 1).await?) {
            (true, false) => Look::Done((0, 1, Timestamp::now())),
            (false, true) => Look::Done((1, 0, Timestamp::now())),
            both => Look::NotYet(format!("{both:?}")),
        })
    })
    .await
}

/// Restarts a manager that has ended; it becomes a standby with all its caches.
async fn is_standby_again(fleet: &Fleet, number: usize) -> Result<()> {
    let since = Timestamp::now();
    fleet.restart(number).await?;
    until_ready(fleet, number).await?;
    ensure!(!leads(fleet, number).await?, "it leads");
    let writes = writes_of(fleet, number, since)?;
    ensure!(writes.is_empty(), "a standby wrote: {writes:#?}");
    Ok(())
}

/// The first write of the new leader. Fails unless the old one wrote its last before, and wrote at
/// all.
async fn takeover(fleet: &Fleet, old: usize, new: usize, since: Timestamp) -> Result<Timestamp> {
    let first = eventually(SOON, "the new leader writes", || async {
        let first = writes_of(fleet, new, since)?.into_iter().next();
        Ok(first.map_or_else(|| Look::NotYet("nothing".to_owned()), Look::Done))
    })
    .await?;
    let last = writes_of(fleet, old, since)?.into_iter().next_back();
    let last = last.context("the old leader wrote nothing")?;
    ensure!(last.ended < first.began, "two write: {last} and {first}");
    Ok(first.began)
}

fn between(from: Timestamp, to: Timestamp) -> Result<Duration> {
    Ok(Duration::try_from(to.duration_since(from))?)
}

#[test]
fn after_a_graceful_stop_the_standby_takes_over_at_once_and_had_written_nothing() {
    run(async {
        let fleet = fleet().await?.lock().await;
        let (old, new, since) = roles(&fleet).await?;
        let namespace = Namespace::in_fleet(&fleet, "asked").await?;
        fleet.hold_dns()?;
        for number in 0..3 {
            namespace.simple(&format!("host-{number}")).await?;
        }
        until_orders_run(&fleet, 3).await?;
        ensure!(page(fleet.http_port(new)?, "/readyz").await?.0 == StatusCode::OK);
        let (requested, began) = (Timestamp::now(), Instant::now());
        fleet.stop(old).await?;
        fleet.resume_dns()?;
        print_measurement("SIGTERM until the leader has ended", began.elapsed())?;
        ensure!(began.elapsed() < AT_ONCE, "it took {:?} to end", began.elapsed());
        let first = takeover(&fleet, old, new, since).await?;
        let early = writes_of(&fleet, new, since)?.iter().filter(|it| it.began < requested).count();
        ensure!(early == 0, "the standby wrote {early} times");
        let took = between(requested, first)?;
        print_measurement("SIGTERM until the next leader writes", took)?;
        ensure!(took < AT_ONCE, "it took {took:?}");
        ensure!(leads(&fleet, new).await?, "it does not say that it leads");
        namespace.until_all_ready(3, SOON).await?;
        signed(&fleet, &namespace.domain, 3, 1).await?;
        is_standby_again(&fleet, old).await?;
        fleet.until_nothing_is_left(SOON).await
    })
    .unwrap();
}

#[test]
fn after_a_kill_during_twenty_issuances_the_standby_takes_over_when_the_lease_expires() {
    const CERTIFICATES: usize = 20;
    run(async {
        let fleet = fleet().await?.lock().await;
        let (old, new, since) = roles(&fleet).await?;
        let namespace = Namespace::in_fleet(&fleet, "killed").await?;
        let before = fleet.pebble.signed_count()?;
        for number in 0..CERTIFICATES {
            namespace.simple(&format!("host-{number}")).await?;
        }
        let done = eventually(SOON, "some are signed", || async {
            let done = fleet.pebble.signed_count()? - before;
            Ok(if done > 2 { Look::Done(done) } else { Look::NotYet(done.to_string()) })
        })
        .await?;
        let (killed, stalls) = (Timestamp::now(), StallDetector::watch());
        fleet.kill(old).await?;
        print_measurement("certificates signed when the leader was killed", done)?;
        ensure!(done < CERTIFICATES, "all were signed before the kill");
        let took = between(killed, takeover(&fleet, old, new, since).await?)?;
        print_measurement("SIGKILL until the next leader writes", took)?;
        ensure!(took < LEASE + MARGIN + stalls.total(), "it took {took:?}");
        namespace.until_all_ready(CERTIFICATES, SOON).await?;
        print_measurement("SIGKILL until all are Ready", between(killed, Timestamp::now())?)?;
        fleet.until_nothing_is_left(SOON).await?;
        signed(&fleet, &namespace.domain, CERTIFICATES, 1).await?;
        takeover(&fleet, old, new, since).await?;
        is_standby_again(&fleet, old).await
    })
    .unwrap();
}

#[test]
fn a_leader_that_was_frozen_for_a_minute_writes_nothing_when_it_resumes() {
    run(async {
        let fleet = fleet().await?.lock().await;
        let (old, new, since) = roles(&fleet).await?;
        let namespace = Namespace::in_fleet(&fleet, "frozen").await?;
        fleet.hold_dns()?;
        for number in 0..5 {
            namespace.simple(&format!("host-{number}")).await?;
        }
        until_orders_run(&fleet, 5).await?;
        let (began, frozen) = (Instant::now(), Timestamp::now());
        fleet.freeze(old).await?;
        fleet.resume_dns()?;
        for number in 5..10 {
            namespace.simple(&format!("host-{number}")).await?;
        }
        let took = between(frozen, takeover(&fleet, old, new, since).await?)?;
        print_measurement("SIGSTOP until the next leader writes", took)?;
        namespace.until_all_ready(10, SOON).await?;
        fleet.until_nothing_is_left(SOON).await?;
        // The minute itself, whose duration is part of the requirement.
        tokio::time::sleep(FROZEN.saturating_sub(began.elapsed())).await;
        namespace.simple("late").await?;
        let (woken, began) = (Timestamp::now(), Instant::now());
        fleet.resume(old).await?;
        fleet.until_ended(old, LEASE).await?;
        print_measurement("SIGCONT until the old leader has ended", began.elapsed())?;
        namespace.until_all_ready(11, SOON).await?;
        // Neither refused writes nor those to the Lease.
        let mut tried = requests_of(&fleet, old, woken)?;
        tried.retain(|request| !matches!(request.verb.as_str(), "get" | "list" | "watch"));
        ensure!(tried.is_empty(), "it wrote when it was woken: {tried:#?}");
        takeover(&fleet, old, new, since).await?;
        signed(&fleet, &namespace.domain, 11, 1).await?;
        is_standby_again(&fleet, old).await?;
        fleet.until_nothing_is_left(SOON).await
    })
    .unwrap();
}
