//! The custom resources that we read and write: ours, and the shapes of foreign ones.

pub mod dnsentry;
