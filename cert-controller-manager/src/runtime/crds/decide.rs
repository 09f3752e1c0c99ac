//! Whether a definition that is there is ours to update. Values only.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt;

use super::{CrdSettings, MAINTAINER, UNMANAGED};
use crate::runtime::clusters::ClusterOptions;

/// Label of Gardener: a definition that outlives the cleanup of a shoot cluster.
const NO_CLEANUP: &str = "shoot.gardener.cloud/no-cleanup";
/// Annotation of Gardener: the ManagedResource that an object belongs to.
const ORIGIN: &str = "resources.gardener.cloud/origin";

/// What to do with a definition.
#[derive(Debug, PartialEq)]
pub(super) enum Act {
    Create,
    Update(Box<CustomResourceDefinition>),
    /// It is as it should be.
    Keep,
    /// Somebody else maintains it.
    Leave(String),
}

/// The definition as we deploy it: with our name, and the label if it is asked for.
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

/// Decides about `found`, which should be `wanted`.
pub(super) fn decide(
    found: Option<&CustomResourceDefinition>,
    wanted: &CustomResourceDefinition,
    options: &ClusterOptions,
    rules: &CrdSettings,
) -> Act {
    let Some(found) = found else { return Act::Create };
    if let Some(owner) = foreign(found, options, rules) {
        return Act::Leave(owner);
    }
    let updated = update(found, wanted);
    if updated == *found { Act::Keep } else { Act::Update(Box::new(updated)) }
}

/// Who else maintains it, if we may not.
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
    (!accepted).then(|| maintainer.map_or("nobody", String::as_str).to_owned())
}

/// `found` with our specification and marks, and with everything else that is on it: other labels,
/// the conversion that somebody configured, and what the API server filled in.
fn update(
    found: &CustomResourceDefinition,
    wanted: &CustomResourceDefinition,
) -> CustomResourceDefinition {
    let mut updated = found.clone();
    let (annotations, labels) = (wanted.annotations().clone(), wanted.labels().clone());
    updated.annotations_mut().extend(annotations);
    updated.labels_mut().extend(labels);
    if found.metadata.labels.is_none() && wanted.metadata.labels.is_none() {
        updated.metadata.labels = None;
    }
    updated.spec = wanted.spec.clone();
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
        // The one who is in the way
        for (annotations, rules, options, foreign) in [
            (&ours[..], rules(&[], false), &plain, None),
            (&theirs, rules(&[], false), &plain, Some("them")),
            (&theirs, rules(&["others", "them"], false), &plain, None),
            (&theirs, rules(&["UNMANAGED"], false), &plain, Some("them")),
            (&theirs, rules(&[], true), &plain, None),
            (&[], rules(&[], false), &plain, Some("nobody")),
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
            let wanted = annotate(Certificate::crd(), options, &rules);
            let found = old(annotations);
            match (decide(Some(&found), &wanted, options, &rules), foreign) {
                (Act::Leave(owner), Some(foreign)) => assert_eq!(owner, foreign),
                (Act::Update(updated), None) => {
                    assert_eq!(updated.spec, wanted.spec);
                    assert_eq!(updated.annotations()[MAINTAINER], "us");
                    assert_eq!(updated.labels()["keep"], "me");
                    let again = decide(Some(&updated), &wanted, options, &rules);
                    assert_eq!(again, Act::Keep, "a steady state writes nothing");
                }
                (act, _) => panic!("{annotations:?} {rules:?}: {act:?}"),
            }
        }
    }

    #[test]
    fn a_missing_definition_is_created_with_our_marks() {
        let options = ClusterOptions { no_cleanup_label: true, ..ClusterOptions::default() };
        let wanted = annotate(Certificate::crd(), &options, &rules(&[], false));
        assert_eq!(decide(None, &wanted, &options, &rules(&[], false)), Act::Create);
        assert_eq!(wanted.annotations()[MAINTAINER], "us");
        assert_eq!(wanted.labels()[NO_CLEANUP], "true");
    }
}
