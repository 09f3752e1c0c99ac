//! The table, shared by the server and the watches that fill it.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::zone::Table;

/// The table, shared by the server and the watches that fill it.
pub struct Shared(RwLock<Table>);

impl Shared {
    /// Shares `table`.
    #[must_use]
    pub fn new(table: Table) -> Self {
        Self(RwLock::new(table))
    }

    /// Locks the table to answer.
    pub fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the table to change it. Each query waits meanwhile.
    pub fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}
