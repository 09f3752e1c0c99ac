//! A source object, the same for all kinds.

use std::collections::BTreeMap;

use kube::core::ObjectMeta;

use super::{
    entry::{Entries, NamespaceFilter},
    key::SourceKey,
};
use crate::api::source::{Foreign, Shape};

/// The specification of a source kind, with its extractor.
pub trait Source: Shape {
    /// The entries that request certificates, and the parent, if any.
    fn entries(object: &Foreign<Self>) -> (Entries, Option<Parent>);

    /// Namespaces whose ListenerSets it accepts.
    fn listeners_from(_: &Foreign<Self>) -> NamespaceFilter {
        NamespaceFilter::Nowhere
    }
}

/// What an extractor reads of an object.
#[derive(Debug)]
pub struct RawObject {
    /// API version that it was read in.
    pub version: &'static str,
    /// Metadata.
    pub metadata: ObjectMeta,
    /// The entries that request certificates.
    pub entries: Entries,
    /// The Gateway of a ListenerSet.
    pub parent: Option<Parent>,
    /// Namespaces whose ListenerSets it accepts.
    pub listeners_from: NamespaceFilter,
}

impl RawObject {
    /// Extracts `object`, which was read in API version `version`.
    #[must_use]
    pub fn of<S: Source>(object: Foreign<S>, version: &'static str) -> Self {
        let (entries, parent) = S::entries(&object);
        let listeners_from = S::listeners_from(&object);
        Self { version, metadata: object.metadata, entries, parent, listeners_from }
    }
}

/// A source object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Object {
    /// API version that it was read in.
    pub version: &'static str,
    /// `metadata.uid`
    pub uid: String,
    /// The relevant annotations.
    pub annotations: BTreeMap<String, String>,
    /// Whether the deprecated label requests certificates.
    pub labelled: bool,
    /// Finalizers of this product.
    pub finalizers: Vec<String>,
    /// Whether it has a deletion timestamp.
    pub deleting: bool,
    /// The entries that request certificates.
    pub entries: Entries,
    /// The Gateway of a ListenerSet.
    pub parent: Option<Parent>,
    /// Namespaces whose ListenerSets it accepts.
    pub listeners_from: NamespaceFilter,
}

impl Object {
    /// Whether it selects namespaces by labels.
    #[must_use]
    pub fn selects(&self) -> bool {
        let selects = |from: &NamespaceFilter| matches!(from, NamespaceFilter::Selected(_));
        let mut hosts = self.entries.as_slice().iter().flat_map(|entry| &entry.hosts);
        selects(&self.listeners_from) || hosts.any(|host| selects(&host.from))
    }
}

/// The Gateway of a ListenerSet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Parent(pub SourceKey);
