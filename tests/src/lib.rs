//! The harness of the end-to-end tests, of `demo` and of `bench`: a real kube-apiserver with etcd, a
//! real ACME CA (Pebble) with real DNS validation, and the manager as a process of its own.
//!
//! Nothing here mocks and nothing waits for a fixed time: [`eventually()`] checks until a condition
//! holds or its deadline is over. A [`test_env::TestEnv`] contains all parts; most tests share one
//! and use a [`namespace::Namespace`] each.
//!
//! Not here: the expectations about the manager; these are in `tests/*.rs`.

pub mod acme;
pub mod audit;
pub mod baseline;
pub mod bind;
pub mod challtestsrv;
pub mod connect;
pub mod controlplane;
pub mod engine_harness;
pub mod eventually;
pub mod fleet;
pub mod health_watch;
pub mod helm;
pub mod http;
pub mod janitor;
pub mod knot;
pub mod locate;
pub mod manager;
pub mod metrics;
pub mod name_server;
pub mod namespace;
pub mod objects;
pub mod pebble;
pub mod powerdns;
pub mod processes;
pub mod proxy;
pub mod responder_bench;
pub mod scrape;
pub mod stall_detector;
pub mod steady;
pub mod table;
pub mod test_env;
pub mod tls;
pub mod x509;

use std::{fmt, future::Future, sync::OnceLock};

use anyhow::{Context as _, Result};
use tokio::runtime::Runtime;

pub use eventually::{Look, eventually};

/// Why a task failed. Prints the error and its causes on one line, also where a test unwraps it.
///
/// An [`anyhow::Error`] also prints a backtrace where `RUST_BACKTRACE` is set, as in many CI
/// systems: a hundred lines of the runtime that hide the cause.
#[derive(thiserror::Error)]
#[error("{0:#}")]
pub struct Failure(anyhow::Error);

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Runs a test or a program on the only runtime of this process.
///
/// A shared [`test_env::TestEnv`] outlives the test that started it, and its Kubernetes client has
/// a task on the runtime that created it. So tests are plain functions that call this, not
/// `#[tokio::test]`.
///
/// # Errors
/// The error of `task`, or of the start of the runtime.
pub fn run<T>(task: impl Future<Output = Result<T>>) -> Result<T, Failure> {
    static RUNTIME: OnceLock<std::io::Result<Runtime>> = OnceLock::new();
    let ended = match RUNTIME.get_or_init(Runtime::new) {
        Ok(runtime) => runtime.block_on(task),
        Err(error) => Err(anyhow::anyhow!("{error}")).context("cannot start a runtime"),
    };
    ended.map_err(Failure)
}
