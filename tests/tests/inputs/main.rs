//! Fuzz tests of untrusted input: no panic, and bounded time and memory for each input.
//!
//! A short run is part of `make test`. `INPUTS=1000000 cargo test --release -p tests --test inputs`
//! is a long one, with that many inputs for each property.

mod annotations;
mod gateways;
mod keys;
mod kubeconfig;

use std::{
    env,
    fmt::Debug,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use cert_controller_manager::{
    api::{ObjectKey, source::Foreign},
    sources::{
        convert::keep,
        key::{Kind, SourceKey},
        object::{Object, RawObject, Source},
    },
};
use peak_alloc::PeakAlloc;
use proptest::{
    strategy::Strategy,
    test_runner::{Config, TestCaseError, TestRunner},
};
use rustix::time::{ClockId, clock_gettime};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Inputs of a short run, for each property.
const INPUTS: u32 = 2_000;

/// An object as the source controllers keep it.
#[expect(clippy::expect_used, reason = "the body of tests: it fails as they do")]
fn kept<S: Source>(object: Foreign<S>) -> (SourceKey, Object) {
    let kind = Kind::find(S::NAME.group, S::NAME.kind).expect("a source kind");
    let key = SourceKey { kind, object: ObjectKey::of(&object) };
    (key, keep(kind, RawObject::of(object, "v1")))
}

/// The maximal cost of one input.
#[derive(Clone, Copy, Debug)]
struct Cost {
    /// Processor time of all threads, so that other processes do not matter.
    time: Duration,
    /// Bytes at the peak.
    memory: usize,
}

/// The processor time of this process.
#[expect(clippy::expect_used, reason = "the body of tests: it fails as they do")]
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = time.tv_sec.try_into().expect("a time since the start of the process");
    let nanoseconds = time.tv_nsec.try_into().expect("less than a second");
    Duration::new(seconds, nanoseconds)
}

/// Feeds inputs to `subject` until the run is over. Fails with the smallest input that panics, that
/// violates an assertion of `subject`, or that exceeds the cost.
#[expect(clippy::expect_used, reason = "the body of tests: it fails as they do")]
fn check<S>(
    name: &str,
    inputs: &S,
    allowed: Cost,
    subject: impl Fn(S::Value) -> Result<(), TestCaseError>,
) where
    S: Strategy,
    S::Value: Debug,
{
    let cases = env::var("INPUTS").map_or(INPUTS, |text| text.parse().expect("a number"));
    check_some(name, cases, inputs, allowed, subject);
}

/// [`check`] with this number of inputs, for every run.
#[expect(
    clippy::panic,
    clippy::print_stderr,
    reason = "the body of tests: it fails as they do, and prints what inputs cost"
)]
fn check_some<S>(
    name: &str,
    cases: u32,
    inputs: &S,
    allowed: Cost,
    subject: impl Fn(S::Value) -> Result<(), TestCaseError>,
) where
    S: Strategy,
    S::Value: Debug,
{
    // One property at a time: the allocator counts for the whole process.
    static SEQUENTIAL: Mutex<()> = Mutex::new(());
    let _turn = SEQUENTIAL.lock().unwrap_or_else(PoisonError::into_inner);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let worst = Mutex::new(Cost { time: Duration::ZERO, memory: 0 });
    let began = Instant::now();
    let ended = TestRunner::new(config).run(inputs, |input| {
        let before = MEMORY.current_usage();
        MEMORY.reset_peak_usage();
        let start = processor_time();
        let verdict = subject(input);
        let cost = Cost {
            time: processor_time().saturating_sub(start),
            memory: MEMORY.peak_usage().saturating_sub(before),
        };
        let mut worst = worst.lock().unwrap_or_else(PoisonError::into_inner);
        worst.time = worst.time.max(cost.time);
        worst.memory = worst.memory.max(cost.memory);
        verdict?;
        if cost.time > allowed.time || cost.memory > allowed.memory {
            return Err(TestCaseError::fail(format!("costs {cost:?}, allowed is {allowed:?}")));
        }
        Ok(())
    });
    let worst = *worst.lock().unwrap_or_else(PoisonError::into_inner);
    eprintln!("{name}: {cases} inputs in {:.1?}, the worst of each: {worst:?}", began.elapsed());
    ended.unwrap_or_else(|error| panic!("{name}: {error}"));
}

#[test]
fn the_harness_finds_an_input_that_costs_too_much() {
    let allowed = Cost { time: Duration::from_secs(5), memory: 1 << 20 };
    let result = std::panic::catch_unwind(|| {
        check("too large", &(0_usize..4 << 20), allowed, |size| {
            std::hint::black_box(vec![1_u8; size]);
            Ok(())
        });
    });
    assert!(result.is_err(), "an allocation of more than 1 MiB went unnoticed");
}
