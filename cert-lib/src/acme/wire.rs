//! What the CA sends, as it is written (RFC 8555 section 7.1).
//!
//! Everything here is read tolerantly: unknown members are ignored, unknown words become
//! `Unknown`, and members that we can do without may be missing. Everything is bounded, too: an order
//! keeps these values for as long as it runs, and the CA may be a tenant's. No decisions here.

pub(super) mod bounds;

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};

use crate::acme::problem::Problem;

/// Where everything is (section 7.1.1). CAs add a junk member on purpose; it is ignored.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Directory {
    /// Gives nonces.
    #[serde(deserialize_with = "bounds::url")]
    pub new_nonce: String,
    /// Creates and finds accounts.
    #[serde(deserialize_with = "bounds::url")]
    pub new_account: String,
    /// Takes orders.
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
    /// About the CA.
    #[serde(default, deserialize_with = "or_default")]
    pub meta: Meta,
}

/// About the CA (section 7.1.1).
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    /// What one agrees to.
    #[serde(deserialize_with = "bounds::some_url")]
    pub terms_of_service: Option<String>,
    /// Whether accounts must be bound to one that exists elsewhere.
    pub external_account_required: bool,
    /// Kinds of certificates, with a description each (draft-ietf-acme-profiles).
    #[serde(deserialize_with = "profiles")]
    pub profiles: BTreeMap<String, String>,
}

/// An account (section 7.1.2).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Registration {
    /// Whether it can be used.
    pub status: AccountStatus,
    /// Whom the CA writes to, as `mailto:` URLs. Let's Encrypt no longer tells.
    #[serde(default, deserialize_with = "bounds::list")]
    pub contact: Vec<String>,
    /// Where its orders are listed. Let's Encrypt has no such list.
    #[serde(default, deserialize_with = "bounds::some_url")]
    pub orders: Option<String>,
}

/// Whether an account can be used (section 7.1.6).
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum AccountStatus {
    /// It can.
    Valid,
    /// Its owner closed it.
    Deactivated,
    /// The CA closed it.
    Revoked,
    /// A word that RFC 8555 does not have.
    #[serde(other)]
    Unknown,
}

/// An order (section 7.1.3).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Order {
    /// How far it is.
    pub status: OrderStatus,
    /// When the CA forgets it.
    #[serde(default, deserialize_with = "instant_or_none")]
    pub expires: Option<Timestamp>,
    /// What it is for.
    #[serde(default, deserialize_with = "bounds::list")]
    pub identifiers: Vec<Identifier>,
    /// Where to prove control.
    #[serde(default, deserialize_with = "bounds::urls")]
    pub authorizations: Vec<String>,
    /// Where the signing request goes.
    #[serde(deserialize_with = "bounds::url")]
    pub finalize: String,
    /// Where the certificate is, once there is one.
    #[serde(default, deserialize_with = "bounds::some_url")]
    pub certificate: Option<String>,
    /// Why it failed.
    pub error: Option<Problem>,
}

/// How far an order is (section 7.1.6).
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum OrderStatus {
    /// Control is to be proved.
    Pending,
    /// Control is proved, the signing request is missing.
    Ready,
    /// The CA is signing.
    Processing,
    /// There is a certificate.
    Valid,
    /// It failed.
    Invalid,
    /// A word that RFC 8555 does not have.
    #[serde(other)]
    Unknown,
}

/// What a certificate is for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, serde::Serialize)]
pub struct Identifier {
    /// `dns` or `ip`.
    #[serde(rename = "type", deserialize_with = "bounds::word")]
    pub kind: String,
    /// The name. An authorization for a wildcard has it without `*.` (section 7.1.4).
    #[serde(deserialize_with = "bounds::word")]
    pub value: String,
}

/// The proof of control over one identifier (section 7.1.4).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Authorization {
    /// Where it was fetched.
    #[serde(skip)]
    pub url: String,
    /// Whose control.
    pub identifier: Identifier,
    /// How far it is.
    pub status: AuthorizationStatus,
    /// The ways to prove it.
    #[serde(default, deserialize_with = "bounds::list")]
    pub challenges: Vec<Challenge>,
    /// Whether it is for `*.` and the identifier.
    #[serde(default, deserialize_with = "or_default")]
    pub wildcard: bool,
}

/// How far an authorization is (section 7.1.6).
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum AuthorizationStatus {
    /// Control is to be proved.
    Pending,
    /// Control is proved.
    Valid,
    /// The proof failed.
    Invalid,
    /// We gave it up.
    Deactivated,
    /// Too old.
    Expired,
    /// The CA took it back.
    Revoked,
    /// A word that RFC 8555 does not have.
    #[serde(other)]
    Unknown,
}

/// For people, about one that is over.
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

/// One way to prove control (section 7.1.5).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Challenge {
    /// Which way.
    #[serde(rename = "type")]
    pub kind: ChallengeKind,
    /// Where to say that the proof is published.
    #[serde(deserialize_with = "bounds::url")]
    pub url: String,
    /// How far it is.
    pub status: ChallengeStatus,
    /// What the proof is made of. Some newer kinds have none.
    pub token: Option<Token>,
    /// Why it failed.
    pub error: Option<Problem>,
}

/// Ways to prove control that we know.
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

/// How far a challenge is (section 7.1.6).
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum ChallengeStatus {
    /// The CA does not look yet.
    Pending,
    /// The CA is looking.
    Processing,
    /// The CA saw the proof.
    Valid,
    /// The CA did not see it.
    Invalid,
    /// A word that RFC 8555 does not have.
    #[serde(other)]
    Unknown,
}

/// The random part of a challenge. A bearer token while the order runs, so it is not printed.
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

/// Only the names matter: a description that is none must not cost the directory.
fn profiles<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    let all: BTreeMap<String, serde_json::Value> = or_default(from)?;
    let all = all.into_iter().filter(|(name, _)| bounds::is_word(name));
    let text = |value: serde_json::Value| bounds::cut(value.as_str().unwrap_or_default());
    Ok(all.take(bounds::MAX_ITEMS).map(|(name, value)| (name, text(value))).collect())
}

/// An expiry that nobody can read is as good as none: the CA says by 404 when it is over.
fn instant_or_none<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.and_then(|text| text.parse().ok()))
}

/// Some CAs write `null` where they mean nothing.
pub(super) fn or_default<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(from)?.unwrap_or_default())
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
    fn unknown_words_and_members_do_no_harm() {
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
    fn null_is_nothing() {
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
    fn times_of_all_precisions_are_read() {
        for text in ["2026-11-22T10:00:00Z", "2026-11-22T10:00:00.123456789Z"] {
            let json = format!(r#"{{"status":"valid","expires":"{text}","finalize":"f"}}"#);
            let order: Order = serde_json::from_str(&json).unwrap();
            assert_eq!(order.expires, Some(text.parse().unwrap()));
        }
    }
}
