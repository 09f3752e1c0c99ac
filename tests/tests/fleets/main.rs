//! Several managers and several clusters: leadership, and outages of clusters.

mod classes;
mod kinds;
mod leadership;
mod lost_target;
mod outages;

use std::{fmt, io::Write as _, time::Duration};

use anyhow::{Result, ensure};
use cert_controller_manager::access::Cluster;
use http::StatusCode;
use jiff::Timestamp;
use tests::{Look, audit::Request, eventually, fleet::Fleet, objects, scrape::page};

const SOON: Duration = Duration::from_secs(60);

/// Prints a measurement, also if the test succeeds.
fn print_measurement(what: &str, measured: impl fmt::Debug) -> Result<()> {
    Ok(writeln!(std::io::stderr(), "MEASURED {what}: {measured:?}")?)
}

/// The requests of this manager to all API servers since then, in the order of their arrival.
fn requests_of(fleet: &Fleet, number: usize, since: Timestamp) -> Result<Vec<Request>> {
    let (mut all, user) = (Vec::new(), Fleet::user(number));
    for plane in &fleet.planes {
        all.extend(plane.audit()?);
    }
    all.retain(|request| request.user == user && request.began >= since);
    all.sort_by_key(|request| request.began);
    Ok(all)
}

/// The writes of a manager since then, except to the Lease.
fn writes_of(fleet: &Fleet, number: usize, since: Timestamp) -> Result<Vec<Request>> {
    let all = requests_of(fleet, number, since)?.into_iter();
    Ok(all.filter(|request| request.is_write() && !request.is_about_lease()).collect())
}

/// Waits until a manager reports that it is ready.
async fn until_ready(fleet: &Fleet, number: usize) -> Result<()> {
    let port = fleet.http_port(number)?;
    eventually(SOON, &format!("manager {number} is ready"), || async {
        fleet.check().await?;
        let (status, text) = page(port, "/readyz").await?;
        Ok(if status == StatusCode::OK { Look::Done(()) } else { Look::NotYet(text) })
    })
    .await
}

/// Waits until this number of orders is stored.
async fn until_orders_run(fleet: &Fleet, count: usize) -> Result<()> {
    let client = fleet.client(Cluster::Default);
    eventually(SOON, &format!("{count} orders run"), || async {
        let running = objects::progress(&client).await?.len();
        Ok(if running == count { Look::Done(()) } else { Look::NotYet(running.to_string()) })
    })
    .await
}

/// Checks that these names, and possibly others, were signed this number of times.
async fn signed(fleet: &Fleet, domain: &str, count: usize, times: usize) -> Result<()> {
    let all = fleet.pebble.signed_by_names().await?;
    let ours: Vec<_> =
        all.iter().filter(|(names, _)| names.iter().any(|name| name.ends_with(domain))).collect();
    ensure!(
        ours.len() == count && ours.iter().all(|(_, count)| **count == times),
        "not {count} sets of names, each {times} times: {ours:#?}"
    );
    Ok(())
}
