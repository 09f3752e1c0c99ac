//! Whether a cluster answers, learnt from the calls that are made anyway.

use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tracing::{info, warn};

/// Whether an API server answers.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Reachability {
    /// Nothing was asked yet.
    #[default]
    Unknown,
    /// It answers, and accepts us.
    Reachable,
    /// The server answers and accepts nothing of what we ask.
    Refused {
        /// Since the first such answer.
        since: Timestamp,
        /// What the last one was.
        why: String,
    },
    /// Calls are not answered.
    Away {
        /// Since the first such call.
        since: Timestamp,
        /// What the last one met.
        why: String,
    },
}

/// What a call met.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum ServerResponse {
    /// An answer that says that we are somebody: also an error about the object.
    Accepted,
    /// An answer to a question that everybody may ask.
    Answered,
    /// 403, with what was asked.
    Forbidden(String),
    /// 401, or no credential could be had; with the reason.
    Unauthorized(String),
    /// No answer, with the reason.
    Nothing(String),
}

/// A right that is missing is reported where it is missed. Refusals of everything are reported here: so many of them, for so
/// long, with nothing accepted in between.
const REFUSALS: u32 = 5;
const REFUSED_FOR: SignedDuration = SignedDuration::from_secs(30);

/// What is known, and what it rests on.
#[derive(Debug, Default)]
struct Known {
    /// Calls that were forbidden since the last one that was accepted, and when the first of them was.
    forbidden: Option<(u32, Timestamp)>,
}

impl Known {
    /// What is known after a call.
    fn after(&mut self, known: &Reachability, met: ServerResponse, now: Timestamp) -> Reachability {
        use Reachability::{Away, Reachable, Refused, Unknown};
        match met {
            ServerResponse::Accepted => {
                self.forbidden = None;
                Reachable
            }
            // It does not tell whether we may do anything.
            ServerResponse::Answered
                if self.forbidden.is_some() && matches!(known, Refused { .. }) =>
            {
                known.clone()
            }
            ServerResponse::Answered => Reachable,
            ServerResponse::Forbidden(why) => {
                let (calls, first) = self.forbidden.unwrap_or((0, now));
                self.forbidden = Some((calls.saturating_add(1), first));
                let lasts = calls + 1 >= REFUSALS && now.duration_since(first) >= REFUSED_FOR;
                match known {
                    Refused { since, .. } => Refused { since: *since, why },
                    Reachable | Unknown | Away { .. } if lasts => Refused { since: first, why },
                    Reachable | Unknown | Away { .. } => Reachable,
                }
            }
            ServerResponse::Unauthorized(why) => match known {
                Refused { since, .. } => Refused { since: *since, why },
                Reachable | Unknown | Away { .. } => Refused { since: now, why },
            },
            ServerResponse::Nothing(why) => match known {
                Away { since, .. } => Away { since: *since, why },
                Reachable | Unknown | Refused { .. } => Away { since: now, why },
            },
        }
    }
}

/// The reachability of one API server, and its name in the log.
pub(super) struct Health {
    known: watch::Sender<Reachability>,
    rests_on: Mutex<Known>,
}

impl Health {
    pub(super) fn new() -> Self {
        Self { known: watch::Sender::new(Reachability::Unknown), rests_on: Mutex::default() }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Reachability> {
        self.known.subscribe()
    }

    /// Notes what a call met. `name` is for the log.
    pub(super) fn note(&self, name: impl Fn() -> String, met: ServerResponse) {
        let mut rests_on = self.rests_on.lock().unwrap_or_else(PoisonError::into_inner);
        let reachable = matches!(*self.known.borrow(), Reachability::Reachable);
        if met == ServerResponse::Accepted && reachable && rests_on.forbidden.is_none() {
            return;
        }
        let now = Timestamp::now();
        self.known.send_if_modified(|known| {
            let next = rests_on.after(known, met, now);
            report(known, &next, now, name);
            let changed = *known != next;
            *known = next;
            changed
        });
    }
}

fn report(known: &Reachability, next: &Reachability, now: Timestamp, name: impl Fn() -> String) {
    use Reachability::{Away, Reachable, Refused, Unknown};
    match (known, next) {
        (Away { since, .. }, Reachable | Refused { .. }) => {
            let seconds = now.duration_since(*since).as_secs();
            info!("{} answers again, after {seconds} s", name());
        }
        (Refused { since, .. }, Reachable) => {
            let seconds = now.duration_since(*since).as_secs();
            info!("{} accepts us again, after {seconds} s", name());
        }
        (Unknown | Reachable | Refused { .. }, Away { why, .. }) => {
            warn!("{} does not answer: {why}", name());
        }
        _ => {}
    }
    if let (Unknown | Reachable | Away { .. }, Refused { why, .. }) = (known, next) {
        warn!("{} refuses us: {why}", name());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_absences_and_refusals_last_since_the_first_of_their_kind() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let away = |since, why: &str| Reachability::Away { since: at(since), why: why.into() };
        let refused =
            |since, why: &str| Reachability::Refused { since: at(since), why: why.into() };
        let (unknown, reachable) = (Reachability::Unknown, Reachability::Reachable);
        for (known, met, next) in [
            (&unknown, ServerResponse::Accepted, reachable.clone()),
            (&unknown, ServerResponse::Nothing("a".into()), away(9, "a")),
            (&reachable, ServerResponse::Nothing("a".into()), away(9, "a")),
            (&away(5, "a"), ServerResponse::Nothing("b".into()), away(5, "b")),
            (&away(5, "a"), ServerResponse::Answered, reachable.clone()),
            (&away(5, "a"), ServerResponse::Accepted, reachable.clone()),
            (&away(5, "a"), ServerResponse::Unauthorized("u".into()), refused(9, "u")),
            (&reachable, ServerResponse::Unauthorized("u".into()), refused(9, "u")),
            (&reachable, ServerResponse::Forbidden("f".into()), reachable.clone()),
            (&refused(5, "u"), ServerResponse::Unauthorized("v".into()), refused(5, "v")),
            (&refused(5, "u"), ServerResponse::Answered, reachable.clone()),
            (&refused(5, "u"), ServerResponse::Nothing("a".into()), away(9, "a")),
        ] {
            let mut rests_on = Known::default();
            assert_eq!(rests_on.after(known, met.clone(), at(9)), next, "{known:?} {met:?}");
        }
    }

    #[test]
    fn a_missing_right_is_no_refusal_and_the_lack_of_all_of_them_is() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let forbidden = || ServerResponse::Forbidden("GET /api/v1/secrets".into());
        let mut rests_on = Known::default();
        let mut known = Reachability::Reachable;
        for second in 0..40 {
            known = rests_on.after(&known, forbidden(), at(second));
            let refused = matches!(known, Reachability::Refused { .. });
            assert_eq!(refused, second >= 30, "{second}");
        }
        known = rests_on.after(&known, ServerResponse::Answered, at(41));
        assert!(matches!(known, Reachability::Refused { .. }), "everybody may ask for the version");
        known = rests_on.after(&known, ServerResponse::Accepted, at(42));
        assert_eq!(rests_on.after(&known, forbidden(), at(100)), Reachability::Reachable);
    }
}
