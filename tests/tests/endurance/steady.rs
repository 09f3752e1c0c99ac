//! Nothing changes, so nothing is written.

use std::time::Duration;

use anyhow::ensure;
use tests::{
    namespace::Namespace,
    rig::{Rig, RigOptions},
    run,
};

const OBSERVED: Duration = Duration::from_secs(60);

#[test]
fn a_hundred_ready_certificates_cause_no_write_in_a_minute() {
    run(async {
        let rig = Rig::with_issuer(RigOptions::default()).await?;
        let namespace = Namespace::new(&rig, "steady").await?;
        for number in 0..100 {
            namespace.simple(&format!("host-{number}")).await?;
        }
        namespace.until_all_ready(100, Duration::from_secs(90)).await?;
        rig.until_nothing_is_left(Duration::from_secs(30)).await?;
        let before = rig.control_plane.writes().await?;
        let requests = rig.pebble.requests()?;
        // Not a wait for anything: the time for which nothing may happen.
        tokio::time::sleep(OBSERVED).await;
        let writes = rig.control_plane.writes().await?.since(&before);
        ensure!(writes.total() == 0, "written in {OBSERVED:?}: {writes}");
        ensure!(
            rig.pebble.requests()? == requests,
            "the CA was asked: {:?}",
            rig.pebble.requests()?
        );
        rig.check_manager().await
    })
    .unwrap();
}
