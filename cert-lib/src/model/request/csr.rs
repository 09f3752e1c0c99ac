//! Signing requests (PKCS#10): parsed, and checked for signature, key and names.

use std::{collections::HashSet, fmt, net::IpAddr};

use x509_parser::{
    certification_request::X509CertificationRequest,
    extensions::GeneralName,
    prelude::{FromDer, ParsedExtension},
    public_key::PublicKey,
};

use super::{
    other_name::{OtherName, email, uri},
    refusal::{MAX_DNS_NAMES, Refusal},
};
use crate::model::{armor::blocks, name::DnsName};

/// A parsed PKCS#10 signing request with a valid signature and an accepted key.
#[derive(Clone)]
pub struct Csr {
    /// DER of the signing request.
    pub der: Vec<u8>,
    /// The subject's common name.
    pub common_name: Option<DnsName>,
    /// Common name and DNS names, each once, the common name first.
    pub names: Vec<DnsName>,
    /// SubjectPublicKeyInfo in DER.
    pub public_key: Vec<u8>,
    /// The subject in DER.
    pub subject: Vec<u8>,
    /// Alternative names that are not DNS names.
    pub other_names: Vec<OtherName>,
}

/// The kind of issuer that a signing request is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Audience {
    /// An ACME server, which validates DNS names.
    Acme,
    /// An issuer whose CA key we hold.
    Own,
}

impl fmt::Debug for Csr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Csr").field("names", &self.names).finish_non_exhaustive()
    }
}

impl Csr {
    /// Parses a PEM signing request for an ACME server and checks its signature, key and names.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn from_pem(text: &[u8]) -> Result<Self, Refusal> {
        Self::parse(text, Audience::Acme)
    }

    /// The same for an issuer whose CA key we hold: DNS names are optional, and the common name
    /// need not be one.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn for_own_issuer(text: &[u8]) -> Result<Self, Refusal> {
        Self::parse(text, Audience::Own)
    }

    fn parse(text: &[u8], audience: Audience) -> Result<Self, Refusal> {
        let refuse = |why: &dyn fmt::Display| Refusal::Csr(why.to_string());
        if text.len() > MAX_CSR {
            return Err(refuse(&format_args!("it is longer than {MAX_CSR} bytes")));
        }
        let is_request =
            |label: &str| matches!(label, "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST");
        let block = blocks(text).find(|block| is_request(block.label));
        let block = block.ok_or_else(|| match blocks(text).next() {
            Some(other) => refuse(&format_args!("it is PEM of a {}", other.label)),
            None => refuse(&"it is not PEM"),
        })?;
        let der = block.der.ok_or_else(|| refuse(&"its PEM is damaged"))?.to_vec();
        let (rest, csr) = X509CertificationRequest::from_der(&der)
            .map_err(|_| refuse(&"it is not a complete PKCS#10 request"))?;
        if !rest.is_empty() {
            return Err(refuse(&"something follows the PKCS#10 request"));
        }
        let info = &csr.certification_request_info;
        check_strength(&info.subject_pki)?;
        csr.verify_signature().map_err(|_| refuse(&"its signature does not match its key"))?;
        let found = CsrNames::of(&csr, audience)?;
        if found.names.is_empty() && audience == Audience::Acme {
            return Err(refuse(&"it names no domain"));
        }
        if found.names.len() > MAX_DNS_NAMES + 1 {
            return Err(Refusal::TooManyNames(found.names.len()));
        }
        Ok(Self {
            common_name: found.common_name,
            names: found.names,
            public_key: info.subject_pki.raw.to_vec(),
            subject: info.subject.as_raw().to_vec(),
            other_names: found.other_names,
            der,
        })
    }
}

/// The names in a signing request.
#[derive(Default)]
struct CsrNames {
    common_name: Option<DnsName>,
    names: Vec<DnsName>,
    seen: HashSet<DnsName>,
    other_names: Vec<OtherName>,
}

impl CsrNames {
    fn of(csr: &X509CertificationRequest<'_>, audience: Audience) -> Result<Self, Refusal> {
        let refuse = |why: &str| Refusal::Csr(why.to_owned());
        let mut found = Self::default();
        let subject = &csr.certification_request_info.subject;
        for (number, part) in subject.iter_common_name().enumerate() {
            let text = part.as_str().map_err(|_| refuse("its common name is not text"))?;
            let name = match (text.parse::<DnsName>(), audience) {
                (Ok(name), _) => name,
                (Err(_), Audience::Own) => continue,
                (Err(error), Audience::Acme) => return Err(error.into()),
            };
            if number == 0 {
                found.common_name = Some(name.clone());
            }
            found.add(name);
        }
        for extension in csr.requested_extensions().into_iter().flatten() {
            let ParsedExtension::SubjectAlternativeName(names) = extension else { continue };
            for name in &names.general_names {
                match (name, audience) {
                    (GeneralName::DNSName(name), _) => found.add(name.parse()?),
                    (GeneralName::IPAddress(_), Audience::Acme) => {
                        return Err(refuse(
                            "it asks for an IP address, which ACME issuers with DNS01 cannot prove",
                        ));
                    }
                    (other, Audience::Own) => found.other_names.extend(other_name(other)?),
                    (_, Audience::Acme) => {}
                }
            }
        }
        Ok(found)
    }

    fn add(&mut self, name: DnsName) {
        if self.seen.insert(name.clone()) {
            self.names.push(name);
        }
    }
}

/// Kinds of names that we cannot certify are left out, as in upstream.
fn other_name(name: &GeneralName<'_>) -> Result<Option<OtherName>, Refusal> {
    Ok(match name {
        GeneralName::RFC822Name(text) => Some(email(text)?),
        GeneralName::URI(text) => Some(uri(text)?),
        GeneralName::IPAddress(bytes) => {
            let address = <[u8; 4]>::try_from(*bytes)
                .map(IpAddr::from)
                .or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
            let address = address.map_err(|_| Refusal::Csr("an IP address is none".to_owned()))?;
            Some(OtherName::Address(address))
        }
        _ => None,
    })
}

/// CA/Browser Forum baseline requirements section 6.1.5, restricted to what Let's Encrypt accepts.
fn check_strength(key: &x509_parser::x509::SubjectPublicKeyInfo<'_>) -> Result<(), Refusal> {
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) if (2048..=4096).contains(&rsa.key_size()) => Ok(()),
        Ok(PublicKey::RSA(rsa)) => {
            Err(Refusal::WeakKey(format!("RSA with {} bits", rsa.key_size())))
        }
        Ok(PublicKey::EC(point)) if matches!(point.key_size(), 256 | 384) => Ok(()),
        Ok(PublicKey::EC(point)) => {
            Err(Refusal::WeakKey(format!("elliptic curve with {} bits", point.key_size())))
        }
        _ => Err(Refusal::WeakKey("unknown algorithm".to_owned())),
    }
}

/// Longest signing request in PEM: 100 names of 253 characters and a key of 4096 bits fit.
const MAX_CSR: usize = 64 * 1024;
