//! Checks that a certificate is the requested one, whichever issuer issued it.

use std::{collections::BTreeSet, net::IpAddr};

use jiff::{SignedDuration, Timestamp};
use x509_parser::{
    certificate::X509Certificate,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer,
};

use super::private_ca;
use crate::model::{
    bundle::{Bundle, Leaf},
    name::DnsName,
    request::{Extras, OtherName, Refusal, Request, Subject, own_common_name},
};

/// How a certificate differs from the request.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Mismatch {
    /// It certifies another key.
    #[error("the certificate is for another key")]
    Key,
    /// A requested name or address is missing.
    #[error("the certificate does not cover {0}")]
    Name(String),
    /// It has another subject.
    #[error("the certificate does not have the common name {0:?}")]
    CommonName(String),
    /// The names cannot be in any certificate.
    #[error(transparent)]
    Request(#[from] Refusal),
    /// It may sign others and should not, or the other way round.
    #[error("the certificate is one of a CA, or is not, other than was asked for")]
    Power,
    /// It has expired.
    #[error("the certificate has expired on {0}")]
    Expired(Timestamp),
    /// It is not valid yet.
    #[error("the certificate is not valid before {0}")]
    NotYet(Timestamp),
    /// Its lifetime makes no sense.
    #[error("the certificate is valid from {0} to {1}, which is no lifetime")]
    Lifetime(Timestamp, Timestamp),
    /// It is valid for longer than requested.
    #[error("the certificate is valid from {0} to {1}, which is longer than was asked for")]
    TooLong(Timestamp, Timestamp),
}

/// A certificate may begin so much later, because clocks differ.
const SKEW: SignedDuration = SignedDuration::from_hours(1);
/// A longer lifetime is a mistake, and such a certificate would never be renewed.
const LONGEST: SignedDuration = SignedDuration::from_hours(100 * 366 * 24);

/// Checks that the certificate in `bundle` is for the key and all the names that `request` asks for, and
/// valid `now`. Names count as alternative names only: clients ignore the common name.
///
/// # Errors
/// See [`Mismatch`].
pub fn verify(bundle: &Bundle, request: &Request, now: Timestamp) -> Result<(), Mismatch> {
    verify_key(bundle, request)?;
    let der = bundle.chain.first().ok_or(Mismatch::Key)?;
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| Mismatch::Key)?;
    verify_names(&Found::of(&certificate), request)?;
    if let Some(extras) = &request.extras {
        verify_extras(&certificate, &bundle.leaf, request, extras)?;
    }
    verify_validity(&bundle.leaf, request.extras.as_ref(), now)
}

/// The private key, where there is one, is that of the certificate; so is the key in the request.
fn verify_key(bundle: &Bundle, request: &Request) -> Result<(), Mismatch> {
    let certified = bundle.leaf.public_key.as_slice();
    let mut ours = [&bundle.key, &request.key].into_iter().flatten();
    let fits = match (&request.subject, &bundle.key) {
        (Subject::Csr(csr), None) => csr.public_key == certified,
        (Subject::Names { .. }, None) => false,
        // The self-signed issuer certifies its own key for a signing request.
        (Subject::Csr(_) | Subject::Names { .. }, Some(_)) => {
            ours.all(|key| key.public_key() == certified)
        }
    };
    if fits { Ok(()) } else { Err(Mismatch::Key) }
}

/// The alternative names of a certificate.
#[derive(Default)]
struct Found<'a> {
    names: BTreeSet<DnsName>,
    addresses: Vec<&'a [u8]>,
    emails: Vec<&'a str>,
    uris: Vec<&'a str>,
}

impl<'a> Found<'a> {
    fn of(certificate: &'a X509Certificate<'_>) -> Self {
        let mut found = Self::default();
        for extension in certificate.extensions() {
            let ParsedExtension::SubjectAlternativeName(all) = extension.parsed_extension() else {
                continue;
            };
            for name in &all.general_names {
                match name {
                    GeneralName::DNSName(text) => found.names.extend(text.parse()),
                    GeneralName::IPAddress(bytes) => found.addresses.push(bytes),
                    GeneralName::RFC822Name(text) => found.emails.push(text),
                    GeneralName::URI(text) => found.uris.push(text),
                    _ => {}
                }
            }
        }
        found
    }

    fn has_address(&self, address: &IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.addresses.contains(&address.octets().as_slice()),
            IpAddr::V6(address) => self.addresses.contains(&address.octets().as_slice()),
        }
    }

    fn has(&self, name: &OtherName) -> bool {
        match name {
            OtherName::Email(text) => self.emails.contains(&text.as_str()),
            OtherName::Uri(text) => self.uris.contains(&text.as_str()),
            OtherName::Address(address) => self.has_address(address),
        }
    }
}

fn verify_names(found: &Found<'_>, request: &Request) -> Result<(), Mismatch> {
    let names = match &request.extras {
        Some(extras) => private_ca::names(request, extras),
        None => request.names(),
    };
    if let Some(missing) = names.iter().find(|name| !found.names.contains(name)) {
        return Err(Mismatch::Name(missing.to_string()));
    }
    let mut addresses = request.acme.addresses.iter();
    if let Some(missing) = addresses.find(|address| !found.has_address(address)) {
        return Err(Mismatch::Name(missing.to_string()));
    }
    let others = request.extras.as_ref().map(|extras| private_ca::other_names(request, extras));
    match others.unwrap_or_default().iter().find(|name| !found.has(name)) {
        Some(missing) => Err(Mismatch::Name(missing.to_string())),
        None => Ok(()),
    }
}

/// What only CA and self-signed issuers are asked for.
fn verify_extras(
    certificate: &X509Certificate<'_>,
    leaf: &Leaf,
    request: &Request,
    extras: &Extras,
) -> Result<(), Mismatch> {
    if leaf.is_ca != extras.is_ca {
        return Err(Mismatch::Power);
    }
    if let (Some(text), Subject::Names { .. }) = (&extras.common_name, &request.subject) {
        // A common name that was meant as a DNS name is an alternative name, too.
        own_common_name(text, extras)?;
        let mut subjects = certificate.subject().iter_common_name();
        if !subjects.any(|it| it.as_str().is_ok_and(|it| it == text)) {
            return Err(Mismatch::CommonName(text.clone()));
        }
    }
    Ok(())
}

fn verify_validity(leaf: &Leaf, extras: Option<&Extras>, now: Timestamp) -> Result<(), Mismatch> {
    if leaf.not_after <= now {
        return Err(Mismatch::Expired(leaf.not_after));
    }
    let lifetime = leaf.not_after.duration_since(leaf.not_before);
    let longest = extras.map_or(LONGEST, |extras| extras.duration);
    if lifetime <= SignedDuration::ZERO || (extras.is_none() && lifetime > longest) {
        return Err(Mismatch::Lifetime(leaf.not_before, leaf.not_after));
    }
    // Certificates have whole seconds.
    if lifetime > longest.saturating_add(SignedDuration::from_secs(1)) {
        return Err(Mismatch::TooLong(leaf.not_before, leaf.not_after));
    }
    if leaf.not_before.duration_since(now) > SKEW {
        return Err(Mismatch::NotYet(leaf.not_before));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
