//! cert-controller-manager: the Kubernetes controllers. Decisions and the issuance of certificates are in
//! `cert-lib`.

pub mod access;
pub mod answer;
pub mod api;
pub mod certificates;
pub mod cli;
pub mod config;
pub mod generate;
pub mod issuers;
pub mod revocations;
pub mod runtime;
pub mod solvers;
pub mod sources;
