//! Which CustomResourceDefinitions are updated.

use std::time::Duration;

use crate::api::well_known;

/// Which CustomResourceDefinitions are updated.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CrdSettings {
    /// Our name in the maintainer annotation (`--maintainer`).
    pub maintainer: String,
    /// Other maintainers whose definitions are updated; [`UNMANAGED`] stands for definitions without the
    /// annotation.
    pub accepted_maintainers: Vec<String>,
    /// Whether to update definitions of all maintainers (`--force-crd-update`).
    pub force_update: bool,
}

impl Default for CrdSettings {
    fn default() -> Self {
        Self {
            maintainer: well_known::FIELD_MANAGER.to_owned(),
            accepted_maintainers: Vec::new(),
            force_update: false,
        }
    }
}

/// The annotation with the maintainer of a definition.
pub const MAINTAINER: &str = "crds.gardener.cloud/maintainer";
/// Stands for definitions without [`MAINTAINER`] in `--accepted-maintainers`.
pub const UNMANAGED: &str = "UNMANAGED";

/// Pauses between tries to deploy a definition.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(200);
pub(super) const MAX_PAUSE: Duration = Duration::from_secs(5);
