use std::{process::Command, time::Duration};

use rustix::time::{ClockId, clock_gettime};

use super::*;

#[inline(never)]
fn use_cpu_time() -> u64 {
    // The profile counts CPU time, not wall-clock time.
    let used = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
    };
    let start = used();
    let mut sum: u64 = 1;
    while used() - start < Duration::from_millis(500) {
        for round in 0..10_000 {
            sum = std::hint::black_box(
                sum.wrapping_mul(6_364_136_223_846_793_005).rotate_left(7) ^ round,
            );
        }
    }
    sum
}

#[test]
fn the_profile_contains_the_busy_function_and_pprof_reads_it() {
    let path = std::env::temp_dir().join(format!("cpu-{}.pprof", std::process::id()));
    let running = start(&path).unwrap();
    assert_ne!(use_cpu_time(), 0);
    running.finish().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let function = b"use_cpu_time";
    assert!(bytes.windows(function.len()).any(|part| part == function), "not in the profile");
    // Go is usually installed, because the control plane of the other tests is built with it.
    if let Ok(output) = Command::new("go").args(["tool", "pprof", "-top"]).arg(&path).output() {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{error}");
        assert!(text.contains("Type: cpu") && text.contains("use_cpu_time"), "{text}");
    }
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_file_that_cannot_be_created_is_reported_at_the_start() {
    let error = start(Path::new("/no/such/directory/cpu")).err().unwrap();
    assert!(error.to_string().starts_with("--cpuprofile: cannot create /no/such"), "{error}");
}
