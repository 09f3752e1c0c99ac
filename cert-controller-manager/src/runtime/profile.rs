//! `--cpuprofile FILE`: records a CPU profile from the start to the end of the process.
//!
//! The crate pprof samples the stack of the running thread 99 times per second of CPU time. The profile
//! is written once, at the end, in the format of `go tool pprof` ([`encode`]). Without the flag, nothing
//! of this runs.

mod encode;

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use anyhow::Context;
use pprof::{Frames, ProfilerGuard, ProfilerGuardBuilder, Report};

use self::encode::{Location, Profile};

/// Not 100, so that the samples do not coincide with periodic work.
const PER_SECOND: i32 = 99;
/// No samples within these libraries: they may hold locks that sampling needs.
const EXCLUDED_LIBRARIES: [&str; 4] = ["libc", "libgcc", "pthread", "vdso"];

/// A running profile.
pub struct Running {
    guard: ProfilerGuard<'static>,
    file: File,
    path: PathBuf,
}

/// Starts the profile of the process, one at a time.
///
/// # Errors
/// When the file cannot be created, or when the temporary directory (`TMPDIR`) is not writable.
pub fn start(path: &Path) -> anyhow::Result<Running> {
    let file = File::create(path)
        .with_context(|| format!("--cpuprofile: cannot create {}", path.display()))?;
    let guard = ProfilerGuardBuilder::default()
        .frequency(PER_SECOND)
        .blocklist(&EXCLUDED_LIBRARIES)
        .build()
        .context("--cpuprofile: the profiler cannot start; is TMPDIR writable?")?;
    tracing::info!("recording a CPU profile; it is written to {} at the end", path.display());
    Ok(Running { guard, file, path: path.to_owned() })
}

impl Running {
    /// Writes the profile.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn finish(mut self) -> anyhow::Result<()> {
        let failed = || format!("--cpuprofile: cannot write {}", self.path.display());
        let report = self.guard.report().build().with_context(failed)?;
        self.file.write_all(&profile(&report).encode()).with_context(failed)?;
        tracing::info!("wrote the CPU profile to {}", self.path.display());
        Ok(())
    }
}

fn profile(report: &Report) -> Profile {
    let timing = &report.timing;
    let start = timing.start_time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut profile = Profile::new(start, timing.duration, 1_000_000_000 / i64::from(PER_SECOND));
    for (frames, count) in &report.data {
        let count = i64::try_from(*count).unwrap_or(i64::MAX);
        profile.add(&stack(frames), &frames.thread_name_or_id(), count);
    }
    profile
}

/// The functions of a stack, innermost first. An inlined function comes before its caller.
fn stack(frames: &Frames) -> Vec<Location> {
    let symbols = frames.frames.iter().flatten();
    symbols
        .map(|symbol| Location {
            function: symbol.name(),
            file: symbol.filename().into_owned(),
            line: symbol.lineno.unwrap_or_default(),
        })
        .collect()
}

#[cfg(test)]
mod tests;
