//! What tests of the plan begin with.

use super::*;
use crate::{
    model::request::{KeyChoice, Subject},
    solve::Owner,
};

/// As the manager has it unless it is told otherwise.
pub(super) const POLICY: Policy =
    Policy { renewal_window: SignedDuration::from_hours(720), renew_before_percentage: None };

/// example.org, and nothing said about when its certificate is renewed.
pub(super) fn want() -> Want {
    let subject = Subject::Names {
        common_name: Some("example.org".parse().unwrap()),
        dns_names: vec![],
        key: KeyChoice::default(),
    };
    let owner = Owner("default/cert".into());
    Want::new(Request::new(owner, Fingerprint::stored("wanted"), subject))
}
