//! A client certificate with its key, for TLS.
//!
//! rustls compares the two with WebPKI, which rejects certificates of X.509 version 1. Servers
//! decide which client certificates they accept, so the comparison is done here, for every version.

use std::sync::Arc;

use jiff::Timestamp;
use rustls::{crypto::aws_lc_rs::sign::any_supported_type, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use crate::model::{
    armor::blocks,
    key::{KeyError, PrivateKey},
};

/// A client certificate and its key. `Debug` does not print the key.
#[derive(Clone, Debug)]
pub struct ClientIdentity {
    /// The certificate and the key for rustls.
    pub key: Arc<CertifiedKey>,
    /// Expiration of the certificate.
    pub not_after: Timestamp,
}

/// Why a client certificate cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum IdentityError {
    /// No certificate.
    #[error("there is no certificate in PEM")]
    NoCertificate,
    /// Not X.509.
    #[error("the certificate is damaged")]
    Damaged,
    /// No key, an encrypted one, or one of a kind or size that is not supported.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A key that TLS does not support.
    #[error(
        "the private key is of an unsupported kind; use RSA of 2048 bits or more, ECDSA or Ed25519"
    )]
    Unsupported,
    /// The key belongs to another certificate.
    #[error("the private key does not belong to the certificate")]
    Mismatch,
}

/// Reads a chain, with the client certificate first, and its key, both in PEM. As in Go, blocks
/// that are not base64 are skipped, and the content of a key block decides, not its label.
///
/// # Errors
/// See [`IdentityError`].
pub fn client_identity(chain: &[u8], key: &[u8]) -> Result<ClientIdentity, IdentityError> {
    let chain: Vec<CertificateDer<'static>> = blocks(chain)
        .filter(|block| block.label == "CERTIFICATE")
        .filter_map(|block| block.der)
        .map(|der| CertificateDer::from(der.to_vec()))
        .collect();
    let leaf = chain.first().ok_or(IdentityError::NoCertificate)?;
    let (_, leaf) = X509Certificate::from_der(leaf).map_err(|_| IdentityError::Damaged)?;
    let key = PrivateKey::from_pem(key)?;
    let key = PrivateKeyDer::Pkcs8(key.pkcs8().to_vec().into());
    let key = any_supported_type(&key).map_err(|_| IdentityError::Unsupported)?;
    if key.public_key().is_some_and(|public| public.as_ref() != leaf.public_key().raw) {
        return Err(IdentityError::Mismatch);
    }
    let not_after = leaf.validity().not_after.timestamp();
    let not_after = Timestamp::from_second(not_after).unwrap_or(Timestamp::MAX);
    Ok(ClientIdentity { key: Arc::new(CertifiedKey::new(chain, key)), not_after })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    #[test]
    fn certificate_and_key_belong_together() {
        let key = KeyPair::generate().unwrap();
        let other = KeyPair::generate().unwrap().serialize_pem();
        let certificate = CertificateParams::new(vec![]).unwrap().self_signed(&key).unwrap().pem();
        let key = key.serialize_pem();
        let no_key = || Err("the private key cannot be read: there is no PRIVATE KEY in PEM in it");
        let broken = "-----BEGIN CERTIFICATE-----\nAA?A\n-----END CERTIFICATE-----\n";
        let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        for (chain, key, expected) in [
            (&*certificate, &*key, Ok(())),
            (&format!("{certificate}{broken}"), &key, Ok(())),
            (&format!("{broken}{certificate}"), &key, Ok(())),
            (&certificate, &key.replace("PRIVATE KEY", "RSA PRIVATE KEY"), Ok(())),
            (&certificate, &other, Err("the private key does not belong to the certificate")),
            ("", &key, Err("there is no certificate in PEM")),
            (broken, &key, Err("there is no certificate in PEM")),
            (&certificate, "", no_key()),
            (&certificate, &certificate, no_key()),
            (&certificate, &encrypted, Err("the private key is encrypted")),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                &key,
                Err("the certificate is damaged"),
            ),
        ] {
            match (client_identity(chain.as_bytes(), key.as_bytes()), expected) {
                (Ok(_), Ok(())) => {}
                (Err(error), Err(expected)) if error.to_string().starts_with(expected) => {}
                (read, expected) => panic!("{:?} is not {expected:?}", read.map(|_| ())),
            }
        }
    }
}
