//! Problems of the keystores of a ready Secret, for messages.

use super::keystores::KeystoreState;

/// Why the keystores of a ready Secret are missing or outdated.
#[must_use]
pub fn keystore_problem(keystores: &KeystoreState) -> Option<&str> {
    match keystores {
        KeystoreState::Unable(why) => Some(why),
        KeystoreState::Current | KeystoreState::Outdated => None,
    }
}

/// The message of a ready certificate, with the problem of its keystores.
#[must_use]
pub fn with_keystore_problem(message: String, error: Option<&str>) -> String {
    match error {
        Some(why) => format!("{message}; its keystores are not up to date: {why}"),
        None => message,
    }
}
