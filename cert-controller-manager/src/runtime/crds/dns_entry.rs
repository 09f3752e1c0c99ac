//! A minimal definition of DNSEntry for clusters without external-dns-management, so that the
//! responder works without it. It preserves unknown fields.

use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client, ResourceExt, api::PostParams};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::settings::{CrdSettings, FIRST_PAUSE, MAINTAINER, MAX_PAUSE};
use crate::{
    api::well_known,
    runtime::{errors::brief, fence::NotLeading},
};

/// Name of the definition.
pub(super) const NAME: &str = "dnsentries.dns.gardener.cloud";

/// Creates the definition if it is missing. Only challenges depend on it, so a failure is logged and
/// does not stop the process. The message has the `flag` that disables this.
pub(super) async fn create_if_missing(client: Client, rules: &CrdSettings, flag: &str) {
    let definition = match definition(rules) {
        Ok(definition) => definition,
        Err(error) => return tracing::error!("cannot build the CRD {NAME}: {error}"),
    };
    let api: Api<CustomResourceDefinition> = Api::all(client);
    let params = PostParams {
        field_manager: Some(well_known::FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let mut pause = FIRST_PAUSE;
    loop {
        let created = async {
            match api.get_opt(NAME).await? {
                Some(_) => Ok(false),
                None => api.create(&params, &definition).await.map(|_| true),
            }
        };
        match created.await {
            Ok(true) => return tracing::info!("created the CRD {NAME} in the dns cluster"),
            Ok(false) => return,
            Err(error) if NotLeading::is(&error) => return,
            // Another client created it in the meantime.
            Err(kube::Error::Api(status)) if status.code == 409 => return,
            Err(kube::Error::Api(status)) if is_final(status.code) => {
                return tracing::warn!(
                    "cannot get or create the CRD {NAME} in the dns cluster: {}; grant the \
                     role dns-definitions, or apply the CRD yourself and start with {flag}",
                    status.message
                );
            }
            Err(error) => {
                tracing::warn!("cannot create the CRD {NAME} yet: {}", brief(&error));
            }
        }
        sleep(pause).await;
        pause = Duration::min(pause * 2, MAX_PAUSE);
    }
}

/// Whether a retry is useless.
const fn is_final(code: u16) -> bool {
    matches!(code, 400 | 403 | 422)
}

fn definition(rules: &CrdSettings) -> serde_json::Result<CustomResourceDefinition> {
    let mut definition: CustomResourceDefinition = serde_json::from_value(json!({
        "metadata": {"name": NAME},
        "spec": {
            "group": "dns.gardener.cloud",
            "scope": "Namespaced",
            "names": {
                "kind": "DNSEntry", "listKind": "DNSEntryList",
                "plural": "dnsentries", "singular": "dnsentry", "shortNames": ["dnse"],
            },
            "versions": [version()],
        },
    }))?;
    definition.annotations_mut().insert(MAINTAINER.to_owned(), rules.maintainer.clone());
    Ok(definition)
}

fn version() -> Value {
    let column = |name: &str, path: &str| json!({"name": name, "type": "string", "jsonPath": path});
    json!({
        "name": "v1alpha1",
        "served": true,
        "storage": true,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [
            column("DNS", ".spec.dnsName"),
            column("STATUS", ".status.state"),
            {"name": "AGE", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
            {"name": "MESSAGE", "type": "string", "jsonPath": ".status.message", "priority": 1},
        ],
        "schema": {"openAPIV3Schema": schema()},
    })
}

fn schema() -> Value {
    let text = || json!({"type": "string"});
    let texts = || json!({"type": "array", "items": {"type": "string"}});
    let spec = json!({
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": true,
        "required": ["dnsName"],
        "properties": {
            "dnsName": {"type": "string", "minLength": 1, "description": "Name of the records."},
            "ttl": {
                "type": "integer", "format": "int64",
                "description": "How long resolvers may keep the records, in seconds.",
            },
            "text": texts(),
            "targets": texts(),
        },
    });
    let status = json!({
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": true,
        "properties": {
            "observedGeneration": {"type": "integer", "format": "int64"},
            "state": text(), "message": text(),
        },
    });
    json!({
        "type": "object",
        "description": "A name and its records, published by a DNS controller.",
        "required": ["spec"],
        "properties": {
            "apiVersion": text(), "kind": text(), "metadata": {"type": "object"},
            "spec": spec, "status": status,
        },
    })
}

#[cfg(test)]
mod tests {
    use kube::{Resource, core::crd::CustomResourceExt};

    use super::*;
    use crate::api::dnsentry::DNSEntry;

    #[test]
    fn the_definition_has_the_name_and_kind_of_our_type() {
        let definition = definition(&CrdSettings::default()).unwrap();
        assert_eq!(definition.name_any(), DNSEntry::crd_name());
        assert_eq!(definition.spec.names.kind, DNSEntry::kind(&()));
        assert_eq!(definition.annotations()[MAINTAINER], well_known::FIELD_MANAGER);
    }
}
