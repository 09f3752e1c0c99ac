//! Our custom resources, and the fields of other resources that we read or write.

pub mod backup;
pub mod certificate;
pub mod classes;
pub mod cluster_identities;
pub mod dnsentry;
pub mod gateway;
pub mod issuer;
pub mod istio;
pub mod names;
pub mod owners;
pub mod revocation;
pub mod secret;
pub mod solvers;
pub mod source;
pub mod time;
pub mod trim;
pub mod well_known;

pub use certificate::Certificate;
pub use classes::Classes;
pub use cluster_identities::ClusterIdentities;
pub use issuer::Issuer;
pub use names::{
    CertificateCluster, CertificateKey, ClusterId, IssuerKey, ObjectKey, Realm, Tenant,
};
pub use revocation::CertificateRevocation;

use kube::{Resource, ResourceExt};

/// Whether an object has one of these classes.
#[must_use]
pub fn is_served<K: Resource>(object: &K, classes: &Classes) -> bool {
    classes.serves(object.annotations().get(well_known::CLASS).map(String::as_str))
}
