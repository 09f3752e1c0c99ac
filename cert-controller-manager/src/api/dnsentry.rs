//! `DNSEntry` of `dns.gardener.cloud/v1alpha1`: the fields that we read or write.
//!
//! It is somebody else's resource, so a value of this type never replaces an object: fields that
//! are not here would be lost. Write by server-side apply or by a merge patch of the status.
//! Everything is optional, because one entry that does not parse would make a whole list unreadable.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, ResourceExt};
use serde::{Deserialize, Serialize};

/// Which of several DNS controllers is responsible for an entry.
pub const ANNOTATION_CLASS: &str = "dns.gardener.cloud/class";
/// `true` on every entry that proves control of a name, whoever made it.
pub const ANNOTATION_CHALLENGE: &str = "cert.gardener.cloud/acme-dns-challenge";
/// Ours: the [`Owner`](cert_lib::solve::Owner) of a challenge entry.
pub const ANNOTATION_OWNER: &str = "cert.gardener.cloud/challenge-owner";

/// Ours: which manager's challenge it is, see [`Realm`](super::Realm).
pub const ANNOTATION_REALM: &str = "cert.gardener.cloud/challenge-realm";

/// The state of an entry whose records are published.
pub const STATE_READY: &str = "Ready";
/// The state of an entry that cannot be published as it is.
pub const STATE_INVALID: &str = "Invalid";

/// What should be published.
#[derive(Clone, CustomResource, Default, Deserialize, Serialize)]
#[kube(
    group = "dns.gardener.cloud",
    version = "v1alpha1",
    kind = "DNSEntry",
    plural = "dnsentries",
    namespaced,
    status = "DnsEntryStatus",
    schema = "disabled",
    doc = "A name and its records, to be published by a DNS controller."
)]
#[serde(rename_all = "camelCase")]
pub struct DnsEntrySpec {
    /// The name, in any case and perhaps with a trailing dot.
    #[serde(default)]
    pub dns_name: String,
    /// How long resolvers may keep the records, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<i64>,
    /// TXT values. Never printed: those of a challenge are secret while its order runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Vec<String>>,
    /// Addresses or a name to point to, in the place of text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<Vec<String>>,
}

impl fmt::Debug for DnsEntrySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = self.text.as_ref().map_or(0, Vec::len);
        f.debug_struct("DnsEntrySpec")
            .field("dns_name", &self.dns_name)
            .field("ttl", &self.ttl)
            .field("text", &format_args!("{values} values"))
            .field("targets", &self.targets)
            .finish()
    }
}

/// What is published.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DnsEntryStatus {
    /// `Ready`, `Pending`, `Error`, `Invalid`, `Stale`, `Deleting`, `Ignored` or nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// The state in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The generation that the rest of the status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Who publishes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// In which zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// When the status was last written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_update_time: Option<Time>,
    /// The name that is published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_name: Option<String>,
    /// The TTL that is published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<i64>,
}

impl DNSEntry {
    /// The class annotation; empty when there is none.
    #[must_use]
    pub fn class(&self) -> &str {
        self.annotations().get(ANNOTATION_CLASS).map_or("", String::as_str)
    }

    /// Who the entry proves something for, when it is one of our challenge entries.
    #[must_use]
    pub fn challenge_owner(&self) -> Option<&str> {
        self.annotations().get(ANNOTATION_OWNER).filter(|_| self.is_challenge()).map(String::as_str)
    }

    /// Which manager made it.
    #[must_use]
    pub fn realm(&self) -> &str {
        self.annotations().get(ANNOTATION_REALM).map_or("", String::as_str)
    }

    /// Whether the entry is a challenge record, ours or another manager's.
    #[must_use]
    pub fn is_challenge(&self) -> bool {
        self.annotations().get(ANNOTATION_CHALLENGE).is_some_and(|value| value == "true")
    }

    /// The TXT values; none when there are no text records.
    #[must_use]
    pub fn values(&self) -> &[String] {
        self.spec.text.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_any_shape_is_read_and_its_values_are_never_printed() {
        let entry: DNSEntry = serde_json::from_value(serde_json::json!({
            "apiVersion": "dns.gardener.cloud/v1alpha1", "kind": "DNSEntry",
            "metadata": {"name": "a", "annotations": {
                ANNOTATION_CLASS: "mine", ANNOTATION_CHALLENGE: "true", ANNOTATION_OWNER: "ns/c",
            }},
            "spec": {
                "dnsName": "_acme-challenge.example.org", "text": ["value"],
                "routingPolicy": {"type": "weighted"},
            },
            "status": {"state": "Ready", "providerType": "x", "targets": ["t"]},
        }))
        .unwrap();
        assert_eq!((entry.class(), entry.challenge_owner()), ("mine", Some("ns/c")));
        assert_eq!(entry.values(), ["value"]);
        assert!(!format!("{entry:?}").contains("value\""));

        let bare: DNSEntry = serde_json::from_value(serde_json::json!({
            "apiVersion": "dns.gardener.cloud/v1alpha1", "kind": "DNSEntry",
            "metadata": {"name": "a"}, "spec": {"dnsName": "a", "targets": ["1.2.3.4"]},
        }))
        .unwrap();
        assert_eq!((bare.class(), bare.challenge_owner(), bare.values().len()), ("", None, 0));
    }
}
