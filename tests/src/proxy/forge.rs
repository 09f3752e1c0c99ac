//! Certificates that a CA must not sign, for the key of a recorded signing request.

use anyhow::{Context as _, Result};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, DnType,
    IsCa, KeyPair,
};
use rustls_pki_types::CertificateSigningRequestDer;

use super::{Kind, Proxy};

/// A certificate for the key and the names of the last signing request at `proxy`, after `change`,
/// and the certificate of its CA: PEM.
///
/// # Errors
/// There was none, or it cannot be parsed.
pub fn forge(proxy: &Proxy, change: impl FnOnce(&mut CertificateParams)) -> Result<String> {
    let last = proxy.seen_of(Kind::Finalize).pop().context("no order was finalized")?;
    forge_for(last.payload["csr"].as_str().context("no signing request")?, change)
}

fn forge_for(csr: &str, change: impl FnOnce(&mut CertificateParams)) -> Result<String> {
    let der = CertificateSigningRequestDer::from(BASE64_URL_SAFE_NO_PAD.decode(csr)?);
    let mut request = CertificateSigningRequestParams::from_der(&der)?;
    request.params.use_authority_key_identifier_extension = true;
    change(&mut request.params);
    let authority = authority()?;
    let leaf = request.signed_by(&authority)?;
    Ok(leaf.pem() + &authority.pem())
}

fn authority() -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "an unknown CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}
