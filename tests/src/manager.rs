//! The manager, and its stand-alone DNS responder, as processes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::{locate, processes::Process};

/// What the manager is started with.
#[derive(Clone, Debug)]
pub struct ManagerOptions {
    /// Names the log.
    pub name: String,
    /// The default cluster, and every other one that the arguments do not name.
    pub kubeconfig: PathBuf,
    /// The issuer of Certificates that name none, in the namespace `default`.
    pub default_issuer: String,
    /// The port of the embedded DNS responder; `None` runs the manager without it.
    pub answer_dns: Option<u16>,
    /// The zones of the embedded responder.
    pub zones: Vec<String>,
    /// The port of the DNS server that is asked whether a challenge record is visible.
    pub precheck: u16,
    /// A PEM file of the CA that the ACME server's TLS certificate is from.
    pub trust: PathBuf,
    /// Further arguments.
    pub arguments: Vec<String>,
    /// Further variables of its environment.
    pub environment: Vec<(String, String)>,
}

/// A running manager or responder. It ends when dropped.
pub struct Manager {
    process: Process,
}

impl Manager {
    /// Starts the manager. It applies its definitions itself; wait for what you need of it.
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
    /// The binary has not been built.
    pub fn answer(kubeconfig: &Path, port: u16, zone: &str, logs: &Path) -> Result<Self> {
        let mut command = Command::new(locate::manager()?);
        command.arg("answer").arg("--kubeconfig").arg(kubeconfig).args([
            "--dns",
            &format!("127.0.0.1:{port}"),
            "--zone",
            zone,
        ]);
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
    /// It is not ours any more.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Asks it to end, and waits.
    ///
    /// # Errors
    /// It has not ended after half a minute.
    pub async fn stop(&mut self) -> Result<ExitStatus> {
        self.process.stop(Duration::from_secs(30)).await
    }

    /// Lets it stand still, with all its connections open, until [`Manager::wake`].
    ///
    /// # Errors
    /// It is not ours any more.
    pub fn freeze(&self) -> Result<()> {
        self.process.freeze()
    }

    /// Lets it go on after [`Manager::freeze`].
    ///
    /// # Errors
    /// It is not ours any more.
    pub fn wake(&self) -> Result<()> {
        self.process.wake()
    }

    /// How it ended, `None` while it runs.
    ///
    /// # Errors
    /// The operating system does not say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.process.ended()
    }

    /// Its log of this and earlier processes of the same test environment.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.process.log())?)
    }

    /// What it has used so far.
    ///
    /// # Errors
    /// It does not run.
    pub fn usage(&self) -> Result<Usage> {
        Usage::of(self.process.pid())
    }
}

/// What a process has used since it started.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Processor time, user and system.
    pub cpu: Duration,
    /// The highest resident memory, in bytes.
    pub peak_memory: u64,
    /// The resident memory now, in bytes.
    pub resident: u64,
    /// The part of it that is no file: heap and stacks, not the program itself.
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
    // The second field is the name in parentheses, which may hold spaces; user and system time are
    // fields 14 and 15, in ticks of 10 ms.
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
