//! Estimates the memory that an object or route takes in the index: texts and data structures. Pure.

use super::{
    annotations::{self, Annotations},
    domains::Attachment,
    object::{Entries, Entry, Host, NamespaceFilter, Object, SecretName},
    routes::Route,
};

/// Bytes for each attachment: an entry in the list of the route and one in the map of parents.
const ATTACHMENT: usize = 512;
/// Overhead of a text: its header and the allocator.
const TEXT: usize = 40;
/// A parsed selector takes several times the size of its text.
const SELECTOR: usize = 4;

impl Object {
    /// Size in bytes of everything but the key. Zero after [`Self::without_entries`].
    #[must_use]
    pub fn size(&self) -> usize {
        let entries: usize = self.entries.as_slice().iter().map(Entry::size).sum();
        entries + annotations_size(&self.annotations) + from_size(&self.listeners_from)
    }

    /// Keeps only what shows whether the object requests certificates, for objects above the memory limit.
    #[must_use]
    pub fn without_entries(self) -> Self {
        let mut annotations = self.annotations;
        annotations.retain(|name, _| annotations::is_always_kept(name));
        let (entries, listeners_from) = (Entries::NoRoom, NamespaceFilter::Nowhere);
        Self { annotations, entries, listeners_from, ..self }
    }
}

impl Entry {
    /// Size in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        let secret = match &self.secret {
            SecretName::Named { namespace, name } => {
                namespace.as_ref().map_or(0, |text| text_size(text)) + text_size(name)
            }
            SecretName::Unclear(why) => text_size(why),
        };
        let hosts: usize = self.hosts.iter().map(host_size).sum();
        size_of::<Self>() + text_size(&self.place.section) + secret + hosts
    }
}

impl Route {
    /// Size in bytes. Zero after [`Self::without_names`].
    #[must_use]
    pub fn size(&self) -> usize {
        if self.has_no_room {
            return 0;
        }
        let hostnames = self.attachments.first().map(|(_, first)| &first.hostnames);
        let hostnames = hostnames.into_iter().flat_map(|names| names.iter());
        let attachments = self.attachments.iter().map(|(to, attachment)| {
            ATTACHMENT
                + text_size(&to.object.namespace)
                + text_size(&to.object.name)
                + attachment.section.as_ref().map_or(0, |text| text_size(text))
        });
        let problem = self.problem.as_ref().map_or(0, |text| text_size(text));
        problem + hostnames.map(|name| text_size(name)).sum::<usize>() + attachments.sum::<usize>()
    }

    /// Keeps only what is necessary to report the problem, for routes above the memory limit.
    #[must_use]
    pub fn without_names(mut self) -> Self {
        self.attachments.truncate(1);
        self.attachments.shrink_to_fit();
        for (_, attachment) in &mut self.attachments {
            *attachment =
                Attachment { namespace: attachment.namespace.clone(), ..Attachment::default() };
        }
        self.has_no_room = true;
        self.problem = None;
        self
    }
}

fn annotations_size(all: &Annotations) -> usize {
    let counted = all.iter().filter(|(name, _)| !annotations::is_always_kept(name));
    counted.map(|(name, value)| text_size(name) + text_size(value)).sum()
}

fn host_size(host: &Host) -> usize {
    size_of::<Host>() + host.name.as_ref().map_or(0, |text| text_size(text)) + from_size(&host.from)
}

fn from_size(from: &NamespaceFilter) -> usize {
    match from {
        NamespaceFilter::Nowhere | NamespaceFilter::Here | NamespaceFilter::Everywhere => 0,
        NamespaceFilter::Namespace(name) => text_size(name),
        NamespaceFilter::Selected(selector) => SELECTOR * text_size(&selector.to_string()),
    }
}

fn text_size(text: &str) -> usize {
    TEXT + text.len()
}
