//! Tests that take long, each on a rig of its own, side by side: what breaks while certificates are
//! issued, and what happens when nothing does.

mod kill;
mod outages;
mod steady;
