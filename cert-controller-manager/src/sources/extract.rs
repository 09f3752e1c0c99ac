//! Which certificates an object asks for. Pure: the object and its routes in, a list out.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use cert_lib::model::request::MAX_DNS_NAMES;

use super::{
    annotations::{self, Annotations, Names, Options},
    budget,
    domains::{Attachment, Routes},
    kind::{Kind, SourceKey},
    names::NameList,
    object::{
        Entries, Entry, Labels, MAX_ENTRIES, MAX_HOSTS, Object, SecretName, requests_certificate,
    },
};
use crate::{
    api::{ObjectKey, well_known},
    config::Classes,
};

/// How many names a certificate may have that routes add to: all but the common name, which may be
/// too long to be one.
const ROOM: usize = MAX_DNS_NAMES;
/// How many complaints about one object are worth an event.
const MAX_COMPLAINTS: usize = 20;

/// What an object asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Extracted {
    /// Whether the object is of a class of ours.
    pub responsible: bool,
    /// One for each Secret.
    pub certificates: Vec<DesiredCertificate>,
    /// Whether the object cannot be read in full. What there is of its certificates stays as it is:
    /// one without the names that are asked for is none that was asked for.
    pub held: bool,
    /// What cannot be fulfilled, in words for a person.
    pub complaints: Vec<String>,
}

/// A certificate that is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct DesiredCertificate {
    /// Where it goes to, as the object says.
    pub secret: ObjectKey,
    /// Its names, the first one first; never empty. Certificates that have the same share them.
    pub domains: Arc<NameList>,
    /// Everything else, the same for all certificates of an object.
    pub options: Arc<Options>,
}

/// What `object` asks for. `parent` is the Gateway of a ListenerSet, where it is known, with the
/// labels of the namespace of `object`.
#[must_use]
pub fn extract(
    key: &SourceKey,
    object: &Object,
    parent: Option<(&Object, Option<&Labels>)>,
    routes: &[Attachment],
    classes: &Classes,
) -> Extracted {
    let belongs = |(gateway, labels): &(&Object, _)| {
        gateway.entries == Entries::NoRoom || belongs(key, object, gateway, *labels)
    };
    let parent = parent.filter(belongs).map(|(gateway, _)| gateway);
    let inherited =
        parent.map(|gateway| annotations::inherit(&object.annotations, &gateway.annotations));
    let annotations = inherited.as_ref().unwrap_or(&object.annotations);
    let responsible = classes.serves(annotations.get(well_known::CLASS).map(String::as_str));
    let labelled = object.labelled || parent.is_some_and(|gateway| gateway.labelled);
    let mut extracted = Extracted { responsible, ..Extracted::default() };
    if responsible && !object.deleting && requests_certificate(key.kind, labelled, annotations) {
        match readable(key, object, parent, annotations) {
            Ok(entries) => collect(key, entries, annotations, routes, &mut extracted),
            Err(why) => {
                extracted.held = true;
                let what = "its certificates are neither made nor changed";
                extracted.complaints.push(format!("{why}: {what}"));
            }
        }
    }
    bound(&mut extracted.complaints);
    extracted
}

/// What asks for certificates, where the object and its annotations can be read in full.
fn readable<'a>(
    key: &SourceKey,
    object: &'a Object,
    parent: Option<&Object>,
    annotations: &Annotations,
) -> Result<&'a [Entry], String> {
    if parent.is_some_and(|gateway| gateway.entries == Entries::NoRoom) {
        return Err(format!("its Gateway is not read: {}", budget::no_room()));
    }
    if let Some(why) = annotations::refusal(annotations, key.kind == Kind::Service) {
        return Err(why);
    }
    match &object.entries {
        Entries::All(entries) => Ok(entries),
        Entries::TooMany => Err(format!(
            "it has more than {MAX_ENTRIES} entries or more than {MAX_HOSTS} names in them, or too long ones"
        )),
        Entries::NoRoom => Err(budget::no_room()),
    }
}

/// Keeps the first complaints, each once, and counts the others.
fn bound(complaints: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    complaints.retain(|text| seen.insert(text.clone()));
    let more = complaints.len().saturating_sub(MAX_COMPLAINTS);
    if more > 0 {
        complaints.truncate(MAX_COMPLAINTS);
        complaints.push(format!("there is more to complain about: {more} things"));
    }
}

/// Whether a Gateway takes the listeners of a ListenerSet.
fn belongs(key: &SourceKey, object: &Object, gateway: &Object, labels: Option<&Labels>) -> bool {
    let namespace = key.object.namespace.as_str();
    let gateway_namespace = object.parent.as_ref().map(|parent| parent.0.namespace.as_str());
    gateway_namespace.is_some_and(|here| gateway.listeners_from.admits(namespace, labels, here))
}

fn collect(
    key: &SourceKey,
    entries: &[Entry],
    annotations: &Annotations,
    routes: &[Attachment],
    extracted: &mut Extracted,
) {
    let options = Arc::new(annotations::options(annotations, &mut extracted.complaints));
    let names = annotations::names(annotations, key.kind == Kind::Service);
    let mut secrets = Vec::new();
    let mut lists: HashMap<ObjectKey, NameList> = HashMap::new();
    let mut routes = Routes::new(routes, &key.object.namespace);
    let mut left_out = 0;
    for entry in entries {
        let secret = match &entry.secret {
            SecretName::Unclear(complaint) => {
                extracted.complaints.push(complaint.clone());
                continue;
            }
            SecretName::Named { namespace, name } => {
                let namespace = namespace.as_ref().unwrap_or(&key.object.namespace);
                ObjectKey::new(namespace, name)
            }
        };
        let list = lists.entry(secret).or_insert_with_key(|secret| {
            secrets.push(secret.clone());
            match &names {
                Names::Annotated(_) => NameList::default(),
                Names::OfHosts(first) => first.iter().map(String::as_str).collect(),
            }
        });
        // Two servers with one Secret need the names of both in it.
        if matches!(names, Names::OfHosts(_)) && !list.is_full() {
            let room = ROOM.saturating_sub(list.as_slice().len());
            let (more, out) = routes.of_entry(entry, room);
            more.as_slice().iter().for_each(|name| list.add(name));
            left_out += out;
        }
    }
    if left_out > 0 {
        let why =
            format!("{left_out} names of routes are left out: no certificate has more than {ROOM}");
        extracted.complaints.push(why);
    }
    extracted.complaints.extend(routes.spent().map(|namespace| {
        format!(
            "names of routes in namespace {namespace} may be left out: it has too many for so many \
             entries; divide this object into several"
        )
    }));
    let annotated = match names {
        Names::Annotated(list) => Some(Arc::new(list)),
        Names::OfHosts(_) => None,
    };
    for secret in secrets {
        let listed = || Arc::new(lists.remove(&secret).unwrap_or_default());
        let domains = annotated.clone().unwrap_or_else(listed);
        if domains.is_empty() {
            let complaint =
                format!("there is no domain name for the certificate of Secret {secret}");
            extracted.complaints.push(complaint);
        } else {
            let options = options.clone();
            extracted.certificates.push(DesiredCertificate { secret, domains, options });
        }
    }
}

#[cfg(test)]
mod tests;
