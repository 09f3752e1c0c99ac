//! Routes: what adds names to the certificate of a Gateway that may be somebody else's.
//!
//! Names are parsed before anything compares them. One that is none is left out, so that it spoils
//! no certificate of others, and its own object is told.

use std::{collections::HashSet, marker::PhantomData, sync::Arc};

use cert_lib::model::name::DnsName;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::ResourceExt;

use super::{budget, domains::Attachment, index::Index, kind::SourceKey, object::MAX_NAME};
use crate::{
    api::{
        ObjectKey, gateway, istio,
        source::{Foreign, KindName, Shape},
    },
    runtime::watch::EventHandler,
};

/// So many bad names of a route are told, each so far.
const MAX_TOLD: usize = 5;
/// So many names of a route are kept, and about so many bytes: more than a certificate has.
const MAX_NAMES: usize = 250;
const MAX_BYTES: usize = 16 << 10;
const MAX_TEXT: usize = 120;
const LEFT_OUT: &str = "left out of the certificates of its gateways";
/// So many attachments of a route are kept: the Gateway API allows no more.
const MAX_ATTACHMENTS: usize = 32;

/// A kind whose objects are attached to Gateways.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum RouteKind {
    /// `VirtualService`
    VirtualService,
    /// `HTTPRoute`
    Http,
    /// `GRPCRoute`
    Grpc,
    /// `TLSRoute`
    Tls,
}

impl RouteKind {
    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static KindName {
        match self {
            Self::VirtualService => &istio::VIRTUAL_SERVICE,
            Self::Http => &gateway::HTTP_ROUTE,
            Self::Grpc => &gateway::GRPC_ROUTE,
            Self::Tls => &gateway::TLS_ROUTE,
        }
    }
}

/// A kind whose objects are attached to Gateways.
pub trait Attached: Shape {
    /// Which kind.
    const KIND: RouteKind;

    /// The names that `object` serves, as they are written.
    fn hostnames(object: &Foreign<Self>) -> &[String];

    /// What `object` is attached to, and how, with these names.
    fn attachments(
        object: &Foreign<Self>,
        hostnames: &Arc<[String]>,
    ) -> Vec<(SourceKey, Attachment)>;
}

/// Names a route.
pub type RouteKey = (RouteKind, ObjectKey);

/// What is kept of a route.
#[derive(Debug, PartialEq)]
pub struct Route {
    /// The version of the API that it came in.
    pub version: &'static str,
    uid: String,
    /// What it is attached to.
    pub attachments: Vec<(SourceKey, Attachment)>,
    /// Whether other objects of its namespace take all the room, so that its names are not kept.
    pub has_no_room: bool,
    /// What is wrong with it.
    pub(super) complaint: Option<String>,
}

/// What is wrong with a route.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// The route.
    pub about: ObjectReference,
    /// In words for a person.
    pub text: String,
}

impl Route {
    /// What is kept of `object`, which came in `version` of the API.
    pub fn of<S: Attached>(object: &Foreign<S>, version: &'static str) -> Self {
        let (names, mut complaint) = readable(S::hostnames(object));
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
            complaint =
                Some(complaint.map_or_else(|| why.clone(), |text| format!("{text}; {why}")));
            attachments.truncate(MAX_ATTACHMENTS);
            attachments.shrink_to_fit();
        }
        attachments.iter_mut().for_each(|(_, attachment)| attachment.created = created);
        let uid = object.uid().unwrap_or_default();
        Self { version, uid, attachments, has_no_room: false, complaint }
    }

    /// What is wrong with the route of this name, if anything.
    #[must_use]
    pub fn problem(&self, (kind, key): &RouteKey) -> Option<Problem> {
        let name = kind.name();
        let about = ObjectReference {
            api_version: Some(format!("{}/{}", name.group, self.version)),
            kind: Some(name.kind.to_owned()),
            namespace: Some(key.namespace.clone()),
            name: Some(key.name.clone()),
            uid: Some(self.uid.clone()),
            ..ObjectReference::default()
        };
        let text = if self.has_no_room {
            format!("{LEFT_OUT}: {}", budget::no_room())
        } else {
            self.complaint.clone()?
        };
        Some(Problem { about, text })
    }

    /// Whether the same is wrong with both.
    #[must_use]
    pub fn problem_reason(&self, other: Option<&Self>) -> bool {
        other.is_some_and(|other| {
            (other.has_no_room, &other.complaint, &other.uid)
                == (self.has_no_room, &self.complaint, &self.uid)
        })
    }
}

/// Keeps the first of those that are the same.
fn deduplicate(attachments: &mut Vec<(SourceKey, Attachment)>) {
    let mut seen = HashSet::new();
    attachments.retain(|(key, attachment)| {
        seen.insert((key.clone(), attachment.section.clone(), attachment.port))
    });
}

/// The names among these texts, as certificates have them, and what is wrong with the others. `*` is
/// every name and so none of a certificate.
fn readable(texts: &[String]) -> (Arc<[String]>, Option<String>) {
    let (mut names, mut errors, mut more) = (Vec::new(), Vec::new(), 0_usize);
    let mut bytes = 0;
    for text in texts.iter().filter(|text| *text != "*") {
        match text.parse::<DnsName>() {
            // One such name, and no certificate of the gateway could be issued.
            Ok(name) if !name.challenge_fits() || name.as_str().contains('_') => {
                let text: String = name.as_str().chars().take(MAX_TEXT).collect();
                match errors.len() {
                    MAX_TOLD => more += 1,
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
            Err(_) if errors.len() == MAX_TOLD => more += 1,
            Err(error) => errors.push(error.to_string().chars().take(MAX_TEXT).collect::<String>()),
        }
    }
    if more > 0 {
        errors.push(format!("{more} more"));
    }
    let complaint = format!("{LEFT_OUT}: {}", errors.join("; "));
    (names.into(), (!errors.is_empty()).then_some(complaint))
}

/// Feeds the index with the routes of one kind, read in one version of the API.
pub struct Routes<S> {
    index: Arc<Index>,
    version: &'static str,
    kind: PhantomData<fn(S)>,
}

impl<S> Routes<S> {
    pub(super) fn new(index: Arc<Index>, version: &'static str) -> Self {
        Self { index, version, kind: PhantomData }
    }
}

impl<S: Attached> EventHandler<Foreign<S>> for Routes<S> {
    fn applied(&self, object: Foreign<S>) {
        let route = Route::of(&object, self.version);
        self.index.put_route((S::KIND, ObjectKey::of(&object)), Some(route), None);
    }

    fn gone(&self, key: &ObjectKey) {
        let key = (S::KIND, key.clone());
        if self.index.route_version(&key) == Some(self.version) {
            self.index.put_route(key, None, None);
        }
    }

    fn keys(&self) -> Vec<ObjectKey> {
        self.index.routes(S::KIND, self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_routes_are_parsed_and_those_that_are_none_are_left_out_and_told() {
        let read = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            let (names, complaint) = readable(&texts);
            (names.join(" "), complaint.unwrap_or_default())
        };
        let long = format!("{}test", "a.".repeat(118));
        for (texts, names, complaint) in [
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
            assert!(text.contains(complaint), "{texts:?}: {text}");
            assert_eq!(text.is_empty(), complaint.is_empty(), "{texts:?}: {text}");
        }
        let many = vec!["a..b"; 1_000];
        let (_, text) = read(&many);
        assert!(text.len() < 800 && text.ends_with("; 995 more"), "{text}");
        let many: Vec<String> = (0..1_000).map(|it| format!("h{it}.test")).collect();
        let (names, complaint) = readable(&many);
        assert_eq!((names.len(), complaint.unwrap().ends_with(": 750 more")), (250, true));
    }

    #[test]
    fn a_route_is_attached_to_each_gateway_once_and_to_few() {
        let of = |gateways: Vec<String>| {
            let object = serde_json::json!({
                "metadata": {"namespace": "ns", "name": "r", "uid": "u"},
                "spec": {"gateways": gateways, "hosts": ["a.test"]},
            });
            let object = serde_json::from_value(object).unwrap();
            Route::of::<istio::VirtualServiceSpec>(&object, "v1")
        };
        let same = of((0..1_001).map(|it| if it % 2 == 0 { "g" } else { "ns/g" }.into()).collect());
        assert_eq!((same.attachments.len(), same.complaint), (1, None));
        let many = of((0..1_001).map(|it| format!("g{it}")).collect());
        let names = many.attachments.iter().map(|(key, _)| key.object.name.clone());
        assert_eq!(
            names.collect::<Vec<_>>(),
            (0..32).map(|it| format!("g{it}")).collect::<Vec<_>>()
        );
        assert!(
            many.complaint.unwrap().starts_with("only the first 32 of its 1001 gateways count")
        );
    }
}
