//! Counts the writes of the API server to the resources of the manager.

use std::{collections::BTreeMap, fmt};

/// One kind of write.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Write {
    /// POST, PUT, PATCH, APPLY (a server-side apply) or DELETE.
    pub verb: String,
    /// The API group, empty for core.
    pub group: String,
    /// The plural, with `/status` for that subresource.
    pub resource: String,
}

/// Counts of writes to the resources of the manager: its own, DNSEntries, Secrets and Events.
/// Refused requests count, because they are work as well.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Writes(BTreeMap<Write, u64>);

const VERBS: &[&str] = &["POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"];

impl Writes {
    /// Reads the metrics page of an API server.
    #[must_use]
    pub fn parse(page: &str) -> Self {
        let mut counts = BTreeMap::new();
        for line in page.lines().filter(|line| line.starts_with("apiserver_request_total{")) {
            if let Some((write, count)) = sample(line) {
                *counts.entry(write).or_default() += count;
            }
        }
        Self(counts)
    }

    /// The writes since `earlier`, of the same API server process.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let counts = self.0.iter().map(|(write, count)| {
            (write.clone(), count.saturating_sub(earlier.0.get(write).copied().unwrap_or(0)))
        });
        Self(counts.filter(|(_, count)| *count > 0).collect())
    }

    /// The counts without `count` writes of one kind by another client.
    #[must_use]
    pub fn without(&self, verb: &str, resource: &str, count: u64) -> Self {
        let counts = self.0.iter().map(|(write, all)| {
            let foreign = write.verb == verb && write.resource == resource;
            (write.clone(), if foreign { all.saturating_sub(count) } else { *all })
        });
        Self(counts.filter(|(_, count)| *count > 0).collect())
    }

    /// The total.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Each kind with its count.
    pub fn iter(&self) -> impl Iterator<Item = (&Write, u64)> {
        self.0.iter().map(|(write, count)| (write, *count))
    }
}

impl fmt::Display for Writes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (index, (write, count)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{count} {} {}", write.verb, write.resource)?;
        }
        Ok(())
    }
}

fn sample(line: &str) -> Option<(Write, u64)> {
    let verb = label(line, "verb")?;
    let group = label(line, "group")?;
    let mut resource = label(line, "resource")?.to_owned();
    if !VERBS.contains(&verb) || !is_ours(group, &resource) {
        return None;
    }
    let subresource = label(line, "subresource")?;
    if !subresource.is_empty() {
        resource = format!("{resource}/{subresource}");
    }
    let count: f64 = line.rsplit_once(' ')?.1.parse().ok()?;
    let write = Write { verb: verb.to_owned(), group: group.to_owned(), resource };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a counter")]
    Some((write, count as u64))
}

fn is_ours(group: &str, resource: &str) -> bool {
    match group {
        "cert.gardener.cloud" | "dns.gardener.cloud" => true,
        "" => matches!(resource, "secrets" | "events"),
        "events.k8s.io" => true,
        _ => false,
    }
}

fn label<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, labels) = line.split_once('{')?;
    labels.split(',').find_map(|pair| {
        let value = pair.strip_prefix(name)?.strip_prefix("=\"")?;
        value.split('"').next()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_writes_to_our_resources_are_counted() {
        let labels = |group: &str, resource: &str, sub: &str, verb: &str| {
            format!(
                "apiserver_request_total{{code=\"200\",component=\"apiserver\",dry_run=\"\",\
                 group=\"{group}\",resource=\"{resource}\",scope=\"resource\",\
                 subresource=\"{sub}\",verb=\"{verb}\",version=\"v1\"}} 3\n"
            )
        };
        let page = labels("", "secrets", "", "APPLY")
            + &labels("", "secrets", "", "GET")
            + &labels("coordination.k8s.io", "leases", "", "PUT")
            + &labels("cert.gardener.cloud", "certificates", "status", "PATCH");
        let writes = Writes::parse(&page);
        assert_eq!(writes.to_string(), "3 APPLY secrets, 3 PATCH certificates/status");
        assert_eq!(writes.since(&writes).total(), 0);
    }
}
