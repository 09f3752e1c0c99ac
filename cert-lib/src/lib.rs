//! The engine of cert-controller-manager: it decides when a certificate is issued, and issues it.
//!
//! It knows nothing of Kubernetes, never sleeps, never spawns and reads the clock in one place
//! ([`clock`]). A caller observes the world, asks [`plan::plan`] what to do, and where that is to
//! issue, calls [`issue::Issuer::advance`] again and again: each call does what can be done at once
//! and says when to call next. What must survive a crash is in the [`issue::Progress`] it returns.
//!
//! # A certificate without Kubernetes
//!
//! This is `examples/issue.rs`; a test runs it against a real CA.
//!
#![doc = "```no_run"]
#![doc = include_str!("../../examples/issue.rs")]
#![doc = "```"]

pub mod acme;
pub mod clock;
pub mod issue;
pub mod keystore;
pub mod model;
pub mod net;
pub mod plan;
pub mod solve;
