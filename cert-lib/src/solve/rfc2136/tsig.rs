//! Transaction signatures of DNS messages (TSIG, RFC 8945): keys, signing, verification of answers.
//! Pure.
//!
//! Not here: HMAC-MD5 and truncated signatures, which RFC 8945 advises against.

use std::{fmt, str::FromStr};

use aws_lc_rs::hmac;
use base64::{Engine as _, alphabet, engine};
use zeroize::Zeroizing;

use super::wire::{self, TsigRecord};
use crate::model::name::{DnsName, NameError};

/// A key that the name server knows, too. Never prints the secret, which is overwritten when the
/// key is dropped.
#[derive(Clone)]
pub struct TsigKey {
    name: DnsName,
    algorithm: TsigAlgorithm,
    secret: hmac::Key,
}

/// How messages are signed. The texts are those of cert-manager.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TsigAlgorithm {
    /// `HMACSHA1`
    HmacSha1,
    /// `HMACSHA224`
    HmacSha224,
    /// `HMACSHA256`
    HmacSha256,
    /// `HMACSHA384`
    HmacSha384,
    /// `HMACSHA512`
    HmacSha512,
}

/// Why there is no key. Never quotes the secret.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TsigKeyError {
    /// The name is no DNS name.
    #[error("tsigKeyName is no valid key name: {0}")]
    Name(NameError),
    /// The algorithm is unknown or too weak.
    #[error(
        "tsigAlgorithm {0:?} is not supported: use HMACSHA1, HMACSHA224, HMACSHA256, HMACSHA384 or \
         HMACSHA512, as configured at the name server"
    )]
    Algorithm(String),
    /// The secret is empty.
    #[error("the TSIG secret is empty: store the base64 text that tsig-keygen prints")]
    Empty,
    /// The secret is not base64.
    #[error("the TSIG secret is not base64: store the base64 text that tsig-keygen prints")]
    NotBase64,
    /// The secret is too long.
    #[error("the TSIG secret is longer than {MAX_SECRET} characters")]
    TooLong,
}

/// A signed message.
pub(super) struct Signed {
    pub wire: Vec<u8>,
    /// The signature, which that of the answer covers.
    pub mac: Vec<u8>,
}

/// Why the signature of an answer does not count.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Flaw {
    /// Signed with another key or algorithm.
    OtherKey,
    /// The signature is wrong: the answer was changed, or is for another message.
    BadMac,
    /// Signed at a time too far from ours.
    BadTime {
        /// By how many seconds the server's clock is ahead of ours.
        ahead: i64,
    },
}

impl TsigKey {
    /// The key `name` with `secret`, base64 as tsig-keygen prints it. White space in it is ignored.
    ///
    /// # Errors
    /// When the name or the secret is invalid.
    pub fn new(name: &str, algorithm: TsigAlgorithm, secret: &str) -> Result<Self, TsigKeyError> {
        let name = name.trim().parse().map_err(TsigKeyError::Name)?;
        if secret.len() > MAX_SECRET {
            return Err(TsigKeyError::TooLong);
        }
        let mut text = Zeroizing::new(Vec::with_capacity(secret.len()));
        text.extend(secret.bytes().filter(|byte| !byte.is_ascii_whitespace()));
        // Decoded into reserved space, so that no copy stays behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(secret.len()));
        BASE64.decode_vec(text.as_slice(), &mut bytes).map_err(|_| TsigKeyError::NotBase64)?;
        if bytes.is_empty() {
            return Err(TsigKeyError::Empty);
        }
        let secret = hmac::Key::new(algorithm.hmac(), &bytes);
        Ok(Self { name, algorithm, secret })
    }

    /// Name of the key.
    #[must_use]
    pub fn name(&self) -> &DnsName {
        &self.name
    }

    /// Algorithm of the signatures.
    #[must_use]
    pub fn algorithm(&self) -> TsigAlgorithm {
        self.algorithm
    }

    /// Signs `message` at `now`, seconds since 1970; `None` if it is no message or is full.
    pub(super) fn sign(&self, message: &[u8], now: u64) -> Option<Signed> {
        let original_id = u16::from_be_bytes(message.get(..2)?.try_into().ok()?);
        let additionals = u16::from_be_bytes(message.get(10..12)?.try_into().ok()?);
        let record = TsigRecord {
            key: wire::name(&self.name),
            algorithm: wire::labels(self.algorithm.wire_name()),
            time: now & MAX_TIME,
            fudge: FUDGE,
            mac: Vec::new(),
            original_id,
            error: 0,
            other: Vec::new(),
        };
        let mac = hmac::sign(&self.secret, &[message, &variables(&record)].concat());
        let mut wire = message.to_vec();
        wire.get_mut(10..12)?.copy_from_slice(&additionals.checked_add(1)?.to_be_bytes());
        let record = TsigRecord { mac: mac.as_ref().to_vec(), ..record };
        wire.extend(record_wire(&record)?);
        Some(Signed { wire, mac: record.mac })
    }

    /// Checks the signature `record` of the answer `message`, as split off, to the request with the
    /// signature `request`, at `now` (RFC 8945 sections 5.2 and 5.3).
    pub(super) fn verify(
        &self,
        request: &[u8],
        message: &[u8],
        record: &TsigRecord,
        now: u64,
    ) -> Result<(), Flaw> {
        let algorithm = wire::labels(self.algorithm.wire_name());
        if record.key != wire::name(&self.name) || record.algorithm != algorithm {
            return Err(Flaw::OtherKey);
        }
        let length = u16::try_from(request.len()).map_err(|_| Flaw::BadMac)?.to_be_bytes();
        let id = record.original_id.to_be_bytes();
        let rest = message.get(2..).ok_or(Flaw::BadMac)?;
        let signed = [&length, request, &id, rest, &variables(record)].concat();
        // Compares in constant time, and the whole signature.
        hmac::verify(&self.secret, &signed, &record.mac).map_err(|_| Flaw::BadMac)?;
        if record.time.abs_diff(now) > u64::from(FUDGE) {
            return Err(Flaw::BadTime { ahead: ahead(record.time, now) });
        }
        Ok(())
    }
}

#[cfg(test)]
impl TsigKey {
    /// Signs the answer `message` to the request with the signature `request`, as a server does.
    pub(super) fn sign_answer(&self, request: &[u8], message: &[u8], now: u64) -> Vec<u8> {
        let mut record = TsigRecord {
            key: wire::name(&self.name),
            algorithm: wire::labels(self.algorithm.wire_name()),
            time: now,
            fudge: FUDGE,
            mac: Vec::new(),
            original_id: u16::from_be_bytes(message[..2].try_into().unwrap()),
            error: 0,
            other: Vec::new(),
        };
        let length = u16::try_from(request.len()).unwrap().to_be_bytes();
        let signed = [&length, request, message, &variables(&record)].concat();
        record.mac = hmac::sign(&self.secret, &signed).as_ref().to_vec();
        let mut wire = message.to_vec();
        wire[11] += 1;
        wire.extend(record_wire(&record).unwrap());
        wire
    }
}

/// By how many seconds `theirs` is ahead of `ours`.
pub(super) fn ahead(theirs: u64, ours: u64) -> i64 {
    let seconds = |time: u64| i64::try_from(time).unwrap_or(i64::MAX);
    seconds(theirs).saturating_sub(seconds(ours))
}

/// The signed fields of a TSIG record (RFC 8945 section 4.3.3).
fn variables(record: &TsigRecord) -> Vec<u8> {
    let mut bytes = record.key.clone();
    bytes.extend(CLASS_ANY.to_be_bytes());
    bytes.extend(0_u32.to_be_bytes());
    bytes.extend(&record.algorithm);
    bytes.extend(record.time.to_be_bytes().iter().skip(2));
    bytes.extend(record.fudge.to_be_bytes());
    bytes.extend(record.error.to_be_bytes());
    bytes.extend(u16::try_from(record.other.len()).unwrap_or(u16::MAX).to_be_bytes());
    bytes.extend(&record.other);
    bytes
}

/// A TSIG record as it is sent (RFC 8945 section 4.2).
fn record_wire(record: &TsigRecord) -> Option<Vec<u8>> {
    let mut data = record.algorithm.clone();
    data.extend(record.time.to_be_bytes().iter().skip(2));
    data.extend(record.fudge.to_be_bytes());
    data.extend(u16::try_from(record.mac.len()).ok()?.to_be_bytes());
    data.extend(&record.mac);
    data.extend(record.original_id.to_be_bytes());
    data.extend(record.error.to_be_bytes());
    data.extend(u16::try_from(record.other.len()).ok()?.to_be_bytes());
    data.extend(&record.other);
    let mut wire = record.key.clone();
    wire.extend(wire::TSIG.to_be_bytes());
    wire.extend(CLASS_ANY.to_be_bytes());
    wire.extend(0_u32.to_be_bytes());
    wire.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
    wire.extend(data);
    Some(wire)
}

impl TsigAlgorithm {
    /// All algorithms.
    pub const ALL: [Self; 5] =
        [Self::HmacSha1, Self::HmacSha224, Self::HmacSha256, Self::HmacSha384, Self::HmacSha512];

    /// The text that users write.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HmacSha1 => "HMACSHA1",
            Self::HmacSha224 => "HMACSHA224",
            Self::HmacSha256 => "HMACSHA256",
            Self::HmacSha384 => "HMACSHA384",
            Self::HmacSha512 => "HMACSHA512",
        }
    }

    /// RFC 8945 section 6.
    fn wire_name(self) -> &'static str {
        match self {
            Self::HmacSha1 => "hmac-sha1",
            Self::HmacSha224 => "hmac-sha224",
            Self::HmacSha256 => "hmac-sha256",
            Self::HmacSha384 => "hmac-sha384",
            Self::HmacSha512 => "hmac-sha512",
        }
    }

    fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::HmacSha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::HmacSha224 => hmac::HMAC_SHA224,
            Self::HmacSha256 => hmac::HMAC_SHA256,
            Self::HmacSha384 => hmac::HMAC_SHA384,
            Self::HmacSha512 => hmac::HMAC_SHA512,
        }
    }
}

impl FromStr for TsigAlgorithm {
    type Err = TsigKeyError;

    /// Ignores case, as cert-manager does.
    fn from_str(text: &str) -> Result<Self, TsigKeyError> {
        let found = Self::ALL.into_iter().find(|it| text.eq_ignore_ascii_case(it.as_str()));
        found.ok_or_else(|| TsigKeyError::Algorithm(text.chars().take(40).collect()))
    }
}

impl fmt::Display for TsigAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for TsigKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TsigKey({}, {})", self.name, self.algorithm)
    }
}

const BASE64: engine::GeneralPurpose = engine::GeneralPurpose::new(
    &alphabet::STANDARD,
    engine::GeneralPurposeConfig::new()
        .with_decode_padding_mode(engine::DecodePaddingMode::Indifferent),
);
const CLASS_ANY: u16 = 255;
/// Recommended by RFC 8945 section 10.
const FUDGE: u16 = 300;
/// Times have 48 bits.
const MAX_TIME: u64 = (1 << 48) - 1;
/// Longest text of a secret; that of the longest useful key has 172 characters.
const MAX_SECRET: usize = 4096;

#[cfg(test)]
mod tests;
