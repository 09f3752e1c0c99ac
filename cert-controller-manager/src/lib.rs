//! cert-controller-manager: looks at Kubernetes objects and writes them. What to do is decided in
//! `cert-lib`, and so is how certificates are issued.

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
