//! The identifier of a certificate in renewal information (RFC 9773 section 4.1).

use std::fmt;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use x509_parser::{certificate::X509Certificate, extensions::ParsedExtension};

/// Most octets of a key identifier: CAs write a digest.
const MAX_ISSUER: usize = 64;

/// The key identifier of the issuer and the serial number of the certificate. It is computed from
/// the certificate alone.
#[derive(Clone, Debug, Eq, Hash, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct CertId(Box<str>);

impl CertId {
    /// The identifier of `certificate`; `None` without an authority key identifier.
    #[must_use]
    pub fn of(certificate: &X509Certificate<'_>) -> Option<Self> {
        let issuer = certificate.extensions().iter().find_map(|extension| {
            match extension.parsed_extension() {
                ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref(),
                _ => None,
            }
        })?;
        // The DER encoding of the serial number, with the zero byte that keeps it positive.
        let serial = certificate.raw_serial();
        if issuer.0.len() > MAX_ISSUER {
            return None;
        }
        let text = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        Some(Self(format!("{}.{}", text(issuer.0), text(serial)).into()))
    }

    /// The text form in orders and URLs.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::FromDer;

    use super::*;

    /// The certificate and the identifier of RFC 9773 appendix A and section 4.1.
    #[test]
    fn the_example_of_the_rfc_has_its_identifier() {
        let text = "-----BEGIN CERTIFICATE-----
MIIBQzCB66ADAgECAgUAh2VDIDAKBggqhkjOPQQDAjAVMRMwEQYDVQQDEwpFeGFt
cGxlIENBMCIYDzAwMDEwMTAxMDAwMDAwWhgPMDAwMTAxMDEwMDAwMDBaMBYxFDAS
BgNVBAMTC2V4YW1wbGUuY29tMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEeBZu
7cbpAYNXZLbbh8rNIzuOoqOOtmxA1v7cRm//AwyMwWxyHz4zfwmBhcSrf47NUAFf
qzLQ2PPQxdTXREYEnKMjMCEwHwYDVR0jBBgwFoAUaYhba4dGQEHhs3uEe6CuLN4B
yNQwCgYIKoZIzj0EAwIDRwAwRAIge09+S5TZAlw5tgtiVvuERV6cT4mfutXIlwTb
+FYN/8oCIClDsqBklhB9KAelFiYt9+6FDj3z4KGVelYM5MdsO3pK
-----END CERTIFICATE-----";
        let block = pem::parse(text).unwrap();
        let (_, certificate) = X509Certificate::from_der(block.contents()).unwrap();
        let id = CertId::of(&certificate).unwrap();
        assert_eq!(id.as_str(), "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyA");
    }
}
