//! Java's first keystore format, JKS. Its protection is weak (SHA-1, no iterations); it is for
//! programs that read nothing else.
//!
//! The only specification is the source of OpenJDK, `sun.security.provider.JavaKeyStore` and
//! `KeyProtector`. Numbers are big-endian; texts are prefixed with their length in two bytes.

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY as SHA1, SHA1_OUTPUT_LEN};
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::{CA, CERTIFICATE, KeystoreContent, KeystoreError, Password};
use crate::model::der::{octets, sequence};

const MAGIC: [u8; 4] = [0xfe, 0xed, 0xfe, 0xed];
const VERSION: u32 = 2;
const PRIVATE_KEY: u32 = 1;
const TRUSTED_CERTIFICATE: u32 = 2;
/// The constant that OpenJDK adds to the digest over the file.
const WHITENER: &[u8] = b"Mighty Aphrodite";
/// OBJECT IDENTIFIER 1.3.6.1.4.1.42.2.17.1.1, Sun's key protector, encoded.
const KEY_PROTECTOR: [u8; 12] = [0x06, 10, 0x2b, 6, 1, 4, 1, 0x2a, 2, 17, 1, 1];
const NULL: [u8; 2] = [0x05, 0];

/// Key and chain as `certificate`, and the first of the CA's certificates as `ca`.
///
/// # Errors
/// Without a key, and when the random source fails.
pub fn keystore(
    material: &KeystoreContent<'_>,
    password: &Password,
) -> Result<Vec<u8>, KeystoreError> {
    let protected = protect(material.key()?.pkcs8(), password)?;
    let mut out = head(1 + u32::from(!material.ca.is_empty()));
    entry(&mut out, PRIVATE_KEY, CERTIFICATE, material.created);
    counted(&mut out, &protected);
    out.extend((material.bundle.chain.len() as u32).to_be_bytes());
    material.bundle.chain.iter().for_each(|der| certificate(&mut out, der));
    if let Some(ca) = material.ca.first() {
        entry(&mut out, TRUSTED_CERTIFICATE, CA, material.created);
        certificate(&mut out, ca);
    }
    Ok(with_digest(out, password))
}

/// The first of the CA's certificates as `ca`.
///
/// # Errors
/// When there is none.
pub fn truststore(
    material: &KeystoreContent<'_>,
    password: &Password,
) -> Result<Vec<u8>, KeystoreError> {
    let mut out = head(1);
    entry(&mut out, TRUSTED_CERTIFICATE, CA, material.created);
    certificate(&mut out, material.trusted()?);
    Ok(with_digest(out, password))
}

/// Whether it is an undamaged JKS keystore with this password.
#[must_use]
pub fn opens(bytes: &[u8], password: &Password) -> bool {
    let Some((content, found)) = bytes.split_last_chunk::<SHA1_OUTPUT_LEN>() else { return false };
    content.starts_with(&MAGIC) && seal(content, password) == *found
}

fn head(entries: u32) -> Vec<u8> {
    [MAGIC, VERSION.to_be_bytes(), entries.to_be_bytes()].concat()
}

fn entry(out: &mut Vec<u8>, kind: u32, alias: &str, created: Timestamp) {
    out.extend(kind.to_be_bytes());
    text(out, alias);
    out.extend(created.as_millisecond().to_be_bytes());
}

fn certificate(out: &mut Vec<u8>, der: &[u8]) {
    text(out, "X.509");
    counted(out, der);
}

/// Our texts are short and ASCII, for which Java's modified UTF-8 equals UTF-8.
fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn counted(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn with_digest(mut out: Vec<u8>, password: &Password) -> Vec<u8> {
    let seal = seal(&out, password);
    out.extend(seal);
    out
}

fn seal(content: &[u8], password: &Password) -> [u8; SHA1_OUTPUT_LEN] {
    sha1(&[&password.utf16(), WHITENER, content])
}

/// The key as an EncryptedPrivateKeyInfo (RFC 5208): salt, the key XORed with a stream of digests
/// that starts with password and salt, and a digest that authenticates the key.
fn protect(key: &[u8], password: &Password) -> Result<Vec<u8>, KeystoreError> {
    let mut salt = [0; SHA1_OUTPUT_LEN];
    let no_salt = |_| KeystoreError::Format("there is no randomness".to_owned());
    aws_lc_rs::rand::fill(&mut salt).map_err(no_salt)?;
    let password = password.utf16();
    let mut hidden = Zeroizing::new(key.to_vec());
    let mut pad = salt;
    for block in hidden.chunks_mut(SHA1_OUTPUT_LEN) {
        pad = sha1(&[&password, &pad]);
        block.iter_mut().zip(pad).for_each(|(byte, pad)| *byte ^= pad);
    }
    let check = sha1(&[&password, key]);
    let protected = [salt.as_slice(), &hidden, &check].concat();
    Ok(sequence(&[&sequence(&[&KEY_PROTECTOR, &NULL]), &octets(&protected)]))
}

fn sha1(parts: &[&[u8]]) -> [u8; SHA1_OUTPUT_LEN] {
    let mut context = Context::new(&SHA1);
    parts.iter().for_each(|part| context.update(part));
    let mut out = [0; SHA1_OUTPUT_LEN];
    out.copy_from_slice(context.finish().as_ref());
    out
}
