//! Rows of the table that differ only in their resources, as one.

use super::{
    row::{Cluster, Row},
    table::table,
};

/// See the [module](self).
pub(super) struct Merged {
    pub(super) row: Row,
    pub(super) resources: Vec<&'static str>,
}

/// The rows of a cluster.
pub(super) fn rows(cluster: Cluster) -> Vec<Merged> {
    let mut all: Vec<Merged> = Vec::new();
    for row in table().into_iter().filter(|row| row.cluster == cluster) {
        match all.iter_mut().find(|known| is_like(&known.row, &row)) {
            Some(known) => known.resources.push(row.resource),
            None => all.push(Merged { row, resources: vec![row.resource] }),
        }
    }
    all
}

/// Whether two rows differ only in their resources.
fn is_like(row: &Row, other: &Row) -> bool {
    let key = |row: &Row| (row.cluster, row.part, row.group, row.names, row.verbs, row.why);
    key(row) == key(other)
}
