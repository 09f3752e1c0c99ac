//! Routes, which add host names to the certificates of Gateways. The Gateway may belong to another
//! tenant.
//!
//! Host names are parsed first. Invalid names are left out, so that they do not break a certificate of
//! another tenant, and are reported on the route.

use std::{collections::HashSet, sync::Arc};

use cert_lib::model::name::DnsName;
use kube::ResourceExt;

use super::{
    budget,
    domains::Attachment,
    entry::MAX_NAME,
    key::{RouteKey, SourceKey},
};
use crate::api::source::{Foreign, Shape};

/// Maximum number of invalid names that are reported.
const MAX_REPORTED: usize = 5;
/// Maximum number of names of a route, and of their bytes: more than a certificate can have.
const MAX_NAMES: usize = 250;
const MAX_BYTES: usize = 16 << 10;
const MAX_TEXT: usize = 120;
const LEFT_OUT: &str = "left out of the certificates of its gateways";
/// Maximum number of parent references, as in the Gateway API.
const MAX_ATTACHMENTS: usize = 32;

/// The specification of a kind of routes.
pub trait Attached: Shape {
    /// The host names of `object`, as written.
    fn hostnames(object: &Foreign<Self>) -> &[String];

    /// The parents of `object`, each with an attachment that has these names.
    fn attachments(
        object: &Foreign<Self>,
        hostnames: &Arc<[String]>,
    ) -> Vec<(SourceKey, Attachment)>;
}

/// A route.
#[derive(Debug, PartialEq)]
pub struct Route {
    /// API version that it was read in.
    pub version: &'static str,
    uid: String,
    /// The parents, with the attachment to each.
    pub attachments: Vec<(SourceKey, Attachment)>,
    /// Whether its names are not kept because the namespace exceeds its memory limit.
    pub has_no_room: bool,
    /// Message about invalid parts.
    pub(super) problem: Option<String>,
}

/// A problem of a route, to be reported on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// The route.
    pub route: RouteKey,
    /// API version that it was read in.
    pub version: &'static str,
    /// `metadata.uid`
    pub uid: String,
    /// The message.
    pub text: String,
}

impl Route {
    /// Converts `object`, which was read in API version `version`.
    #[must_use]
    pub fn of<S: Attached>(object: &Foreign<S>, version: &'static str) -> Self {
        let (names, mut problem) = parse_hostnames(S::hostnames(object));
        let created = object.creation_timestamp().map(|time| time.0);
        let mut attachments = S::attachments(object, &names);
        attachments.retain(|(_, it)| it.section.as_ref().is_none_or(|name| name.len() <= MAX_NAME));
        deduplicate(&mut attachments);
        if attachments.len() > MAX_ATTACHMENTS {
            let why = format!(
                "only the first {MAX_ATTACHMENTS} of its {} gateways count; divide it into several \
                 objects",
                attachments.len()
            );
            problem = Some(problem.map_or_else(|| why.clone(), |text| format!("{text}; {why}")));
            attachments.truncate(MAX_ATTACHMENTS);
            attachments.shrink_to_fit();
        }
        attachments.iter_mut().for_each(|(_, attachment)| attachment.created = created);
        let uid = object.uid().unwrap_or_default();
        Self { version, uid, attachments, has_no_room: false, problem }
    }

    /// The problem of the route with this key, if any.
    #[must_use]
    pub fn problem(&self, key: &RouteKey) -> Option<Problem> {
        let text = if self.has_no_room {
            format!("{LEFT_OUT}: {}", budget::no_room())
        } else {
            self.problem.clone()?
        };
        Some(Problem { route: key.clone(), version: self.version, uid: self.uid.clone(), text })
    }

    /// Whether `other` has the same problem.
    #[must_use]
    pub fn has_same_problem(&self, other: Option<&Self>) -> bool {
        other.is_some_and(|other| {
            (other.has_no_room, &other.problem, &other.uid)
                == (self.has_no_room, &self.problem, &self.uid)
        })
    }
}

/// Removes duplicate parent references.
fn deduplicate(attachments: &mut Vec<(SourceKey, Attachment)>) {
    let mut seen = HashSet::new();
    attachments.retain(|(key, attachment)| {
        seen.insert((key.clone(), attachment.section.clone(), attachment.port))
    });
}

/// Parses host names. Returns the valid ones and a message about the others. `*` is skipped: it
/// matches every name, so a certificate cannot contain it.
fn parse_hostnames(texts: &[String]) -> (Arc<[String]>, Option<String>) {
    let (mut names, mut errors, mut more) = (Vec::new(), Vec::new(), 0_usize);
    let mut bytes = 0;
    for text in texts.iter().filter(|text| *text != "*") {
        match text.parse::<DnsName>() {
            // A CA would refuse the whole certificate because of such a name.
            Ok(name) if !name.challenge_fits() || name.as_str().contains('_') => {
                let text: String = name.as_str().chars().take(MAX_TEXT).collect();
                match errors.len() {
                    MAX_REPORTED => more += 1,
                    _ => errors.push(format!(
                        "{text}: it is too long for its DNS01 challenge or has an underscore, which CAs refuse"
                    )),
                }
            }
            Ok(name) if names.len() < MAX_NAMES && bytes < MAX_BYTES => {
                bytes += name.as_str().len();
                names.push(name.as_str().to_owned());
            }
            Ok(_) => more += 1,
            Err(_) if errors.len() == MAX_REPORTED => more += 1,
            Err(error) => errors.push(error.to_string().chars().take(MAX_TEXT).collect::<String>()),
        }
    }
    if more > 0 {
        errors.push(format!("{more} more"));
    }
    let problem = format!("{LEFT_OUT}: {}", errors.join("; "));
    (names.into(), (!errors.is_empty()).then_some(problem))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::istio::VirtualServiceSpec;

    #[test]
    fn invalid_names_of_routes_are_left_out_and_reported() {
        let read = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            let (names, problem) = parse_hostnames(&texts);
            (names.join(" "), problem.unwrap_or_default())
        };
        let long = format!("{}test", "a.".repeat(118));
        for (texts, names, problem) in [
            (&["good.test", "*", "*.Apps.test."][..], "good.test *.apps.test", ""),
            (&["GOOD.test"], "good.test", ""),
            (&["good.test", "10.0.0.9"], "good.test", "10.0.0.9 is an IP address"),
            (&["a..b", "c.test"], "c.test", "a..b has a label that is empty"),
            (&["b\u{fc}cher.test"], "", "write international names as xn--"),
            (&[""], "", "must not be empty"),
            (&["a_b.test", "c.test"], "c.test", "a_b.test: it is too long"),
            (&[&long, "c.test"], "c.test", "it is too long for its DNS01 challenge"),
        ] {
            let (found, text) = read(texts);
            assert_eq!(found, names, "{texts:?}");
            assert!(text.contains(problem), "{texts:?}: {text}");
            assert_eq!(text.is_empty(), problem.is_empty(), "{texts:?}: {text}");
        }
        let many = vec!["a..b"; 1_000];
        let (_, text) = read(&many);
        assert!(text.len() < 800 && text.ends_with("; 995 more"), "{text}");
        let many: Vec<String> = (0..1_000).map(|it| format!("h{it}.test")).collect();
        let (names, problem) = parse_hostnames(&many);
        assert_eq!((names.len(), problem.unwrap().ends_with(": 750 more")), (250, true));
    }

    #[test]
    fn parent_references_of_a_route_are_unique_and_bounded() {
        let of = |gateways: Vec<String>| {
            let object = serde_json::json!({
                "metadata": {"namespace": "ns", "name": "r", "uid": "u"},
                "spec": {"gateways": gateways, "hosts": ["a.test"]},
            });
            let object = serde_json::from_value(object).unwrap();
            Route::of::<VirtualServiceSpec>(&object, "v1")
        };
        let same = of((0..1_001).map(|it| if it % 2 == 0 { "g" } else { "ns/g" }.into()).collect());
        assert_eq!((same.attachments.len(), same.problem), (1, None));
        let many = of((0..1_001).map(|it| format!("g{it}")).collect());
        let names = many.attachments.iter().map(|(key, _)| key.object.name.clone());
        assert_eq!(
            names.collect::<Vec<_>>(),
            (0..32).map(|it| format!("g{it}")).collect::<Vec<_>>()
        );
        assert!(many.problem.unwrap().starts_with("only the first 32 of its 1001 gateways count"));
    }
}
