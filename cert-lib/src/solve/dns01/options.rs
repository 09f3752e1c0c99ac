//! The options of a propagation check. Pure.

use jiff::SignedDuration;

use super::nameserver::Nameserver;

/// How a solver checks that its records are visible. The default asks the authoritative servers.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PropagationOptions {
    /// What is checked.
    pub check: Check,
    /// The servers of the check; without any, the resolvers of this machine are used.
    pub nameservers: Vec<Nameserver>,
    /// For [`Check::Wait`], the time from publication to the challenge. Otherwise an additional
    /// delay after the values are visible.
    pub wait: Option<SignedDuration>,
    /// How long the values may stay invisible before the order fails; that of the issuer if unset.
    pub timeout: Option<SignedDuration>,
}

/// What a check requires.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Check {
    /// All authoritative servers of the zone that can be reached have the values. The name servers
    /// are recursive resolvers that find the zone.
    #[default]
    Authoritative,
    /// As [`Authoritative`](Self::Authoritative), and then all name servers, which are recursive
    /// resolvers, have the values. They are not asked before, because they would cache the absence
    /// of the name. Where no authoritative server can be reached, they are asked when `wait` has
    /// passed.
    Resolvers,
    /// The time `wait` has passed. Nothing is looked up.
    Wait,
    /// Nothing.
    None,
    /// All name servers have the values, whether they are authoritative or recursive; no other
    /// server is asked. Without any, as [`Authoritative`](Self::Authoritative). This is how
    /// `--precheck-nameservers` works.
    Nameservers,
}

/// Why options cannot work.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PropagationOptionsError {
    /// Time does not go backwards.
    #[error("wait must not be negative: correct it or remove it")]
    NegativeWait,
    /// Each order would fail at once.
    #[error("timeout must be longer than zero: correct it or remove it")]
    NoTimeout,
    /// No order could be finished.
    #[error(
        "timeout ({timeout} s) is not longer than wait ({wait} s), so each order would fail: \
         increase timeout"
    )]
    TimeoutWithinWait {
        /// The timeout in seconds.
        timeout: i64,
        /// The wait in seconds.
        wait: i64,
    },
    /// Each check asks all servers.
    #[error(
        "nameservers has {0} servers, and each check asks all of them: use at most {MAX_NAMESERVERS}"
    )]
    TooManyNameservers(usize),
}

impl PropagationOptions {
    /// Refuses options that cannot work.
    ///
    /// # Errors
    /// See [`PropagationOptionsError`].
    pub fn validate(&self) -> Result<(), PropagationOptionsError> {
        if self.nameservers.len() > MAX_NAMESERVERS {
            return Err(PropagationOptionsError::TooManyNameservers(self.nameservers.len()));
        }
        if self.wait.is_some_and(|wait| wait.is_negative()) {
            return Err(PropagationOptionsError::NegativeWait);
        }
        let Some(timeout) = self.timeout else { return Ok(()) };
        if timeout <= SignedDuration::ZERO {
            return Err(PropagationOptionsError::NoTimeout);
        }
        match self.delay() {
            Some(wait) if timeout <= wait => Err(PropagationOptionsError::TimeoutWithinWait {
                timeout: timeout.as_secs(),
                wait: wait.as_secs(),
            }),
            _ => Ok(()),
        }
    }

    /// The delay that passes in any case.
    pub(super) fn delay(&self) -> Option<SignedDuration> {
        match self.check {
            Check::None => None,
            Check::Wait => Some(self.wait_from_publication()),
            Check::Authoritative | Check::Resolvers | Check::Nameservers => self.wait,
        }
    }

    /// The delay from publication to a result without authoritative servers.
    pub(super) fn wait_from_publication(&self) -> SignedDuration {
        self.wait.unwrap_or(DEFAULT_WAIT)
    }
}

/// How long to wait after the values are visible: as configured, or else nothing if authoritative
/// servers were asked, and the lifetime of caches if not.
#[must_use]
pub fn additional_wait(configured: Option<SignedDuration>, authoritative: bool) -> SignedDuration {
    match (configured, authoritative) {
        (Some(wait), _) => wait,
        (None, true) => SignedDuration::ZERO,
        (None, false) => WAIT_BEHIND_CACHES,
    }
}

const WAIT_BEHIND_CACHES: SignedDuration = SignedDuration::from_secs(10);
/// Longer than most DNS providers need, and shorter than the default timeout.
const DEFAULT_WAIT: SignedDuration = SignedDuration::from_secs(60);
/// Bounds the cost of each check.
const MAX_NAMESERVERS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_cannot_work_are_refused_with_the_field() {
        let seconds = |seconds: i64| Some(SignedDuration::from_secs(seconds));
        let options = |check, wait, timeout| PropagationOptions {
            check,
            wait,
            timeout,
            ..PropagationOptions::default()
        };
        let many = vec!["10.0.0.1".parse().unwrap(); 17];
        for (options, want) in [
            (PropagationOptions::default(), "accepted"),
            (options(Check::Authoritative, seconds(0), seconds(1)), "accepted"),
            (options(Check::Resolvers, seconds(60), None), "accepted"),
            (options(Check::None, seconds(60), seconds(10)), "accepted"),
            (options(Check::Resolvers, seconds(-1), None), "wait must not be negative"),
            (options(Check::Resolvers, None, seconds(0)), "timeout must be longer than zero"),
            (
                options(Check::Wait, None, seconds(60)),
                "timeout (60 s) is not longer than wait (60 s)",
            ),
            (options(Check::Authoritative, seconds(20), seconds(10)), "(10 s) is not longer than"),
            (
                PropagationOptions { nameservers: many, ..PropagationOptions::default() },
                "nameservers has 17 servers",
            ),
        ] {
            let result =
                options.validate().map_or_else(|error| error.to_string(), |()| "accepted".into());
            assert!(result.contains(want), "{options:?}: {result}");
        }
    }
}
