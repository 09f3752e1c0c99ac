//! Whose certificates a client trusts, as a TLS configuration.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
};
use rustls_pki_types::CertificateDer;
use rustls_platform_verifier::Verifier;

use crate::{model::armor, net::own_certificate::OwnCertificates};

/// Whose certificates are trusted.
#[derive(Clone, Debug)]
pub struct Roots {
    /// What this machine trusts. Where it is false, only `extra` counts.
    pub system: bool,
    /// What is trusted besides.
    pub extra: Vec<CertificateDer<'static>>,
}

/// Why nothing can be trusted.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RootsError {
    /// No certificate in the bundle.
    #[error("the CA bundle holds no certificate in PEM")]
    Empty,
    /// The bundle is damaged.
    #[error("the CA bundle is not PEM: {0}")]
    NotPem(String),
    /// One of the blocks is no certificate.
    #[error("certificate {position} of the CA bundle cannot be used: {reason}")]
    NotCertificate {
        /// Which one, counted from 1.
        position: usize,
        /// What the library said.
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
    /// What this machine trusts.
    #[must_use]
    pub fn system() -> Self {
        Self { system: true, extra: Vec::new() }
    }

    /// The certificates of a PEM bundle and nothing else.
    ///
    /// # Errors
    /// When there is none in it, or one that cannot be used.
    pub fn only_pem(bundle: &[u8]) -> Result<Self, RootsError> {
        Ok(Self { system: false, extra: certificates(bundle)? })
    }

    /// What this machine trusts, and the certificates of a PEM bundle.
    ///
    /// # Errors
    /// When there is none in it, or one that cannot be used.
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
    // Looked at now, so that a bad bundle is an error of the issuer and not of its first request.
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

/// A configuration that trusts `roots`, and of its certificates each as a server's own, too.
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
