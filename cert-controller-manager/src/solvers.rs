//! Solvers that publish proofs as objects of Kubernetes.

pub mod dnsentry;
