//! CertificateRevocations: what was issued for a Certificate is revoked at its CA.
//!
//! A pass goes [`look`] (what there is) → [`plan`] (the next step, pure) → [`act`] (do it) →
//! [`status`] (say it). Everything is read from the API servers when a pass needs it: a revocation is
//! rare, and must see what is, not what was.
//!
//! **Whose certificates.** Whoever writes CertificateRevocations, and their status, is not trusted. So
//! nothing in them permits anything: each pass finds out anew which backups may be revoked. These are
//! the backups that carry the namespace of the Certificate (an annotation in `kube-system` of target,
//! written when the certificate was issued), and those whose serial number is in a certificate Secret
//! of a Certificate in that namespace, in the same namespace: whoever has the private key may revoke
//! the certificate. The request's hash alone proves nothing, as it is the same wherever the same names
//! are asked for. With `--allow-cross-namespace-secrets` namespaces trust each other, and it is all
//! that counts, as upstream has it.
//!
//! A CertificateRevocation is for Certificates of its own cluster and namespace; another namespace
//! takes the same flag.

pub mod act;
pub mod index;
pub mod look;
pub mod plan;
pub mod reconcile;
pub mod status;
