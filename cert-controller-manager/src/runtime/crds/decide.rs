//! Decides whether to create or update a definition. Pure.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt;

use super::settings::{CrdSettings, MAINTAINER, UNMANAGED};
use crate::runtime::clusters::ClusterOptions;

/// Label of Gardener that keeps a definition when a shoot cluster is deleted.
const NO_CLEANUP: &str = "shoot.gardener.cloud/no-cleanup";
/// Annotation of Gardener with the ManagedResource of an object.
const ORIGIN: &str = "resources.gardener.cloud/origin";

/// The write to make.
#[derive(Debug, PartialEq)]
pub(super) enum Act {
    Create,
    Update(Box<CustomResourceDefinition>),
    /// It is up to date.
    Keep,
    /// This other maintainer owns it.
    Leave(String),
}

/// Adds our maintainer annotation, and the label if it is configured.
pub(super) fn annotate(
    mut definition: CustomResourceDefinition,
    options: &ClusterOptions,
    rules: &CrdSettings,
) -> CustomResourceDefinition {
    definition.annotations_mut().insert(MAINTAINER.into(), rules.maintainer.clone());
    if options.no_cleanup_label {
        definition.labels_mut().insert(NO_CLEANUP.into(), "true".into());
    }
    definition
}

/// Compares `found` with `desired`.
pub(super) fn decide(
    found: Option<&CustomResourceDefinition>,
    desired: &CustomResourceDefinition,
    options: &ClusterOptions,
    rules: &CrdSettings,
) -> Act {
    let Some(found) = found else { return Act::Create };
    if let Some(owner) = foreign(found, options, rules) {
        return Act::Leave(owner);
    }
    let updated = update(found, desired);
    if updated == *found { Act::Keep } else { Act::Update(Box::new(updated)) }
}

/// The maintainer, unless we may update it.
fn foreign(
    found: &CustomResourceDefinition,
    options: &ClusterOptions,
    rules: &CrdSettings,
) -> Option<String> {
    if options.conditional_deploy {
        let origin = found.annotations().get(ORIGIN)?;
        return Some(format!("the ManagedResource {origin}"));
    }
    let maintainer = found.annotations().get(MAINTAINER).filter(|name| !name.is_empty());
    let key = maintainer.map_or(UNMANAGED, String::as_str);
    let accepted = rules.force_update
        || maintainer == Some(&rules.maintainer)
        || rules.accepted_maintainers.iter().any(|name| name == key);
    (!accepted).then(|| key.to_owned())
}

/// `found` with our specification, annotations and labels. Other labels, a configured conversion, and
/// defaults of the API server stay.
fn update(
    found: &CustomResourceDefinition,
    desired: &CustomResourceDefinition,
) -> CustomResourceDefinition {
    let mut updated = found.clone();
    let (annotations, labels) = (desired.annotations().clone(), desired.labels().clone());
    updated.annotations_mut().extend(annotations);
    updated.labels_mut().extend(labels);
    if found.metadata.labels.is_none() && desired.metadata.labels.is_none() {
        updated.metadata.labels = None;
    }
    updated.spec = desired.spec.clone();
    if updated.spec.conversion.is_none() {
        updated.spec.conversion.clone_from(&found.spec.conversion);
    }
    if updated.spec.names.list_kind.is_none() {
        updated.spec.names.list_kind.clone_from(&found.spec.names.list_kind);
    }
    if updated.spec.names.singular.is_none() {
        updated.spec.names.singular.clone_from(&found.spec.names.singular);
    }
    updated
}

#[cfg(test)]
mod tests {
    use kube::CustomResourceExt;

    use super::*;
    use crate::api::Certificate;

    fn rules(accepted: &[&str], force_update: bool) -> CrdSettings {
        let accepted_maintainers = accepted.iter().map(|name| (*name).to_owned()).collect();
        CrdSettings { maintainer: "us".into(), accepted_maintainers, force_update }
    }

    /// A definition of an older version, with these annotations.
    fn old(annotations: &[(&str, &str)]) -> CustomResourceDefinition {
        let mut definition = Certificate::crd();
        definition.spec.names.short_names = None;
        definition.labels_mut().insert("keep".into(), "me".into());
        for (name, value) in annotations {
            definition.annotations_mut().insert((*name).into(), (*value).into());
        }
        definition
    }

    #[test]
    fn a_definition_is_updated_only_by_its_maintainer() {
        let plain = ClusterOptions::default();
        let conditional = ClusterOptions { conditional_deploy: true, ..ClusterOptions::default() };
        let (ours, theirs) = ([(MAINTAINER, "us")], [(MAINTAINER, "them")]);
        let managed = [(MAINTAINER, "us"), (ORIGIN, "garden:shoot/crds")];
        // Annotations, settings, options; the maintainer that prevents the update
        for (annotations, rules, options, foreign) in [
            (&ours[..], rules(&[], false), &plain, None),
            (&theirs, rules(&[], false), &plain, Some("them")),
            (&theirs, rules(&["others", "them"], false), &plain, None),
            (&theirs, rules(&["UNMANAGED"], false), &plain, Some("them")),
            (&theirs, rules(&[], true), &plain, None),
            (&[], rules(&[], false), &plain, Some("UNMANAGED")),
            (&[], rules(&["UNMANAGED"], false), &plain, None),
            (&[(MAINTAINER, "")], rules(&["UNMANAGED"], false), &plain, None),
            (&theirs, rules(&[], false), &conditional, None),
            (
                &managed,
                rules(&[], true),
                &conditional,
                Some("the ManagedResource garden:shoot/crds"),
            ),
            (&managed, rules(&[], false), &plain, None),
        ] {
            let desired = annotate(Certificate::crd(), options, &rules);
            let found = old(annotations);
            match (decide(Some(&found), &desired, options, &rules), foreign) {
                (Act::Leave(owner), Some(foreign)) => assert_eq!(owner, foreign),
                (Act::Update(updated), None) => {
                    assert_eq!(updated.spec, desired.spec);
                    assert_eq!(updated.annotations()[MAINTAINER], "us");
                    assert_eq!(updated.labels()["keep"], "me");
                    let again = decide(Some(&updated), &desired, options, &rules);
                    assert_eq!(again, Act::Keep, "a steady state writes nothing");
                }
                (act, _) => panic!("{annotations:?} {rules:?}: {act:?}"),
            }
        }
    }

    #[test]
    fn a_missing_definition_is_created_with_our_annotation_and_label() {
        let options = ClusterOptions { no_cleanup_label: true, ..ClusterOptions::default() };
        let desired = annotate(Certificate::crd(), &options, &rules(&[], false));
        assert_eq!(decide(None, &desired, &options, &rules(&[], false)), Act::Create);
        assert_eq!(desired.annotations()[MAINTAINER], "us");
        assert_eq!(desired.labels()[NO_CLEANUP], "true");
    }
}
