//! Building signing requests.

use std::{collections::BTreeSet, fmt};

use rcgen::{CertificateParams, DistinguishedName, DnType, SanType};

use crate::model::{
    key::PrivateKey,
    request::{Request, Subject},
};

/// Why there is no signing request.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot build the signing request: {0}")]
pub struct CsrError(String);

/// The signing request (RFC 2986) in DER: all names and addresses as alternative names and the common
/// name where one is given, signed with `key`. The request of a user is sent unchanged.
///
/// # Errors
/// When the key is missing, or the library refuses.
pub fn signing_request(request: &Request, key: Option<&PrivateKey>) -> Result<Vec<u8>, CsrError> {
    let common_name = match &request.subject {
        Subject::Csr(csr) => return Ok(csr.der.clone()),
        Subject::Names { common_name, .. } => common_name,
    };
    let refuse = |error: &dyn fmt::Display| CsrError(error.to_string());
    let key = key.ok_or_else(|| refuse(&"its private key is missing"))?;
    let mut params = CertificateParams::default();
    // The library's default has a common name of its own.
    params.distinguished_name = DistinguishedName::new();
    if let Some(name) = common_name {
        params.distinguished_name.push(DnType::CommonName, name.as_str());
    }
    for name in request.names() {
        let text = name.as_str().try_into().map_err(|error: rcgen::Error| refuse(&error))?;
        params.subject_alt_names.push(SanType::DnsName(text));
    }
    let addresses: BTreeSet<_> = request.acme.addresses.iter().collect();
    params.subject_alt_names.extend(addresses.into_iter().map(|it| SanType::IpAddress(*it)));
    let signer = key.signer().map_err(|error| refuse(&error))?;
    let csr = params.serialize_request(&signer).map_err(|error| refuse(&error))?;
    Ok(csr.der().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{
            key::KeyType,
            request::{Csr, Fingerprint, KeyChoice},
        },
        solve::Owner,
    };

    fn request(subject: Subject) -> Request {
        let fingerprint = Fingerprint::stored("f");
        Request::new(Owner("default/x".to_owned()), fingerprint, subject)
    }

    fn names(common_name: Option<&str>, dns_names: &[&str]) -> Request {
        request(Subject::Names {
            common_name: common_name.map(|text| text.parse().unwrap()),
            dns_names: dns_names.iter().map(|text| text.parse().unwrap()).collect(),
            key: KeyChoice::default(),
        })
    }

    fn parsed(der: &[u8]) -> Csr {
        Csr::from_pem(pem::encode(&pem::Pem::new("CERTIFICATE REQUEST", der)).as_bytes()).unwrap()
    }

    #[test]
    fn a_signing_request_has_all_names_once_and_our_key() {
        let request = names(Some("*.example.org"), &["example.org", "*.example.org"]);
        for kind in [KeyType::P256, KeyType::P384, KeyType::Rsa2048] {
            let key = PrivateKey::generate(kind).unwrap();
            let csr = parsed(&signing_request(&request, Some(&key)).unwrap());
            assert_eq!(csr.names, request.names());
            assert_eq!(csr.public_key, key.public_key());
        }
    }

    #[test]
    fn there_is_no_common_name_unless_one_is_given() {
        let key = PrivateKey::generate(KeyType::P256).unwrap();
        let der = signing_request(&names(None, &["a.example.org"]), Some(&key)).unwrap();
        assert!(!der.windows(3).any(|part| part == [0x55, 0x04, 0x03]), "an OID of commonName");
        let der = signing_request(&names(Some("a.example.org"), &[]), Some(&key)).unwrap();
        assert!(der.windows(3).any(|part| part == [0x55, 0x04, 0x03]));
    }

    #[test]
    fn the_request_of_a_user_is_sent_unchanged() {
        let key = PrivateKey::generate(KeyType::P256).unwrap();
        let csr = parsed(&signing_request(&names(None, &["a.example.org"]), Some(&key)).unwrap());
        let der = csr.der.clone();
        assert_eq!(signing_request(&request(Subject::Csr(csr)), None).unwrap(), der);
    }

    #[test]
    fn without_its_key_there_is_no_request() {
        let error = signing_request(&names(None, &["a.example.org"]), None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot build the signing request: its private key is missing"
        );
    }
}
