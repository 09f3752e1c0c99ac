//! Whether a cluster answers, learnt from the calls that are made anyway.

use jiff::Timestamp;
use tokio::sync::watch;
use tracing::{info, warn};

/// Whether an API server answers.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Reachability {
    /// Nothing was asked yet.
    #[default]
    Unknown,
    /// The last call was answered, be it with a refusal.
    Reachable,
    /// Calls are not answered.
    Away {
        /// Since the first such call.
        since: Timestamp,
        /// What the last one met.
        why: String,
    },
}

impl Reachability {
    /// What is known after a call that was answered, or failed for this reason.
    fn after(&self, call: Result<(), String>, now: Timestamp) -> Self {
        match (self, call) {
            (_, Ok(())) => Self::Reachable,
            (Self::Away { since, .. }, Err(why)) => Self::Away { since: *since, why },
            (Self::Unknown | Self::Reachable, Err(why)) => Self::Away { since: now, why },
        }
    }
}

/// The reachability of one API server, and its name in the log.
pub(super) struct Health {
    known: watch::Sender<Reachability>,
}

impl Health {
    pub(super) fn new() -> Self {
        Self { known: watch::Sender::new(Reachability::Unknown) }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Reachability> {
        self.known.subscribe()
    }

    /// Notes what a call met. `name` is for the log.
    pub(super) fn note(&self, name: impl Fn() -> String, call: Result<(), String>) {
        if call.is_ok() && matches!(*self.known.borrow(), Reachability::Reachable) {
            return;
        }
        let now = Timestamp::now();
        self.known.send_if_modified(|known| {
            let next = known.after(call, now);
            match (&*known, &next) {
                (Reachability::Away { since, .. }, Reachability::Reachable) => {
                    let seconds = now.duration_since(*since).as_secs();
                    info!("{} answers again, after {seconds} s", name());
                }
                (
                    Reachability::Unknown | Reachability::Reachable,
                    Reachability::Away { why, .. },
                ) => {
                    warn!("{} does not answer: {why}", name());
                }
                _ => {}
            }
            let changed = *known != next;
            *known = next;
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_answer_is_one_and_an_absence_lasts_since_its_first_failure() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let away = |since, why: &str| Reachability::Away { since: at(since), why: why.into() };
        let (unknown, reachable) = (Reachability::Unknown, Reachability::Reachable);
        for (known, call, next) in [
            (&unknown, Ok(()), reachable.clone()),
            (&unknown, Err("refused"), away(9, "refused")),
            (&reachable, Ok(()), reachable.clone()),
            (&reachable, Err("refused"), away(9, "refused")),
            (&away(5, "refused"), Err("timeout"), away(5, "timeout")),
            (&away(5, "refused"), Ok(()), reachable.clone()),
        ] {
            assert_eq!(known.after(call.map_err(Into::into), at(9)), next, "{known:?}");
        }
    }
}
