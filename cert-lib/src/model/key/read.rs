//! Reads private keys in all common encodings.

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der},
    rsa::KeyPair as RsaKeyPair,
    signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use zeroize::Zeroizing;

use super::{Algorithm, KeyError, PrivateKey};
use crate::model::{armor::blocks, der::element};

/// Longest PEM text that is read as a key, other text around it included. A key of 8,192 bits has 6
/// KiB.
const MAX_PEM: usize = 64 * 1024;
/// The supported kinds of keys, for messages.
const KINDS: &str = "use RSA with 2048 to 8192 bits, P-256, P-384, P-521 or Ed25519";

impl PrivateKey {
    /// Reads a PEM key: PKCS#8, PKCS#1 or SEC1.
    ///
    /// # Errors
    /// When it is none of them, encrypted, or of a size or curve that we cannot sign with.
    pub fn from_pem(text: &(impl AsRef<[u8]> + ?Sized)) -> Result<Self, KeyError> {
        pem(text.as_ref())
    }
}

/// The first private key in a PEM text. Other blocks, such as the parameters that openssl writes
/// before a key, are skipped.
fn pem(text: &[u8]) -> Result<PrivateKey, KeyError> {
    let unreadable = |why: &str| KeyError::Unreadable(why.to_owned());
    if text.len() > MAX_PEM {
        return Err(unreadable("it is too long"));
    }
    let block = blocks(text).find(|block| block.label.ends_with("PRIVATE KEY"));
    let block = block.ok_or_else(|| unreadable("there is no PRIVATE KEY in PEM in it"))?;
    if block.is_encrypted || block.label.starts_with("ENCRYPTED") {
        return Err(KeyError::Encrypted);
    }
    let der = block.der.ok_or_else(|| unreadable("its PEM is damaged"))?;
    let key = match block.label {
        "PRIVATE KEY" => pkcs8(&der),
        // Some versions of openssl write a label that does not match the content.
        "EC PRIVATE KEY" | "RSA PRIVATE KEY" => ecdsa(&der).or_else(|| rsa(&der)),
        other => return Err(KeyError::Unreadable(format!("it is of the kind {other}; {KINDS}"))),
    };
    key.ok_or_else(|| KeyError::Unreadable(unusable(&der)))
}

/// PKCS#8 in DER.
pub(super) fn pkcs8(der: &[u8]) -> Option<PrivateKey> {
    ecdsa(der).or_else(|| rsa(der)).or_else(|| ed25519(der))
}

/// Converts every encoding to PKCS#8.
fn ecdsa(der: &[u8]) -> Option<PrivateKey> {
    [Algorithm::P256, Algorithm::P384, Algorithm::P521].into_iter().find_map(|algorithm| {
        let pair = EcdsaKeyPair::from_private_key_der(algorithm.curve()?, der).ok()?;
        let pkcs8 = pair.to_pkcs8v1().ok()?;
        let public_key: PublicKeyX509Der<'_> = pair.public_key().as_der().ok()?;
        Some(key(algorithm, pkcs8.as_ref(), public_key.as_ref()))
    })
}

fn rsa(der: &[u8]) -> Option<PrivateKey> {
    let pair = RsaKeyPair::from_pkcs8(der).or_else(|_| RsaKeyPair::from_der(der)).ok()?;
    let bits = pair.public_modulus_len() * 8;
    let pkcs8: Pkcs8V1Der<'_> = pair.as_der().ok()?;
    let public_key: PublicKeyX509Der<'_> = pair.public_key().as_der().ok()?;
    Some(key(Algorithm::Rsa(bits), pkcs8.as_ref(), public_key.as_ref()))
}

fn ed25519(der: &[u8]) -> Option<PrivateKey> {
    let pair = Ed25519KeyPair::from_pkcs8(der).ok()?;
    let pkcs8 = pair.to_pkcs8v1().ok()?;
    let public_key: PublicKeyX509Der<'_> = pair.public_key().as_der().ok()?;
    Some(key(Algorithm::Ed25519, pkcs8.as_ref(), public_key.as_ref()))
}

fn key(algorithm: Algorithm, pkcs8: &[u8], public_key: &[u8]) -> PrivateKey {
    let pkcs8 = Zeroizing::new(pkcs8.to_vec());
    PrivateKey { algorithm, pkcs8, public_key: public_key.to_vec() }
}

/// Describes why a key cannot be used, from the beginning of its DER.
fn unusable(der: &[u8]) -> String {
    const NAMES: [(&[u8], &str); 7] = [
        (&[0x2a, 0x86, 0x48, 0xce, 0x38, 4, 1], "DSA"),
        (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10], "RSA-PSS"),
        (&[0x2b, 0x81, 4, 0, 33], "ECDSA on P-224"),
        (&[0x2b, 0x81, 4, 0, 10], "ECDSA on secp256k1"),
        (&[0x2b, 0x65, 110], "X25519"),
        (&[0x2b, 0x65, 111], "X448"),
        (&[0x2b, 0x65, 113], "Ed448"),
    ];
    let has = |oid: &[u8]| der.windows(oid.len()).any(|window| window == oid);
    if let Some((_, name)) = NAMES.iter().find(|(oid, _)| has(oid)) {
        return format!("its kind {name} is not supported; {KINDS}");
    }
    match modulus_bits(der) {
        Some(bits) if !(2048..=8192).contains(&bits) => format!("RSA with {bits} bits; {KINDS}"),
        Some(_) | None => format!("it is damaged or of a kind that is not supported; {KINDS}"),
    }
}

/// The size of an RSA key: PKCS#1 (RFC 8017 appendix A.1.2) by itself or in PKCS#8.
fn modulus_bits(der: &[u8]) -> Option<usize> {
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
    let (sequence, _) = element(der, 0x30)?;
    let (_, rest) = element(sequence, 0x02)?;
    if let Some((algorithm, rest)) = element(rest, 0x30) {
        element(algorithm, 0x06).filter(|(oid, _)| *oid == RSA)?;
        let (inner, _) = element(rest, 0x04)?;
        return element(inner, 0x30).and_then(|(inner, _)| bits_of_second(inner));
    }
    bits_of_second(sequence)
}

fn bits_of_second(sequence: &[u8]) -> Option<usize> {
    let (_, rest) = element(sequence, 0x02)?;
    let (modulus, _) = element(rest, 0x02)?;
    let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
    let first = modulus.get(zeros)?;
    Some((modulus.len() - zeros) * 8 - first.leading_zeros() as usize)
}
