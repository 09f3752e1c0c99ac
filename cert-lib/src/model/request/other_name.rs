//! Subject alternative names that are not DNS names.

use std::{fmt, net::IpAddr};

use super::refusal::Refusal;

/// A subject alternative name that is not a DNS name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum OtherName {
    /// An e-mail address.
    Email(String),
    /// An IP address.
    Address(IpAddr),
    /// A URI.
    Uri(String),
}

impl fmt::Display for OtherName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Email(text) | Self::Uri(text) => f.write_str(text),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

/// Parses the names of a specification that are not DNS names.
///
/// # Errors
/// When one is invalid; the messages are upstream's.
pub fn other_names(
    emails: &[String],
    addresses: &[String],
    uris: &[String],
) -> Result<Vec<OtherName>, Refusal> {
    let address = |text: &String| {
        let address = text.parse().map(OtherName::Address);
        address.map_err(|_| {
            Refusal::Other(format!("invalid IP address in 'spec.IPAddresses': {text}"))
        })
    };
    let lists = [emails, addresses, uris];
    let (count, bytes) = lists
        .into_iter()
        .flatten()
        .fold((0, 0), |(count, bytes), text| (count + 1, bytes + text.len()));
    if count > MAX_OTHER_NAMES || bytes > MAX_OTHER_BYTES {
        return Err(Refusal::Other(format!(
            "emailAddresses, ipAddresses and uris have {count} names with {bytes} bytes: at most \
             {MAX_OTHER_NAMES} names with {MAX_OTHER_BYTES} bytes are certified; use fewer"
        )));
    }
    let emails = emails.iter().map(|text| email(text));
    emails.chain(addresses.iter().map(address)).chain(uris.iter().map(|text| uri(text))).collect()
}

/// RFC 5280 section 4.2.1.6 requires ASCII; the syntax of a mailbox is not checked.
pub(super) fn email(text: &str) -> Result<OtherName, Refusal> {
    let is_plain = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_graphic());
    match text.rsplit_once('@') {
        Some((user, host)) if is_plain(user) && is_plain(host) => {
            Ok(OtherName::Email(text.to_owned()))
        }
        _ => {
            Err(Refusal::Other(format!("invalid email address in 'spec.EmailAddresses': {text:?}")))
        }
    }
}

pub(super) fn uri(text: &str) -> Result<OtherName, Refusal> {
    let is_absolute = text.is_ascii() && url::Url::parse(text).is_ok();
    is_absolute.then(|| OtherName::Uri(text.to_owned())).ok_or_else(|| {
        Refusal::Other(format!(
            "invalid URI in 'spec.URIs': {text:?}: write it with its scheme and in ASCII"
        ))
    })
}

/// Most names that are not DNS names, and most bytes in all of them.
const MAX_OTHER_NAMES: usize = 1_000;
const MAX_OTHER_BYTES: usize = 64 * 1024;
