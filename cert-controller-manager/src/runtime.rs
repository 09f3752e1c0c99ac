//! What every controller here stands on: clusters, the work queue, reports, keys.

pub mod clusters;
pub mod keys;
pub mod queue;
pub mod report;
pub mod tasks;
pub mod watch;
