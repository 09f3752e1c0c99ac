//! What is kept of an object that may get certificates: all kinds look the same from here on.

use std::collections::BTreeMap;

use kube::ResourceExt;

use super::{
    annotations::{self, PURPOSE_LABEL},
    kind::{Kind, SourceKey},
};
use crate::api::{
    ObjectKey,
    source::{Foreign, Shape},
};

/// A kind of objects that get certificates.
pub trait Source: Shape {
    /// Which kind.
    const KIND: Kind;

    /// What asks for a certificate in an object, and the object that it belongs to, if any.
    fn entries(object: &Foreign<Self>) -> (Vec<Entry>, Option<Parent>);

    /// Whose ListenerSets belong to it.
    fn listeners_from(_: &Foreign<Self>) -> From {
        From::Nowhere
    }
}

/// What is kept of an object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Object {
    /// The version of the API that it came in.
    pub version: &'static str,
    /// Its uid.
    pub uid: String,
    /// The annotations that are read.
    pub annotations: BTreeMap<String, String>,
    /// Whether the label that asked for certificates in former times is there.
    pub labelled: bool,
    /// Finalizers that may be ours.
    pub finalizers: Vec<String>,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// What asks for a certificate.
    pub entries: Vec<Entry>,
    /// What it belongs to.
    pub parent: Option<Parent>,
    /// Whose ListenerSets belong to it.
    pub listeners_from: From,
}

/// The Gateway of a ListenerSet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Parent(pub ObjectKey);

/// A part of an object that asks for a certificate.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Entry {
    /// How routes and people name it.
    pub place: Place,
    /// Where the certificate goes to, or why that is not clear.
    pub secret: SecretName,
    /// What is served.
    pub hosts: Vec<Host>,
}

/// How an entry is named.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Place {
    /// Name of the listener.
    pub section: String,
    /// Port of the listener.
    pub port: Option<i64>,
}

/// Where a certificate goes to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SecretName {
    /// A Secret; in the namespace of the object where none is named.
    Named {
        /// Namespace
        namespace: Option<String>,
        /// Name
        name: String,
    },
    /// Not clear: what to tell people.
    Unclear(String),
}

impl Default for SecretName {
    fn default() -> Self {
        Self::Unclear(String::new())
    }
}

impl SecretName {
    /// A Secret in the namespace of the object.
    #[must_use]
    pub fn here(name: &str) -> Self {
        Self::Named { namespace: None, name: name.to_owned() }
    }
}

/// A name that is served, and whose routes may add to it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Host {
    /// Name or wildcard; `None` is every name.
    pub name: Option<String>,
    /// Whose routes are served here.
    pub from: From,
}

/// From which namespaces something is taken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum From {
    /// None
    Nowhere,
    /// The namespace of the object
    Here,
    /// This one
    Namespace(String),
    /// All
    Everywhere,
}

impl From {
    /// Whether it is taken from `namespace` by an object in `here`.
    #[must_use]
    pub fn admits(&self, namespace: &str, here: &str) -> bool {
        match self {
            Self::Nowhere => false,
            Self::Here => namespace == here,
            Self::Namespace(name) => namespace == name,
            Self::Everywhere => true,
        }
    }
}

/// What is kept of `object`, which came in `version` of the API.
#[must_use]
pub fn keep<S: Source>(object: &Foreign<S>, version: &'static str) -> (SourceKey, Object) {
    let key = SourceKey { kind: S::KIND, object: ObjectKey::of(object) };
    let is_ours = |name: &&String| name.ends_with(S::KIND.finalizer());
    let annotations = object.annotations().iter().filter(|(name, _)| annotations::is_read(name));
    let annotations: BTreeMap<_, _> =
        annotations.map(|(name, value)| (name.clone(), value.clone())).collect();
    let labelled = object.labels().get(PURPOSE_LABEL).is_some_and(|value| value == "managed-cert");
    // Most objects of a cluster ask for nothing, and nothing is what is kept of them. Only what has
    // a parent may be asked for by that.
    let (entries, parent) = S::entries(object);
    let asks = parent.is_some() || labelled || !annotations.is_empty();
    let kept = Object {
        version,
        uid: object.uid().unwrap_or_default(),
        annotations,
        labelled,
        finalizers: object.finalizers().iter().filter(is_ours).cloned().collect(),
        deleting: object.metadata.deletion_timestamp.is_some(),
        entries: if asks { entries } else { Vec::new() },
        parent,
        listeners_from: S::listeners_from(object),
    };
    (key, kept)
}
