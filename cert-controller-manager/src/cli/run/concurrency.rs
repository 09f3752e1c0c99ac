//! How many objects each controller reconciles concurrently.

use crate::runtime::queue::PoolSizes;

/// Workers mostly wait for responses. Admission limits the orders of each issuer, so that a CA that does
/// not respond cannot block all workers.
pub(super) const CERTIFICATES: PoolSizes = PoolSizes { shared: 512, tenants: 256, each_tenant: 32 };
pub(super) const ISSUERS: PoolSizes = PoolSizes { shared: 8, tenants: 4, each_tenant: 1 };
pub(super) const SOURCES: PoolSizes = PoolSizes { shared: 16, tenants: 0, each_tenant: 0 };
/// Low, because each worker sends many requests to the CA.
pub(super) const REVOCATIONS: PoolSizes = PoolSizes { shared: 4, tenants: 2, each_tenant: 1 };
