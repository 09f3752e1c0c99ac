//! An idle manager does not write.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use tests::{
    Look, eventually,
    metrics::Writes,
    namespace::Namespace,
    run,
    test_env::{TestEnv, TestEnvOptions},
};

const OBSERVED: Duration = Duration::from_secs(60);
const QUIET: Duration = Duration::from_secs(10);

/// Events are written after the status. Waits until nothing was written for a while, and returns
/// the writes before.
async fn until_quiet(env: &TestEnv) -> Result<Writes> {
    let last = Mutex::new((0, Instant::now()));
    eventually(Duration::from_secs(90), "nothing is written any more", || async {
        let writes = env.control_plane.writes().await?;
        let mut last = last.lock().map_err(|_| anyhow::anyhow!("poisoned"))?;
        if last.0 != writes.total() {
            *last = (writes.total(), Instant::now());
        }
        let is_quiet = last.1.elapsed() > QUIET;
        let seen = format!("{} writes", writes.total());
        Ok(if is_quiet { Look::Done(writes) } else { Look::NotYet(seen) })
    })
    .await
}

#[test]
fn a_hundred_ready_certificates_cause_no_write_in_a_minute() {
    run(async {
        let env = TestEnv::with_issuer(TestEnvOptions::default()).await?;
        let namespace = Namespace::new(&env, "steady").await?;
        for number in 0..100 {
            namespace.simple(&format!("host-{number}")).await?;
        }
        namespace.until_all_ready(100, Duration::from_secs(90)).await?;
        env.until_nothing_is_left(Duration::from_secs(30)).await?;
        let before = until_quiet(&env).await?;
        let requests = env.pebble.requests()?;
        // Not a wait for a condition: nothing may be written in this time.
        tokio::time::sleep(OBSERVED).await;
        let writes = env.control_plane.writes().await?.since(&before);
        ensure!(writes.total() == 0, "written in {OBSERVED:?}: {writes}");
        ensure!(
            env.pebble.requests()? == requests,
            "the CA was asked: {:?}",
            env.pebble.requests()?
        );
        env.check_manager().await
    })
    .unwrap();
}
