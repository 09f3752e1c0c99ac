//! The ACME protocol (RFC 8555): [`client`] exchanges signed requests, [`account`] manages
//! accounts, [`order`] decides the next step of an order.
//!
//! Not here: which certificate to request, and how to prove control of names; see
//! [`crate::issue::acme`].

pub mod account;
mod bounds;
pub mod client;
mod identifier;
pub mod jws;
pub mod order;
pub mod problem;
pub mod wire;
