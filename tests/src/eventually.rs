//! Waiting for a condition, with a deadline and a message that shows the last thing seen.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use crate::processes::Ended;

/// What one look found.
#[derive(Debug)]
pub enum Look<T> {
    /// The condition holds.
    Done(T),
    /// It does not hold yet; what was seen instead.
    NotYet(String),
}

const PAUSE: Duration = Duration::from_millis(25);

/// Looks until the condition holds. An error of a look counts as "not yet": what is being waited for
/// may be a server that does not listen. Only [`Ended`] is final.
///
/// # Errors
/// The deadline passed, or a process that is needed has ended; the message says what was awaited and
/// what was seen last.
pub async fn eventually<T, F, Fut>(deadline: Duration, what: &str, mut look: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Look<T>>>,
{
    let began = Instant::now();
    let mut last = String::from("nothing was seen");
    while let Some(left) = deadline.checked_sub(began.elapsed()) {
        match tokio::time::timeout(left, look()).await {
            Ok(Ok(Look::Done(value))) => return Ok(value),
            Ok(Ok(Look::NotYet(seen))) => last = seen,
            Ok(Err(error)) if error.is::<Ended>() => return Err(error.context(what.to_owned())),
            Ok(Err(error)) => last = format!("{error:#}"),
            Err(_elapsed) => break,
        }
        tokio::time::sleep(PAUSE).await;
    }
    bail!("{what}: not within {deadline:?}; last seen: {last}")
}
