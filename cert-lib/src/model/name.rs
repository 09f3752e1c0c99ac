//! DNS names as certificates use them.

use std::{fmt, net::IpAddr, str::FromStr};

/// Longest name in text form without the trailing dot (RFC 1035 section 3.1).
pub const MAX_NAME: usize = 253;
/// Longest label (RFC 1035 section 2.3.4).
const MAX_LABEL: usize = 63;

/// A DNS name in lower case without a trailing dot. The first label may be the wildcard `*`.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd, serde::Deserialize, serde::Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct DnsName(String);

impl DnsName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the name begins with `*.`.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with("*.")
    }

    /// The name to prove control of: the parent of a wildcard, any other name itself.
    #[must_use]
    pub fn base(&self) -> Self {
        Self(self.0.strip_prefix("*.").unwrap_or(&self.0).to_owned())
    }

    /// Name of the DNS-01 proof of this name (RFC 8555 section 8.4). A wildcard and its parent
    /// share it.
    #[must_use]
    pub fn challenge(&self) -> Self {
        Self(format!("_acme-challenge.{}", self.base()))
    }

    /// Whether [`challenge`](Self::challenge) is a valid name.
    #[must_use]
    pub fn challenge_fits(&self) -> bool {
        self.challenge().0.len() <= MAX_NAME
    }

    /// The name without its first label, or `None` at the top.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        self.0.split_once('.').map(|(_, rest)| Self(rest.to_owned()))
    }

    /// Whether this name is `zone` or below it.
    #[must_use]
    pub fn is_within(&self, zone: &Self) -> bool {
        self.0.strip_suffix(&zone.0).is_some_and(|head| head.is_empty() || head.ends_with('.'))
    }
}

/// Why a text is no DNS name for a certificate.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NameError {
    /// It is empty.
    #[error("a DNS name must not be empty")]
    Empty,
    /// An IP address instead of a name.
    #[error("{0} is an IP address, not a DNS name")]
    IsAddress(String),
    /// Over 253 characters.
    #[error("the DNS name {0}… is longer than {MAX_NAME} characters")]
    TooLong(String),
    /// A label is empty or over 63 characters.
    #[error("{0} has a label that is empty or longer than {MAX_LABEL} characters")]
    Label(String),
    /// A wildcard that is not the whole first label.
    #[error("{0}: a wildcard is allowed as the whole first label only")]
    Wildcard(String),
    /// A character other than letters, digits, hyphen and underscore.
    #[error("{0} has a character that no DNS name has (write international names as xn--…)")]
    Character(String),
}

impl FromStr for DnsName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.len() > MAX_NAME {
            return Err(NameError::TooLong(name.chars().take(40).collect()));
        }
        if name.parse::<IpAddr>().is_ok() {
            return Err(NameError::IsAddress(name));
        }
        let below = name.strip_prefix("*.").unwrap_or(&name);
        for label in below.split('.') {
            if label.is_empty() || label.len() > MAX_LABEL {
                return Err(NameError::Label(name));
            }
            if label.contains('*') {
                return Err(NameError::Wildcard(name));
            }
            let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            if !label.chars().all(allowed) || label.starts_with('-') || label.ends_with('-') {
                return Err(NameError::Character(name));
            }
        }
        Ok(Self(name))
    }
}

impl TryFrom<String> for DnsName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<DnsName> for String {
    fn from(name: DnsName) -> Self {
        name.0
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_case_and_have_no_trailing_dot() {
        assert_eq!("App.Example.ORG.".parse::<DnsName>().unwrap().as_str(), "app.example.org");
    }

    #[test]
    fn an_invalid_name_is_refused_with_its_reason() {
        let long_label = format!("{}.example.org", "a".repeat(64));
        let long = vec!["a".repeat(60); 5].join(".");
        for (text, want) in [
            ("", "must not be empty"),
            (".", "must not be empty"),
            ("10.0.0.1", "is an IP address"),
            ("2001:db8::1", "is an IP address"),
            ("*.*.example.org", "wildcard is allowed"),
            ("foo.*.example.org", "wildcard is allowed"),
            ("f*.example.org", "wildcard is allowed"),
            ("*", "wildcard is allowed"),
            ("a..example.org", "label that is empty"),
            (&long_label, "longer than 63"),
            (&long, "longer than 253"),
            ("bücher.example", "xn--"),
            ("-a.example", "character"),
            ("a b.example", "character"),
        ] {
            let error = text.parse::<DnsName>().expect_err(text).to_string();
            assert!(error.contains(want), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_wildcard_and_its_parent_share_their_proof() {
        let wildcard: DnsName = "*.example.org".parse().unwrap();
        let apex: DnsName = "example.org".parse().unwrap();
        assert_eq!(wildcard.challenge(), apex.challenge());
        assert_eq!(apex.challenge().as_str(), "_acme-challenge.example.org");
    }

    #[test]
    fn a_name_with_a_too_long_challenge_name_is_detected() {
        let labels = vec!["a".repeat(47); 4].join(".");
        for (length, fits) in [(237, true), (238, false), (253, false)] {
            let rest = "b".repeat(length - labels.len() - 1);
            let name: DnsName = format!("{rest}.{labels}").parse().unwrap();
            assert_eq!((name.as_str().len(), name.challenge_fits()), (length, fits));
        }
        let wildcard: DnsName = format!("*.{}.{labels}", "b".repeat(45)).parse().unwrap();
        assert!(wildcard.as_str().len() == 239 && wildcard.challenge_fits());
    }

    #[test]
    fn a_name_is_within_a_zone_on_label_boundaries_only() {
        let zone: DnsName = "example.org".parse().unwrap();
        for (name, within) in
            [("example.org", true), ("a.example.org", true), ("badexample.org", false)]
        {
            assert_eq!(name.parse::<DnsName>().unwrap().is_within(&zone), within, "{name}");
        }
    }
}
