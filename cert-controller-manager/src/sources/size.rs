//! Estimates the memory that an object or route takes in the index: texts and data structures. Pure.

use super::{
    annotations::{self, Annotations},
    domains::Attachment,
    entry::{Entries, Entry, NamespaceFilter, text_size},
    object::Object,
    routes::Route,
};

/// Bytes for each attachment: an entry in the list of the route and one in the map of parents.
const ATTACHMENT: usize = 512;

impl Object {
    /// Size in bytes of everything but the key. Zero after [`Self::without_entries`].
    #[must_use]
    pub fn size(&self) -> usize {
        let entries: usize = self.entries.as_slice().iter().map(Entry::size).sum();
        entries + annotations_size(&self.annotations) + self.listeners_from.size()
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
