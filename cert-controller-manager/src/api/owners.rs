//! The annotation with owners in other namespaces or clusters, where owner references do not work. The
//! format is that of the controller-manager-library of Gardener.

use super::{ClusterId, ObjectKey};

/// Annotation: comma-separated list of `<cluster id>:<group>/<Kind>/<namespace>/<name>`.
pub const OWNERS: &str = "resources.gardener.cloud/owners";

/// Maximum length of the annotation in bytes; a longer one is ignored.
const MAX_BYTES: usize = 16 << 10;
/// Maximum number of owners, because tenants can write the annotation.
pub const MAX_OWNERS: usize = 64;

/// An entry of the list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OwnerEntry {
    /// Id of the owner's cluster; `None` for the cluster of the annotated object.
    pub cluster: Option<String>,
    /// API group, empty for the core group.
    pub group: String,
    /// Kind
    pub kind: String,
    /// Namespace and name
    pub object: ObjectKey,
}

impl OwnerEntry {
    /// Whether the owner is in `cluster`. `here` is whether the annotated object is in it.
    #[must_use]
    pub fn lives_in(&self, cluster: &ClusterId, here: bool) -> bool {
        self.cluster.as_ref().map_or(here, |id| cluster.is(id))
    }

    fn parse(text: &str) -> Option<Self> {
        // Ids may contain slashes and colons, the rest cannot contain a colon.
        let (cluster, rest) = match text.trim().rsplit_once(':') {
            Some((cluster, rest)) => (Some(cluster.to_owned()), rest),
            None => (None, text.trim()),
        };
        let mut parts = rest.split('/');
        let (group, kind) = (parts.next()?.to_owned(), parts.next()?.to_owned());
        let object = ObjectKey::new(parts.next()?, parts.next()?);
        let whole = parts.next().is_none() && !kind.is_empty() && !object.name.is_empty();
        whole.then_some(Self { cluster, group, kind, object })
    }

    fn render(&self) -> String {
        let cluster = self.cluster.as_ref().map(|id| format!("{id}:")).unwrap_or_default();
        format!("{cluster}{}/{}/{}", self.group, self.kind, self.object)
    }
}

/// Parses at most [`MAX_OWNERS`] entries. Invalid ones are ignored.
#[must_use]
pub fn parse(annotation: &str) -> Vec<OwnerEntry> {
    all(annotation).take(MAX_OWNERS).collect()
}

fn all(annotation: &str) -> impl Iterator<Item = OwnerEntry> {
    let text = if annotation.len() > MAX_BYTES { "" } else { annotation };
    text.split(',').filter_map(OwnerEntry::parse)
}

/// The annotation with former ids of `cluster` replaced by the current one; `None` if there are none, or
/// if the list is too long.
#[must_use]
pub fn migrate(annotation: &str, cluster: &ClusterId) -> Option<String> {
    let is_former =
        |entry: &OwnerEntry| entry.cluster.as_ref().is_some_and(|id| cluster.former.contains(id));
    let mut entries: Vec<OwnerEntry> = all(annotation).take(MAX_OWNERS + 1).collect();
    if entries.len() > MAX_OWNERS {
        return None;
    }
    entries.iter().any(&is_former).then(|| {
        for entry in &mut entries {
            if is_former(entry) {
                entry.cluster = Some(cluster.id.clone());
            }
        }
        entries.iter().map(OwnerEntry::render).collect::<Vec<_>>().join(",")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_have_the_format_of_gardener() {
        let text = "source/gardener.cloud:networking.k8s.io/Ingress/ns/a,/Service/ns/b";
        let owners = parse(text);
        let entry = |cluster: Option<&str>, group: &str, kind: &str, name: &str| OwnerEntry {
            cluster: cluster.map(str::to_owned),
            group: group.into(),
            kind: kind.into(),
            object: ObjectKey::new("ns", name),
        };
        let ingress = entry(Some("source/gardener.cloud"), "networking.k8s.io", "Ingress", "a");
        assert_eq!(owners, [ingress, entry(None, "", "Service", "b")]);
        let rendered: Vec<String> = owners.iter().map(OwnerEntry::render).collect();
        assert_eq!(rendered.join(","), text);
        assert_eq!(parse("nonsense,a/b/c,,x:a/b/c/d/e"), []);
    }

    #[test]
    fn former_cluster_ids_are_replaced() {
        let cluster = ClusterId { id: "new".into(), former: vec!["old:1".into()] };
        let here = |text: &str, here| parse(text)[0].lives_in(&cluster, here);
        assert!(here("old:1:/Service/ns/a", false) && here("new:/Service/ns/a", false));
        assert!(here("/Service/ns/a", true) && !here("/Service/ns/a", false));
        assert!(!here("other:/Service/ns/a", true));
        let migrated = migrate("old:1:/Service/ns/a,x:/Service/ns/b", &cluster);
        assert_eq!(migrated.as_deref(), Some("new:/Service/ns/a,x:/Service/ns/b"));
        assert_eq!(migrate("new:/Service/ns/a", &cluster), None);
    }

    #[test]
    fn the_annotation_is_bounded() {
        let cluster = ClusterId { id: "new".into(), former: vec!["old".into()] };
        let text = |count| vec!["old:/Service/ns/a"; count].join(",");
        for (count, read, migrated) in [(64, 64, true), (65, 64, false), (16_000, 0, false)] {
            let text = text(count);
            assert_eq!(parse(&text).len(), read, "{count}");
            assert_eq!(migrate(&text, &cluster).is_some(), migrated, "{count}");
        }
    }
}
