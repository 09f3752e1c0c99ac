//! The annotations of source objects, compatible with upstream.

use std::{borrow::Cow, collections::BTreeMap};

use jiff::SignedDuration;

use super::names::NameList;
use crate::{
    api::{
        certificate::{IssuerRef, KeyAlgorithm, KeyEncoding, PrivateKeySpec},
        well_known,
    },
    config::{duration, go_duration},
};

/// `managed` requests certificates for all kinds except Service.
pub const PURPOSE: &str = "cert.gardener.cloud/purpose";
/// Deprecated label that requests certificates with the value `managed-cert`.
pub const PURPOSE_LABEL: &str = "garden.sapcloud.io/purpose";
/// Name of the Secret of a Service; its presence requests a certificate.
pub const SECRET_NAME: &str = "cert.gardener.cloud/secretname";
/// Namespace of the Secret, for Services and Istio Gateways.
pub const SECRET_NAMESPACE: &str = "cert.gardener.cloud/secret-namespace";
/// On generated Certificates: with cascading deletion, the Secret gets the owners of the Certificate.
pub const FORWARD_OWNER_REFS: &str = "cert.gardener.cloud/forward-owner-refs";
/// See [`well_known::SOURCE_CLASS`].
pub const SOURCE_CLASS: &str = well_known::SOURCE_CLASS;

const COMMON_NAME: &str = "cert.gardener.cloud/commonname";
const DNS_NAMES: &str = "cert.gardener.cloud/dnsnames";
/// Annotation of the DNS manager; read for Services only.
const DNS_NAMES_OF_DNS: &str = "dns.gardener.cloud/dnsnames";
const ISSUER: &str = "cert.gardener.cloud/issuer";
const FOLLOW_CNAME: &str = "cert.gardener.cloud/follow-cname";
const PREFERRED_CHAIN: &str = "cert.gardener.cloud/preferred-chain";
/// Not in upstream, which has no profiles.
const PROFILE: &str = "cert.gardener.cloud/profile";
const KEY_ALGORITHM: &str = "cert.gardener.cloud/private-key-algorithm";
const KEY_SIZE: &str = "cert.gardener.cloud/private-key-size";
const KEY_ENCODING: &str = "cert.gardener.cloud/private-key-encoding";
const SECRET_LABELS: &str = "cert.gardener.cloud/secret-labels";
const RENEW_BEFORE: &str = "cert.gardener.cloud/renew-before";

/// Copied to the Certificate unchanged.
pub const COPIED: [&str; 4] = well_known::COPIED;

/// Annotations that a ListenerSet inherits from its Gateway. Names are not inherited: they belong to
/// the Gateway.
const INHERITED: [&str; 12] = [
    PURPOSE,
    well_known::CLASS,
    ISSUER,
    FOLLOW_CNAME,
    PREFERRED_CHAIN,
    PROFILE,
    KEY_ALGORITHM,
    KEY_SIZE,
    KEY_ENCODING,
    SECRET_LABELS,
    RENEW_BEFORE,
    COPIED[0],
];

/// Minimum of the annotation for `renewBefore`.
const SHORTEST_WINDOW: SignedDuration = SignedDuration::from_mins(5);
/// Maximum length of a list of names, in bytes: 100 names of 253 bytes fit.
const MAX_NAMES_TEXT: usize = 32 * 1024;
/// Maximum length of a list of labels, in bytes.
const MAX_LABELS_TEXT: usize = 8 * 1024;
/// Maximum length of every other annotation, in bytes.
const MAX_TEXT: usize = 256;
/// Maximum number of labels in an annotation.
const MAX_LABELS: usize = 64;

/// Annotations by name.
pub type Annotations = BTreeMap<String, String>;

/// Maximum length of an annotation in bytes; `None` if this module does not read it.
fn bound(name: &str) -> Option<usize> {
    match name {
        DNS_NAMES | DNS_NAMES_OF_DNS => Some(MAX_NAMES_TEXT),
        SECRET_LABELS => Some(MAX_LABELS_TEXT),
        SECRET_NAME | SECRET_NAMESPACE | COMMON_NAME => Some(MAX_TEXT),
        name => (INHERITED.contains(&name) || COPIED.contains(&name)).then_some(MAX_TEXT),
    }
}

/// The annotations that this module reads. Values that are too long are cut, but stay too long, so
/// that [`refusal`] finds them.
#[must_use]
pub fn keep(all: &Annotations) -> Annotations {
    let kept = all.iter().filter_map(|(name, value)| {
        let mut end = value.len().min(bound(name)? + 1);
        while !value.is_char_boundary(end) {
            end += 1;
        }
        Some((name.clone(), value.get(..end).unwrap_or_default().to_owned()))
    });
    kept.collect()
}

/// Whether an annotation is kept even if the namespace exceeds its memory limit. These annotations
/// show whether an object requests certificates, and from which class.
#[must_use]
pub fn is_always_kept(name: &str) -> bool {
    [PURPOSE, well_known::CLASS].contains(&name)
}

/// An error message if an annotation is too long.
fn too_long(name: &str, value: &str) -> Option<String> {
    let most = bound(name).filter(|most| value.len() > *most)?;
    Some(format!("annotation {name} is longer than {most} bytes"))
}

/// An error message if a required annotation is too long to be read. Ignoring it would create
/// a certificate that the user did not request. See [`names`] for `of_dns`.
#[must_use]
pub fn refusal(annotations: &Annotations, of_dns: bool) -> Option<String> {
    let read = [ISSUER, COMMON_NAME, DNS_NAMES, DNS_NAMES_OF_DNS];
    let read = read.iter().filter(|name| of_dns || **name != DNS_NAMES_OF_DNS);
    read.filter_map(|name| annotations.get_key_value(*name))
        .find_map(|(name, value)| too_long(name, value))
}

/// The effective annotations of an object with a parent.
#[must_use]
pub fn inherit(own: &Annotations, parent: &Annotations) -> Annotations {
    let inherited = INHERITED.iter().chain(&COPIED);
    let inherited = inherited.filter_map(|name| parent.get_key_value(*name));
    let mut all: Annotations =
        inherited.map(|(name, value)| (name.clone(), value.clone())).collect();
    all.extend(own.clone());
    all
}

/// Options that apply to every certificate of an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// `spec.issuerRef`
    pub issuer: Option<IssuerRef>,
    /// `spec.followCNAME`
    pub follow_cname: bool,
    /// `spec.preferredChain`
    pub preferred_chain: Option<String>,
    /// `spec.profile`
    pub profile: Option<String>,
    /// `spec.privateKey`
    pub private_key: Option<PrivateKeySpec>,
    /// `spec.renewBefore`, in the format of Go durations.
    pub renew_before: Option<String>,
    /// `spec.secretLabels`
    pub secret_labels: Option<BTreeMap<String, String>>,
    /// Annotations for the Certificate.
    pub copied: Annotations,
}

/// Parses the options. Invalid annotations are ignored and added to `problems`.
#[must_use]
pub fn options(annotations: &Annotations, problems: &mut Vec<String>) -> Options {
    let short = within_bounds(annotations, problems);
    let annotations = short.as_ref();
    let text = |name: &str| annotations.get(name).filter(|value| !value.is_empty());
    let copied = COPIED.iter().filter_map(|name| annotations.get_key_value(*name));
    Options {
        issuer: text(ISSUER).map(|text| issuer(text)),
        follow_cname: text(FOLLOW_CNAME).is_some_and(|text| is_true(text)),
        preferred_chain: text(PREFERRED_CHAIN).cloned(),
        profile: text(PROFILE).cloned(),
        private_key: private_key(annotations, problems),
        renew_before: text(RENEW_BEFORE).and_then(|text| renew_before(text, problems)),
        secret_labels: text(SECRET_LABELS).and_then(|text| labels(text, problems)),
        copied: copied.map(|(name, value)| (name.clone(), value.clone())).collect(),
    }
}

/// Removes annotations that are too long.
fn within_bounds<'a>(
    annotations: &'a Annotations,
    problems: &mut Vec<String>,
) -> Cow<'a, Annotations> {
    let mut short = Cow::Borrowed(annotations);
    for (name, value) in annotations {
        if let Some(why) = too_long(name, value) {
            problems.push(format!("{why}: it is ignored"));
            short.to_mut().remove(name);
        }
    }
    short
}

fn issuer(text: &str) -> IssuerRef {
    match text.split_once('/') {
        Some((namespace, name)) => {
            IssuerRef { name: name.to_owned(), namespace: Some(namespace.to_owned()) }
        }
        None => IssuerRef { name: text.to_owned(), namespace: None },
    }
}

/// As Go's `strconv.ParseBool`.
fn is_true(text: &str) -> bool {
    ["1", "t", "T", "TRUE", "true", "True"].contains(&text)
}

fn labels(text: &str, problems: &mut Vec<String>) -> Option<BTreeMap<String, String>> {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    let labels: BTreeMap<_, _> = pairs
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .filter(|(name, _)| !name.is_empty())
        .take(MAX_LABELS + 1)
        .collect();
    if labels.len() > MAX_LABELS {
        problems.push(format!(
            "annotation {SECRET_LABELS} is ignored: it has more than {MAX_LABELS} labels"
        ));
        return None;
    }
    (!labels.is_empty()).then_some(labels)
}

fn renew_before(text: &str, problems: &mut Vec<String>) -> Option<String> {
    let why = match duration(text) {
        Ok(window) if window >= SHORTEST_WINDOW => return Some(go_duration(window)),
        Ok(_) => "it must be at least 5 minutes".to_owned(),
        Err(why) => why,
    };
    problems.push(format!("annotation {RENEW_BEFORE} is ignored: {why}"));
    None
}

fn private_key(annotations: &Annotations, problems: &mut Vec<String>) -> Option<PrivateKeySpec> {
    let text = |name: &str| annotations.get(name).filter(|value| !value.is_empty());
    let mut ignored = |name: &str, wanted: &str| {
        problems.push(format!("annotation {name} is ignored: it must be {wanted}"));
    };
    let algorithm = text(KEY_ALGORITHM).and_then(|text| match text.as_str() {
        "RSA" => Some(KeyAlgorithm::Rsa),
        "ECDSA" => Some(KeyAlgorithm::Ecdsa),
        _ => {
            ignored(KEY_ALGORITHM, "RSA or ECDSA");
            None
        }
    });
    let size = text(KEY_SIZE).and_then(|text| {
        let size = text.parse().ok().filter(|size| [256, 384, 2048, 3072, 4096].contains(size));
        if size.is_none() {
            ignored(KEY_SIZE, "256, 384, 2048, 3072 or 4096");
        }
        size
    });
    // Upstream ignores the encoding unless algorithm or size is set.
    let encoding = text(KEY_ENCODING).filter(|text| *text == "PKCS8").map(|_| KeyEncoding::Pkcs8);
    (algorithm.is_some() || size.is_some()).then_some(PrivateKeySpec {
        algorithm,
        size,
        encoding,
        rotation_policy: None,
    })
}

/// Source of the DNS names of a certificate.
#[derive(Clone, Debug, PartialEq)]
pub enum Names {
    /// From annotations only.
    Annotated(NameList),
    /// From the hosts of the object. An annotated common name comes first.
    OfHosts(Option<String>),
}

/// Reads the annotations for DNS names. With `of_dns`, the annotation of the DNS manager replaces
/// ours if that is missing, and a common name alone is sufficient.
///
/// Commas and white space separate names. Other invalid characters stay, so that the parser refuses
/// the name and the user sees it.
#[must_use]
pub fn names(annotations: &Annotations, of_dns: bool) -> Names {
    let common_name = annotations.get(COMMON_NAME).map(|name| name.trim());
    let common_name = common_name.filter(|name| !name.is_empty());
    let listed = annotations.get(DNS_NAMES).or_else(|| {
        let of_dns = annotations.get(DNS_NAMES_OF_DNS).filter(|_| of_dns);
        of_dns.filter(|text| *text != "*" && *text != "all")
    });
    let separated = |text| str::split(text, |c: char| c == ',' || c.is_whitespace());
    let listed = listed.map(|text| separated(text).filter(|name| !name.is_empty()));
    match (common_name, listed) {
        (first, Some(listed)) => Names::Annotated(first.into_iter().chain(listed).collect()),
        (Some(first), None) if of_dns => Names::Annotated([first].into_iter().collect()),
        (first, None) => Names::OfHosts(first.map(str::to_owned)),
    }
}

#[cfg(test)]
mod tests;
