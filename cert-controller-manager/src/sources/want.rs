//! Which certificates an object asks for. Pure: the object and its routes in, a list out.

use super::{
    annotations::{self, Annotations, Names, Options, PURPOSE},
    domains::{self, Attachment},
    kind::{Kind, SourceKey},
    object::{Object, SecretName},
};
use crate::{
    api::{ObjectKey, marks},
    config::Classes,
};

/// How many names of a certificate are passed on: more than it may have, so that it is refused.
const MAX_NAMES: usize = 200;

/// What an object asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    /// Whether the object is of a class of ours.
    pub responsible: bool,
    /// One for each Secret.
    pub certificates: Vec<WantedCertificate>,
    /// What cannot be fulfilled, in words for a person.
    pub complaints: Vec<String>,
}

/// A certificate that is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct WantedCertificate {
    /// Where it goes to, as the object says.
    pub secret: ObjectKey,
    /// Its names, the first one first; never empty.
    pub domains: Vec<String>,
    /// Everything else.
    pub options: Options,
}

/// What `object` asks for. `parent` is the Gateway of a ListenerSet, where it is known.
#[must_use]
pub fn wanted(
    key: &SourceKey,
    object: &Object,
    parent: Option<&Object>,
    routes: &[Attachment],
    classes: &Classes,
) -> Wanted {
    let parent = parent.filter(|gateway| belongs(key, object, gateway));
    let inherited =
        parent.map(|gateway| annotations::inherit(&object.annotations, &gateway.annotations));
    let annotations = inherited.as_ref().unwrap_or(&object.annotations);
    let responsible = classes.serves(annotations.get(marks::CLASS).map(String::as_str));
    let labelled = object.labelled || parent.is_some_and(|gateway| gateway.labelled);
    let mut wanted = Wanted { responsible, ..Wanted::default() };
    if responsible && !object.deleting && asks(key.kind, labelled, annotations) {
        collect(key, object, annotations, routes, &mut wanted);
    }
    wanted
}

/// Whether a Gateway takes the listeners of a ListenerSet.
fn belongs(key: &SourceKey, object: &Object, gateway: &Object) -> bool {
    let gateway_namespace = object.parent.as_ref().map(|parent| parent.0.namespace.as_str());
    gateway_namespace.is_some_and(|here| gateway.listeners_from.admits(&key.object.namespace, here))
}

fn asks(kind: Kind, labelled: bool, annotations: &Annotations) -> bool {
    let managed = annotations.get(PURPOSE).is_some_and(|value| value == "managed");
    // A Service asks by naming a Secret: without, it has no entry.
    kind == Kind::Service || managed || labelled
}

fn collect(
    key: &SourceKey,
    object: &Object,
    annotations: &Annotations,
    routes: &[Attachment],
    wanted: &mut Wanted,
) {
    let options = annotations::options(annotations, &mut wanted.complaints);
    let names = annotations::names(annotations, key.kind == Kind::Service);
    for entry in &object.entries {
        let secret = match &entry.secret {
            SecretName::Unclear(complaint) => {
                wanted.complaints.push(complaint.clone());
                continue;
            }
            SecretName::Named { namespace, name } => {
                let namespace = namespace.as_ref().unwrap_or(&key.object.namespace);
                ObjectKey::new(namespace, name)
            }
        };
        let domains = match &names {
            Names::Annotated(domains) => domains.clone(),
            Names::OfHosts(first) => {
                let mut domains: Vec<String> = first.iter().cloned().collect();
                extend(&mut domains, domains::of_entry(entry, routes, &key.object.namespace));
                domains
            }
        };
        let known = wanted.certificates.iter_mut().find(|one| one.secret == secret);
        // Two servers with one Secret need the names of both in it.
        match known {
            Some(known) => extend(&mut known.domains, domains),
            None => wanted.certificates.push(WantedCertificate {
                secret,
                domains,
                options: options.clone(),
            }),
        }
    }
    for certificate in &mut wanted.certificates {
        certificate.domains.truncate(MAX_NAMES);
    }
    drop_nameless(wanted);
}

fn extend(domains: &mut Vec<String>, more: Vec<String>) {
    for domain in more {
        if !domains.contains(&domain) {
            domains.push(domain);
        }
    }
}

fn drop_nameless(wanted: &mut Wanted) {
    let complaints = &mut wanted.complaints;
    wanted.certificates.retain(|certificate| {
        let named = !certificate.domains.is_empty();
        if !named {
            let secret = &certificate.secret;
            complaints
                .push(format!("there is no domain name for the certificate of Secret {secret}"));
        }
        named
    });
}

#[cfg(test)]
mod tests;
