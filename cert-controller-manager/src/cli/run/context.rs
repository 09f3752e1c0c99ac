//! Shared components of the process.

use std::sync::Arc;

use cert_lib::{clock::Clock, net::proxy::ProxySettings};

use crate::{
    config::Settings,
    runtime::{admin::Admin, clusters::Clusters, fence::Fence, metrics::Metrics, watch::Relist},
};

/// Shared components of the process.
pub(super) struct Context {
    pub(super) settings: Settings,
    pub(super) clusters: Clusters,
    pub(super) fence: Fence,
    pub(super) metrics: Metrics,
    pub(super) admin: Admin,
    pub(super) relist: Relist,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) proxies: Arc<ProxySettings>,
}
