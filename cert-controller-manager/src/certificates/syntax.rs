//! Syntax of Kubernetes names, labels and annotations. Invalid ones are refused before an order is
//! placed, and never become part of a URL.

use std::collections::BTreeMap;

use super::secret::layout::is_reserved;
use crate::api::trim::{MAX_PAIRS, MAX_PAIRS_BYTES};

/// Reason for labels and annotations after the first [`MAX_PAIRS`].
const TOO_MANY: &str = "is above the limit of 64";

/// Whether `name` is a DNS subdomain (RFC 1123).
#[must_use]
pub fn is_subdomain(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let label = |label: &str| {
        !label.is_empty()
            && label.chars().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// The first annotation that cannot be set, and the reason.
#[must_use]
pub fn bad_annotation(
    annotations: Option<&BTreeMap<String, String>>,
) -> Option<(&str, &'static str)> {
    let all = || annotations.into_iter().flatten();
    let size: usize = all().map(|(name, value)| name.len() + value.len()).sum();
    all().enumerate().find_map(|(number, (name, _))| {
        let why = if number >= MAX_PAIRS {
            TOO_MANY
        } else if is_reserved(name) {
            "is reserved"
        } else if !is_label_name(&name.to_lowercase()) {
            "is not a valid annotation name"
        } else if size > MAX_PAIRS_BYTES {
            "and the other annotations are too large together"
        } else {
            return None;
        };
        Some((name.as_str(), why))
    })
}

/// The first label that cannot be set, and the reason.
#[must_use]
pub fn bad_label(labels: Option<&BTreeMap<String, String>>) -> Option<(&str, &'static str)> {
    labels.into_iter().flatten().enumerate().find_map(|(number, (name, value))| {
        let why = if number >= MAX_PAIRS {
            TOO_MANY
        } else if is_reserved(name) {
            "is set by the manager"
        } else if !is_label_name(name) {
            "is not a valid label name"
        } else if !value.is_empty() && !is_word(value) {
            "has an invalid value"
        } else {
            return None;
        };
        Some((name.as_str(), why))
    })
}

fn is_label_name(name: &str) -> bool {
    match name.split_once('/') {
        Some((prefix, rest)) => is_subdomain(prefix) && is_word(rest),
        None => is_word(name),
    }
}

fn is_word(word: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=63).contains(&word.len())
        && word.chars().all(inner)
        && word.starts_with(|c: char| c.is_ascii_alphanumeric())
        && word.ends_with(|c: char| c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_and_invalid_annotations_are_refused() {
        let large = "x".repeat(200 * 1024);
        for (name, value, why) in [
            ("example.com/reload", "true", None),
            ("Example", "any text, 💥", None),
            ("", "", Some("is not a valid annotation name")),
            ("a b", "", Some("is not a valid annotation name")),
            ("cert.gardener.cloud/revoked", "true", Some("is reserved")),
            ("resources.gardener.cloud/owners", "", Some("is reserved")),
            ("kubectl.kubernetes.io/last-applied-configuration", "{}", Some("is reserved")),
            ("a", large.as_str(), Some("and the other annotations are too large together")),
        ] {
            let annotations = BTreeMap::from([(name.to_owned(), value.to_owned())]);
            assert_eq!(bad_annotation(Some(&annotations)).map(|(_, why)| why), why, "{name}");
        }
    }

    #[test]
    fn reserved_and_invalid_labels_are_refused() {
        for (name, value, why) in [
            ("team", "blue", None),
            ("example.com/team", "", None),
            ("cert.gardener.cloud/hash", "x", Some("is set by the manager")),
            ("cert.gardener.cloud/backup", "true", Some("is set by the manager")),
            ("cert.gardener.cloud/certificate-serialnumber", "a", Some("is set by the manager")),
            ("cert.gardener.cloud/of-the-future", "", Some("is set by the manager")),
            ("a b", "", Some("is not a valid label name")),
            ("team", "a b", Some("has an invalid value")),
        ] {
            let labels = BTreeMap::from([(name.to_owned(), value.to_owned())]);
            assert_eq!(bad_label(Some(&labels)).map(|(_, why)| why), why, "{name}");
        }
    }

    #[test]
    fn a_secret_gets_64_labels_and_64_annotations_at_most() {
        let pairs = |count: usize| -> BTreeMap<String, String> {
            (0..count).map(|it| (format!("l{it:03}"), "x".to_owned())).collect()
        };
        let (most, more) = (pairs(64), pairs(65));
        assert_eq!((bad_label(Some(&most)), bad_annotation(Some(&most))), (None, None));
        let refused = Some(("l064", "is above the limit of 64"));
        assert_eq!((bad_label(Some(&more)), bad_annotation(Some(&more))), (refused, refused));
    }

    #[test]
    fn a_name_is_a_dns_subdomain() {
        let long = "a".repeat(254);
        for (name, good) in [
            ("web-tls", true),
            ("a.b", true),
            ("", false),
            ("Web", false),
            ("a_b", false),
            ("-a", false),
            ("a..b", false),
            ("a/../b", false),
            ("a?b", false),
            (&long, false),
        ] {
            assert_eq!(is_subdomain(name), good, "{name}");
        }
    }
}
