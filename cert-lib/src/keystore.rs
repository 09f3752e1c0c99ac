//! Keystores: key, certificate and chain under a password, in the two forms that Java reads.
//!
//! Bytes come out of a [`Material`] and a [`Password`]. They are salted, so the same twice is not the
//! same bytes: whoever wants to know whether a keystore is the right one asks `opens`, which costs no
//! more than the check of a password and never looks at what is inside.

pub mod jks;
pub mod pkcs12;

use std::fmt;

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::model::{
    bundle::Bundle,
    key::{KeyError, PrivateKey},
};

/// Alias of the key and its chain, as upstream has it.
const CERTIFICATE: &str = "certificate";
/// Alias of the CA's certificate, as upstream has it.
const CA: &str = "ca";
/// Longest password, in characters.
const MAX_PASSWORD: usize = 256;

/// What a keystore is made of.
#[derive(Debug)]
pub struct KeystoreContent<'a> {
    /// Key, certificate and chain.
    pub bundle: &'a Bundle,
    /// The CA's certificates. The first is the one to be trusted.
    pub ca: &'a [CertificateDer<'static>],
    /// When its entries count as made.
    pub created: Timestamp,
}

impl KeystoreContent<'_> {
    fn key(&self) -> Result<&PrivateKey, KeystoreError> {
        self.bundle.key.as_ref().ok_or(KeystoreError::NoKey)
    }

    /// The certificate that a truststore holds.
    fn trusted(&self) -> Result<&CertificateDer<'static>, KeystoreError> {
        self.ca.first().ok_or(KeystoreError::NoCa)
    }
}

/// The password of a keystore. Prints nothing in `Debug` and is wiped when dropped.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

/// Why there is no keystore.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeystoreError {
    /// The password is empty: Java and openssl disagree on what that means.
    #[error("the password is empty")]
    NoPassword,
    /// The password is no text.
    #[error("the password is not UTF-8")]
    NotText,
    /// PKCS#12 writes passwords in two bytes a letter (RFC 7292 appendix B.1).
    #[error("a PKCS#12 keystore cannot have a password with letters beyond the Unicode plane 0")]
    BeyondBmp,
    /// The password is too long.
    #[error("the password is longer than {MAX_PASSWORD} characters")]
    TooLong,
    /// The private key is with whoever made the signing request.
    #[error("there is no private key to put into a keystore")]
    NoKey,
    /// There is nothing to trust.
    #[error("there is no certificate of the CA to put into a truststore")]
    NoCa,
    /// The format cannot hold it.
    #[error("the keystore cannot be made: {0}")]
    Format(String),
}

impl From<KeyError> for KeystoreError {
    fn from(error: KeyError) -> Self {
        Self::Format(error.to_string())
    }
}

impl Password {
    /// Takes a password as it is, line ends included.
    ///
    /// # Errors
    /// When it is empty, no text, or too long.
    pub fn new(bytes: &[u8]) -> Result<Self, KeystoreError> {
        let text = std::str::from_utf8(bytes).map_err(|_| KeystoreError::NotText)?;
        match text.chars().take(MAX_PASSWORD + 1).count() {
            0 => Err(KeystoreError::NoPassword),
            1..=MAX_PASSWORD => Ok(Self(Zeroizing::new(text.to_owned()))),
            _ => Err(KeystoreError::TooLong),
        }
    }

    /// Whether a PKCS#12 keystore can have it.
    ///
    /// # Errors
    /// When it has letters that the format has no form for.
    pub fn for_pkcs12(self) -> Result<Self, KeystoreError> {
        match self.0.chars().all(|letter| u32::from(letter) <= 0xffff) {
            true => Ok(self),
            false => Err(KeystoreError::BeyondBmp),
        }
    }

    fn text(&self) -> &str {
        &self.0
    }

    /// The UTF-16 code units, high byte first, as Java's older formats have it.
    fn utf16(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(2 * self.0.len() + 2));
        self.0.encode_utf16().for_each(|unit| bytes.extend(unit.to_be_bytes()));
        bytes
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

#[cfg(test)]
mod tests;
