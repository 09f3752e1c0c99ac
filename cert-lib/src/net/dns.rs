//! DNS adapter.
