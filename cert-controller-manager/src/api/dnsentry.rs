//! `DNSEntry` of `dns.gardener.cloud/v1alpha1`: the fields that we read or write.
//!
//! The resource belongs to external-dns-management. Never replace an object with a value of this type,
//! because other fields would be lost: use server-side apply or a merge patch. All fields are optional,
//! because a decoding error would affect the whole list.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, ResourceExt};
use serde::{Deserialize, Serialize};

/// The class of the responsible DNS controller.
pub const ANNOTATION_CLASS: &str = "dns.gardener.cloud/class";
/// `true` on challenge entries of all managers.
pub const ANNOTATION_CHALLENGE: &str = "cert.gardener.cloud/acme-dns-challenge";
/// Not in upstream: the [`Owner`](cert_lib::solve::Owner) of a challenge entry.
pub const ANNOTATION_OWNER: &str = "cert.gardener.cloud/challenge-owner";

/// Not in upstream: the [`Realm`](super::Realm) of the manager.
pub const ANNOTATION_REALM: &str = "cert.gardener.cloud/challenge-realm";

/// State of an entry with published records.
pub const STATE_READY: &str = "Ready";
/// State of an entry that cannot be published.
pub const STATE_INVALID: &str = "Invalid";

/// The records to publish.
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
    /// The name, in any case, possibly with a trailing dot.
    #[serde(default)]
    pub dns_name: String,
    /// TTL in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<i64>,
    /// TXT values. Not printed, because challenge values are secret while the order runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Vec<String>>,
    /// Addresses or a CNAME target, instead of text.
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

/// The published records.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DnsEntryStatus {
    /// `Ready`, `Pending`, `Error`, `Invalid`, `Stale`, `Deleting`, `Ignored` or empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Description of the state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Generation of the specification that the status refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// DNS provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// DNS zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Time of the last update of the status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_update_time: Option<Time>,
    /// Published name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_name: Option<String>,
    /// Published TTL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<i64>,
}

impl DNSEntry {
    /// The class annotation; empty if it is missing.
    #[must_use]
    pub fn class(&self) -> &str {
        self.annotations().get(ANNOTATION_CLASS).map_or("", String::as_str)
    }

    /// The owner of the challenge, if it is one of our challenge entries.
    #[must_use]
    pub fn challenge_owner(&self) -> Option<&str> {
        self.annotations().get(ANNOTATION_OWNER).filter(|_| self.is_challenge()).map(String::as_str)
    }

    /// The realm of the manager that created it.
    #[must_use]
    pub fn realm(&self) -> &str {
        self.annotations().get(ANNOTATION_REALM).map_or("", String::as_str)
    }

    /// Whether it is a challenge entry of any manager.
    #[must_use]
    pub fn is_challenge(&self) -> bool {
        self.annotations().get(ANNOTATION_CHALLENGE).is_some_and(|value| value == "true")
    }

    /// The TXT values.
    #[must_use]
    pub fn values(&self) -> &[String] {
        self.spec.text.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_decoded_tolerantly_and_its_values_are_not_printed() {
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
