//! What an issuer hands out, and what a stored certificate says.

use std::{collections::BTreeSet, fmt};

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    prelude::{FromDer, ParsedExtension},
};

use crate::model::{
    cert_id::CertId,
    key::{KeyError, PrivateKey},
    name::DnsName,
};

/// Largest chain in PEM that is read: Go's verifiers, and so most clients, give up well before.
const MAX_PEM: usize = 256 * 1024;

/// A certificate with its chain, and its key where it is ours.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// Leaf first, then the issuers as the CA gave them.
    pub chain: Vec<CertificateDer<'static>>,
    /// `None` where the key stays with whoever made the signing request.
    pub key: Option<PrivateKey>,
    /// What the leaf says.
    pub leaf: Leaf,
    /// For people: a wish that was not fulfilled.
    pub remark: Option<String>,
}

/// What a leaf certificate says, as far as anybody decides on it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Leaf {
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
    /// Whether it may sign others (RFC 5280 section 4.2.1.9).
    pub is_ca: bool,
    /// What its CA calls it; `None` where it does not say which key signed it.
    pub id: Option<CertId>,
}

/// Why a stored or downloaded chain cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BundleError {
    /// Nothing in it.
    #[error("it holds no certificate")]
    Empty,
    /// Not PEM, or too large to be looked at.
    #[error("it is not a chain of certificates in PEM")]
    NotPem,
    /// The first block is no certificate.
    #[error("its first certificate cannot be read")]
    NotX509,
    /// The key is another one's.
    #[error("the private key does not match the certificate")]
    OtherKey,
    /// The key cannot be read.
    #[error("the private key cannot be read")]
    Key,
}

impl From<KeyError> for BundleError {
    fn from(_: KeyError) -> Self {
        Self::Key
    }
}

impl Bundle {
    /// Reads a chain in PEM and, where given, its key in PEM, and checks that they belong together.
    ///
    /// # Errors
    /// See [`BundleError`].
    pub fn from_pem(chain: &[u8], key: Option<&str>) -> Result<Self, BundleError> {
        let chain = certificates(chain)?;
        let leaf = Leaf::from_der(chain.first().ok_or(BundleError::Empty)?)?;
        let key = key.map(PrivateKey::from_pem).transpose()?;
        let bundle = Self { chain, key, leaf, remark: None };
        if let Some(key) = &bundle.key
            && key.public_key()? != bundle.leaf.public_key
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

    /// The issuers in PEM, without the leaf; empty when the CA gave none. A certificate that signed
    /// itself is its own.
    #[must_use]
    pub fn issuers_pem(&self) -> String {
        pem_of(self.issuers())
    }

    /// What [`issuers_pem`](Self::issuers_pem) writes.
    #[must_use]
    pub fn issuers(&self) -> &[CertificateDer<'static>] {
        match self.chain.as_slice() {
            [leaf] if is_self_issued(leaf) => &self.chain,
            [_, issuers @ ..] => issuers,
            [] => &[],
        }
    }
}

/// The certificates in a PEM text, which may be none.
///
/// # Errors
/// [`BundleError::NotPem`] when it is something else, or too large to be looked at.
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, BundleError> {
    if text.len() > MAX_PEM {
        return Err(BundleError::NotPem);
    }
    let blocks = pem::parse_many(text).map_err(|_| BundleError::NotPem)?;
    let certificates = blocks.into_iter().filter(|block| block.tag() == "CERTIFICATE");
    Ok(certificates.map(|block| CertificateDer::from(block.into_contents())).collect())
}

/// Whether the subject is the issuer.
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
        let time = |time: x509_parser::time::ASN1Time| {
            Timestamp::from_second(time.timestamp()).map_err(|_| BundleError::NotX509)
        };
        let validity = certificate.validity();
        Ok(Self {
            serial: data_encoding::HEXLOWER.encode(certificate.raw_serial()),
            not_before: time(validity.not_before)?,
            not_after: time(validity.not_after)?,
            names: names_of(&certificate),
            public_key: certificate.public_key().raw.to_vec(),
            is_ca: certificate.is_ca(),
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

/// Names that are no DNS names (a person's common name, say) are left out: nobody asked for them.
fn names_of(certificate: &X509Certificate<'_>) -> BTreeSet<DnsName> {
    let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    let mut names: BTreeSet<DnsName> = common.filter_map(|text| text.parse().ok()).collect();
    for extension in certificate.extensions() {
        let ParsedExtension::SubjectAlternativeName(found) = extension.parsed_extension() else {
            continue;
        };
        names.extend(found.general_names.iter().filter_map(|name| match name {
            GeneralName::DNSName(text) => text.parse::<DnsName>().ok(),
            _ => None,
        }));
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
    fn a_chain_that_is_all_beginnings_takes_no_time() {
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
}
