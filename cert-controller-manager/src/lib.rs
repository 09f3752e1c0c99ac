//! cert-controller-manager: looks at Kubernetes objects and writes them. What to do is decided in
//! `cert-lib`, and so is how certificates are issued.

pub mod api;
pub mod runtime;
