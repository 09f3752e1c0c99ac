//! Determines the certificates that a source object requests. Pure.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use cert_lib::model::request::MAX_DNS_NAMES;

use super::{
    annotations::{self, Annotations, Names, Options},
    budget,
    convert::requests_certificate,
    domains::{Attachment, Routes},
    entry::{Entries, Entry, Labels, MAX_ENTRIES, MAX_HOSTS, SecretName},
    key::SourceKey,
    kinds::RequestedBy,
    names::NameList,
    object::Object,
};
use crate::api::{Classes, ObjectKey, well_known};

/// Maximum number of names of a certificate to which routes add names. The common name is not
/// counted, because it may be too long for that field.
const MAX_NAMES: usize = MAX_DNS_NAMES;
/// Maximum number of problems of one object that are reported as events.
const MAX_PROBLEMS: usize = 20;

/// The result of [`extract`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Extracted {
    /// Whether the object has one of our classes.
    pub responsible: bool,
    /// One certificate for each Secret.
    pub certificates: Vec<DesiredCertificate>,
    /// Whether the object could not be read completely. Its Certificates stay unchanged then: a
    /// certificate with some of the requested names missing would break its users.
    pub held: bool,
    /// Messages about invalid parts of the object.
    pub problems: Vec<String>,
}

/// A certificate that an object requests.
#[derive(Clone, Debug, PartialEq)]
pub struct DesiredCertificate {
    /// The Secret that the object names.
    pub secret: ObjectKey,
    /// DNS names; never empty. The first one is the preferred common name.
    pub domains: Arc<NameList>,
    /// All other options, shared by all certificates of an object.
    pub options: Arc<Options>,
}

/// Returns the certificates that `object` requests. `parent` is the Gateway of a ListenerSet, with
/// the labels of the namespace of `object`.
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
                let what = "its Certificates are neither created nor changed";
                extracted.problems.push(format!("{why}: {what}"));
            }
        }
    }
    bound(&mut extracted.problems);
    extracted
}

/// The entries of the object, or the reason why it cannot be read completely.
fn readable<'a>(
    key: &SourceKey,
    object: &'a Object,
    parent: Option<&Object>,
    annotations: &Annotations,
) -> Result<&'a [Entry], String> {
    if parent.is_some_and(|gateway| gateway.entries == Entries::NoRoom) {
        return Err(format!("its Gateway is not read: {}", budget::no_room()));
    }
    if let Some(why) = annotations::refusal(annotations, reads_names_of_dns(key)) {
        return Err(why);
    }
    match &object.entries {
        Entries::All(entries) => Ok(entries),
        Entries::TooMany => Err(format!(
            "it has more than {MAX_ENTRIES} entries or more than {MAX_HOSTS} names, or names that are too long"
        )),
        Entries::NoRoom => Err(budget::no_room()),
    }
}

/// Whether the annotation of the DNS manager counts.
fn reads_names_of_dns(key: &SourceKey) -> bool {
    key.kind.row().requested_by == RequestedBy::SecretName
}

/// Removes duplicates, keeps the first problems and counts the others.
fn bound(problems: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    problems.retain(|text| seen.insert(text.clone()));
    let more = problems.len().saturating_sub(MAX_PROBLEMS);
    if more > 0 {
        problems.truncate(MAX_PROBLEMS);
        problems.push(format!("{more} more problems"));
    }
}

/// Whether a Gateway takes the listeners of a ListenerSet.
fn belongs(key: &SourceKey, object: &Object, gateway: &Object, labels: Option<&Labels>) -> bool {
    let namespace = key.object.namespace.as_str();
    let gateway_namespace = object.parent.as_ref().map(|parent| parent.0.object.namespace.as_str());
    gateway_namespace.is_some_and(|here| gateway.listeners_from.admits(namespace, labels, here))
}

/// Adds the certificates of these entries, one for each Secret.
fn collect(
    key: &SourceKey,
    entries: &[Entry],
    annotations: &Annotations,
    routes: &[Attachment],
    extracted: &mut Extracted,
) {
    let Extracted { certificates, problems, .. } = extracted;
    let options = Arc::new(annotations::options(annotations, problems));
    let names = annotations::names(annotations, reads_names_of_dns(key));
    let entries = with_secrets(entries, &key.object.namespace, problems);
    let mut lists: HashMap<ObjectKey, Arc<NameList>> = match names {
        Names::Annotated(list) => {
            let list = Arc::new(list);
            entries.iter().map(|(secret, _)| (secret.clone(), list.clone())).collect()
        }
        Names::OfHosts(first) => {
            let routes = Routes::new(routes, &key.object.namespace);
            let lists = names_of_hosts(&entries, first.as_deref(), routes, problems);
            lists.into_iter().map(|(secret, list)| (secret.clone(), Arc::new(list))).collect()
        }
    };
    for (secret, _) in entries {
        // Other entries with the same Secret share its certificate.
        let Some(domains) = lists.remove(&secret) else { continue };
        if domains.is_empty() {
            problems
                .push(format!("there is no domain name for the certificate of Secret {secret}"));
        } else {
            certificates.push(DesiredCertificate { secret, domains, options: options.clone() });
        }
    }
}

/// The entries, each with the Secret that it names in this namespace or in another one.
fn with_secrets<'a>(
    entries: &'a [Entry],
    here: &str,
    problems: &mut Vec<String>,
) -> Vec<(ObjectKey, &'a Entry)> {
    let mut named = Vec::new();
    for entry in entries {
        match &entry.secret {
            SecretName::Unclear(problem) => problems.push(problem.clone()),
            SecretName::Named { namespace, name } => {
                let namespace = namespace.as_deref().unwrap_or(here);
                named.push((ObjectKey::new(namespace, name), entry));
            }
        }
    }
    named
}

/// The names of hosts and routes for each Secret. The name `first` comes first.
fn names_of_hosts<'a>(
    entries: &'a [(ObjectKey, &Entry)],
    first: Option<&str>,
    mut routes: Routes<'_>,
    problems: &mut Vec<String>,
) -> HashMap<&'a ObjectKey, NameList> {
    let mut lists: HashMap<&ObjectKey, NameList> = HashMap::new();
    let mut left_out = 0;
    for (secret, entry) in entries {
        // Servers that share a Secret need the names of both in it.
        let list = lists.entry(secret).or_insert_with(|| first.into_iter().collect());
        if !list.is_full() {
            let room = MAX_NAMES.saturating_sub(list.as_slice().len());
            let (more, out) = routes.names_of_entry(entry, room);
            more.as_slice().iter().for_each(|name| list.add(name));
            left_out += out;
        }
    }
    if left_out > 0 {
        problems.push(format!(
            "{left_out} names of routes are left out: the limit is {MAX_NAMES} for a certificate"
        ));
    }
    problems.extend(routes.exhausted().map(|namespace| {
        format!(
            "names of routes in namespace {namespace} may be left out: there are too many routes and \
             entries; divide this object into several"
        )
    }));
    lists
}

#[cfg(test)]
mod tests;
