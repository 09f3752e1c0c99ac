//! Tests with separate test environments, in parallel: failures during issuance, idle managers, and
//! clusters with missing or different definitions.

mod definitions;
mod kill;
mod outages;
mod readme;
mod secrecy;
mod steady;
