//! Ends child processes and removes directories however this process ends.
//!
//! A shared test environment lives in a static, which is never dropped, and a test may be killed. So a small shell
//! holds the other end of a pipe: when this process is gone, whatever the reason, the pipe closes, and
//! the shell kills the processes and removes the directories that it was told of.

use std::{
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context as _, Result};

use crate::processes::begin;

const SCRIPT: &str = r#"
trap '' HUP INT TERM
pids=
while read -r word value; do
  case $word in
    own) pids="$pids $value" ;;
    disown)
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

/// The process with this id dies with us.
pub(crate) fn own(pid: u32) -> Result<()> {
    tell(&format!("own {pid}\n"))
}

/// The process with this id has ended and been waited for: its id may be somebody else's from now on.
pub(crate) fn disown(pid: u32) -> Result<()> {
    tell(&format!("disown {pid}\n"))
}

/// The directory is removed when we are gone.
pub(crate) fn remove(directory: &Path) -> Result<()> {
    tell(&format!("remove {}\n", directory.display()))
}

/// Has everything cleaned up now and waits for it: for programs, so that nothing is left of them when
/// they have ended.
///
/// # Errors
/// The shell cannot be waited for.
pub fn finish() -> Result<()> {
    if let Some(mut janitor) = hired().take() {
        drop(janitor.stdin.take());
        janitor.wait()?;
    }
    Ok(())
}

fn tell(line: &str) -> Result<()> {
    let mut hired = hired();
    if hired.is_none() {
        *hired = Some(hire().context("cannot start the shell that cleans up")?);
    }
    let pipe = hired.as_mut().and_then(|janitor| janitor.stdin.as_mut());
    let pipe = pipe.context("the shell that cleans up has no pipe")?;
    pipe.write_all(line.as_bytes()).context("the shell that cleans up is gone")
}

fn hired() -> MutexGuard<'static, Option<Child>> {
    static HIRED: Mutex<Option<Child>> = Mutex::new(None);
    HIRED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn hire() -> std::io::Result<Child> {
    let mut command = Command::new("sh");
    command.args(["-c", SCRIPT, "janitor"]).stdin(Stdio::piped());
    begin(command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0))
}
