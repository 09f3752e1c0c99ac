//! The engine of cert-controller-manager: it decides when a certificate is issued, and issues it.
//!
//! It does not know Kubernetes, never sleeps, never spawns and reads the clock in one place
//! ([`clock`]). A caller observes the state and asks [`plan::plan`] what to do. To issue, it calls
//! [`issue::Issuer::advance`] repeatedly: each call does what can be done at once and returns when
//! to call next. State that must survive a crash is in the returned [`issue::Progress`].
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
