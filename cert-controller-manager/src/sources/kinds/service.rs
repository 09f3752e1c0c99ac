//! Service of type LoadBalancer: one certificate, which its annotations define.

use kube::ResourceExt;

use crate::{
    api::source::{Foreign, ServiceSpec},
    sources::{
        annotations::{SECRET_NAME, SECRET_NAMESPACE},
        entry::{Entries, Entry, SecretName},
        object::{Parent, Source},
    },
};

impl Source for ServiceSpec {
    fn entries(object: &Foreign<Self>) -> (Entries, Option<Parent>) {
        let annotation =
            |name: &str| object.annotations().get(name).filter(|value| !value.is_empty()).cloned();
        let name = annotation(SECRET_NAME).filter(|_| object.spec.kind == "LoadBalancer");
        let namespace = annotation(SECRET_NAMESPACE);
        let entry =
            |name| Entry { secret: SecretName::Named { namespace, name }, ..Entry::default() };
        (name.map(entry).into_iter().collect(), None)
    }
}
