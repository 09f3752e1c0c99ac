//! Objects that ask for certificates – Ingress, Service, Gateways of Istio and of the Gateway API –
//! become Certificates.
//!
//! `kind`, `object`: what is kept of an object, the same for all kinds. `ingress`, `service`,
//! `istio`, `gateway`: how each kind becomes that. `annotations`, `domains`, `want`: what an object
//! asks for, pure. `index`, `slaves`: what is there, kept warm by watches. `budget`, `size`: how much of
//! it is kept for a namespace, pure; `reread`: what had no room, when there is some. `decide`: what to
//! do about the difference, pure. `act`, `feedback`: doing it, and telling people. `watches`: which
//! versions of which kinds are followed. `routes`: what adds names to the Gateways of others.
//!
//! Reads source objects and routes on the source cluster and Certificates on source and target.
//! Writes Certificates, finalizers of source objects, and events on them. Never a Secret.

pub mod act;
pub mod annotations;
pub mod budget;
pub mod decide;
pub mod domains;
pub mod extract;
pub mod feedback;
pub mod gateway;
pub mod index;
pub mod ingress;
pub mod istio;
pub mod kind;
pub mod names;
pub mod object;
pub mod owned_certificates;
pub mod reread;
pub mod routes;
pub mod service;
pub mod size;
pub mod sync;
pub mod watches;

pub use crate::config::SourceSettings;
