//! Certificate requests: names or a signing request, parsed and validated.

mod csr;
mod other_name;
mod refusal;

use std::{collections::BTreeSet, net::IpAddr};

use aws_lc_rs::digest;
use jiff::SignedDuration;

use crate::{
    model::{
        cert_id::CertId,
        key::{KeyType, PrivateKey},
        name::DnsName,
    },
    solve::Owner,
};

pub use self::{
    csr::Csr,
    other_name::{OtherName, other_names},
    refusal::{MAX_COMMON_NAME, MAX_DNS_NAMES, Refusal},
};

/// A request that an issuer can process. Two requests with the same fingerprint request the same
/// certificate.
#[derive(Clone, Debug)]
pub struct Request {
    /// The owner of the certificate.
    pub owner: Owner,
    /// Equal for equal requests.
    pub fingerprint: Fingerprint,
    /// Subject, names and key of the certificate.
    pub subject: Subject,
    /// Further content for issuers whose CA key we hold. `None` for ACME issuers, which do not
    /// support it.
    pub extras: Option<Extras>,
    /// Options of an ACME order.
    pub acme: OrderOptions,
    /// The certificate that this one replaces (RFC 9773 section 5).
    pub replaces: Option<CertId>,
    /// The private key to certify again; `None` generates a new one.
    pub key: Option<PrivateKey>,
}

/// Options of an ACME order. As in upstream, they are not part of the [`Fingerprint`]: a change
/// takes effect with the next certificate.
#[derive(Clone, Debug, Default)]
pub struct OrderOptions {
    /// The certificate profile (draft-ietf-acme-profiles); the issuer's default if unset.
    pub profile: Option<String>,
    /// Common name of an issuer in the preferred chain, where the CA offers several.
    pub preferred_chain: Option<String>,
    /// Whether a CNAME at `_acme-challenge` is followed.
    pub follow_cname: bool,
    /// IP addresses of the certificate (RFC 8738).
    pub addresses: Vec<IpAddr>,
}

/// Content that only an issuer whose CA key we hold can certify.
#[derive(Clone, Debug, Default)]
pub struct Extras {
    /// Common name of the subject; it need not be a DNS name.
    pub common_name: Option<String>,
    /// Subject alternative names that are not DNS names.
    pub other_names: Vec<OtherName>,
    /// Lifetime of the certificate.
    pub duration: SignedDuration,
    /// Whether it is a CA certificate.
    pub is_ca: bool,
}

impl Request {
    /// A request for `subject` with default options.
    #[must_use]
    pub fn new(owner: Owner, fingerprint: Fingerprint, subject: Subject) -> Self {
        Self {
            owner,
            fingerprint,
            subject,
            extras: None,
            acme: OrderOptions::default(),
            replaces: None,
            key: None,
        }
    }

    /// All names to prove control of, each once, the common name first.
    #[must_use]
    pub fn names(&self) -> Vec<DnsName> {
        let mut seen = BTreeSet::new();
        self.each_name().filter(|name| seen.insert(*name)).cloned().collect()
    }

    /// Checks that the challenge name of each name is valid (RFC 8555 section 8.4).
    ///
    /// # Errors
    /// [`Refusal::LongChallenge`] for the first name that is too long for the prefix
    /// `_acme-challenge.`.
    pub fn check_challenges(&self) -> Result<(), Refusal> {
        match self.each_name().find(|name| !name.challenge_fits()) {
            Some(name) => Err(Refusal::LongChallenge(name.as_str().chars().take(40).collect())),
            None => Ok(()),
        }
    }

    /// [`names`](Self::names) as in the specification, duplicates included.
    pub(crate) fn each_name(&self) -> impl Iterator<Item = &DnsName> {
        let (first, others) = match &self.subject {
            Subject::Names { common_name, dns_names, .. } => (common_name.as_ref(), dns_names),
            Subject::Csr(csr) => (None, &csr.names),
        };
        first.into_iter().chain(others)
    }
}

/// The names of a certificate, and its key.
#[derive(Clone, Debug)]
pub enum Subject {
    /// Names, with a key that we generate.
    Names {
        /// X.509 common name.
        common_name: Option<DnsName>,
        /// Further subject alternative names.
        dns_names: Vec<DnsName>,
        /// The key to generate.
        key: KeyChoice,
    },
    /// A signing request; its owner has the private key.
    Csr(Csr),
}

/// The key of a certificate without a signing request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyChoice {
    /// The requested kind: a certificate with another kind does not match.
    Asked(KeyType),
    /// The default: a new key is of this kind, an existing one may be of any kind.
    Free(KeyType),
}

impl KeyChoice {
    /// The kind of a new key.
    #[must_use]
    pub fn kind(self) -> KeyType {
        match self {
            Self::Asked(kind) | Self::Free(kind) => kind,
        }
    }
}

impl Default for KeyChoice {
    fn default() -> Self {
        Self::Free(KeyType::default())
    }
}

/// Parses a common name and DNS names.
///
/// # Errors
/// See [`Refusal`].
pub fn names(common_name: Option<&str>, dns_names: &[String]) -> Result<Vec<DnsName>, Refusal> {
    if dns_names.len() > MAX_DNS_NAMES {
        return Err(Refusal::TooManyNames(dns_names.len()));
    }
    if let Some(text) = common_name.filter(|text| text.chars().count() > MAX_COMMON_NAME) {
        let length = text.chars().count();
        return Err(Refusal::LongCommonName(text.chars().take(40).collect(), length));
    }
    let mut seen = BTreeSet::new();
    let mut parsed = Vec::with_capacity(dns_names.len());
    for text in dns_names {
        let name: DnsName = text.parse()?;
        if !seen.insert(name.clone()) {
            return Err(Refusal::Duplicate(name));
        }
        parsed.push(name);
    }
    Ok(parsed)
}

/// The DNS name in a common name, for an issuer whose CA key we hold. `None` where the common name
/// is no DNS name: the certificate has it in its subject only. The common name of a CA is never a
/// DNS name.
///
/// # Errors
/// When it looks like one or several DNS names but is invalid: clients only compare alternative
/// names, so a certificate with such a common name is useless.
pub fn own_common_name(text: &str, extras: &Extras) -> Result<Option<DnsName>, Refusal> {
    let error = match text.parse::<DnsName>() {
        Ok(name) => return Ok(Some(name)),
        Err(_) if extras.is_ca => return Ok(None),
        Err(error) => error,
    };
    let is_certified = |address: IpAddr| extras.other_names.contains(&OtherName::Address(address));
    match text.parse::<IpAddr>() {
        Ok(address) if is_certified(address) => Ok(None),
        Ok(_) => Err(Refusal::Other(format!("{error}: list it in ipAddresses, too"))),
        Err(_) if is_name_list(text) => Err(error.into()),
        Err(_) => Ok(None),
    }
}

/// Whether a text that is no DNS name looks like one, or like an unsplit list of them.
fn is_name_list(text: &str) -> bool {
    let separates = |c: char| c.is_whitespace() || c.is_control() || ",;|\"'`()[]{}".contains(c);
    let mut parts = text.split(separates).filter(|part| !part.is_empty()).peekable();
    let has_other_syntax = text.contains(['@', '/', ':', '=']);
    let is_list = parts.peek().is_some() && parts.all(|part| part.trim_matches('.').contains('.'));
    text.contains(char::is_control) || (is_list && !has_other_syntax)
}

/// Identifies a request: hex SHA-224, computed as upstream does, so that Secrets of upstream match.
/// Depends on the order of the names, like upstream's.
#[derive(Clone, Debug, Eq, Hash, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct Fingerprint(String);

/// The inputs of a [`Fingerprint`], unparsed as in the specification.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestInputs<'a> {
    /// `spec.commonName`
    pub common_name: Option<&'a str>,
    /// `spec.dnsNames`
    pub dns_names: &'a [String],
    /// `spec.emailAddresses`, `spec.ipAddresses`, `spec.uris`, in this order
    pub other_names: [&'a [String]; 3],
    /// `spec.csr`, decoded
    pub csr: Option<&'a [u8]>,
    /// The issuer: its name, or `target:<namespace>/<name>`.
    pub issuer: &'a str,
    /// The key type, if it is set and differs from upstream's default.
    pub key: Option<KeyType>,
}

impl Fingerprint {
    /// Computes the fingerprint.
    #[must_use]
    pub fn of(parts: &RequestInputs<'_>) -> Self {
        let mut context = digest::Context::new(&digest::SHA224);
        let mut add = |text: &str| {
            context.update(text.as_bytes());
            context.update(&[0]);
        };
        parts.common_name.into_iter().for_each(&mut add);
        parts.dns_names.iter().for_each(|name| add(name));
        parts.other_names.into_iter().flatten().for_each(|name| add(name));
        if let Some(csr) = parts.csr {
            context.update(&[0]);
            context.update(csr);
            context.update(&[0]);
        }
        let mut add = |text: &str| {
            context.update(text.as_bytes());
            context.update(&[0]);
        };
        add(parts.issuer);
        if let Some(key) = parts.key {
            add(key.word());
        }
        Self(data_encoding::HEXLOWER.encode(context.finish().as_ref()))
    }

    /// A stored fingerprint, for example from a label.
    #[must_use]
    pub fn stored(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// As text: 56 hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Hex SHA-224: for names of a fixed length and for detecting changes.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(digest::digest(&digest::SHA224, bytes).as_ref())
}
