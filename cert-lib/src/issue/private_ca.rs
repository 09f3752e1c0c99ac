//! Certificates that are signed with a key that this program holds (RFC 5280): what a CA and a
//! self-signed issuer share.

use aws_lc_rs::digest;
use jiff::Timestamp;
use rcgen::SigningKey;
use rustls_pki_types::CertificateDer;
use x509_parser::{prelude::FromDer, public_key::PublicKey, x509::SubjectPublicKeyInfo};

use crate::{
    issue::{IssueError, KeyGenerator},
    model::{
        bundle::{Bundle, Leaf},
        der::{bits, extension, named_bits, octets, sequence, tlv},
        key::{Algorithm, PrivateKey},
        name::DnsName,
        request::{Extras, OtherName, Request, Subject},
    },
};

/// CommonName, encoded.
const COMMON_NAME: [u8; 5] = [0x06, 3, 0x55, 0x04, 3];

/// The key that is certified, and its private part where this program holds it.
pub(super) struct KeyHolder {
    pub(super) public_key: Vec<u8>,
    pub(super) key: Option<PrivateKey>,
}

/// The content of a certificate.
pub(super) struct CertificateTemplate<'a> {
    /// Name in DER.
    pub(super) subject: Vec<u8>,
    pub(super) names: Vec<DnsName>,
    pub(super) other_names: &'a [OtherName],
    /// SubjectPublicKeyInfo in DER.
    pub(super) public_key: &'a [u8],
    pub(super) is_ca: bool,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
}

/// The issuer of a certificate.
pub(super) struct Signer<'a> {
    /// Name in DER.
    pub(super) name: &'a [u8],
    /// Its subject key identifier.
    pub(super) key_id: Option<&'a [u8]>,
    pub(super) key: &'a PrivateKey,
}

/// The key to certify: that of the signing request, that of the request, or a new one. Upstream takes
/// a new one for a signing request, too.
pub(super) async fn holder(
    request: &Request,
    keys: &dyn KeyGenerator,
) -> Result<KeyHolder, IssueError> {
    let kind = match &request.subject {
        Subject::Csr(csr) => {
            return Ok(KeyHolder { public_key: csr.public_key.clone(), key: None });
        }
        Subject::Names { key, .. } => key.kind(),
    };
    let key = match &request.key {
        Some(key) => key.clone(),
        None => keys.generate(kind).await.map_err(|error| broken(&error))?,
    };
    Ok(KeyHolder { public_key: key.public_key().to_vec(), key: Some(key) })
}

/// The part of a request that only CA and self-signed issuers use.
pub(super) fn extras(request: &Request) -> Result<&Extras, IssueError> {
    let message = || "the request is for an ACME issuer".to_owned();
    request.extras.as_ref().ok_or_else(|| IssueError::InvalidRequest(message()))
}

/// The names that are no DNS names.
pub(super) fn other_names<'a>(request: &'a Request, extras: &'a Extras) -> &'a [OtherName] {
    match &request.subject {
        Subject::Csr(csr) => &csr.other_names,
        Subject::Names { .. } => &extras.other_names,
    }
}

/// The DNS names in the certificate. The common name of a server is one of them; that of a CA is not.
pub(super) fn names(request: &Request, extras: &Extras) -> Vec<DnsName> {
    match &request.subject {
        Subject::Names { dns_names, .. } if extras.is_ca => dns_names.clone(),
        Subject::Names { .. } | Subject::Csr(_) => request.names(),
    }
}

/// When a certificate that begins at `from` ends.
pub(super) fn end(from: Timestamp, extras: &Extras) -> Timestamp {
    from.saturating_add(extras.duration).unwrap_or(from)
}

/// Name in DER: `head`, which are encoded parts, and the common name.
pub(super) fn subject(head: &[u8], common_name: Option<&str>) -> Vec<u8> {
    let last = common_name
        .map(|text| tlv(0x31, &[&sequence(&[&COMMON_NAME, &tlv(0x0c, &[text.as_bytes()])])]));
    sequence(&[head, last.as_deref().unwrap_or_default()])
}

/// One attribute of a name in DER, copied from another name.
pub(super) fn attribute(kind: &[u8], value: &x509_parser::asn1_rs::Any<'_>) -> Vec<u8> {
    // All kinds of text there have tags below 31.
    let tag = value.tag().0 as u8;
    tlv(0x31, &[&sequence(&[&tlv(0x06, &[kind]), &tlv(tag, &[value.data])])])
}

/// Signs, and puts the certificate before `issuers`.
pub(super) fn issue(
    template: &CertificateTemplate<'_>,
    signer: &Signer<'_>,
    issuers: &[CertificateDer<'static>],
    key: Option<PrivateKey>,
) -> Result<Bundle, IssueError> {
    let leaf = sign(template, signer)?;
    let chain = std::iter::once(leaf).chain(issuers.iter().cloned()).collect::<Vec<_>>();
    let leaf = chain.first().ok_or_else(|| broken(&"it has no certificate"))?;
    let leaf = Leaf::from_der(leaf).map_err(|error| broken(&error))?;
    Ok(Bundle { chain, key, leaf, remark: None })
}

fn sign(
    template: &CertificateTemplate<'_>,
    signer: &Signer<'_>,
) -> Result<CertificateDer<'static>, IssueError> {
    let algorithm = algorithm(signer.key.algorithm());
    let body = sequence(&[
        &tlv(0xa0, &[&[0x02, 1, 2]]),
        &serial()?,
        &algorithm,
        signer.name,
        &sequence(&[&time(template.not_before), &time(template.not_after)]),
        &template.subject,
        template.public_key,
        &tlv(0xa3, &[&sequence(&[&extensions(template, signer)?])]),
    ]);
    let key = signer.key.signer().map_err(|error| broken(&error))?;
    let signature = key.sign(&body).map_err(|error| broken(&error))?;
    Ok(CertificateDer::from(sequence(&[&body, &algorithm, &bits(&signature)])))
}

/// 128 random bits, less the two that make the number positive and of full length. Upstream's
/// self-signed certificates all have the number 1, and browsers refuse the second of a name.
fn serial() -> Result<Vec<u8>, IssueError> {
    let mut number = [0; 16];
    aws_lc_rs::rand::fill(&mut number).map_err(|_| broken(&"there is no randomness"))?;
    number[0] = number[0] & 0x7f | 0x40;
    Ok(tlv(0x02, &[&number]))
}

/// AlgorithmIdentifier of the signature (RFC 5758 section 3.2, RFC 4055 section 5, RFC 8410 section 3).
fn algorithm(key: Algorithm) -> Vec<u8> {
    const ECDSA_SHA256: &[u8] = &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    const ECDSA_SHA384: &[u8] = &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3];
    const RSA_SHA256: &[u8] = &[0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11];
    const ECDSA_SHA512: &[u8] = &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4];
    const ED25519: &[u8] = &[0x06, 3, 0x2b, 0x65, 0x70];
    match key {
        Algorithm::P256 => sequence(&[ECDSA_SHA256]),
        Algorithm::P384 => sequence(&[ECDSA_SHA384]),
        Algorithm::P521 => sequence(&[ECDSA_SHA512]),
        Algorithm::Ed25519 => sequence(&[ED25519]),
        Algorithm::Rsa(_) => sequence(&[RSA_SHA256, &[0x05, 0]]),
    }
}

/// RFC 5280 section 4.1.2.5: two digits of the year until 2049.
fn time(time: Timestamp) -> Vec<u8> {
    let text = time.strftime("%Y%m%d%H%M%SZ").to_string();
    match text.get(2..).filter(|_| ("1950".."2050").contains(&&text[..4])) {
        Some(short) => tlv(0x17, &[short.as_bytes()]),
        None => tlv(0x18, &[text.as_bytes()]),
    }
}

fn extensions(
    template: &CertificateTemplate<'_>,
    signer: &Signer<'_>,
) -> Result<Vec<u8>, IssueError> {
    const CRITICAL: &[u8] = &[0x01, 1, 0xff];
    const SERVER: &[u8] = &[0x06, 8, 0x2b, 6, 1, 5, 5, 7, 3, 1];
    const CLIENT: &[u8] = &[0x06, 8, 0x2b, 6, 1, 5, 5, 7, 3, 2];
    let (_, info) = SubjectPublicKeyInfo::from_der(template.public_key)
        .map_err(|_| broken(&"its public key cannot be read"))?;
    let is_rsa = matches!(info.parsed(), Ok(PublicKey::RSA(_)));
    let usage = 0x80 | if is_rsa { 0x20 } else { 0 } | if template.is_ca { 0x04 } else { 0 };
    // Those of a CA as well: verifiers apply a CA's purposes to everything below it.
    let purposes = sequence(&[CLIENT, SERVER]);
    let constraints = sequence(&[if template.is_ca { CRITICAL } else { &[] }]);
    let own_id = octets(&key_id(&info.subject_public_key.data));
    let mut out = Vec::new();
    let mut add = |last: u8, critical: bool, value: &[u8]| {
        let critical = if critical { CRITICAL } else { &[] };
        out.extend(sequence(&[&extension(last), critical, &octets(value)]));
    };
    add(15, true, &named_bits(usage));
    add(37, false, &purposes);
    add(19, true, &constraints);
    add(14, false, &own_id);
    if let Some(id) = signer.key_id {
        add(35, false, &sequence(&[&tlv(0x80, &[id])]));
    }
    let names = alternative_names(template);
    if !names.is_empty() {
        let subject_is_empty = template.subject == sequence(&[]);
        add(17, subject_is_empty, &sequence(&[&names]));
    }
    Ok(out)
}

/// RFC 7093 section 2, method 1.
fn key_id(public_key: &[u8]) -> Vec<u8> {
    let hash = digest::digest(&digest::SHA256, public_key);
    hash.as_ref().iter().take(20).copied().collect()
}

fn alternative_names(template: &CertificateTemplate<'_>) -> Vec<u8> {
    let dns = template.names.iter().flat_map(|name| tlv(0x82, &[name.as_str().as_bytes()]));
    let others = template.other_names.iter().flat_map(|name| match name {
        OtherName::Email(text) => tlv(0x81, &[text.as_bytes()]),
        OtherName::Uri(text) => tlv(0x86, &[text.as_bytes()]),
        OtherName::Address(std::net::IpAddr::V4(address)) => tlv(0x87, &[&address.octets()]),
        OtherName::Address(std::net::IpAddr::V6(address)) => tlv(0x87, &[&address.octets()]),
    });
    dns.chain(others).collect()
}

/// An error that is not expected, and may pass.
pub(super) fn broken(error: &dyn std::fmt::Display) -> IssueError {
    IssueError::transient(format!("the certificate cannot be made: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        issue::InlineKeyGenerator,
        model::{
            key::KeyType,
            request::{Fingerprint, KeyChoice},
        },
        solve::Owner,
    };

    #[tokio::test]
    async fn a_key_that_a_request_brings_is_certified_again() {
        let subject = Subject::Names {
            common_name: None,
            dns_names: vec!["a.example".parse().unwrap()],
            key: KeyChoice::Asked(KeyType::P384),
        };
        let request = Request::new(Owner("ns/a".to_owned()), Fingerprint::stored("abc"), subject);
        let made = holder(&request, &InlineKeyGenerator).await.unwrap();
        let again = Request { key: made.key.clone(), ..request.clone() };
        let again = holder(&again, &InlineKeyGenerator).await.unwrap();
        assert_eq!(again.public_key, made.public_key);
        assert_ne!(
            holder(&request, &InlineKeyGenerator).await.unwrap().public_key,
            made.public_key
        );
    }
}
