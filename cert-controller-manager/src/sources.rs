//! Creates Certificates for annotated source objects: Ingress, Service, and the Gateways of Istio and
//! of the Gateway API.
//!
//! - `kinds`: the table of kinds, with an extractor for each. `key` identifies objects.
//! - `object`, `entry`, `convert`: the representation of a source object, the same for all kinds.
//! - `annotations`, `domains`, `extract`: the certificates that an object requests; pure.
//! - `index`, `owned_certificates`: caches that the watches fill.
//! - `budget`, `size`: the memory limit of each namespace; pure. `reread`: reads objects again that
//!   exceeded it.
//! - `decide`: compares desired and existing Certificates; pure. `act` and `feedback` write.
//! - `controller` is the state, `reconcile` the pass. `enqueue` starts passes when lists are complete.
//! - `watches`, `version_watch`, `reader`, `handlers`: the kinds and API versions that are watched.
//! - `routes`: routes add host names to Gateways.
//!
//! Reads source objects and routes on the source cluster, and Certificates on source and target.
//! Writes Certificates, finalizers of source objects, and events on them. Never writes a Secret.

pub mod act;
pub mod annotations;
pub mod budget;
pub mod controller;
pub mod convert;
pub mod decide;
mod disposal;
pub mod domains;
pub mod enqueue;
pub mod entry;
pub mod extract;
pub mod feedback;
pub mod handlers;
pub mod index;
pub mod key;
pub mod kinds;
pub mod names;
pub mod object;
pub mod owned_certificates;
pub mod reader;
pub mod reconcile;
pub mod reread;
pub mod routes;
pub mod size;
pub mod state;
pub mod version_watch;
pub mod watches;
