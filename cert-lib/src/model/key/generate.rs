//! Generates private keys.

use aws_lc_rs::{
    encoding::AsDer,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm,
    },
};
use zeroize::Zeroizing;

use super::{KeyError, KeyType, PrivateKey, read};

impl PrivateKey {
    /// Generates a key. An RSA key takes 0.1 to 2 s of processor time: do not call this on a thread
    /// that others wait for.
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
        let pkcs8 = Zeroizing::new(pkcs8.map_err(|_| KeyError::Generate(kind))?);
        read::pkcs8(&pkcs8).ok_or(KeyError::Generate(kind))
    }
}

fn ecdsa(curve: &'static EcdsaSigningAlgorithm) -> Result<Vec<u8>, aws_lc_rs::error::Unspecified> {
    Ok(EcdsaKeyPair::generate(curve)?.to_pkcs8v1()?.as_ref().to_vec())
}

fn rsa(size: KeySize) -> Result<Vec<u8>, aws_lc_rs::error::Unspecified> {
    Ok(AsDer::as_der(&RsaKeyPair::generate(size)?)?.as_ref().to_vec())
}
