//! Standard process metrics from `/proc`. If a file is missing or has another format, the metric is
//! missing.

use std::{fs, path::Path};

use prometheus::{Registry, Result};

use crate::runtime::metrics::families::{
    CPU, Family, MAX_FDS, OPEN_FDS, RESIDENT, START, THREADS, VIRTUAL,
};

/// Ticks per second in `/proc`: `USER_HZ` is 100 on all supported architectures.
const TICKS: f64 = 100.0;

/// The values from `/proc`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Process {
    cpu_seconds: Option<f64>,
    resident: Option<f64>,
    address_space: Option<f64>,
    threads: Option<f64>,
    open_fds: Option<f64>,
    max_fds: Option<f64>,
    started: Option<f64>,
}

/// Registers the metrics of this process with `registry`.
pub(super) fn take(registry: &Registry) -> Result<()> {
    let process = Process::read(Path::new("/proc"));
    let gauges: [(&Family, Option<f64>); 6] = [
        (&RESIDENT, process.resident),
        (&VIRTUAL, process.address_space),
        (&OPEN_FDS, process.open_fds),
        (&MAX_FDS, process.max_fds),
        (&THREADS, process.threads),
        (&START, process.started),
    ];
    let none: [&str; 0] = [];
    for (family, value) in gauges {
        if let Some(value) = value {
            family.fractions(registry)?.with_label_values(&none).set(value);
        }
    }
    if let Some(seconds) = process.cpu_seconds {
        CPU.sums(registry)?.with_label_values(&none).inc_by(seconds);
    }
    Ok(())
}

impl Process {
    fn read(proc: &Path) -> Self {
        let text = |name: &str| fs::read_to_string(proc.join(name)).unwrap_or_default();
        let open = fs::read_dir(proc.join("self/fd")).ok().map(Iterator::count);
        // One descriptor is the directory that is being read.
        let open_fds = open.map(|count| as_f64(count.saturating_sub(1)));
        let (stat, limits) = (text("self/stat"), text("self/limits"));
        Self { open_fds, ..Self::parse(&stat, &text("self/status"), &limits, &text("stat")) }
    }

    fn parse(stat: &str, status: &str, limits: &str, machine: &str) -> Self {
        // The second field is the name of the program and may contain spaces, so count after it.
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .map(|(_, rest)| rest.split_ascii_whitespace().collect())
            .unwrap_or_default();
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        let kilobytes = |name| Some(number_after(status, name)? * 1024.0);
        let booted = number_after(machine, "btime");
        Self {
            cpu_seconds: field(14).zip(field(15)).map(|(user, system)| (user + system) / TICKS),
            resident: kilobytes("VmRSS:"),
            address_space: kilobytes("VmSize:"),
            threads: number_after(status, "Threads:"),
            open_fds: None,
            max_fds: number_after(limits, "Max open files"),
            started: booted.zip(field(22)).map(|(booted, ticks)| booted + ticks / TICKS),
        }
    }
}

/// The number after the prefix of a line.
fn number_after(text: &str, words: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(words))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Exact for every possible number of file descriptors.
#[expect(clippy::cast_precision_loss, reason = "no process has 2^53 open files")]
fn as_f64(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_spaces_and_parentheses_is_skipped() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 5 0 12345 1 2";
        let status = "Name:\tx\nVmSize:\t  2048 kB\nVmRSS:\t  1024 kB\nThreads:\t5\n";
        let limits = "Limit  Soft Limit  Hard Limit\nMax open files   1024   4096   files\n";
        assert_eq!(
            Process::parse(stat, status, limits, "cpu 1 2\nbtime 1700000000\n"),
            Process {
                cpu_seconds: Some(3.0),
                resident: Some(1_048_576.0),
                address_space: Some(2_097_152.0),
                threads: Some(5.0),
                open_fds: None,
                max_fds: Some(1024.0),
                started: Some(1_700_000_123.45),
            }
        );
    }

    #[test]
    fn unreadable_values_are_missing() {
        assert_eq!(
            Process::parse("", "VmRSS: many kB", "Max open files unlimited", ""),
            Process::default()
        );
        assert_eq!(Process::parse("7 (x) S", "", "", ""), Process::default());
    }

    #[test]
    fn this_process_has_all_values() {
        let this = Process::read(Path::new("/proc"));
        assert!(this.resident.is_some_and(|bytes| bytes > 100_000.0), "{this:?}");
        assert!(this.open_fds.is_some_and(|count| count >= 3.0), "{this:?}");
        assert!(this.cpu_seconds.is_some() && this.threads.is_some(), "{this:?}");
        assert!(this.started.is_some_and(|time| time > 1_600_000_000.0), "{this:?}");
    }
}
