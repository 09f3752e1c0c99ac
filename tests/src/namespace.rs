//! A namespace for one test, with its queries and waits.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use cert_controller_manager::access::Cluster;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    Look, eventually,
    fleet::Fleet,
    objects::{self, api, apply, names, state},
    test_env::{TestEnv, ZONE},
    x509::Leaf,
};

/// A namespace, and a domain inside the zone of the test environment that no other test uses. In a
/// fleet, it exists in every cluster: Secrets are on target, DNSEntries on dns, all other objects
/// on source.
#[derive(Clone)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// `<name>.<zone>`.
    pub domain: String,
    client: Client,
    target: Client,
    dns: Client,
}

/// The result for an applied object.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The API server refused it.
    Refused(String),
    /// The manager set this state and message.
    Settled {
        /// `status.state`
        state: String,
        /// `status.message`
        message: String,
    },
}

impl Namespace {
    /// Creates it.
    ///
    /// # Errors
    /// It exists: two tests use the same name.
    pub async fn new(env: &TestEnv, name: &str) -> Result<Self> {
        let client = env.control_plane.client();
        create(&client, name).await?;
        Ok(Self {
            name: name.to_owned(),
            domain: format!("{name}.{}", env.zone),
            target: client.clone(),
            dns: client.clone(),
            client,
        })
    }

    /// Creates it in every cluster of a fleet.
    ///
    /// # Errors
    /// It exists: two tests use the same name.
    pub async fn in_fleet(fleet: &Fleet, name: &str) -> Result<Self> {
        for plane in &fleet.planes {
            create(&plane.client(), name).await?;
        }
        Ok(Self {
            name: name.to_owned(),
            domain: format!("{name}.{ZONE}"),
            client: fleet.client(Cluster::Source),
            target: fleet.client(Cluster::Target),
            dns: fleet.client(Cluster::Dns),
        })
    }

    /// Applies an object here and ignores the namespace in it.
    ///
    /// # Errors
    /// The API server refuses it.
    pub async fn apply(&self, object: &Value) -> Result<DynamicObject> {
        let mut object = object.clone();
        object["metadata"]["namespace"] = json!(self.name);
        apply(&self.client, &self.name, &object).await
    }

    /// Applies a Certificate with this `spec`.
    ///
    /// # Errors
    /// The API server refuses it.
    pub async fn certificate(&self, name: &str, spec: Value) -> Result<DynamicObject> {
        self.apply(&certificate(name, spec)).await
    }

    /// Applies a Certificate for `<name>.<domain>` whose Secret is `<name>-tls`.
    ///
    /// # Errors
    /// The API server refuses it.
    pub async fn simple(&self, name: &str) -> Result<DynamicObject> {
        let host = format!("{name}.{}", self.domain);
        self.certificate(name, json!({"commonName": host, "secretName": format!("{name}-tls")}))
            .await
    }

    /// Changes a Certificate with a merge patch.
    ///
    /// # Errors
    /// The API server refuses it.
    pub async fn patch(&self, name: &str, patch: Value) -> Result<DynamicObject> {
        let certificates = api(&self.client, "Certificate", &self.name)?;
        Ok(certificates.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?)
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// It does not exist.
    pub async fn delete(&self, kind: &str, name: &str) -> Result<()> {
        api(&self.client, kind, &self.name)?.delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Reads an object.
    ///
    /// # Errors
    /// It does not exist.
    pub async fn read(&self, kind: &str, name: &str) -> Result<DynamicObject> {
        Ok(api(&self.client, kind, &self.name)?.get(name).await?)
    }

    /// Waits until a Certificate has a state.
    ///
    /// # Errors
    /// It has another one at the deadline; the message has its state and message.
    pub async fn until(
        &self,
        name: &str,
        wanted: &str,
        deadline: Duration,
    ) -> Result<DynamicObject> {
        self.until_some("Certificate", name, &format!("is {wanted}"), deadline, |object| {
            state(object).0 == wanted
        })
        .await
    }

    /// Waits until `holds` returns a value for an object.
    ///
    /// # Errors
    /// It does not before the deadline.
    pub async fn until_some(
        &self,
        kind: &str,
        name: &str,
        what: &str,
        deadline: Duration,
        holds: impl Fn(&DynamicObject) -> bool,
    ) -> Result<DynamicObject> {
        let what = format!("{kind} {}/{name} {what}", self.name);
        eventually(deadline, &what, || async {
            let object = self.read(kind, name).await?;
            Ok(if holds(&object) {
                Look::Done(object)
            } else {
                Look::NotYet(object.data["status"].to_string())
            })
        })
        .await
    }

    /// Waits until every Certificate here is Ready.
    ///
    /// # Errors
    /// Some are not at the deadline; the message names up to three.
    pub async fn until_all_ready(&self, count: usize, deadline: Duration) -> Result<()> {
        let what = format!("{count} Certificates of {} are Ready", self.name);
        eventually(deadline, &what, || async {
            let all = objects::list(&self.client, "Certificate", &self.name).await?;
            let open: Vec<_> = all.iter().filter(|object| state(object).0 != "Ready").collect();
            Ok(if open.is_empty() && all.len() == count {
                Look::Done(())
            } else {
                let some: Vec<String> =
                    open.iter().take(3).map(|object| describe(object)).collect();
                Look::NotYet(format!("{} of {} open: {}", open.len(), all.len(), some.join("; ")))
            })
        })
        .await
    }

    /// Applies an object and waits until the API server refuses it or the manager sets the state
    /// Ready or Error for this generation.
    ///
    /// # Errors
    /// Neither happens before the deadline.
    pub async fn outcome(&self, object: &Value, deadline: Duration) -> Result<Outcome> {
        let applied = match self.apply(object).await {
            Ok(applied) => applied,
            Err(error) => return refused(error),
        };
        let (kind, name) = (object["kind"].as_str().unwrap_or_default(), applied.metadata.name);
        let name = name.context("the API server returned no name")?;
        let generation = applied.metadata.generation;
        let judged = self.until_some(kind, &name, "has an outcome", deadline, |object| {
            let observed = object.data["status"]["observedGeneration"].as_i64();
            matches!(state(object).0.as_str(), "Ready" | "Error") && observed >= generation
        });
        let (state, message) = state(&judged.await?);
        Ok(Outcome::Settled { state, message })
    }

    /// A Secret, `None` if it does not exist.
    ///
    /// # Errors
    /// The API server does not answer.
    pub async fn secret(&self, name: &str) -> Result<Option<Secret>> {
        Ok(Api::<Secret>::namespaced(self.target.clone(), &self.name).get_opt(name).await?)
    }

    /// The leaf certificate in a Secret.
    ///
    /// # Errors
    /// There is no Secret or no certificate in it.
    pub async fn leaf(&self, secret: &str) -> Result<Leaf> {
        let secret = self.secret(secret).await?.context("there is no Secret")?;
        let data = secret.data.unwrap_or_default();
        Leaf::parse(&data.get("tls.crt").context("the Secret has no tls.crt")?.0)
    }

    /// The DNSEntries here.
    ///
    /// # Errors
    /// The API server does not answer.
    pub async fn dns_entries(&self) -> Result<Vec<DynamicObject>> {
        objects::list(&self.dns, "DNSEntry", &self.name).await
    }

    /// Waits until no DNSEntry is left here.
    ///
    /// # Errors
    /// Some are left.
    pub async fn until_no_dns_entry(&self, deadline: Duration) -> Result<()> {
        eventually(deadline, &format!("no DNSEntry is left in {}", self.name), || async {
            let left = self.dns_entries().await?;
            Ok(if left.is_empty() { Look::Done(()) } else { Look::NotYet(names(&left)) })
        })
        .await
    }

    /// The Events of an object, as `<type> <reason> <note>`.
    ///
    /// # Errors
    /// The API server does not answer.
    pub async fn events(&self, name: &str) -> Result<Vec<String>> {
        let events = objects::list(&self.client, "Event", &self.name).await?;
        let of_it = events.iter().filter(|event| event.data["regarding"]["name"] == name);
        let text = |event: &DynamicObject, field: &str| {
            event.data[field].as_str().unwrap_or_default().to_owned()
        };
        Ok(of_it
            .map(|event| {
                format!("{} {} {}", text(event, "type"), text(event, "reason"), text(event, "note"))
            })
            .collect())
    }

    /// Waits for an Event of an object: Events are written after the status.
    ///
    /// # Errors
    /// There is none before the deadline; the message has the existing ones.
    pub async fn until_event(
        &self,
        name: &str,
        deadline: Duration,
        is: impl Fn(&str) -> bool,
    ) -> Result<()> {
        eventually(deadline, &format!("an event of {name} tells"), || async {
            let events = self.events(name).await?;
            let is_there = events.iter().any(|text| is(text));
            Ok(if is_there { Look::Done(()) } else { Look::NotYet(events.join("\n")) })
        })
        .await
    }
}

async fn create(client: &Client, name: &str) -> Result<()> {
    let namespace: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name},
    }))?;
    api(client, "Namespace", "")?.create(&Default::default(), &namespace).await?;
    Ok(())
}

/// A Certificate as JSON.
#[must_use]
pub fn certificate(name: &str, spec: Value) -> Value {
    let mut object = json!({
        "apiVersion": "cert.gardener.cloud/v1alpha1",
        "kind": "Certificate",
        "metadata": {"name": name},
    });
    object["spec"] = spec;
    object
}

fn describe(object: &DynamicObject) -> String {
    let (state, message) = state(object);
    format!("{} is '{state}' ({message})", object.metadata.name.as_deref().unwrap_or_default())
}

fn refused(error: anyhow::Error) -> Result<Outcome> {
    match error.downcast_ref::<kube::Error>() {
        Some(kube::Error::Api(status)) => Ok(Outcome::Refused(status.message.clone())),
        _ => bail!(error),
    }
}
