//! Istio: one certificate for each server with a credential. VirtualServices add their hosts.

use std::sync::Arc;

use kube::ResourceExt;

use crate::{
    api::{
        ObjectKey,
        istio::{GatewaySpec, VirtualServiceSpec},
        source::Foreign,
    },
    sources::{
        annotations::SECRET_NAMESPACE,
        domains::Attachment,
        entry::{Entries, Entry, Host, ListenerRef, MAX_NAME, NamespaceFilter, SecretName},
        key::{Kind, SourceKey},
        object::{Parent, Source},
        routes::Attached,
    },
};

impl Source for GatewaySpec {
    fn entries(object: &Foreign<Self>) -> (Entries, Option<Parent>) {
        let namespace =
            object.annotations().get(SECRET_NAMESPACE).filter(|value| !value.is_empty());
        let servers = object.spec.servers.iter();
        let servers = servers.filter(|server| !server.tls.credential_name.is_empty());
        let entries = servers.map(|server| Entry {
            place: ListenerRef::default(),
            secret: SecretName::Named {
                namespace: namespace.cloned(),
                name: server.tls.credential_name.clone(),
            },
            hosts: server.hosts.iter().map(|text| host(text)).collect(),
        });
        (entries.collect(), None)
    }
}

/// Parses `host`, `namespace/host`, `./host` or `*/host`. The namespace restricts VirtualServices.
fn host(text: &str) -> Host {
    let (from, name) = match text.split_once('/') {
        None | Some(("*", _)) => {
            (NamespaceFilter::Everywhere, text.rsplit('/').next().unwrap_or(text))
        }
        Some((".", name)) => (NamespaceFilter::Here, name),
        Some((namespace, name)) => (NamespaceFilter::Namespace(namespace.to_owned()), name),
    };
    Host { name: (name != "*").then(|| name.to_owned()), from }
}

impl Attached for VirtualServiceSpec {
    fn hostnames(object: &Foreign<Self>) -> &[String] {
        &object.spec.hosts
    }

    fn attachments(
        object: &Foreign<Self>,
        hostnames: &Arc<[String]>,
    ) -> Vec<(SourceKey, Attachment)> {
        let namespace = object.namespace().unwrap_or_default();
        let gateway = |text: &String| match text.split_once('/') {
            Some((".", name)) => ObjectKey::new(&namespace, name),
            Some((namespace, name)) => ObjectKey::new(namespace, name),
            None => ObjectKey::new(&namespace, text),
        };
        // A longer name cannot belong to a Gateway.
        let can_exist = |name: &&String| *name != "mesh" && name.len() <= 2 * MAX_NAME;
        let names = object.spec.gateways.iter().filter(can_exist);
        let here: Arc<str> = namespace.as_str().into();
        let attachment = |key| {
            let attachment = Attachment {
                namespace: here.clone(),
                hostnames: hostnames.clone(),
                ..Attachment::default()
            };
            (SourceKey { kind: Kind::IstioGateway, object: key }, attachment)
        };
        names.map(|name| attachment(gateway(name))).collect()
    }
}
