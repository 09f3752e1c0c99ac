//! `spec.acme.solvers` of an Issuer: how control over its names is proved. The shape is that of
//! cert-manager where it has one.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// One solver, and the names that it proves.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
pub struct SolverSpec {
    /// Names of this solver. All names if it is missing. A name that matches several selectors uses
    /// the most specific one: the name itself, then the longest zone, then the most labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<SolverSelector>,
    /// Proves control by TXT records (RFC 8555 section 8.4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns01: Option<Dns01Spec>,
}

/// Selects names. All conditions that are set must match.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SolverSelector {
    /// Exact names. `*.example.org` is the wildcard itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_names: Option<Vec<String>>,
    /// Domains with all names below them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_zones: Option<Vec<String>>,
    /// Labels of the Certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub match_labels: Option<BTreeMap<String, String>>,
}

/// A DNS-01 solver.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.powerDNS) ? 1 : 0) + (has(self.rfc2136) ? 1 : 0) + (has(self.dnsEntry) ? 1 : 0) == 1")
        .message("exactly one of powerDNS, rfc2136 and dnsEntry must be set")
)]
pub struct Dns01Spec {
    /// Whether the records are published at the target of a CNAME at the challenge name. A
    /// Certificate can ask for that, too, by `followCNAME`. Defaults to None.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cname_strategy: Option<CnameStrategy>,
    /// How to check that the CA will see the records. By default the authoritative servers are asked,
    /// or precheckNameservers if they are set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propagation: Option<PropagationSpec>,
    /// PowerDNS with its HTTP API.
    #[serde(default, rename = "powerDNS", skip_serializing_if = "Option::is_none")]
    pub power_dns: Option<PowerDnsSpec>,
    /// A server that takes dynamic updates (RFC 2136), such as BIND, Knot or PowerDNS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rfc2136: Option<Rfc2136Spec>,
    /// DNSEntry objects in the dns cluster, the default without solvers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_entry: Option<DnsEntrySpec>,
}

/// Whether CNAMEs at challenge names are followed.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, schemars::JsonSchema, Serialize)]
pub enum CnameStrategy {
    /// Only if the Certificate asks for it.
    None,
    /// Always.
    Follow,
}

/// How to check that records are visible.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
pub struct PropagationSpec {
    /// What is asked. Defaults to Authoritative.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<PropagationCheck>,
    /// Name servers for all look-ups: `host`, `host:port` or `https://host/dns-query` (RFC 8484).
    /// Defaults to those of the manager.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nameservers: Option<Vec<String>>,
    /// Wait after the records are visible; with the check `Wait`, after they are published. For
    /// example `30s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<String>,
    /// Time until the order fails because its records are not visible. Defaults to
    /// `--propagation-timeout` of the manager plus `wait`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
}

/// What a propagation check asks.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, schemars::JsonSchema, Serialize)]
pub enum PropagationCheck {
    /// All authoritative servers of the zone.
    Authoritative,
    /// The authoritative servers, then the name servers of `nameservers`.
    Resolvers,
    /// Nothing: the records count as visible after `wait`.
    Wait,
    /// Nothing: the records count as visible at once.
    None,
}

/// A PowerDNS server.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PowerDnsSpec {
    /// Address of the API, such as `http://powerdns.dns.svc:8081`.
    pub url: String,
    /// Id of the server in the API. Defaults to localhost.
    #[serde(default, rename = "serverID", skip_serializing_if = "Option::is_none")]
    pub server_id: Option<String>,
    /// Zone of the records. Defaults to the longest zone of the server that contains the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Secret with the API key, in the namespace of the Issuer.
    pub api_key_secret_ref: SecretKeyRef,
    /// Certificates that the API is trusted with instead of those of the manager: PEM in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
    /// TTL of the records in seconds. Defaults to 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86400))]
    pub ttl: Option<u32>,
}

/// A server that takes dynamic updates.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rfc2136Spec {
    /// The primary server: `host` or `host:port`.
    pub nameserver: String,
    /// Name of the TSIG key (RFC 8945). Without it, updates are not signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tsig_key_name: Option<String>,
    /// HMACSHA1, HMACSHA224, HMACSHA256, HMACSHA384 or HMACSHA512. Defaults to HMACSHA256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tsig_algorithm: Option<String>,
    /// Secret with the TSIG key in base64, in the namespace of the Issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tsig_secret_secret_ref: Option<SecretKeyRef>,
    /// UDP or TCP. Defaults to UDP, with TCP for long messages and lost answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<UpdateProtocol>,
    /// Zone of the records. Defaults to the longest zone of the server that contains the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// TTL of the records in seconds. Defaults to 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86400))]
    pub ttl: Option<u32>,
}

/// Transport of dynamic updates.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, schemars::JsonSchema, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum UpdateProtocol {
    /// UDP with TCP as fallback.
    Udp,
    /// TCP only.
    Tcp,
}

/// DNSEntries have no configuration.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
pub struct DnsEntrySpec {}

/// A key of a Secret in the namespace of the Issuer.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
pub struct SecretKeyRef {
    /// Name of the Secret.
    pub name: String,
    /// Key in the data of the Secret.
    pub key: String,
}

impl Dns01Spec {
    /// Whether exactly one kind of solver is set, as the validation rule requires.
    #[must_use]
    pub fn is_one_kind(&self) -> bool {
        let kinds = [self.power_dns.is_some(), self.rfc2136.is_some(), self.dns_entry.is_some()];
        kinds.into_iter().filter(|set| *set).count() == 1
    }

    /// The key with the credential of the solver, if it has one.
    #[must_use]
    pub fn credential(&self) -> Option<&SecretKeyRef> {
        let power_dns = self.power_dns.as_ref().map(|spec| &spec.api_key_secret_ref);
        let rfc2136 = self.rfc2136.as_ref().and_then(|spec| spec.tsig_secret_secret_ref.as_ref());
        power_dns.or(rfc2136)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn blocks(text: &str) -> Vec<Value> {
        let blocks = text.split("```yaml\n").skip(1).filter_map(|block| block.split("```").next());
        blocks.map(|block| serde_yaml::from_str(block).unwrap()).collect()
    }

    /// Whether all fields of `given` are fields of a solver: unknown ones are lost.
    fn check(given: &Value) {
        let solver: SolverSpec = serde_json::from_value(given.clone()).unwrap();
        assert_eq!(&serde_json::to_value(&solver).unwrap(), given);
        if let Some(dns01) = solver.dns01.filter(|it| it.propagation.is_none()) {
            assert!(dns01.is_one_kind(), "{given}");
        }
    }

    #[test]
    fn the_solvers_of_guides_and_examples_have_known_fields_only() {
        let guide = include_str!("../../../docs/guides/dns-solvers.md");
        let wildcards = include_str!("../../../docs/guides/internal-wildcards.md");
        let mut checked = 0;
        for block in blocks(guide).into_iter().chain(blocks(wildcards)) {
            let solvers = block.pointer("/spec/acme/solvers").and_then(Value::as_array).cloned();
            let snippet = block.get("dns01").map(|_| vec![block.clone()]);
            for solver in solvers.or(snippet).into_iter().flatten() {
                check(&solver);
                checked += 1;
            }
        }
        assert_eq!(checked, 5);
        let issuer = include_str!("../../../examples/powerdns/50-issuer.yaml");
        let issuer: Value = serde_yaml::from_str(issuer).unwrap();
        check(issuer.pointer("/spec/acme/solvers/0").unwrap());
    }
}
