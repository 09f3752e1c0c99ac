//! Infrastructure of all controllers: clients of the clusters, leader election, watches, the work
//! queue, events, metrics and tasks.

pub mod admin;
pub mod certificate_clusters;
pub mod clusters;
pub mod crds;
pub mod errors;
pub mod events;
pub mod fair_queue;
pub mod fence;
pub mod heavy;
pub mod identity;
pub mod keys;
pub mod leader;
pub mod lease_thread;
pub mod merge;
pub mod metrics;
pub mod pages;
pub mod profile;
pub mod queue;
pub mod requeue;
pub mod role;
pub mod small_set;
pub mod status_writer;
pub mod store;
pub mod tasks;
pub mod watch;
