//! ACME issuer.
