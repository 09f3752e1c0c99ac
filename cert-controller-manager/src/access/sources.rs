//! The rows of source kinds and routes, from the table of the kinds.

use super::{Cluster, Names, Part, Row};
use crate::sources::{key::Kind, kinds::WatchedKind};

/// A row for each kind that is watched for the source controllers, each once.
pub(super) fn rows() -> Vec<Row> {
    let mut watched: Vec<WatchedKind> = Vec::new();
    for kind in Kind::all().into_iter().flat_map(Kind::needs) {
        if !watched.contains(&kind) {
            watched.push(kind);
        }
    }
    watched.into_iter().map(row).collect()
}

fn row(watched: WatchedKind) -> Row {
    let (name, rights) = (watched.name(), watched.rights());
    Row {
        cluster: Cluster::Source,
        part: Part::Objects,
        group: name.group,
        resource: name.plural,
        names: Names::Any,
        verbs: rights.verbs,
        why: rights.why,
    }
}
