//! Ingress: one certificate for each entry of `spec.tls`.

use crate::{
    api::source::{Foreign, IngressSpec, IngressTls},
    sources::{
        entry::{Entries, Entry, Host, ListenerRef, NamespaceFilter, SecretName, quote},
        object::{Parent, Source},
    },
};

impl Source for IngressSpec {
    fn entries(object: &Foreign<Self>) -> (Entries, Option<Parent>) {
        (object.spec.tls.iter().map(entry).collect(), None)
    }
}

fn entry(tls: &IngressTls) -> Entry {
    let hosts = tls.hosts.iter().filter(|name| *name != "*");
    let secret = if tls.secret_name.is_empty() {
        let hosts = quote(&tls.hosts.join(","));
        SecretName::Unclear(format!("tls entry for hosts {hosts} has no secretName"))
    } else {
        SecretName::here(&tls.secret_name)
    };
    let host = |name: &String| Host { name: Some(name.clone()), from: NamespaceFilter::Nowhere };
    Entry { place: ListenerRef::default(), secret, hosts: hosts.map(host).collect() }
}
