//! What an order waits for, with its text for users.

use std::fmt;

use jiff::Timestamp;

/// What an order waits for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Phase {
    /// The order is placed; its progress must be stored before it goes on.
    Ordered,
    /// The proofs are published, but not visible on all name servers yet; the text names one.
    Propagating(String),
    /// The CA checks the proofs.
    Validating,
    /// The CA signs.
    Signing,
    /// The CA takes unusually long; the order was placed at this instant.
    Delayed(Timestamp),
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ordered => f.write_str("certificate requested, preparing DNS01 challenge"),
            Self::Propagating(why) => {
                write!(f, "certificate requested, waiting for DNS01 challenge: {why}")
            }
            Self::Validating => {
                f.write_str("certificate requested, waiting for the CA to validate the challenge")
            }
            Self::Signing => f.write_str("certificate requested, waiting for the CA to sign"),
            Self::Delayed(since) => {
                write!(f, "certificate requested on {since:.0}, and the CA is not done with it yet")
            }
        }
    }
}
