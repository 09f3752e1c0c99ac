//! The trusted root certificates of a client, as a TLS configuration.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
};
use rustls_pki_types::CertificateDer;
use rustls_platform_verifier::Verifier;

use crate::{model::armor, net::own_certificate::OwnCertificates};

/// The trusted root certificates.
#[derive(Clone, Debug)]
pub struct Roots {
    /// Whether the roots of this machine are trusted.
    pub system: bool,
    /// Further roots.
    pub extra: Vec<CertificateDer<'static>>,
}

/// Why the roots cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RootsError {
    /// No certificate in the bundle.
    #[error("the CA bundle holds no certificate in PEM")]
    Empty,
    /// The bundle cannot be parsed.
    #[error("the CA bundle is not PEM: {0}")]
    NotPem(String),
    /// One of the blocks is not a certificate.
    #[error("certificate {position} of the CA bundle cannot be used: {reason}")]
    NotCertificate {
        /// Position, counted from 1.
        position: usize,
        /// Error of the library.
        reason: String,
    },
    /// TLS cannot be set up on this machine.
    #[error("cannot set up TLS: {0}")]
    Setup(String),
}

impl Default for Roots {
    fn default() -> Self {
        Self::system()
    }
}

impl Roots {
    /// The roots of this machine.
    #[must_use]
    pub fn system() -> Self {
        Self { system: true, extra: Vec::new() }
    }

    /// The certificates of a PEM bundle and nothing else.
    ///
    /// # Errors
    /// When it has no certificate, or one that cannot be used.
    pub fn only_pem(bundle: &[u8]) -> Result<Self, RootsError> {
        Ok(Self { system: false, extra: certificates(bundle)? })
    }

    /// The roots of this machine, and the certificates of a PEM bundle.
    ///
    /// # Errors
    /// When it has no certificate, or one that cannot be used.
    pub fn system_and_pem(bundle: &[u8]) -> Result<Self, RootsError> {
        Ok(Self { system: true, extra: certificates(bundle)? })
    }
}

fn certificates(bundle: &[u8]) -> Result<Vec<CertificateDer<'static>>, RootsError> {
    let found = armor::blocks(bundle)
        .filter(|block| matches!(block.label, "CERTIFICATE" | "TRUSTED CERTIFICATE"))
        .enumerate()
        .map(|(index, block)| match block.der {
            Some(der) => Ok(CertificateDer::from(der.to_vec())),
            None => Err(RootsError::NotPem(format!("certificate {} is not base64", index + 1))),
        })
        .collect::<Result<Vec<_>, _>>()?;
    if found.is_empty() {
        return Err(RootsError::Empty);
    }
    // Checked now, so that a bad bundle is an error of the issuer and not of its first request.
    store(&found)?;
    Ok(found)
}

fn store(certificates: &[CertificateDer<'static>]) -> Result<RootCertStore, RootsError> {
    let mut store = RootCertStore::empty();
    for (index, certificate) in certificates.iter().enumerate() {
        store.add(certificate.clone()).map_err(|error| RootsError::NotCertificate {
            position: index + 1,
            reason: error.to_string(),
        })?;
    }
    Ok(store)
}

/// A configuration that trusts `roots`. A server may also use one of these certificates as its own.
pub(super) fn tls(roots: &Roots) -> Result<ClientConfig, RootsError> {
    let setup = |error: rustls::Error| RootsError::Setup(error.to_string());
    let provider: Arc<CryptoProvider> = Arc::new(aws_lc_rs::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = if roots.system {
        let extra = roots.extra.clone();
        let verifier = Verifier::new_with_extra_roots(extra, Arc::clone(&provider));
        Arc::new(verifier.map_err(setup)?)
    } else {
        let store = Arc::new(store(&roots.extra)?);
        WebPkiServerVerifier::builder_with_provider(store, Arc::clone(&provider))
            .build()
            .map_err(|error| RootsError::Setup(error.to_string()))?
    };
    let verifier = OwnCertificates::new(verifier, roots.extra.clone());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(setup)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    Ok(config.with_no_client_auth())
}
