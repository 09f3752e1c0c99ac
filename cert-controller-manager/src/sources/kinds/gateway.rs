//! Gateway API: one certificate for each listener that terminates TLS. Routes add their hostnames.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{ResourceExt, core::Selector};

use crate::{
    api::{
        ObjectKey,
        gateway::{
            AllowedNamespaces, GATEWAY, GROUP, GatewaySpec, LISTENER_SET, Listener, ListenerTls,
            ListenersSpec, Reference, RouteSpec, X_LISTENER_SET,
        },
        source::{Foreign, KindName, Shape},
    },
    sources::{
        domains::Attachment,
        entry::{Entries, Entry, Host, ListenerRef, MAX_NAME, NamespaceFilter, SecretName, quote},
        key::{Kind, SourceKey},
        object::{Parent, Source},
        routes::Attached,
    },
};

/// Maximum size of a selector in bytes, because it is compared with every route.
const MAX_SELECTOR: usize = 16 << 10;

/// The kinds with listeners.
const WITH_LISTENERS: [(KindName, Kind); 3] = [
    (GATEWAY, Kind::Gateway),
    (LISTENER_SET, Kind::ListenerSet),
    (X_LISTENER_SET, Kind::XListenerSet),
];

impl Source for GatewaySpec {
    fn entries(object: &Foreign<Self>) -> (Entries, Option<Parent>) {
        (object.spec.listeners.iter().filter_map(entry).collect(), None)
    }

    fn listeners_from(object: &Foreign<Self>) -> NamespaceFilter {
        from(&object.spec.allowed_listeners.namespaces, NamespaceFilter::Nowhere)
    }
}

impl<S: Shape + AsRef<ListenersSpec>> Source for S {
    fn entries(object: &Foreign<Self>) -> (Entries, Option<Parent>) {
        listeners(object.spec.as_ref(), object.namespace())
    }
}

fn listeners(spec: &ListenersSpec, namespace: Option<String>) -> (Entries, Option<Parent>) {
    let parent = target(&spec.parent_ref, &namespace.unwrap_or_default());
    let parent = parent.filter(|key| key.kind == Kind::Gateway).map(Parent);
    (spec.listeners.iter().filter_map(entry).collect(), parent)
}

fn entry(listener: &Listener) -> Option<Entry> {
    let tls = listener.tls.as_ref().filter(|tls| {
        let terminates = tls.mode.as_deref().is_none_or(|mode| mode == "Terminate");
        terminates && ["HTTPS", "TLS"].contains(&listener.protocol.as_str())
    })?;
    let from = from(&listener.allowed_routes.namespaces, NamespaceFilter::Here);
    let name = listener.hostname.clone().filter(|name| !name.is_empty() && name != "*");
    Some(Entry {
        place: ListenerRef { section: listener.name.clone(), port: listener.port },
        secret: secret(&listener.name, tls),
        hosts: vec![Host { name, from }],
    })
}

/// Converts `from`; returns `unset` if it is missing.
fn from(allowed: &AllowedNamespaces, unset: NamespaceFilter) -> NamespaceFilter {
    match allowed.from.as_deref() {
        Some("All") => NamespaceFilter::Everywhere,
        Some("Same") => NamespaceFilter::Here,
        Some("None") => NamespaceFilter::Nowhere,
        // A missing or invalid selector selects no namespace.
        Some("Selector") => allowed.selector.as_ref().map_or(NamespaceFilter::Nowhere, selected),
        _ => unset,
    }
}

fn selected(selector: &LabelSelector) -> NamespaceFilter {
    let labels = selector.match_labels.iter().flatten();
    let terms = selector.match_expressions.iter().flatten();
    let values = terms.flat_map(|term| term.values.iter().flatten().chain([&term.key]));
    let size: usize = labels.map(|(key, value)| key.len() + value.len()).sum::<usize>()
        + values.map(String::len).sum::<usize>();
    match Selector::try_from(selector.clone()) {
        Ok(selector) if size <= MAX_SELECTOR => NamespaceFilter::Selected(Arc::new(selector)),
        _ => NamespaceFilter::Nowhere,
    }
}

fn secret(listener: &str, tls: &ListenerTls) -> SecretName {
    let listener = quote(listener);
    let [reference] = tls.certificate_refs.as_slice() else {
        let count = tls.certificate_refs.len();
        return SecretName::Unclear(format!(
            "listener {listener} has {count} certificateRefs: exactly one is required"
        ));
    };
    let is =
        |text: &Option<String>, wanted: &str| text.as_deref().is_none_or(|text| text == wanted);
    if !is(&reference.group, "") || !is(&reference.kind, "Secret") || reference.name.is_empty() {
        return SecretName::Unclear(format!(
            "certificateRef of listener {listener} names no Secret"
        ));
    }
    let namespace = reference.namespace.clone().filter(|namespace| !namespace.is_empty());
    SecretName::Named { namespace, name: reference.name.clone() }
}

/// The object that a parentRef in `namespace` refers to, if its kind has listeners.
fn target(reference: &Reference, namespace: &str) -> Option<SourceKey> {
    let group = reference.group.as_deref().unwrap_or(GROUP);
    let name = reference.kind.as_deref().unwrap_or("Gateway");
    let (_, kind) =
        WITH_LISTENERS.into_iter().find(|(known, _)| known.group == group && known.kind == name)?;
    let namespace = reference.namespace.as_deref().unwrap_or(namespace);
    let object = ObjectKey::new(namespace, &reference.name);
    let can_exist = object.namespace.len().max(object.name.len()) <= MAX_NAME;
    can_exist.then_some(SourceKey { kind, object })
}

fn attachments(
    spec: &RouteSpec,
    namespace: Option<String>,
    hostnames: &Arc<[String]>,
) -> Vec<(SourceKey, Attachment)> {
    let namespace = namespace.unwrap_or_default();
    let here: Arc<str> = namespace.as_str().into();
    let attachment = |reference: &Reference| {
        let attachment = Attachment {
            namespace: here.clone(),
            section: reference.section_name.clone().filter(|name| !name.is_empty()),
            port: reference.port,
            hostnames: hostnames.clone(),
            ..Attachment::default()
        };
        Some((target(reference, &namespace)?, attachment))
    };
    spec.parent_refs.iter().filter_map(attachment).collect()
}

impl<R: Shape + AsRef<RouteSpec>> Attached for R {
    fn hostnames(object: &Foreign<Self>) -> &[String] {
        &object.spec.as_ref().hostnames
    }

    fn attachments(
        object: &Foreign<Self>,
        hostnames: &Arc<[String]>,
    ) -> Vec<(SourceKey, Attachment)> {
        attachments(object.spec.as_ref(), object.namespace(), hostnames)
    }
}
