//! Certificates: the one controller that turns them into Secrets.
//!
//! A pass over a Certificate goes [`convert`] (specification to request) → [`observe`] (what there
//! is) → `cert_lib::plan` (what to do) → [`act`] (do it, up to [`finish`]) → [`status`] and [`say`] (say it). Each file
//! does its part only; the pass itself is in [`reconcile`].

pub mod act;
pub mod backup;
pub mod complete;
pub mod convert;
pub mod garbage;
pub mod identity;
pub mod index;
pub mod inventory;
pub mod limits;
pub mod observe;
pub mod ownership;
pub mod progress;
pub mod publish_status;
pub mod reconcile;
pub mod records;
pub mod release;
pub mod renewal;
pub mod retry_state;
pub mod scheduler;
pub mod secret;
pub mod secret_grant;
pub mod share;
pub mod status;
pub mod syntax;
pub mod watch_handlers;
