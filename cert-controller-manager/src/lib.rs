//! Manages X.509 certificates for many clusters: looks at Kubernetes and writes what cert-lib decides.

pub mod answer;
pub mod api;
pub mod runtime;
pub mod solvers;
