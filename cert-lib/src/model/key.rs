//! Private keys of certificates. Account keys are in [`crate::acme::jws`].

use std::fmt;

use aws_lc_rs::{
    encoding::{AsDer, EcPrivateKeyRfc5915Der, Pkcs8V1Der},
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm,
    },
};
use x509_parser::{prelude::FromDer, public_key::PublicKey, x509::SubjectPublicKeyInfo};
use zeroize::Zeroizing;

use crate::issue::own::der::element;

/// Longest text that is read as a key: one of 16,384 bits fits in.
const MAX_PEM: usize = 64 * 1024;

/// Kind and size of a key. The set is what public CAs accept.
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
    /// The word that upstream mixes into the request hash.
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
    /// The form that is as old as the algorithm, which upstream calls PKCS1 for both: PKCS#1
    /// (`RSA PRIVATE KEY`, RFC 8017) for RSA, SEC1 (`EC PRIVATE KEY`, RFC 5915) for ECDSA.
    Pkcs1,
    /// PKCS#8 (`PRIVATE KEY`, RFC 5208).
    #[default]
    Pkcs8,
}

impl Encoding {
    /// The encoding of the first private key in a PEM text; `None` where there is none.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        text.lines().find_map(|line| {
            let tag = line.trim().strip_prefix("-----BEGIN ")?.strip_suffix("-----")?;
            match tag {
                "PRIVATE KEY" => Some(Self::Pkcs8),
                "RSA PRIVATE KEY" | "EC PRIVATE KEY" => Some(Self::Pkcs1),
                _ => None,
            }
        })
    }
}

/// The private key of a certificate. Prints nothing in `Debug` and is wiped when dropped.
#[derive(Clone)]
pub struct PrivateKey {
    kind: KeyType,
    pkcs8: Zeroizing<Vec<u8>>,
}

/// Why there is no key.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KeyError {
    /// The random source or the library failed.
    #[error("cannot generate a {0:?} key")]
    Generate(KeyType),
    /// The stored text is no key that we know.
    #[error("the private key cannot be read: {0}")]
    Unreadable(String),
}

impl PrivateKey {
    /// A new key. An RSA key takes 0.1 to 2 s of processor time: not on a thread that others wait
    /// for.
    ///
    /// # Errors
    /// When the random source fails.
    pub fn generate(kind: KeyType) -> Result<Self, KeyError> {
        let pkcs8 = match kind {
            KeyType::P256 => ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING),
            KeyType::P384 => ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING),
            KeyType::Rsa2048 => rsa(KeySize::Rsa2048),
            KeyType::Rsa3072 => rsa(KeySize::Rsa3072),
            KeyType::Rsa4096 => rsa(KeySize::Rsa4096),
        };
        let pkcs8 = pkcs8.map_err(|_| KeyError::Generate(kind))?;
        Ok(Self { kind, pkcs8: Zeroizing::new(pkcs8) })
    }

    /// Reads a PEM key: PKCS#8, PKCS#1 or SEC1.
    ///
    /// # Errors
    /// When it is none of them, or of a size or curve that we do not know.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let unreadable = |why: &dyn fmt::Display| KeyError::Unreadable(why.to_string());
        if text.len() > MAX_PEM {
            return Err(unreadable(&"it is too long"));
        }
        // openssl puts the parameters of a curve before the key.
        let blocks = pem::parse_many(text).map_err(|error| unreadable(&error))?;
        let block = blocks.into_iter().find(|block| block.tag().ends_with("PRIVATE KEY"));
        let block = block.ok_or_else(|| unreadable(&"there is no PRIVATE KEY in it"))?;
        let der = Zeroizing::new(block.into_contents());
        let curves = [
            (&ECDSA_P256_SHA256_ASN1_SIGNING, KeyType::P256),
            (&ECDSA_P384_SHA384_ASN1_SIGNING, KeyType::P384),
        ];
        // Whatever it was written in, it is PKCS#8 from here on.
        for (curve, kind) in curves {
            if let Ok(key) = EcdsaKeyPair::from_private_key_der(curve, &der) {
                let pkcs8 = key.to_pkcs8v1().map_err(|error| unreadable(&error))?;
                return Ok(Self { kind, pkcs8: Zeroizing::new(pkcs8.as_ref().to_vec()) });
            }
        }
        let key = RsaKeyPair::from_pkcs8(&der).or_else(|_| RsaKeyPair::from_der(&der));
        let key = key.map_err(|_| unreadable(&"it is neither RSA nor P-256 nor P-384"))?;
        let kind = match key.public_modulus_len() * 8 {
            2048 => KeyType::Rsa2048,
            3072 => KeyType::Rsa3072,
            4096 => KeyType::Rsa4096,
            bits => return Err(unreadable(&format_args!("RSA with {bits} bits"))),
        };
        let pkcs8: Pkcs8V1Der<'_> = key.as_der().map_err(|error| unreadable(&error))?;
        Ok(Self { kind, pkcs8: Zeroizing::new(pkcs8.as_ref().to_vec()) })
    }

    /// Kind and size.
    #[must_use]
    pub fn kind(&self) -> KeyType {
        self.kind
    }

    /// PKCS#8 in PEM (`PRIVATE KEY`).
    #[must_use]
    pub fn pem(&self) -> Zeroizing<String> {
        write("PRIVATE KEY", &self.pkcs8)
    }

    /// The key in PEM, in the encoding that is asked for.
    ///
    /// # Errors
    /// Never for a key made here; the library wants to be asked.
    pub fn pem_in(&self, encoding: Encoding) -> Result<Zeroizing<String>, KeyError> {
        let curve = match (encoding, self.kind) {
            (Encoding::Pkcs8, _) => return Ok(self.pem()),
            (Encoding::Pkcs1, KeyType::P256) => &ECDSA_P256_SHA256_ASN1_SIGNING,
            (Encoding::Pkcs1, KeyType::P384) => &ECDSA_P384_SHA384_ASN1_SIGNING,
            (Encoding::Pkcs1, KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096) => {
                let der = self.pkcs1().ok_or_else(|| KeyError::Unreadable("PKCS#1".to_owned()))?;
                return Ok(write("RSA PRIVATE KEY", der));
            }
        };
        let unreadable = |error: &dyn fmt::Display| KeyError::Unreadable(error.to_string());
        let pair = EcdsaKeyPair::from_private_key_der(curve, &self.pkcs8);
        let pair = pair.map_err(|error| unreadable(&error))?;
        let der: EcPrivateKeyRfc5915Der<'_> =
            pair.private_key().as_der().map_err(|error| unreadable(&error))?;
        Ok(write("EC PRIVATE KEY", der.as_ref()))
    }

    /// PKCS#8 in DER.
    #[must_use]
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// What an RSA key's PKCS#8 has inside (RFC 5208 section 5, RFC 8017 appendix A.1.2).
    fn pkcs1(&self) -> Option<&[u8]> {
        let (info, _) = element(&self.pkcs8, 0x30)?;
        let (_, rest) = element(info, 0x02)?;
        let (_, rest) = element(rest, 0x30)?;
        element(rest, 0x04).map(|(key, _)| key)
    }

    /// The key in the form that builds and signs X.509.
    ///
    /// # Errors
    /// Never for a key made here; the library wants to be asked.
    pub(crate) fn signer(&self) -> Result<rcgen::KeyPair, KeyError> {
        let der = rustls_pki_types::PrivatePkcs8KeyDer::from(self.pkcs8.as_slice());
        let algorithm = match self.kind {
            KeyType::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            KeyType::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096 => &rcgen::PKCS_RSA_SHA256,
        };
        rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, algorithm)
            .map_err(|error| KeyError::Unreadable(error.to_string()))
    }

    /// The public key as SubjectPublicKeyInfo in DER, as a certificate carries it.
    ///
    /// # Errors
    /// Never for a key made here; the library wants to be asked.
    pub fn public_key(&self) -> Result<Vec<u8>, KeyError> {
        use rcgen::PublicKeyData;
        Ok(self.signer()?.subject_public_key_info())
    }
}

fn write(tag: &str, der: &[u8]) -> Zeroizing<String> {
    let lines = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    Zeroizing::new(pem::encode_config(&pem::Pem::new(tag, der), lines))
}

fn ecdsa(curve: &'static EcdsaSigningAlgorithm) -> Result<Vec<u8>, aws_lc_rs::error::Unspecified> {
    Ok(EcdsaKeyPair::generate(curve)?.to_pkcs8v1()?.as_ref().to_vec())
}

fn rsa(size: KeySize) -> Result<Vec<u8>, aws_lc_rs::error::Unspecified> {
    Ok(AsDer::as_der(&RsaKeyPair::generate(size)?)?.as_ref().to_vec())
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({:?}, …)", self.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_pem_and_prints_nothing() {
        for kind in [KeyType::P256, KeyType::P384, KeyType::Rsa2048] {
            let key = PrivateKey::generate(kind).unwrap();
            let again = PrivateKey::from_pem(&key.pem()).unwrap();
            assert_eq!(again.kind(), kind);
            assert_eq!(again.public_key().unwrap(), key.public_key().unwrap());
            assert_eq!(format!("{key:?}"), format!("PrivateKey({kind:?}, …)"));
        }
    }

    #[test]
    fn a_key_in_a_traditional_form_is_the_same_key() {
        let parameters = pem::encode(&pem::Pem::new("EC PARAMETERS", [6, 5, 43, 129, 4, 0, 34]));
        for (kind, before, tag) in [
            (KeyType::Rsa2048, "", "RSA PRIVATE KEY"),
            (KeyType::P256, "", "EC PRIVATE KEY"),
            (KeyType::P384, parameters.as_str(), "EC PRIVATE KEY"),
        ] {
            let key = PrivateKey::generate(kind).unwrap();
            let text = key.pem_in(Encoding::Pkcs1).unwrap();
            assert!(text.starts_with(&format!("-----BEGIN {tag}-----")), "{kind:?}");
            let text = format!("{before}{}", *text);
            assert_eq!(Encoding::of(&text), Some(Encoding::Pkcs1));
            let again = PrivateKey::from_pem(&text).unwrap();
            assert_eq!(again.kind(), kind);
            assert_eq!(again.pkcs8(), key.pkcs8());
            let text = again.pem_in(Encoding::Pkcs8).unwrap();
            assert_eq!(text, key.pem());
            assert_eq!(Encoding::of(&text), Some(Encoding::Pkcs8));
        }
    }

    #[test]
    fn a_text_that_is_all_beginnings_is_no_key_at_once() {
        let text = "-----BEGIN PRIVATE KEY-----\n".repeat(100_000);
        assert!(matches!(PrivateKey::from_pem(&text), Err(KeyError::Unreadable(_))));
        assert_eq!(Encoding::of(&"-----BEGIN X-----\n".repeat(100_000)), None);
    }

    #[test]
    fn garbage_is_no_key() {
        for text in
            ["", "garbage", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
        {
            assert!(matches!(PrivateKey::from_pem(text), Err(KeyError::Unreadable(_))), "{text}");
        }
    }
}
