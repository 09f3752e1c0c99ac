//! Fixtures for tests of the plan.

use super::*;
use crate::{
    model::request::{Fingerprint, KeyChoice, Request, Subject},
    solve::Owner,
};

/// The defaults of the manager.
pub(super) const POLICY: Policy =
    Policy { renewal_window: SignedDuration::from_hours(720), renew_before_percentage: None };

/// A certificate for example.org with default renewal settings.
pub(super) fn want() -> Want {
    let subject = Subject::Names {
        common_name: Some("example.org".parse().unwrap()),
        dns_names: vec![],
        key: KeyChoice::default(),
    };
    let owner = Owner("default/cert".into());
    Want::new(Request::new(owner, Fingerprint::stored("wanted"), subject))
}
