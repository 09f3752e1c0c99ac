//! PKCS#12 (RFC 7292), the default keystore format of Java since version 9.

use aws_lc_rs::{digest, hmac};
use p12_keystore::{
    Certificate, EncryptionAlgorithm, KeyStore, KeyStoreEntry, MacAlgorithm, PrivateKey,
    PrivateKeyChain,
};
use zeroize::Zeroizing;

use super::{CA, CERTIFICATE, KeystoreContent, KeystoreError, Password};
use crate::model::der::element;

/// The ciphers of a PKCS#12 keystore.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Profile {
    /// AES-256 and HMAC-SHA256 (PBES2 of RFC 8018), supported by software since about 2020.
    #[default]
    Modern2023,
    /// Triple DES and HMAC-SHA1, for software that supports nothing newer.
    LegacyDes,
}

impl Profile {
    /// Its name in the API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Modern2023 => "Modern2023",
            Self::LegacyDes => "LegacyDES",
        }
    }
}

/// Bounds the cost of checking a password: the file to check may be a tenant's. No ordinary
/// keystore has more.
const MAX_ITERATIONS: u32 = 100_000;

/// Key and chain as `certificate`, and all of the CA's certificates.
///
/// # Errors
/// Without a key, and with a password or a certificate that the format cannot represent.
pub fn keystore(
    material: &KeystoreContent<'_>,
    password: &Password,
    profile: Profile,
) -> Result<Vec<u8>, KeystoreError> {
    let key = PrivateKey::from_der(material.key()?.pkcs8()).map_err(|error| format(&error))?;
    let mut chain: Vec<&[u8]> = Vec::new();
    for der in material.bundle.chain.iter().chain(material.ca) {
        if !chain.contains(&der.as_ref()) {
            chain.push(der);
        }
    }
    // Readers match the certificate to the key by this attribute.
    let leaf = chain.first().copied().unwrap_or_default();
    let id = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, leaf);
    let chain: Vec<Certificate> = chain
        .into_iter()
        .map(Certificate::from_der)
        .collect::<Result<_, _>>()
        .map_err(|error| format(&error))?;
    let chain = PrivateKeyChain::new(id.as_ref(), key, chain);
    write(CERTIFICATE, KeyStoreEntry::PrivateKeyChain(chain), password, profile)
}

/// The first CA certificate as `ca`, with the attribute by which Java recognizes a trusted
/// certificate.
///
/// # Errors
/// When there is none, and with a password or a certificate that the format cannot represent.
pub fn truststore(
    material: &KeystoreContent<'_>,
    password: &Password,
    profile: Profile,
) -> Result<Vec<u8>, KeystoreError> {
    let ca = Certificate::from_der(material.trusted()?).map_err(|error| format(&error))?;
    write(CA, KeyStoreEntry::Certificate(ca), password, profile)
}

fn write(
    alias: &str,
    entry: KeyStoreEntry,
    password: &Password,
    profile: Profile,
) -> Result<Vec<u8>, KeystoreError> {
    let mut store = KeyStore::new();
    store.add_entry(alias, entry);
    let (cipher, mac) = match profile {
        Profile::Modern2023 => {
            (EncryptionAlgorithm::PbeWithHmacSha256AndAes256, MacAlgorithm::HmacSha256)
        }
        Profile::LegacyDes => {
            (EncryptionAlgorithm::PbeWithShaAnd3KeyTripleDesCbc, MacAlgorithm::HmacSha1)
        }
    };
    let writer = store.writer(password.text()).encryption_algorithm(cipher).mac_algorithm(mac);
    writer.write().map_err(|error| format(&error))
}

fn format(error: &p12_keystore::error::Error) -> KeystoreError {
    KeystoreError::Format(error.to_string())
}

/// Whether it is an undamaged PKCS#12 file with this password: checks its MAC (RFC 7292 section 4).
/// Supports the MACs of our own and upstream's files.
#[must_use]
pub fn opens(bytes: &[u8], password: &Password) -> bool {
    mac_of(bytes).is_some_and(|mac| mac.is_of(password))
}

/// The MAC of a file and its parameters.
struct Mac<'a> {
    content: &'a [u8],
    digest: &'static digest::Algorithm,
    hmac: hmac::Algorithm,
    found: &'a [u8],
    salt: &'a [u8],
    iterations: u32,
}

/// `PFX ::= SEQUENCE { version, authSafe ContentInfo, macData }`
fn mac_of(bytes: &[u8]) -> Option<Mac<'_>> {
    const SHA1: &[u8] = &[0x2b, 14, 3, 2, 26];
    const SHA256: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];
    let (pfx, _) = element(bytes, 0x30)?;
    let (_, rest) = element(pfx, 0x02)?;
    let (safe, rest) = element(rest, 0x30)?;
    let (_, safe) = element(safe, 0x06)?;
    let (safe, _) = element(safe, 0xa0)?;
    let (content, _) = element(safe, 0x04)?;
    let (mac, _) = element(rest, 0x30)?;
    let (info, rest) = element(mac, 0x30)?;
    let (salt, rest) = element(rest, 0x04)?;
    let iterations = match element(rest, 0x02) {
        Some((number, _)) => number
            .iter()
            .try_fold(0_u32, |sum, byte| sum.checked_mul(256)?.checked_add(u32::from(*byte)))?,
        None => 1,
    };
    let (algorithm, info) = element(info, 0x30)?;
    let (found, _) = element(info, 0x04)?;
    let (digest, hmac) = match element(algorithm, 0x06)?.0 {
        SHA1 => (&digest::SHA1_FOR_LEGACY_USE_ONLY, hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
        SHA256 => (&digest::SHA256, hmac::HMAC_SHA256),
        _ => return None,
    };
    let is_sane = (1..=MAX_ITERATIONS).contains(&iterations) && salt.len() <= 64;
    is_sane.then_some(Mac { content, digest, hmac, found, salt, iterations })
}

impl Mac<'_> {
    fn is_of(&self, password: &Password) -> bool {
        let key = hmac::Key::new(self.hmac, &self.key(password));
        hmac::verify(&key, self.content, self.found).is_ok()
    }

    /// RFC 7292 appendix B.2 with `ID` 3. The key of the MAC is as long as one digest, so one round
    /// is enough.
    fn key(&self, password: &Password) -> Zeroizing<Vec<u8>> {
        const BLOCK: usize = 64;
        let fill = |bytes: &[u8]| -> Zeroizing<Vec<u8>> {
            let length = bytes.len().div_ceil(BLOCK) * BLOCK;
            Zeroizing::new(bytes.iter().copied().cycle().take(length).collect())
        };
        let mut text = password.utf16();
        text.extend([0, 0]);
        let mut context = digest::Context::new(self.digest);
        context.update(&[3; BLOCK]);
        context.update(&fill(self.salt));
        context.update(&fill(&text));
        let mut key = context.finish();
        for _ in 1..self.iterations {
            key = digest::digest(self.digest, key.as_ref());
        }
        Zeroizing::new(key.as_ref().to_vec())
    }
}
