//! Private keys of certificates. Account keys are in [`crate::acme::jws`].

mod generate;
mod read;
#[cfg(test)]
mod tests;

use std::fmt;

use aws_lc_rs::{
    encoding::{AsDer, EcPrivateKeyRfc5915Der},
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING,
        ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    },
};
use x509_parser::{prelude::FromDer, public_key::PublicKey, x509::SubjectPublicKeyInfo};
use zeroize::Zeroizing;

use crate::model::{armor::blocks, der::element};

/// Kind and size of a generated key. The set is what public CAs accept.
#[derive(
    Clone, Copy, Debug, Default, Eq, Hash, PartialEq, serde::Deserialize, serde::Serialize,
)]
pub enum KeyType {
    /// RSA, 2048 bits
    Rsa2048,
    /// RSA, 3072 bits
    Rsa3072,
    /// RSA, 4096 bits
    Rsa4096,
    /// ECDSA on P-256
    #[default]
    P256,
    /// ECDSA on P-384
    P384,
}

impl KeyType {
    /// The text that upstream mixes into the request hash.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Rsa2048 => "2048",
            Self::Rsa3072 => "3072",
            Self::Rsa4096 => "4096",
            Self::P256 => "P256",
            Self::P384 => "P384",
        }
    }

    /// The kind of a public key (SubjectPublicKeyInfo in DER), `None` where it is none of these.
    #[must_use]
    pub fn of_public_key(der: &[u8]) -> Option<Self> {
        let (_, info) = SubjectPublicKeyInfo::from_der(der).ok()?;
        match info.parsed().ok()? {
            PublicKey::RSA(rsa) => match rsa.key_size() {
                2048 => Some(Self::Rsa2048),
                3072 => Some(Self::Rsa3072),
                4096 => Some(Self::Rsa4096),
                _ => None,
            },
            PublicKey::EC(point) if point.key_size() == 256 => Some(Self::P256),
            PublicKey::EC(point) if point.key_size() == 384 => Some(Self::P384),
            _ => None,
        }
    }
}

/// How a private key is written in PEM.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Encoding {
    /// The traditional form, which upstream calls PKCS1 for both algorithms: PKCS#1 (`RSA PRIVATE
    /// KEY`, RFC 8017) for RSA, SEC1 (`EC PRIVATE KEY`, RFC 5915) for ECDSA.
    Pkcs1,
    /// PKCS#8 (`PRIVATE KEY`, RFC 5208).
    #[default]
    Pkcs8,
}

impl Encoding {
    /// The encoding of the first private key in a PEM text; `None` where there is none.
    #[must_use]
    pub fn of(text: &[u8]) -> Option<Self> {
        blocks(text).find_map(|block| match block.label {
            "PRIVATE KEY" => Some(Self::Pkcs8),
            "RSA PRIVATE KEY" | "EC PRIVATE KEY" => Some(Self::Pkcs1),
            _ => None,
        })
    }
}

/// The signature algorithm of a key. More than [`KeyType`]: keys of users are accepted where we can
/// sign with them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Algorithm {
    /// RSA with this number of bits
    Rsa(usize),
    /// ECDSA on P-256
    P256,
    /// ECDSA on P-384
    P384,
    /// ECDSA on P-521
    P521,
    /// Ed25519
    Ed25519,
}

impl Algorithm {
    /// The [`KeyType`] of such a key, if keys like it are generated.
    #[must_use]
    pub fn kind(self) -> Option<KeyType> {
        match self {
            Self::Rsa(2048) => Some(KeyType::Rsa2048),
            Self::Rsa(3072) => Some(KeyType::Rsa3072),
            Self::Rsa(4096) => Some(KeyType::Rsa4096),
            Self::P256 => Some(KeyType::P256),
            Self::P384 => Some(KeyType::P384),
            Self::Rsa(_) | Self::P521 | Self::Ed25519 => None,
        }
    }

    fn curve(self) -> Option<&'static EcdsaSigningAlgorithm> {
        match self {
            Self::P256 => Some(&ECDSA_P256_SHA256_ASN1_SIGNING),
            Self::P384 => Some(&ECDSA_P384_SHA384_ASN1_SIGNING),
            Self::P521 => Some(&ECDSA_P521_SHA512_ASN1_SIGNING),
            Self::Rsa(_) | Self::Ed25519 => None,
        }
    }
}

/// The private key of a certificate. Prints nothing in `Debug` and is wiped when dropped.
#[derive(Clone)]
pub struct PrivateKey {
    algorithm: Algorithm,
    pkcs8: Zeroizing<Vec<u8>>,
    /// SubjectPublicKeyInfo in DER.
    public_key: Vec<u8>,
}

/// Why a key cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyError {
    /// The random source or the library failed.
    #[error("cannot generate a {0:?} key")]
    Generate(KeyType),
    /// A key that is encrypted with a password.
    #[error(
        "the private key is encrypted: store it without a password (openssl pkey -in KEY -out NEW)"
    )]
    Encrypted,
    /// The text is no key of a supported kind.
    #[error("the private key cannot be read: {0}")]
    Unreadable(String),
    /// A key of this kind has no such encoding.
    #[error("a {0:?} key cannot be written in the encoding PKCS1: use PKCS8")]
    Encoding(Algorithm),
}

impl PrivateKey {
    /// The signature algorithm of the key.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The [`KeyType`] of the key, if keys like it are generated.
    #[must_use]
    pub fn kind(&self) -> Option<KeyType> {
        self.algorithm.kind()
    }

    /// PKCS#8 in PEM (`PRIVATE KEY`).
    #[must_use]
    pub fn pem(&self) -> Zeroizing<String> {
        write("PRIVATE KEY", &self.pkcs8)
    }

    /// The key in PEM, in the given encoding.
    ///
    /// # Errors
    /// When a key of its kind has no such encoding.
    pub fn pem_in(&self, encoding: Encoding) -> Result<Zeroizing<String>, KeyError> {
        if encoding == Encoding::Pkcs8 {
            return Ok(self.pem());
        }
        let unreadable = |error: &dyn fmt::Display| KeyError::Unreadable(error.to_string());
        match self.algorithm.curve() {
            Some(curve) => {
                let pair = EcdsaKeyPair::from_private_key_der(curve, &self.pkcs8);
                let pair = pair.map_err(|error| unreadable(&error))?;
                let der: EcPrivateKeyRfc5915Der<'_> =
                    pair.private_key().as_der().map_err(|error| unreadable(&error))?;
                Ok(write("EC PRIVATE KEY", der.as_ref()))
            }
            None if matches!(self.algorithm, Algorithm::Rsa(_)) => {
                let der = self.pkcs1().ok_or_else(|| unreadable(&"it is not PKCS#8"))?;
                Ok(write("RSA PRIVATE KEY", der))
            }
            None => Err(KeyError::Encoding(self.algorithm)),
        }
    }

    /// PKCS#8 in DER.
    #[must_use]
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The PKCS#1 structure inside the PKCS#8 of an RSA key (RFC 5208 section 5, RFC 8017 appendix
    /// A.1.2).
    fn pkcs1(&self) -> Option<&[u8]> {
        let (info, _) = element(&self.pkcs8, 0x30)?;
        let (_, rest) = element(info, 0x02)?;
        let (_, rest) = element(rest, 0x30)?;
        element(rest, 0x04).map(|(key, _)| key)
    }

    /// The key in the form that builds and signs X.509.
    ///
    /// # Errors
    /// Never for a generated key; the library returns a `Result`.
    pub(crate) fn signer(&self) -> Result<rcgen::KeyPair, KeyError> {
        let der = rustls_pki_types::PrivatePkcs8KeyDer::from(self.pkcs8.as_slice());
        let algorithm = match self.algorithm {
            Algorithm::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Algorithm::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            Algorithm::P521 => &rcgen::PKCS_ECDSA_P521_SHA512,
            Algorithm::Ed25519 => &rcgen::PKCS_ED25519,
            Algorithm::Rsa(_) => &rcgen::PKCS_RSA_SHA256,
        };
        rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, algorithm)
            .map_err(|error| KeyError::Unreadable(error.to_string()))
    }

    /// The public key as SubjectPublicKeyInfo in DER, as a certificate carries it.
    #[must_use]
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }
}

fn write(tag: &str, der: &[u8]) -> Zeroizing<String> {
    let lines = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    Zeroizing::new(pem::encode_config(&pem::Pem::new(tag, der), lines))
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({:?}, …)", self.algorithm)
    }
}
