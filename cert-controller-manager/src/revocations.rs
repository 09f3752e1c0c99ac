//! CertificateRevocations: what was issued for a Certificate is revoked at its CA.
//!
//! A pass goes [`look`] (what there is, [`found`]; [`holders`] are the Certificates) → [`plan`] (the next step, pure) → [`act`] (do it) →
//! [`status`] (say it). Everything is read from the API servers when a pass needs it: a revocation is
//! rare, and must see what is, not what was.
//!
//! **Whose certificates.** The authors of CertificateRevocations, of their status, of Certificates and
//! of certificate Secrets are not trusted. Labels, names and serial numbers choose what is read, and
//! permit nothing. Each pass finds out anew what may be revoked:
//! - a backup (a Secret in `kube-system` of target, written when the certificate was issued) that carries
//!   the namespace of the Certificate;
//! - a backup of exactly the certificate that is in the Secret of a Certificate of that namespace, in
//!   the same namespace, with its private key: its holder may revoke it (RFC 8555 section 7.6);
//! - where no backup has the serial number, that certificate itself, without renewal: the CA knows whether
//!   it has issued it.
//!
//! The request's hash alone proves nothing, as it is the same wherever the same names are asked for. With
//! `--allow-cross-namespace-secrets` namespaces trust each other, and it is all that counts, as upstream
//! has it.
//!
//! Certificates of the namespace that ask for the same names in another order have another hash, and may
//! share the certificate. [`holders`] finds them by a label of their Secrets; what they hold, as a whole,
//! decides.
//!
//! A CertificateRevocation is for Certificates of its own cluster and namespace; another namespace
//! takes the same flag.

pub mod act;
pub mod holders;
pub mod index;
pub mod mark;
pub mod observe;
pub mod observed;
pub mod plan;
pub mod reconcile;
pub mod status;
mod trim;
