//! The manager is killed again and again while it issues.

use std::{
    env,
    io::Write as _,
    time::{Duration, SystemTime},
};

use anyhow::Result;
use tests::{
    namespace::Namespace,
    rig::{Responder, Rig, RigOptions},
    run,
};

const CERTIFICATES: usize = 50;
const KILLS: usize = 50;

/// The instants of the kills; `KILL_SEED` repeats those of an earlier run.
struct Random(u64);

impl Random {
    fn seeded() -> Result<Self> {
        let seed: u64 = match env::var("KILL_SEED") {
            Ok(seed) => seed.parse()?,
            Err(_) => SystemTime::UNIX_EPOCH.elapsed()?.subsec_nanos().into(),
        };
        writeln!(std::io::stderr(), "KILL_SEED={seed}")?;
        Ok(Self(seed ^ 0x9e37_79b9_7f4a_7c15))
    }

    /// xorshift64
    fn up_to(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

#[test]
fn fifty_kills_cost_no_certificate_and_leave_nothing_behind() {
    run(async {
        let mut random = Random::seeded()?;
        // The DNS server lives on: a CA that cannot reach it rejects the order, which is another test.
        let options = RigOptions { responder: Responder::StandAlone, ..Default::default() };
        let rig = Rig::with_issuer(options).await?;
        let namespace = Namespace::new(&rig, "kill").await?;
        let mut created = 0;
        for kill in 1..=KILLS {
            // Spread over the kills, so that every kill meets orders in all phases.
            while created < CERTIFICATES * kill / KILLS {
                namespace.simple(&format!("host-{created}")).await?;
                created += 1;
            }
            // Not a wait for anything: the instant of the kill is what varies.
            tokio::time::sleep(Duration::from_millis(random.up_to(900))).await;
            rig.replace_manager().await?;
        }
        namespace.until_all_ready(CERTIFICATES, Duration::from_secs(120)).await?;
        rig.until_nothing_is_left(Duration::from_secs(30)).await?;
        let signed = rig.pebble.signed_by_names().await?;
        let several: Vec<_> = signed.iter().filter(|(_, count)| **count != 1).collect();
        assert!(several.is_empty(), "signed more than once: {several:?}");
        assert_eq!(signed.len(), CERTIFICATES);
        Ok(())
    })
    .unwrap();
}
