//! Renders entries. Pure.

use cert_lib::{model::name::DnsName, solve::Owner};
use kube::Resource;
use serde_json::json;

use super::settings::Settings;
use crate::api::{
    ObjectKey,
    dnsentry::{
        ANNOTATION_CHALLENGE, ANNOTATION_CLASS, ANNOTATION_OWNER, ANNOTATION_REALM, DNSEntry,
    },
};

/// The entry for server-side apply, with only the fields that we own.
pub(super) fn render(
    key: &ObjectKey,
    owner: &Owner,
    settings: &Settings,
    fqdn: &DnsName,
    values: &[String],
) -> serde_json::Value {
    let mut annotations = json!({
        ANNOTATION_CHALLENGE: "true",
        ANNOTATION_OWNER: owner.0,
        ANNOTATION_REALM: settings.realm.as_str(),
    });
    if let Some(class) = settings.class.as_deref().filter(|class| !class.is_empty()) {
        annotations[ANNOTATION_CLASS] = class.into();
    }
    let mut spec = json!({ "dnsName": fqdn, "ttl": settings.ttl, "text": values });
    if let Some(id) = &settings.owner_id {
        spec["ownerId"] = json!(id);
    }
    json!({
        "apiVersion": DNSEntry::api_version(&()),
        "kind": DNSEntry::kind(&()),
        "metadata": {
            "namespace": key.namespace,
            "name": key.name,
            "annotations": annotations,
        },
        "spec": spec,
    })
}
