//! What every controller of this process stands on.

pub mod follow;
