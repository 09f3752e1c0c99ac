//! Waits for a condition, with a deadline and a message that shows the last observation.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use crate::processes::Ended;

/// The result of one check.
#[derive(Debug)]
pub enum Look<T> {
    /// The condition holds.
    Done(T),
    /// It does not hold yet; the observation.
    NotYet(String),
}

const PAUSE: Duration = Duration::from_millis(25);

/// Checks until the condition holds. An error of a check counts as "not yet": the awaited thing may
/// be a server that does not listen. Only [`Ended`] is final.
///
/// # Errors
/// The deadline passed, or a required process has ended. The message names the condition and the
/// last observation.
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
