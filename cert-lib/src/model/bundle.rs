//! Certificates with chain and key: what an issuer returns and what a Secret stores.

use std::{collections::BTreeSet, fmt};

use aws_lc_rs::digest;
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    prelude::{FromDer, ParsedExtension},
};

use crate::model::{
    armor::{Block, blocks},
    cert_id::CertId,
    key::{KeyError, PrivateKey},
    name::DnsName,
};

/// Largest chain in PEM that is read. The verifiers of Go, and so most clients, accept much less.
const MAX_PEM: usize = 256 * 1024;
/// Bounds for the values that stay in memory for each Secret of a tenant: names, octets of a serial
/// number (20 by RFC 5280 section 4.1.2.2) and of a public key.
const MAX_NAMES: usize = 1_000;
const MAX_SERIAL: usize = 64;
const MAX_PUBLIC_KEY: usize = 8 * 1024;

/// A certificate with its chain and, if it is ours, its key.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// Leaf first, then the issuers as the CA gave them.
    pub chain: Vec<CertificateDer<'static>>,
    /// `None` where the owner of the signing request has the key.
    pub key: Option<PrivateKey>,
    /// The content of the leaf certificate.
    pub leaf: Leaf,
    /// Options that the issuer could not fulfil, for users.
    pub remark: Option<String>,
}

/// Identifies a certificate: the SHA-256 of its DER. A serial number is not enough, because the
/// maker of a self-made certificate can choose it.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LeafDigest([u8; 32]);

impl LeafDigest {
    /// The digest of a certificate in DER.
    #[must_use]
    pub fn of(der: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, der).as_ref());
        Self(bytes)
    }
}

impl fmt::Display for LeafDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for LeafDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The content of a leaf certificate, as far as decisions depend on it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Leaf {
    /// Digest of the certificate.
    pub digest: LeafDigest,
    /// Serial number in lower-case hexadecimal, leading zeros kept.
    pub serial: String,
    /// First instant of its validity.
    pub not_before: Timestamp,
    /// Last instant of its validity.
    pub not_after: Timestamp,
    /// DNS names of the subject and its alternative names.
    pub names: BTreeSet<DnsName>,
    /// SubjectPublicKeyInfo in DER.
    pub public_key: Vec<u8>,
    /// Whether it is a CA certificate (RFC 5280 section 4.2.1.9).
    pub is_ca: bool,
    /// Whether its subject equals its issuer: no CA signed it.
    pub is_self_issued: bool,
    /// Identifier for renewal information (RFC 9773); `None` without an authority key identifier.
    pub id: Option<CertId>,
}

/// Why a stored or downloaded chain cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BundleError {
    /// There is no certificate.
    #[error("it holds no certificate")]
    Empty,
    /// Not PEM, or too large.
    #[error("it is not a chain of certificates in PEM")]
    NotPem,
    /// The first block is not a certificate.
    #[error("its first certificate cannot be read")]
    NotX509,
    /// No CA issues such a certificate; storing it would use too much memory.
    #[error(
        "its first certificate has more than {MAX_NAMES} names or a serial number or key of unusual size"
    )]
    Unusual,
    /// The key belongs to another certificate.
    #[error("the private key does not match the certificate")]
    OtherKey,
    /// The key cannot be read.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl Bundle {
    /// Reads a chain in PEM and, where given, its key in PEM, and checks that they belong together.
    ///
    /// # Errors
    /// See [`BundleError`].
    pub fn from_pem(chain: &[u8], key: Option<&[u8]>) -> Result<Self, BundleError> {
        let chain = certificates(chain)?;
        let leaf = Leaf::from_der(chain.first().ok_or(BundleError::Empty)?)?;
        let key = key.map(PrivateKey::from_pem).transpose()?;
        let bundle = Self { chain, key, leaf, remark: None };
        if let Some(key) = &bundle.key
            && key.public_key() != bundle.leaf.public_key
        {
            return Err(BundleError::OtherKey);
        }
        Ok(bundle)
    }

    /// Leaf and issuers in PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        pem_of(&self.chain)
    }

    /// The issuers in PEM, without the leaf; empty when the CA returned none. A self-signed
    /// certificate is its own issuer.
    #[must_use]
    pub fn issuers_pem(&self) -> String {
        pem_of(self.issuers())
    }

    /// The certificates of [`issuers_pem`](Self::issuers_pem).
    #[must_use]
    pub fn issuers(&self) -> &[CertificateDer<'static>] {
        match self.chain.as_slice() {
            [leaf] if is_self_issued(leaf) => &self.chain,
            [_, issuers @ ..] => issuers,
            [] => &[],
        }
    }
}

/// The certificates in a PEM text; there may be none.
///
/// # Errors
/// [`BundleError::NotPem`] when it is not PEM or too large.
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, BundleError> {
    if text.len() > MAX_PEM {
        return Err(BundleError::NotPem);
    }
    let certificates = blocks(text).filter(|block| block.label == "CERTIFICATE");
    let read = |block: Block<'_>| block.der.map(|der| CertificateDer::from(der.to_vec()));
    certificates.map(|block| read(block).ok_or(BundleError::NotPem)).collect()
}

/// Whether the subject equals the issuer.
#[must_use]
pub fn is_self_issued(der: &[u8]) -> bool {
    X509Certificate::from_der(der)
        .is_ok_and(|(_, it)| it.subject().as_raw() == it.issuer().as_raw())
}

fn pem_of(chain: &[CertificateDer<'_>]) -> String {
    let blocks: Vec<_> =
        chain.iter().map(|der| pem::Pem::new("CERTIFICATE", der.as_ref())).collect();
    pem::encode_many_config(&blocks, pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF))
}

impl Leaf {
    /// Reads a certificate.
    ///
    /// # Errors
    /// [`BundleError::NotX509`] when it is none.
    pub fn from_der(der: &[u8]) -> Result<Self, BundleError> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| BundleError::NotX509)?;
        let validity = certificate.validity();
        let names = names_of(&certificate);
        let (serial, key) = (certificate.raw_serial(), certificate.public_key().raw);
        if names.len() > MAX_NAMES || serial.len() > MAX_SERIAL || key.len() > MAX_PUBLIC_KEY {
            return Err(BundleError::Unusual);
        }
        Ok(Self {
            digest: LeafDigest::of(der),
            serial: data_encoding::HEXLOWER.encode(serial),
            not_before: instant(validity.not_before),
            not_after: instant(validity.not_after),
            names,
            public_key: key.to_vec(),
            is_ca: certificate.is_ca(),
            is_self_issued: certificate.subject().as_raw() == certificate.issuer().as_raw(),
            id: CertId::of(&certificate),
        })
    }

    /// The serial number in pairs joined by colons, without the sign byte, as upstream prints it.
    #[must_use]
    pub fn serial_with_colons(&self) -> String {
        let digits = match self.serial.strip_prefix("00") {
            Some(rest) if !rest.is_empty() => rest,
            _ => &self.serial,
        };
        let pairs: Vec<&str> =
            digits.as_bytes().chunks(2).filter_map(|pair| std::str::from_utf8(pair).ok()).collect();
        pairs.join(":")
    }
}

/// The expiration date. A certificate without a "well-defined expiration date" (RFC 5280 section
/// 4.1.2.5) has 99991231235959Z, a day later than the last `Timestamp`: that one is used.
fn instant(time: x509_parser::time::ASN1Time) -> Timestamp {
    let seconds = time.timestamp();
    let nearest = if seconds < 0 { Timestamp::MIN } else { LAST };
    Timestamp::from_second(seconds).unwrap_or(nearest)
}

/// The last whole second of [`Timestamp`].
const LAST: Timestamp = Timestamp::constant(253_402_207_200, 0);

/// Names that are not DNS names, such as a person's common name, are left out: no request compares
/// them.
fn names_of(certificate: &X509Certificate<'_>) -> BTreeSet<DnsName> {
    let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    let mut names: BTreeSet<DnsName> = common.filter_map(|text| text.parse().ok()).collect();
    for extension in certificate.extensions() {
        let ParsedExtension::SubjectAlternativeName(found) = extension.parsed_extension() else {
            continue;
        };
        let dns_names = found.general_names.iter().filter_map(|name| match name {
            GeneralName::DNSName(text) => text.parse::<DnsName>().ok(),
            _ => None,
        });
        // One name above the limit is enough to refuse the certificate.
        names.extend(dns_names.take(MAX_NAMES + 1));
    }
    names
}

impl fmt::Display for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SN {}", self.serial_with_colons())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "how long it really takes is what is tested")]
    fn a_chain_of_begin_lines_is_parsed_in_linear_time() {
        let begin = "-----BEGIN CERTIFICATE-----\n";
        let end = "-----END CERTIFICATE-----\n";
        let many = 100_000;
        for text in [
            begin.repeat(many),
            end.repeat(many),
            begin.repeat(MAX_PEM / begin.len()),
            format!("{}{end}", begin.repeat(MAX_PEM / begin.len() - 1)),
            format!("{begin}{end}").repeat(MAX_PEM / (begin.len() + end.len())),
            "-----".repeat(MAX_PEM / 5),
            "-----BEGIN ".repeat(MAX_PEM / 11),
        ] {
            let began = Instant::now();
            assert!(Bundle::from_pem(text.as_bytes(), None).is_err());
            // A quadratic reader takes a minute; a machine that is busy does not.
            assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        }
    }

    #[test]
    fn a_certificate_of_unusual_size_is_refused() {
        let made = |count: usize, serial: usize| {
            let names: Vec<String> =
                (0..count).map(|number| format!("h{number}.example")).collect();
            let mut params = rcgen::CertificateParams::new(names).unwrap();
            params.serial_number = Some(rcgen::SerialNumber::from(vec![1; serial]));
            let key = rcgen::KeyPair::generate().unwrap();
            Leaf::from_der(params.self_signed(&key).unwrap().der()).map(|leaf| leaf.names.len())
        };
        assert_eq!(made(MAX_NAMES, MAX_SERIAL), Ok(MAX_NAMES));
        assert_eq!(made(5 * MAX_NAMES, 20), Err(BundleError::Unusual));
        assert_eq!(made(1, MAX_SERIAL + 1), Err(BundleError::Unusual));
    }
}
