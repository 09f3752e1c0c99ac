//! How many bytes the index keeps of an object or a route, by estimate: the texts, and what the
//! structures around them take. Pure.

use super::{
    annotations::{self, Annotations},
    domains::Attachment,
    object::{Entries, Entry, Host, NamespaceFilter, Object, SecretName},
    routes::Route,
};

/// Of an attached route: an entry in the list of what it is attached to, and one in the map of those.
const ATTACHMENT: usize = 512;
/// Of a text, beside its characters: its place in a structure and the allocator's share.
const TEXT: usize = 40;
/// A parsed selector takes several times the characters that it is written with.
const SELECTOR: usize = 4;

impl Object {
    /// What is kept because the object asks for certificates. Zero after [`Self::without_entries`].
    #[must_use]
    pub fn size(&self) -> usize {
        let entries: usize = self.entries.as_slice().iter().map(Entry::size).sum();
        entries + annotations_size(&self.annotations) + from_size(&self.listeners_from)
    }

    /// What is kept of an object for which there is no room: what says whether it asks for
    /// certificates, but not for which.
    #[must_use]
    pub fn without_entries(self) -> Self {
        let mut annotations = self.annotations;
        annotations.retain(|name, _| annotations::is_always_kept(name));
        let (entries, listeners_from) = (Entries::NoRoom, NamespaceFilter::Nowhere);
        Self { annotations, entries, listeners_from, ..self }
    }
}

impl Entry {
    /// How many bytes it takes.
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
    /// How many bytes it takes. Zero after [`Self::without_names`].
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
        let complaint = self.complaint.as_ref().map_or(0, |text| text_size(text));
        complaint
            + hostnames.map(|name| text_size(name)).sum::<usize>()
            + attachments.sum::<usize>()
    }

    /// What is kept of a route for which there is no room: enough to say so.
    #[must_use]
    pub fn without_names(mut self) -> Self {
        self.attachments.truncate(1);
        self.attachments.shrink_to_fit();
        for (_, attachment) in &mut self.attachments {
            *attachment =
                Attachment { namespace: attachment.namespace.clone(), ..Attachment::default() };
        }
        self.has_no_room = true;
        self.complaint = None;
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
