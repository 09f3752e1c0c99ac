//! Tests that need a test environment of their own, side by side: what breaks while certificates are issued, what
//! happens when nothing does, and what is missing or different in a cluster.

mod definitions;
mod kill;
mod outages;
mod readme;
mod secrecy;
mod steady;
