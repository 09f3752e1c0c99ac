//! What must happen after a failure before another attempt can succeed.

use jiff::Timestamp;

/// What must happen before another attempt can succeed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Disposition {
    /// Nothing: try again on this schedule.
    Retry(RetrySchedule),
    /// Time must pass: the CA named this instant.
    Until(Timestamp),
    /// The issuer must be changed.
    FixIssuer,
    /// The request must be changed.
    FixRequest,
}

/// How fast to try again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RetrySchedule {
    /// The network or the CA failed for a moment: seconds to minutes.
    Transport,
    /// The CA did not accept a proof: 1, 10, 100 minutes, then daily, which stays below Let's
    /// Encrypt's five failures per name and hour.
    Validation,
    /// The CA refuses everything until a person has acted elsewhere: once a day.
    Daily,
}
