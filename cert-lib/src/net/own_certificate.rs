//! Trust for servers whose own certificate is configured as the root, as `openssl req -x509`
//! creates it. Such a server shows a CA certificate, which RFC 5280 forbids and Go accepts.

use std::sync::Arc;

use rustls::{
    DigitallySignedStruct, Error, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    server::ParsedCertificate,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

/// Accepts what another verifier accepts, and in addition exactly the given certificates, byte for
/// byte. Their names, dates and extended key usage are checked, and that the server has the key.
#[derive(Debug)]
pub struct OwnCertificates {
    verifier: Arc<dyn ServerCertVerifier>,
    certificates: Vec<CertificateDer<'static>>,
}

impl OwnCertificates {
    /// Tries `verifier` first.
    #[must_use]
    pub fn new(
        verifier: Arc<dyn ServerCertVerifier>,
        certificates: Vec<CertificateDer<'static>>,
    ) -> Self {
        Self { verifier, certificates }
    }
}

/// Whether a server may use `certificate` now. Without extended key usage it is valid for all
/// purposes.
fn is_usable(certificate: &CertificateDer<'_>, now: UnixTime) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return false };
    let is_for_servers = match certificate.extended_key_usage() {
        Ok(Some(usage)) => usage.value.server_auth || usage.value.any,
        Ok(None) => true,
        Err(_) => false,
    };
    let validity = certificate.validity();
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let dates = validity.not_before.timestamp()..=validity.not_after.timestamp();
    is_for_servers && dates.contains(&now)
}

impl ServerCertVerifier for OwnCertificates {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.verifier.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        let is_given = || self.certificates.iter().any(|one| one.as_ref() == end_entity.as_ref());
        if verified.is_ok() || !is_given() || !is_usable(end_entity, now) {
            return verified;
        }
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::ExtendedKeyUsagePurpose;
    use rustls::{RootCertStore, client::WebPkiServerVerifier, crypto::aws_lc_rs};

    use super::*;

    /// As `openssl req -x509 -addext subjectAltName=DNS:ca.test` makes it.
    fn self_signed(usages: &[ExtendedKeyUsagePurpose]) -> CertificateDer<'static> {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["ca.test".to_owned()]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.extended_key_usages = usages.to_vec();
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2027, 1, 1);
        params.self_signed(&key).unwrap().der().clone()
    }

    fn verdict(
        given: &[CertificateDer<'static>],
        shown: &CertificateDer<'_>,
        name: &'static str,
        day: &str,
    ) -> Result<(), String> {
        let mut store = RootCertStore::empty();
        given.iter().for_each(|one| store.add(one.clone()).unwrap());
        let provider = Arc::new(aws_lc_rs::default_provider());
        let inner =
            WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider).build().unwrap();
        let name = ServerName::try_from(name).unwrap();
        let time: jiff::Timestamp = format!("{day}T00:00:00Z").parse().unwrap();
        let seconds = u64::try_from(time.as_second()).unwrap();
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let verifier = OwnCertificates::new(inner, given.to_vec());
        let verified = verifier.verify_server_cert(shown, &[], &name, &[], now);
        verified.map(drop).map_err(|error| error.to_string())
    }

    #[test]
    fn a_server_with_a_configured_certificate_of_its_own_is_trusted() {
        let (own, other) = (self_signed(&[]), self_signed(&[]));
        let given = [own.clone()];
        assert_eq!(verdict(&given, &own, "ca.test", "2026-06-01"), Ok(()));
        for (shown, name, day, want) in [
            (&own, "other.test", "2026-06-01", "NotValidForName"),
            (&own, "ca.test", "2027-06-01", "certificate expired"),
            (&own, "ca.test", "2025-06-01", "certificate not valid yet"),
            (&other, "ca.test", "2026-06-01", "CaUsedAsEndEntity"),
        ] {
            let error = verdict(&given, shown, name, day).unwrap_err();
            assert!(
                error.contains(want) || error.contains("not valid for name"),
                "{want}: {error}"
            );
        }
    }

    #[test]
    fn a_certificate_without_server_usage_is_refused() {
        use ExtendedKeyUsagePurpose::{Any, ClientAuth, CodeSigning, ServerAuth};
        for (usages, is_taken) in [
            (&[][..], true),
            (&[Any], true),
            (&[ServerAuth], true),
            (&[ClientAuth, ServerAuth], true),
            (&[ClientAuth], false),
            (&[CodeSigning, ClientAuth], false),
        ] {
            let own = self_signed(usages);
            let taken = verdict(std::slice::from_ref(&own), &own, "ca.test", "2026-06-01");
            assert_eq!(taken.is_ok(), is_taken, "{usages:?}: {taken:?}");
        }
    }
}
