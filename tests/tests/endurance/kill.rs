//! The manager is killed repeatedly during issuance.

use std::{
    env,
    io::Write as _,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tests::{
    namespace::Namespace,
    objects::{acme_issuer, api, apply},
    pebble::PebbleOptions,
    run,
    test_env::{ISSUER, Responder, TestEnv, TestEnvOptions},
};

/// Number of kills, and of Certificates of the two issuers together. `KILLS=400
/// KILL_CERTIFICATES=300` is the long run.
const KILLS: usize = 100;
const CERTIFICATES: usize = 75;
/// The Certificates of an issuer with a quota of 90 a day, all of them created within the first 30
/// kills. The quota is enough for each of them and for one order in progress at each kill. An idle
/// machine uses 42 to 45.
const FEW: usize = 40;
const FEW_KILLS: usize = 30;
const FEW_PER_DAY: i64 = 90;
const FEW_ISSUER: &str = "issuer-few";

fn number(variable: &str, usually: usize) -> Result<usize> {
    env::var(variable).map_or(Ok(usually), |number| Ok(number.parse()?))
}

/// The times of the kills; `KILL_SEED` repeats those of an earlier run.
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

/// An issuer with a daily quota.
async fn issuer(env: &TestEnv, name: &str, per_day: i64) -> Result<()> {
    let mut issuer = acme_issuer(name, &env.directory())?;
    issuer["spec"]["requestsPerDayQuota"] = json!(per_day);
    apply(&env.control_plane.client(), "default", &issuer).await?;
    env.until_issuer(name, "Ready", Duration::from_secs(60)).await?;
    Ok(())
}

/// The used part of the issuer's quota since `began`.
async fn spent(env: &TestEnv, name: &str, per_day: i64, began: Instant) -> Result<i64> {
    let issuer = api(&env.control_plane.client(), "Issuer", "default")?.get(name).await?;
    let left = issuer.data["status"]["requests"]["available"].as_i64().context("nothing spent")?;
    // The quota was refilled by this number since then.
    let refilled = i64::try_from(began.elapsed().as_secs())? * per_day / 86_400 + 1;
    Ok(per_day - left + refilled)
}

#[test]
fn kills_lose_no_certificate_and_no_quota_and_leave_no_records_behind() {
    run(async {
        let (kills, certificates) = (number("KILLS", KILLS)?, number("KILL_CERTIFICATES", CERTIFICATES)?);
        let per_day = i64::try_from(2 * certificates)?;
        let mut random = Random::seeded()?;
        // The DNS server is a separate process: a CA that cannot reach it rejects the order, which
        // is another test. A refused nonce would count the same order twice.
        let pebble = PebbleOptions { nonce_reject: 0, ..Default::default() };
        let options = TestEnvOptions { responder: Responder::StandAlone, pebble, ..Default::default() };
        let env = TestEnv::start(options).await?;
        issuer(&env, ISSUER, per_day).await?;
        issuer(&env, FEW_ISSUER, FEW_PER_DAY).await?;
        let namespace = Namespace::new(&env, "kill").await?;
        let few = Namespace::new(&env, "few").await?;
        let many = certificates - FEW;
        let (mut created, mut created_few, began) = (0, 0, Instant::now());
        for kill in 1..=kills {
            // Spread over the kills, so that each kill interrupts orders in all phases.
            while created < many * kill / kills {
                namespace.simple(&format!("host-{created}")).await?;
                created += 1;
            }
            while created_few < FEW.min(FEW * kill / FEW_KILLS) {
                let host = format!("host-{created_few}.{}", few.domain);
                let spec = json!({"commonName": host, "issuerRef": {"name": FEW_ISSUER}});
                few.certificate(&format!("host-{created_few}"), spec).await?;
                created_few += 1;
            }
            // Not a wait for a condition: the time of the kill is random.
            tokio::time::sleep(Duration::from_millis(random.up_to(900))).await;
            env.replace_manager().await?;
        }
        let last_kill = Instant::now();
        namespace.until_all_ready(many, Duration::from_secs(120)).await?;
        few.until_all_ready(FEW, Duration::from_secs(120)).await?;
        let took = last_kill.elapsed();
        env.until_nothing_is_left(Duration::from_secs(30)).await?;
        let signed = env.pebble.signed_by_names().await?;
        let several: Vec<_> = signed.iter().filter(|(_, count)| **count != 1).collect();
        assert!(several.is_empty(), "signed more than once: {several:?}");
        assert_eq!(signed.len(), certificates);

        // Placed and stored: a kill between the two loses one order at most.
        let placed = env.pebble.requests()?.get("POST /order-plz").copied().unwrap_or_default();
        let spent_many = spent(&env, ISSUER, per_day, began).await?;
        let spent_few = spent(&env, FEW_ISSUER, FEW_PER_DAY, began).await?;
        let spent = usize::try_from(spent_many + spent_few)?;
        println!(
            "{certificates} certificates, {kills} kills: all Ready {:.1} s after the last, {placed} orders \
             reached the CA, {spent} requests spent ({spent_few} of {FEW_PER_DAY} for {FEW})",
            took.as_secs_f32()
        );
        ensure!(spent >= usize::try_from(placed)?, "{placed} orders were placed, {spent} count");
        // A new process continues at most one order with an unknown result, so a kill costs at most
        // that one.
        ensure!(spent <= certificates + kills + 2, "{spent} count for {certificates}");
        Ok(())
    })
    .unwrap();
}
