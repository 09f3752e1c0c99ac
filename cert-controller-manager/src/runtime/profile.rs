//! `--cpuprofile FILE`: where the processor time goes, from the start of the process to its end.
//!
//! 99 times a second of processor time the kernel interrupts the thread that runs, and the crate
//! pprof takes its stack; it does so with the unsafe code that this workspace has none of. What came
//! together is written once, at the end, in the format that `go tool pprof` reads ([`encode`]).
//! Nothing of this runs without the flag.

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

/// Odd, so that it does not beat with what happens every ten milliseconds.
const PER_SECOND: i32 = 99;
/// Stacks are not taken within these: they may hold the locks that taking a stack needs.
const UNTOUCHED: [&str; 4] = ["libc", "libgcc", "pthread", "vdso"];

/// A profile that is being taken.
pub struct Running {
    guard: ProfilerGuard<'static>,
    file: File,
    path: PathBuf,
}

/// Starts to profile the process. There is one profile at a time.
///
/// # Errors
/// When the file cannot be created, or the profiler cannot run: it wants a temporary directory that
/// can be written (`TMPDIR`).
pub fn start(path: &Path) -> anyhow::Result<Running> {
    let file = File::create(path)
        .with_context(|| format!("--cpuprofile: cannot create {}", path.display()))?;
    let guard = ProfilerGuardBuilder::default()
        .frequency(PER_SECOND)
        .blocklist(&UNTOUCHED)
        .build()
        .context("--cpuprofile: the profiler cannot start; is TMPDIR writable?")?;
    tracing::info!("profiling the processor time into {}, written at the end", path.display());
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
        tracing::info!("wrote the profile of the processor time to {}", self.path.display());
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

/// The functions of a stack, innermost first, inlined ones before those that they are inlined into.
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
