//! Keystores: key, certificate and chain, protected by a password, in the two formats that Java
//! reads.
//!
//! Written from a [`KeystoreContent`] and a [`Password`]. Keystores are salted, so two with the
//! same content differ in their bytes. To find out whether a keystore has a password, use `opens`:
//! it checks the password only and does not read the content.

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

/// The content of a keystore.
#[derive(Debug)]
pub struct KeystoreContent<'a> {
    /// Key, certificate and chain.
    pub bundle: &'a Bundle,
    /// The CA's certificates. The first is the one to be trusted.
    pub ca: &'a [CertificateDer<'static>],
    /// Creation time of its entries.
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
    /// The password is empty: Java and openssl treat an empty password differently.
    #[error("the password is empty")]
    NoPassword,
    /// The password is not UTF-8.
    #[error("the password is not UTF-8")]
    NotText,
    /// PKCS#12 writes passwords in UTF-16 without surrogates (RFC 7292 appendix B.1).
    #[error("a PKCS#12 keystore cannot have a password with letters beyond the Unicode plane 0")]
    BeyondBmp,
    /// The password is too long.
    #[error("the password is longer than {MAX_PASSWORD} characters")]
    TooLong,
    /// The owner of the signing request has the private key.
    #[error("there is no private key to put into a keystore")]
    NoKey,
    /// The CA certificate is missing.
    #[error("there is no certificate of the CA to put into a truststore")]
    NoCa,
    /// The format cannot represent the content.
    #[error("the keystore cannot be made: {0}")]
    Format(String),
}

impl From<KeyError> for KeystoreError {
    fn from(error: KeyError) -> Self {
        Self::Format(error.to_string())
    }
}

impl Password {
    /// Takes the bytes of a password unchanged, line ends included.
    ///
    /// # Errors
    /// When it is empty, not UTF-8, or too long.
    pub fn new(bytes: &[u8]) -> Result<Self, KeystoreError> {
        let text = std::str::from_utf8(bytes).map_err(|_| KeystoreError::NotText)?;
        match text.chars().take(MAX_PASSWORD + 1).count() {
            0 => Err(KeystoreError::NoPassword),
            1..=MAX_PASSWORD => Ok(Self(Zeroizing::new(text.to_owned()))),
            _ => Err(KeystoreError::TooLong),
        }
    }

    /// Checks that a PKCS#12 keystore can have this password.
    ///
    /// # Errors
    /// When it has characters that the format cannot represent.
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
