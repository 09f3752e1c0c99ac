//! A pool of nonces (RFC 8555 section 6.5). Every reply of the CA brings one. The newest is used
//! first, because CAs expire old ones.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use ::http::Response;
use bytes::Bytes;

/// The pool.
#[derive(Debug, Default)]
pub(super) struct Nonces(Mutex<VecDeque<String>>);

impl Nonces {
    /// Takes the newest.
    pub(super) fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_back()
    }

    /// Keeps `nonce`, if there is one, and drops the oldest when there are too many.
    pub(super) fn put(&self, nonce: Option<String>) {
        let Some(nonce) = nonce else { return };
        let mut pool = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.len() >= MAX_NONCES {
            pool.pop_front();
        }
        pool.push_back(nonce);
    }
}

/// The nonce of a response. One with characters outside of base64url must be ignored (section
/// 6.5.1).
pub(super) fn of(response: &Response<Bytes>) -> Option<String> {
    let text = response.headers().get("replay-nonce")?.to_str().ok()?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let is_short = (1..=MAX_LENGTH).contains(&text.len());
    (is_short && text.chars().all(allowed)).then(|| text.to_owned())
}

const MAX_NONCES: usize = 64;
/// CAs use less than a hundred bytes.
const MAX_LENGTH: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::scripted::reply;

    #[test]
    fn the_newest_nonce_is_used_first_and_the_oldest_are_dropped() {
        let nonces = Nonces::default();
        for number in 0..100 {
            nonces.put(Some(number.to_string()));
        }
        nonces.put(None);
        let taken: Vec<_> = std::iter::from_fn(|| nonces.take()).collect();
        assert_eq!((taken.len(), taken[0].as_str(), taken[63].as_str()), (64, "99", "36"));
    }

    #[test]
    fn a_nonce_that_is_not_base64url_is_ignored() {
        assert_eq!(of(&reply(200).nonce("Ab-_9").empty()), Some("Ab-_9".to_owned()));
        for text in ["", "a b", "a=", "a+/", &"a".repeat(MAX_LENGTH + 1)] {
            assert_eq!(of(&reply(200).nonce(text).empty()), None, "{text}");
        }
    }
}
