//! Kills child processes and removes directories even if this process is killed.
//!
//! A shared test environment is a static, which is never dropped, and a test may be killed. So a
//! small shell holds the other end of a pipe. When this process ends for any reason, the pipe
//! closes, and the shell kills the registered processes and removes the registered directories.

use std::{
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context as _, Result};

use crate::processes::spawn_locked;

const SCRIPT: &str = r#"
trap '' HUP INT TERM
pids=
while read -r word value; do
  case $word in
    track) pids="$pids $value" ;;
    untrack)
      left=
      for pid in $pids; do [ "$pid" = "$value" ] || left="$left $pid"; done
      pids=$left
      ;;
    remove) set -- "$@" "$value" ;;
  esac
done
for pid in $pids; do kill -9 "$pid" 2>/dev/null; done
for directory in "$@"; do rm -rf "$directory" || rm -rf "$directory"; done
"#;

/// Kills this process when the current process ends.
pub(crate) fn track(pid: u32) -> Result<()> {
    send(&format!("track {pid}\n"))
}

/// This process has ended and was waited for: its id may be reused from now on.
pub(crate) fn untrack(pid: u32) -> Result<()> {
    send(&format!("untrack {pid}\n"))
}

/// Removes this directory when the current process ends.
pub(crate) fn remove(directory: &Path) -> Result<()> {
    send(&format!("remove {}\n", directory.display()))
}

/// Cleans up now and waits for it: for programs that must leave nothing behind when they have
/// ended.
///
/// # Errors
/// The shell cannot be waited for.
pub fn finish() -> Result<()> {
    if let Some(mut janitor) = janitor().take() {
        drop(janitor.stdin.take());
        janitor.wait()?;
    }
    Ok(())
}

fn send(line: &str) -> Result<()> {
    let mut janitor = janitor();
    if janitor.is_none() {
        *janitor = Some(start_janitor().context("cannot start the shell that cleans up")?);
    }
    let pipe = janitor.as_mut().and_then(|janitor| janitor.stdin.as_mut());
    let pipe = pipe.context("the shell that cleans up has no pipe")?;
    pipe.write_all(line.as_bytes()).context("the shell that cleans up is gone")
}

fn janitor() -> MutexGuard<'static, Option<Child>> {
    static JANITOR: Mutex<Option<Child>> = Mutex::new(None);
    JANITOR.lock().unwrap_or_else(PoisonError::into_inner)
}

fn start_janitor() -> std::io::Result<Child> {
    let mut command = Command::new("sh");
    command.args(["-c", SCRIPT, "janitor"]).stdin(Stdio::piped());
    spawn_locked(command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0))
}
