//! THE decision.
