//! Faults of CAs and of proxies before them: the scenarios 1 to 36 of the project's list, each a
//! test with its number. Each test checks the final state and the number of ACME requests, and that
//! no certificate is signed twice.
//!
//! The CA is Pebble behind a proxy that injects faults ([`tests::proxy`]). The manager is a harness
//! ([`tests::engine_harness`]) with the same plan, the same engine and a simulated clock. Other
//! binaries test scenarios that need Kubernetes objects:
//!
//! | scenario | where |
//! |---|---|
//! | 1 to 10 | `protocol` |
//! | 11 | `protocol`; a CA that is down while the manager issues: `endurance/outages.rs` |
//! | 12 | `protocol`; an Issuer whose server is not trusted: `tests/accounts.rs` |
//! | 3, 6 across a restart of the manager, a key that is refused | `manager` |
//! | 13 to 22 | `orders` |
//! | 23 to 25 | `wrong_certificates` |
//! | 26 | `accounts`; the account is registered again by the manager: `tests/accounts.rs` |
//! | 27 | `accounts` for the key; the Secret that holds it: `tests/accounts.rs` |
//! | 28, 36 | `tests/accounts.rs`, where there is an account binding and a second key |
//! | 29, 33 to 35 | `accounts` |
//! | 30 to 32 | `renewal` |

mod accounts;
mod manager;
mod orders;
mod protocol;
mod renewal;
mod wrong_certificates;

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Result, ensure};
use jiff::{SignedDuration, Timestamp};
use tests::{
    engine_harness::{CertificateCase, EngineHarness},
    pebble::{Pebble, PebbleOptions},
    processes::{logs, scratch},
    proxy::{Kind, Proxy},
};

/// A CA, a proxy before it, and a harness that reaches the CA through the proxy only.
struct Bench {
    harness: EngineHarness,
    proxy: Arc<Proxy>,
    pebble: Pebble,
}

impl Bench {
    /// Each test has its own: Pebble 2.10 can deadlock when several harnesses order in parallel.
    async fn new() -> Result<Self> {
        Self::with(PebbleOptions { nonce_reject: 0, ..Default::default() }).await
    }

    async fn with(options: PebbleOptions) -> Result<Self> {
        let pebble = Pebble::start(&options, &scratch()?, &logs()?).await?;
        let proxy = Arc::new(Proxy::for_pebble(&pebble).await?);
        let harness = EngineHarness::open(&proxy.directory(), pebble.trust()).await?;
        proxy.forget();
        Ok(Self { harness, proxy, pebble })
    }

    /// Simulates a crash and a new process.
    fn restart(&mut self) {
        self.harness = self.harness.restarted();
    }

    /// Waits until the certificate is issued, and returns how long that took.
    async fn issue(&self, job: &mut CertificateCase) -> Result<SignedDuration> {
        let start = self.harness.now();
        self.harness.until_ready(job, days(3)).await?;
        ensure!(self.harness.board.published().is_empty(), "a proof is still there");
        Ok(self.harness.now().duration_since(start))
    }

    /// Checks that the requests since the last call are at most `budget`, and that the CA has
    /// signed this number of certificates since its start.
    fn cost(&self, budget: usize, signed: usize) -> Result<()> {
        let (total, counts) = (self.proxy.total(), self.proxy.counts());
        ensure!(total <= budget, "{total} requests, the budget is {budget}: {counts:?}");
        let really = self.pebble.signed_count()?;
        ensure!(really == signed, "signed {really} times, not {signed}");
        self.proxy.forget();
        Ok(())
    }
}

/// The requests of a minimal order with one name.
const MINIMUM: usize = 7;

fn job(name: &str) -> Result<CertificateCase> {
    CertificateCase::of(&[&format!("{name}.my-company.test")])
}

fn seconds(count: i64) -> SignedDuration {
    SignedDuration::from_secs(count)
}

fn days(count: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * count)
}

/// The format of HTTP headers (RFC 9110 section 5.6.7).
fn http_date(time: Timestamp) -> String {
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// The kinds of requests of an order, in sequence.
const KINDS: [Kind; 6] = [
    Kind::NewOrder,
    Kind::Authorization,
    Kind::Challenge,
    Kind::Order,
    Kind::Finalize,
    Kind::Certificate,
];

fn counts<const N: usize>(all: [(Kind, usize); N]) -> BTreeMap<Kind, usize> {
    all.into()
}
