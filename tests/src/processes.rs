//! Child processes with a log file each, which never outlive this process; free ports; scratch
//! directories.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    net::{Ipv4Addr, TcpListener, UdpSocket},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU16, AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::{Look, eventually, janitor, locate};

/// A required process has ended: waits can stop.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Ended(String);

/// A running child process. Killed when dropped, and when this process ends for any reason.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it with its output appended to `<logs>/<name>.log`.
    ///
    /// # Errors
    /// The program cannot be started or the log cannot be opened.
    pub fn spawn(name: &str, command: &mut Command, logs: &Path) -> Result<Self> {
        let log = logs.join(format!("{name}.log"));
        let out = File::options().create(true).append(true).open(&log)?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).process_group(0);
        let child = spawn_locked(command)
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        janitor::track(child.id())?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its log file.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Its exit status, `None` while it runs.
    ///
    /// # Errors
    /// The status cannot be read.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Fails with the end of its log when it has ended.
    ///
    /// # Errors
    /// It has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => {
                Err(Ended(format!("{} ended with {status}:\n{}", self.name, tail(&self.log)))
                    .into())
            }
        }
    }

    /// Sends SIGKILL and waits for the end.
    ///
    /// # Errors
    /// It was waited for already.
    pub fn kill(&mut self) -> Result<()> {
        if self.ended()?.is_none() {
            self.child.kill()?;
            self.child.wait()?;
        }
        janitor::untrack(self.child.id())
    }

    /// Sends SIGTERM and waits for the end, which must come within `deadline`.
    ///
    /// # Errors
    /// It still runs; it is killed then.
    pub async fn stop(&mut self, deadline: Duration) -> Result<ExitStatus> {
        if self.ended()?.is_none() {
            self.signal(Signal::TERM)?;
        }
        let what = format!("{} ends after SIGTERM", self.name);
        let child = &mut self.child;
        let status =
            eventually(deadline, &what, || {
                let seen = child.try_wait();
                async move {
                    Ok(seen?.map_or_else(|| Look::NotYet("it runs on".to_owned()), Look::Done))
                }
            })
            .await;
        self.kill()?;
        status
    }

    /// Sends SIGSTOP: it keeps all its connections open until [`Process::resume`].
    ///
    /// # Errors
    /// It was waited for already.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Sends SIGCONT after [`Process::freeze`].
    ///
    /// # Errors
    /// It was waited for already.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        Ok(kill_process(pid.context("not a process id")?, signal)?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.kill();
    }
}

fn tail(log: &Path) -> String {
    const LINES: usize = 15;
    let mut text = Vec::new();
    let _ = File::open(log).and_then(|mut file| file.read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// A child process holds the sockets of this process until it executes its program: a port that is
/// checked at that moment seems to be taken.
static SPAWNING: Mutex<()> = Mutex::new(());

/// Starts a process while no thread checks for free ports.
///
/// # Errors
/// The program cannot be started.
pub fn spawn_locked(command: &mut Command) -> io::Result<Child> {
    let _no_scan = SPAWNING.lock().unwrap_or_else(PoisonError::into_inner);
    command.spawn()
}

/// Runs a program to its end, and returns its piped output.
///
/// # Errors
/// The program cannot be started.
pub fn output(command: &mut Command) -> io::Result<Output> {
    spawn_locked(command.stdin(Stdio::null()).stdout(Stdio::piped()))?.wait_with_output()
}

/// A free port of 127.0.0.1 for TCP and UDP, outside of the ephemeral range, and never the same
/// twice in this process.
///
/// # Errors
/// None is free.
pub fn free_port() -> Result<u16> {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let _no_spawn = SPAWNING.lock().unwrap_or_else(PoisonError::into_inner);
    let start = u16::try_from(std::process::id().wrapping_mul(97) % u32::from(COUNT))?;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = FIRST + (start + step) % COUNT;
        let address = (Ipv4Addr::LOCALHOST, port);
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port on 127.0.0.1")
}

/// A new directory for the data of processes, in memory if the machine has /dev/shm. Removed when
/// this process ends.
///
/// # Errors
/// It cannot be created.
pub fn scratch() -> Result<PathBuf> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let directory = parent.join(format!("cert-controller-manager-{}-{number}", std::process::id()));
    fs::create_dir(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    janitor::remove(&directory)?;
    Ok(directory)
}

/// A new directory for logs, which is kept until the same program runs again.
///
/// # Errors
/// It cannot be created.
pub fn logs() -> Result<PathBuf> {
    static NEXT: Mutex<u32> = Mutex::new(0);
    let mut next = NEXT.lock().unwrap_or_else(PoisonError::into_inner);
    let all = locate::profile()?.join("logs").join(locate::program()?);
    if *next == 0 && all.exists() {
        fs::remove_dir_all(&all)?;
    }
    let directory = all.join(next.to_string());
    fs::create_dir_all(&directory)?;
    *next += 1;
    Ok(directory)
}
