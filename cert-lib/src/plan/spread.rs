//! Random choices that are derived from what they are about: the same after a crash and in every
//! replica.

use aws_lc_rs::digest;
use jiff::SignedDuration;

/// The part of a duration that a hash selects, from nothing to all of it.
pub(super) fn part(duration: SignedDuration, hash: u32) -> SignedDuration {
    SignedDuration::from_nanos_i128((duration.as_nanos() * i128::from(hash)) >> 32)
}

/// A hash as a number, the same for the same input.
#[must_use]
pub fn deterministic_hash(of: &[&[u8]]) -> u32 {
    let mut context = digest::Context::new(&digest::SHA256);
    for bytes in of {
        context.update(bytes);
        context.update(&[0]);
    }
    let hash = context.finish();
    hash.as_ref().iter().take(4).fold(0, |number, byte| number << 8 | u32::from(*byte))
}
