//! The baseline of the benchmark: repeats the ACME requests and API writes of the manager in a
//! plain loop, without a controller, watches or DNS.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _};
use instant_acme::Account;
use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    acme::{self, PublishNothing},
    metrics::{Write, Writes},
    pebble::Pebble,
};

/// The settings of the loop.
pub struct Baseline<'a> {
    /// The cluster.
    pub client: Client,
    /// A CA that accepts every challenge.
    pub pebble: &'a Pebble,
    /// An empty namespace.
    pub namespace: &'a str,
    /// Number of certificates.
    pub count: usize,
    /// Number of parallel certificates.
    pub concurrency: usize,
    /// The writes to repeat, of `count` certificates together.
    pub writes: &'a Writes,
}

impl Baseline<'_> {
    /// Runs the loop and returns how long it took.
    ///
    /// # Errors
    /// The CA or the API server refuses something.
    pub async fn run(&self) -> Result<Duration> {
        let account = Arc::new(acme::register(self.pebble).await?);
        let began = Instant::now();
        futures::stream::iter(0..self.count)
            .map(|number| {
                let issue_one = self.issue_one(number, Arc::clone(&account));
                async move { issue_one.await.with_context(|| format!("certificate {number}")) }
            })
            .buffer_unordered(self.concurrency)
            .try_collect::<()>()
            .await?;
        Ok(began.elapsed())
    }

    async fn issue_one(&self, number: usize, account: Arc<Account>) -> Result<()> {
        let name = format!("baseline-{number}");
        let host = format!("{name}.{}.my-company.test", self.namespace);
        acme::issue(&account, &[host], &PublishNothing).await?;
        // Creations first, because the others need their objects, and deletions last.
        for verbs in [&["POST"][..], &["APPLY", "PATCH", "PUT"], &["DELETE"]] {
            for (write, total) in self.writes.iter() {
                if verbs.contains(&write.verb.as_str()) {
                    for part in 0..share(total, number, self.count) {
                        self.write(write, &name, part).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Each creation and deletion has an object of its own; all changes are made to the first one.
    async fn write(&self, write: &Write, name: &str, part: u64) -> Result<()> {
        let (plural, subresource) = write.resource.split_once('/').unwrap_or((&write.resource, ""));
        let of_its_own = matches!(write.verb.as_str(), "POST" | "DELETE");
        let name = format!("{name}-{}", if of_its_own { part } else { 0 });
        let Some(mut object) = sample(plural, self.namespace, &name) else { return Ok(()) };
        let kind = GroupVersionKind::try_from(object.types.as_ref().context("no type")?)?;
        let resource = ApiResource::from_gvk_with_plural(&kind, plural);
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), self.namespace, &resource);
        let params = PatchParams::apply("baseline").force();
        let done = match (write.verb.as_str(), subresource) {
            ("POST", _) => api.create(&Default::default(), &object).await.map(drop),
            ("DELETE", _) => api.delete(&name, &DeleteParams::default()).await.map(drop),
            (_, "status") => {
                object.data = json!({"status": {"state": "Pending", "message": part.to_string()}});
                api.patch_status(&name, &params, &Patch::Apply(&object)).await.map(drop)
            }
            _ => {
                object.metadata.annotations = Some([("part".into(), part.to_string())].into());
                api.patch(&name, &params, &Patch::Apply(&object)).await.map(drop)
            }
        };
        match done {
            // The shares are rounded: another certificate may have to create the object.
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            other => Ok(other.with_context(|| format!("{} {plural} {name}", write.verb))?),
        }
    }
}

/// The share of one of `count` in `total`; the shares add up to `total`.
fn share(total: u64, number: usize, count: usize) -> u64 {
    let (number, count) = (number as u64, count as u64);
    (number + 1) * total / count - number * total / count
}

/// A small object of a kind that the manager writes.
fn sample(plural: &str, namespace: &str, name: &str) -> Option<DynamicObject> {
    let (version, kind, rest): (&str, &str, Value) = match plural {
        "certificates" => (
            "cert.gardener.cloud/v1alpha1",
            "Certificate",
            json!({"spec": {"commonName": format!("{name}.my-company.test")}}),
        ),
        "dnsentries" => (
            "dns.gardener.cloud/v1alpha1",
            "DNSEntry",
            json!({"spec": {"dnsName": format!("_acme-challenge.{name}"), "ttl": 120, "text": ["x"]}}),
        ),
        "secrets" => ("v1", "Secret", json!({"stringData": {"tls.crt": "x".repeat(3000)}})),
        "events" => (
            "events.k8s.io/v1",
            "Event",
            json!({
                "eventTime": "2026-01-01T00:00:00.000000Z", "action": "x", "reason": "x",
                "type": "Normal", "reportingController": "baseline", "reportingInstance": "baseline",
                "regarding": {"namespace": namespace},
            }),
        ),
        _ => return None,
    };
    let mut object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}});
    for (field, value) in rest.as_object()? {
        object[field] = value.clone();
    }
    serde_json::from_value(object).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_add_up() {
        for total in [0, 1, 7, 200, 601] {
            assert_eq!((0..200).map(|number| share(total, number, 200)).sum::<u64>(), total);
        }
    }
}
