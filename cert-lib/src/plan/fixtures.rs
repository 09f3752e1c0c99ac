//! What tests of the plan begin with: a certificate that is wanted, and nothing in its way.

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
    Want {
        request: Ok(Request::new(owner, Fingerprint::stored("wanted"), subject)),
        renew: false,
        renewed_after: None,
        renew_before: None,
        renew_before_percentage: None,
        renewal_windows: vec![],
    }
}

/// Everybody is ready, no order runs, and nothing is held back.
pub(super) fn have(secret: SecretState) -> Have {
    Have {
        responsible: true,
        rival: None,
        issuer: IssuerState::Ready,
        running: None,
        secret,
        backoff: None,
        quota: Quota::Open,
        brake: Brake::Off,
        slot: Slot::Free,
    }
}
