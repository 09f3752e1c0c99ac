//! The manager, and its stand-alone DNS responder, as processes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    locate,
    processes::{Process, output},
};

/// Options of the manager.
#[derive(Clone, Debug)]
pub struct ManagerOptions {
    /// Name of its log.
    pub name: String,
    /// Kubeconfig of the default cluster, and of all others that the arguments do not set.
    pub kubeconfig: PathBuf,
    /// The default issuer, in the namespace `default`.
    pub default_issuer: String,
    /// The port of the embedded DNS responder; `None` runs the manager without it.
    pub answer_dns: Option<u16>,
    /// The zones of the embedded responder.
    pub zones: Vec<String>,
    /// The port of the DNS server that checks of challenge records use.
    pub precheck: u16,
    /// A PEM file of the CA of the ACME server's TLS certificate.
    pub trust: PathBuf,
    /// Further arguments.
    pub arguments: Vec<String>,
    /// Further environment variables.
    pub environment: Vec<(String, String)>,
}

/// A running manager or responder. It ends when dropped.
pub struct Manager {
    process: Process,
}

impl Manager {
    /// Starts the manager, which applies its definitions itself. Does not wait until it is ready.
    ///
    /// # Errors
    /// It has not been built.
    pub fn start(options: &ManagerOptions, logs: &Path) -> Result<Self> {
        let mut command = Command::new(locate::manager()?);
        command
            .arg("--kubeconfig")
            .arg(&options.kubeconfig)
            .args(["--issuer-namespace", "default"])
            .args(["--default-issuer", &options.default_issuer])
            .args(["--precheck-nameservers", &format!("127.0.0.1:{}", options.precheck)])
            .args(["--renewal-window", "720h"])
            .args(["-D", "info"])
            .env("LEGO_CA_CERTIFICATES", &options.trust);
        if let Some(port) = options.answer_dns {
            command.args(["--answer-dns", &format!("127.0.0.1:{port}")]);
            for zone in &options.zones {
                command.args(["--answer-zone", zone]);
            }
        }
        command.args(&options.arguments);
        command.envs(options.environment.iter().cloned());
        Ok(Self { process: Process::spawn(&options.name, &mut command, logs)? })
    }

    /// Starts the stand-alone responder for one zone.
    ///
    /// # Errors
    /// It has not been built.
    pub fn answer(kubeconfig: &Path, port: u16, zone: &str, logs: &Path) -> Result<Self> {
        Self::answer_with(kubeconfig, port, zone, &[], logs)
    }

    /// The same with further arguments.
    ///
    /// # Errors
    /// It has not been built.
    pub fn answer_with(
        kubeconfig: &Path,
        port: u16,
        zone: &str,
        arguments: &[String],
        logs: &Path,
    ) -> Result<Self> {
        let mut command = Command::new(locate::manager()?);
        command.arg("answer").arg("--kubeconfig").arg(kubeconfig).args([
            "--dns",
            &format!("127.0.0.1:{port}"),
            "--zone",
            zone,
        ]);
        command.args(arguments);
        Ok(Self { process: Process::spawn("answer", &mut command, logs)? })
    }

    /// Fails with the end of its log when it has ended.
    ///
    /// # Errors
    /// It has ended.
    pub fn check(&mut self) -> Result<()> {
        self.process.check()
    }

    /// Kills it: no chance to clean up.
    ///
    /// # Errors
    /// It was waited for already.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Terminates it gracefully and waits.
    ///
    /// # Errors
    /// It has not ended after half a minute.
    pub async fn stop(&mut self) -> Result<ExitStatus> {
        self.process.stop(Duration::from_secs(30)).await
    }

    /// Stops it with SIGSTOP, with all its connections open, until [`Manager::resume`].
    ///
    /// # Errors
    /// It was waited for already.
    pub fn freeze(&self) -> Result<()> {
        self.process.freeze()
    }

    /// Continues it after [`Manager::freeze`].
    ///
    /// # Errors
    /// It was waited for already.
    pub fn resume(&self) -> Result<()> {
        self.process.resume()
    }

    /// Its exit status, `None` while it runs.
    ///
    /// # Errors
    /// The status cannot be read.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.process.ended()
    }

    /// Runs all its threads on one processor.
    ///
    /// # Errors
    /// The tool `taskset` is missing, or there is no such processor.
    pub fn pin(&self, processor: usize) -> Result<()> {
        let (processor, pid) = (processor.to_string(), self.process.pid().to_string());
        let output = output(Command::new("taskset").args(["-a", "-c", "-p", &processor, &pid]))?;
        ensure!(output.status.success(), "taskset: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Its log of this and earlier processes of the same test environment.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.process.log())?)
    }

    /// Its resource usage.
    ///
    /// # Errors
    /// It does not run.
    pub fn usage(&self) -> Result<Usage> {
        Usage::of(self.process.pid())
    }
}

/// The resource usage of a process since its start.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Processor time, user and system.
    pub cpu: Duration,
    /// Peak resident memory, in bytes.
    pub peak_memory: u64,
    /// Current resident memory, in bytes.
    pub resident: u64,
    /// Anonymous resident memory: heap and stacks without the program file.
    pub anonymous: u64,
}

impl Usage {
    fn of(pid: u32) -> Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        Ok(Self {
            cpu: cpu(&stat)?,
            peak_memory: memory(&status, "VmHWM:")?,
            resident: memory(&status, "VmRSS:")?,
            anonymous: memory(&status, "RssAnon:")?,
        })
    }
}

fn cpu(stat: &str) -> Result<Duration> {
    // The second field is the name in parentheses, which may contain spaces. User and system time
    // are fields 14 and 15, in ticks of 10 ms.
    let (_, fields) = stat.rsplit_once(") ").context("no name in stat")?;
    let ticks: Vec<u64> =
        fields.split(' ').skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    Ok(Duration::from_millis(10 * ticks.iter().sum::<u64>()))
}

fn memory(status: &str, name: &str) -> Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let line = line.with_context(|| format!("no {name}"))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_from_the_files_of_the_kernel() {
        let stat = "42 (a) b c) S 1 42 42 0 -1 4194304 100 0 0 0 7 5 0 0 20 0 1 0 100 1 1";
        assert_eq!(cpu(stat).unwrap(), Duration::from_millis(120));
        assert_eq!(memory("Name:\tx\nVmHWM:\t    2048 kB\n", "VmHWM:").unwrap(), 2 << 20);
        let ours = Usage::of(std::process::id()).unwrap();
        assert!(ours.peak_memory >= ours.resident && ours.resident > ours.anonymous);
    }
}
