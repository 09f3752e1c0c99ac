//! The Certificate controller: turns Certificates into Secrets.
//!
//! A reconcile pass runs [`convert`] (specification to request) → [`observe`] (current state) →
//! `cert_lib::plan` (next action) → [`act`] and [`complete`] (execution) → [`status`] and
//! [`publish_status`]. [`reconcile`] calls these steps.

pub mod act;
pub mod admission;
pub mod advance;
pub mod backup;
pub mod complete;
pub mod controller;
pub mod convert;
pub mod garbage;
pub mod identity;
pub mod index;
pub mod inventory;
mod known_record;
pub mod listed_clusters;
pub mod new_order;
pub mod observe;
pub mod order_claims;
pub mod ownership;
mod pass;
pub mod progress;
pub mod publish_status;
pub mod reconcile;
pub mod record;
pub mod records;
pub mod reissue;
pub mod release;
pub mod renewal;
pub mod renewals;
mod retries;
pub mod retry_state;
mod schedule;
pub mod secret;
pub mod secret_grant;
pub mod share;
pub mod status;
pub mod syntax;
pub mod watch_handlers;

#[cfg(test)]
mod tests;
