//! The objects that the CA sends (RFC 8555 section 7.1).
//!
//! Reading is tolerant: unknown members are ignored, unknown words become `Unknown`, and optional
//! members may be missing. All values are bounded: they stay in memory while an order runs, and the
//! CA may be a tenant's. No decisions here.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};

pub use super::identifier::Identifier;
use super::{
    bounds::{self, or_default},
    problem::Problem,
};

/// The URLs of the CA (section 7.1.1). CAs add a random member on purpose; it is ignored.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Directory {
    /// Returns nonces.
    #[serde(deserialize_with = "bounds::url")]
    pub new_nonce: String,
    /// Creates and finds accounts.
    #[serde(deserialize_with = "bounds::url")]
    pub new_account: String,
    /// Creates orders.
    #[serde(deserialize_with = "bounds::url")]
    pub new_order: String,
    /// Revokes certificates.
    #[serde(default, deserialize_with = "bounds::some_url")]
    pub revoke_cert: Option<String>,
    /// Changes the key of an account.
    #[serde(default, deserialize_with = "bounds::some_url")]
    pub key_change: Option<String>,
    /// Renewal information (RFC 9773).
    #[serde(default, deserialize_with = "bounds::some_url")]
    pub renewal_info: Option<String>,
    /// Metadata of the CA.
    #[serde(default, deserialize_with = "or_default")]
    pub meta: Meta,
}

/// Metadata of the CA (section 7.1.1).
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    /// The terms of service.
    #[serde(deserialize_with = "bounds::some_url")]
    pub terms_of_service: Option<String>,
    /// Whether new accounts require an external account binding.
    pub external_account_required: bool,
    /// Certificate profiles with their descriptions (draft-ietf-acme-profiles).
    #[serde(deserialize_with = "profiles")]
    pub profiles: BTreeMap<String, String>,
}

/// An account (section 7.1.2).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Registration {
    /// Its status.
    pub status: AccountStatus,
    /// Contacts as `mailto:` URLs. Let's Encrypt no longer returns them.
    #[serde(default, deserialize_with = "bounds::list")]
    pub contact: Vec<String>,
    /// URL of the list of its orders. Let's Encrypt has no such list.
    #[serde(default, deserialize_with = "bounds::some_url")]
    pub orders: Option<String>,
}

/// Status of an account (section 7.1.6).
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum AccountStatus {
    /// It can be used.
    Valid,
    /// Its owner deactivated it.
    Deactivated,
    /// The CA revoked it.
    Revoked,
    /// A status that RFC 8555 does not define.
    #[serde(other)]
    Unknown,
}

/// An order (section 7.1.3).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Order {
    /// Its status.
    pub status: OrderStatus,
    /// When the CA expires it.
    #[serde(default, deserialize_with = "instant_or_none")]
    pub expires: Option<Timestamp>,
    /// The requested identifiers.
    #[serde(default, deserialize_with = "bounds::list")]
    pub identifiers: Vec<Identifier>,
    /// The URLs of its authorizations.
    #[serde(default, deserialize_with = "bounds::urls")]
    pub authorizations: Vec<String>,
    /// URL for the signing request.
    #[serde(deserialize_with = "bounds::url")]
    pub finalize: String,
    /// URL of the certificate, once it is issued.
    #[serde(default, deserialize_with = "bounds::some_url")]
    pub certificate: Option<String>,
    /// Why it failed.
    pub error: Option<Problem>,
}

/// Status of an order (section 7.1.6).
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum OrderStatus {
    /// Control is not proved yet.
    Pending,
    /// Control is proved; the CA waits for the signing request.
    Ready,
    /// The CA is signing.
    Processing,
    /// The certificate is issued.
    Valid,
    /// It failed.
    Invalid,
    /// A status that RFC 8555 does not define.
    #[serde(other)]
    Unknown,
}

/// The authorization of one identifier (section 7.1.4).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Authorization {
    /// Its URL.
    #[serde(skip)]
    pub url: String,
    /// The identifier to prove control of.
    pub identifier: Identifier,
    /// Its status.
    pub status: AuthorizationStatus,
    /// Its challenges.
    #[serde(default, deserialize_with = "bounds::list")]
    pub challenges: Vec<Challenge>,
    /// Whether it is for the wildcard of the identifier.
    #[serde(default, deserialize_with = "or_default")]
    pub wildcard: bool,
}

/// Status of an authorization (section 7.1.6).
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum AuthorizationStatus {
    /// Control is not proved yet.
    Pending,
    /// Control is proved.
    Valid,
    /// The proof failed.
    Invalid,
    /// The client deactivated it.
    Deactivated,
    /// It expired.
    Expired,
    /// The CA revoked it.
    Revoked,
    /// A status that RFC 8555 does not define.
    #[serde(other)]
    Unknown,
}

/// Describes a final state for users.
impl fmt::Display for AuthorizationStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "its authorization is pending",
            Self::Valid => "its authorization is valid",
            Self::Invalid => "its authorization is invalid",
            Self::Deactivated => "its authorization was deactivated",
            Self::Expired => "its authorization has expired",
            Self::Revoked => "its authorization was revoked",
            Self::Unknown => "its authorization is in an unknown state",
        })
    }
}

/// A challenge (section 7.1.5).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Challenge {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: ChallengeKind,
    /// URL that triggers the validation.
    #[serde(deserialize_with = "bounds::url")]
    pub url: String,
    /// Its status.
    pub status: ChallengeStatus,
    /// The token of the key authorization. Some newer types have none.
    pub token: Option<Token>,
    /// Why it failed.
    pub error: Option<Problem>,
}

/// The supported types of challenges.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
pub enum ChallengeKind {
    /// A TXT record (section 8.4).
    #[serde(rename = "dns-01")]
    Dns01,
    /// A document on port 80 (section 8.3).
    #[serde(rename = "http-01")]
    Http01,
    /// Anything else.
    #[serde(other)]
    Unknown,
}

/// Status of a challenge (section 7.1.6).
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum ChallengeStatus {
    /// The validation was not triggered.
    Pending,
    /// The CA is validating.
    Processing,
    /// The validation succeeded.
    Valid,
    /// The validation failed.
    Invalid,
    /// A status that RFC 8555 does not define.
    #[serde(other)]
    Unknown,
}

/// The token of a challenge. It is a bearer token while the order runs, so it is not printed.
#[derive(Clone, Deserialize, Eq, PartialEq)]
pub struct Token(#[serde(deserialize_with = "bounds::word")] String);

impl Token {
    /// As text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Token {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Only the names are used: an invalid description must not make the directory unusable.
fn profiles<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    let all: BTreeMap<String, serde_json::Value> = or_default(from)?;
    let all = all.into_iter().filter(|(name, _)| bounds::is_word(name));
    let text = |value: serde_json::Value| bounds::cut(value.as_str().unwrap_or_default());
    Ok(all.take(bounds::MAX_ITEMS).map(|(name, value)| (name, text(value))).collect())
}

/// An expiry that cannot be parsed counts as missing: the CA answers with 404 after the real one.
fn instant_or_none<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.and_then(|text| text.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn junk_in_the_directory_is_ignored() {
        let directory: Directory = serde_json::from_str(
            r#"{"newNonce":"n","newAccount":"a","newOrder":"o","PvOIGsUGtvQ":"https://example.org",
                "meta":{"website":"w","profiles":{"classic":"as ever"}}}"#,
        )
        .unwrap();
        assert_eq!(directory.new_order, "o");
        assert_eq!(directory.renewal_info, None);
        assert_eq!(directory.meta.profiles["classic"], "as ever");
        assert!(!directory.meta.external_account_required);
        for (profiles, count) in [("null", 0), (r#"{"classic":null,"x":{"url":"u"}}"#, 2)] {
            let meta = format!(r#"{{"profiles":{profiles}}}"#);
            assert_eq!(serde_json::from_str::<Meta>(&meta).unwrap().profiles.len(), count);
        }
    }

    #[test]
    fn unknown_words_and_members_are_accepted() {
        let order: Order = serde_json::from_str(
            r#"{"status":"pondering","expires":"soon","finalize":"f","mood":1,"replaces":null}"#,
        )
        .unwrap();
        assert_eq!((order.status, order.expires), (OrderStatus::Unknown, None));

        let authorization: Authorization = serde_json::from_str(
            r#"{"identifier":{"type":"dns","value":"example.org"},"status":"pending","challenges":[
                {"type":"dns-persist-01","url":"u","status":"pending","issuer-domain-names":["x"]},
                {"type":"dns-01","url":"v","status":"pending","token":"secret"}]}"#,
        )
        .unwrap();
        let kinds: Vec<_> = authorization.challenges.iter().map(|one| one.kind).collect();
        assert_eq!(kinds, [ChallengeKind::Unknown, ChallengeKind::Dns01]);
        assert!(!format!("{authorization:?}").contains("secret"));
    }

    #[test]
    fn null_counts_as_missing() {
        let order: Order = serde_json::from_str(
            r#"{"status":"ready","finalize":"f","expires":null,"identifiers":null,
                "authorizations":null,"certificate":null,
                "error":{"type":null,"detail":null,"status":null,"subproblems":null}}"#,
        )
        .unwrap();
        assert_eq!((order.authorizations.len(), order.error), (0, Some(Problem::default())));
        let registration: Registration =
            serde_json::from_str(r#"{"status":"valid","contact":null,"orders":null}"#).unwrap();
        assert_eq!(registration.contact, [""; 0]);
    }

    #[test]
    fn times_of_all_precisions_are_parsed() {
        for text in ["2026-11-22T10:00:00Z", "2026-11-22T10:00:00.123456789Z"] {
            let json = format!(r#"{{"status":"valid","expires":"{text}","finalize":"f"}}"#);
            let order: Order = serde_json::from_str(&json).unwrap();
            assert_eq!(order.expires, Some(text.parse().unwrap()));
        }
    }
}
