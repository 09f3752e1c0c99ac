//! Issuers: from the object to something that issues.
//!
//! [`choice`] says which issuer a Certificate means; [`registry`] is where Certificates find it; [`reconcile`] keeps it current; [`account`] is what
//! an ACME issuer needs from its Secret and its CA; [`status`] says how it went.

pub mod account;
pub mod choice;
pub mod reconcile;
pub mod registry;
pub mod status;
