//! What every controller here stands on: clusters, the work queue, reports, keys.

pub mod admin;
pub mod clusters;
pub mod crds;
pub mod errors;
pub mod fence;
pub mod few;
pub mod follow;
pub mod guests;
pub mod heavy;
pub mod homes;
pub mod identity;
pub mod keys;
pub mod leader;
pub mod lease_thread;
pub mod merge;
pub mod metrics;
pub mod pages;
pub mod pause;
pub mod profile;
pub mod queue;
pub mod report;
pub mod tasks;
