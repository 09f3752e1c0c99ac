//! The properties of a certificate that tests and the demo examine.

use std::fmt;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use x509_parser::{
    extensions::GeneralName, pem::Pem, prelude::X509Certificate, public_key::PublicKey,
};

/// The first certificate of a PEM text.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// The subject, as in `CN=example.test`; empty without one.
    pub subject: String,
    /// The issuer's name.
    pub issuer: String,
    /// The serial number in hexadecimal without leading zeros.
    pub serial: String,
    /// Start of its validity.
    pub not_before: Timestamp,
    /// End of its validity.
    pub not_after: Timestamp,
    /// The DNS names, in the order of the certificate.
    pub names: Vec<String>,
    /// The kind and size of the key, as in `EC 256 bit`.
    pub key: String,
    /// The public key in DER.
    pub public_key: Vec<u8>,
    /// The number of certificates in the PEM text.
    pub chain: usize,
}

impl Leaf {
    /// Reads a PEM text of one or more certificates.
    ///
    /// # Errors
    /// It holds no certificate.
    pub fn parse(pem: &[u8]) -> Result<Self> {
        let blocks: Vec<Pem> = Pem::iter_from_buffer(pem).collect::<Result<_, _>>()?;
        let first = blocks.first().context("no certificate")?;
        let certificate = first.parse_x509()?;
        let validity = certificate.validity();
        Ok(Self {
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            serial: format!("{:x}", certificate.serial),
            not_before: Timestamp::from_second(validity.not_before.timestamp())?,
            not_after: Timestamp::from_second(validity.not_after.timestamp())?,
            names: names(&certificate)?,
            key: key(&certificate)?,
            public_key: certificate.public_key().raw.to_vec(),
            chain: blocks.len(),
        })
    }
}

impl fmt::Display for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = if self.subject.is_empty() { "(none)" } else { &self.subject };
        writeln!(f, "subject    {subject}")?;
        writeln!(f, "issuer     {}", self.issuer)?;
        writeln!(f, "serial     {}", self.serial)?;
        writeln!(f, "notBefore  {}", self.not_before)?;
        writeln!(f, "notAfter   {}", self.not_after)?;
        writeln!(f, "DNS names  {}", self.names.join(", "))?;
        writeln!(f, "key        {}", self.key)?;
        write!(f, "chain      {} certificates", self.chain)
    }
}

fn names(certificate: &X509Certificate<'_>) -> Result<Vec<String>> {
    let Some(extension) = certificate.subject_alternative_name()? else {
        return Ok(Vec::new());
    };
    let names = extension.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    Ok(names.collect())
}

fn key(certificate: &X509Certificate<'_>) -> Result<String> {
    Ok(match certificate.public_key().parsed()? {
        PublicKey::RSA(key) => format!("RSA {} bit", key.key_size()),
        PublicKey::EC(point) => format!("EC {} bit", point.key_size()),
        _ => "of another kind".to_owned(),
    })
}
