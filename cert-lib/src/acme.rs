//! The ACME protocol (RFC 8555), without any opinion about certificates: [`client`] exchanges
//! signed requests, [`account`] speaks for one account, [`order`] says what an order needs next.
//! Who asks for which certificate, and how names are proved, is in [`crate::issue::acme`].

pub mod account;
pub mod client;
pub mod jws;
pub mod order;
pub mod problem;
pub mod wire;
