//! The order, step by step.

/// What this process knows of a running order.
#[derive(Clone)]
pub(crate) struct View;
