//! CertificateRevocations: revokes certificates of a Certificate at its CA.
//!
//! [`watch_handlers`] decides when a pass is needed; the state is in [`controller`]. A pass
//! ([`reconcile`]) runs [`observe`] (current state, as [`observed`] values; [`holders`] finds the
//! Certificates) → [`plan`] (next step, pure) → [`act`] (execution) → [`status`]. A pass reads
//! everything from the API servers: revocations are rare and must not use outdated state.
//!
//! **What may be revoked.** CertificateRevocations with their status, Certificates and certificate
//! Secrets are written by tenants. Their labels, names and serial numbers only select what is read.
//! Each pass decides again what may be revoked:
//! - A backup that names the namespace of the Certificate. A backup is a Secret in `kube-system` of
//!   the target cluster, written at issuance.
//! - A backup of the certificate that a Certificate has in a Secret of the same namespace, together
//!   with its private key. The key holder may revoke it (RFC 8555 section 7.6).
//! - That certificate itself, if no backup has its serial number. This excludes renewal. The CA
//!   knows whether it issued the certificate.
//!
//! The hash of the request is no proof, as other namespaces can request the same names. With
//! `--allow-cross-namespace-secrets`, namespaces trust each other, and the hash is sufficient, as
//! in upstream.
//!
//! Certificates with the same names in another order have another hash, and may share the
//! certificate. [`holders`] finds them by the digest label of their Secrets and compares the whole
//! certificate.
//!
//! A CertificateRevocation is for Certificates in its own cluster and namespace. Other namespaces
//! need the same flag.

pub mod act;
pub mod controller;
pub mod holders;
pub mod index;
pub mod mark;
pub mod observe;
pub mod observed;
mod pass;
pub mod plan;
pub mod reconcile;
pub mod status;
mod trim;
pub mod watch_handlers;
