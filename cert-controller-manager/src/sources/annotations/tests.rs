use super::*;

fn of(pairs: &[(&str, &str)]) -> Annotations {
    pairs
        .iter()
        .map(|(name, value)| (format!("cert.gardener.cloud/{name}"), (*value).to_owned()))
        .collect()
}

#[test]
fn names_are_taken_from_annotations_as_upstream_does() {
    let annotated = |names: &[&str]| Names::Annotated(names.iter().copied().collect());
    let of_hosts = |name: Option<&str>| Names::OfHosts(name.map(str::to_owned));
    type Row<'a> = (&'a [(&'a str, &'a str)], Option<&'a str>, Names, Names);
    let rows: [Row<'_>; 12] = [
        (&[], None, of_hosts(None), of_hosts(None)),
        (&[("commonname", " a ")], None, of_hosts(Some("a")), annotated(&["a"])),
        (&[("dnsnames", "a, b,,")], None, annotated(&["a", "b"]), annotated(&["a", "b"])),
        (
            &[("commonname", "b"), ("dnsnames", "a,b")],
            None,
            annotated(&["b", "a"]),
            annotated(&["b", "a"]),
        ),
        (&[("commonname", "a"), ("dnsnames", "")], None, annotated(&["a"]), annotated(&["a"])),
        (
            &[("dnsnames", "a b\nc\r\n\td,\u{a0}e")],
            None,
            annotated(&["a", "b", "c", "d", "e"]),
            annotated(&["a", "b", "c", "d", "e"]),
        ),
        (
            &[("commonname", "A.x"), ("dnsnames", "b,a.x,B.,b,c")],
            None,
            annotated(&["A.x", "b", "c"]),
            annotated(&["A.x", "b", "c"]),
        ),
        (
            &[("dnsnames", "\"a b\";c")],
            None,
            annotated(&["\"a", "b\";c"]),
            annotated(&["\"a", "b\";c"]),
        ),
        (&[("commonname", "a b")], None, of_hosts(Some("a b")), annotated(&["a b"])),
        (&[], Some("d"), of_hosts(None), annotated(&["d"])),
        (&[], Some("*"), of_hosts(None), of_hosts(None)),
        (&[("commonname", "a")], Some("all"), of_hosts(Some("a")), annotated(&["a"])),
    ];
    for (pairs, of_dns, others, service) in rows {
        let mut annotations = of(pairs);
        if let Some(text) = of_dns {
            annotations.insert(DNS_NAMES_OF_DNS.to_owned(), text.to_owned());
        }
        assert_eq!(names(&annotations, false), others, "{annotations:?}");
        assert_eq!(names(&annotations, true), service, "{annotations:?} of a Service");
    }
}

#[test]
fn every_option_is_read_from_its_annotation() {
    let annotations = of(&[
        ("issuer", "ns/i"),
        ("follow-cname", "true"),
        ("preferred-chain", "root"),
        ("profile", "shortlived"),
        ("private-key-algorithm", "ECDSA"),
        ("private-key-size", "384"),
        ("private-key-encoding", "PKCS8"),
        ("secret-labels", "a=b, c = d,e"),
        ("renew-before", "1h30m"),
        ("dnsrecord-provider-type", "local"),
    ]);
    let mut problems = Vec::new();
    let options = options(&annotations, &mut problems);
    let labels = [("a", "b"), ("c", "d")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(
        options,
        Options {
            issuer: Some(IssuerRef { name: "i".into(), namespace: Some("ns".into()) }),
            follow_cname: true,
            preferred_chain: Some("root".into()),
            profile: Some("shortlived".into()),
            private_key: Some(PrivateKeySpec {
                algorithm: Some(KeyAlgorithm::Ecdsa),
                size: Some(384),
                encoding: Some(KeyEncoding::Pkcs8),
                rotation_policy: None,
            }),
            renew_before: Some("1h30m0s".into()),
            secret_labels: Some(labels.into()),
            copied: of(&[("dnsrecord-provider-type", "local")]),
        }
    );
    assert_eq!(problems, Vec::<String>::new());
}

#[test]
fn invalid_annotations_are_ignored_and_reported() {
    let too_many: String = (0..65).map(|number| format!("l{number}=,")).collect();
    let long = "x".repeat(257);
    for (name, value, why) in [
        ("renew-before", "", None),
        ("renew-before", "soon", Some("is no duration")),
        ("renew-before", "4m59s", Some("at least 5 minutes")),
        ("private-key-algorithm", "DSA", Some("RSA or ECDSA")),
        ("private-key-size", "512", Some("256, 384")),
        ("private-key-size", "x", Some("256, 384")),
        ("private-key-encoding", "PKCS8", None),
        ("follow-cname", "yes", None),
        ("secret-labels", "x", None),
        ("secret-labels", &too_many, Some("more than 64 labels")),
        ("secret-labels", &"a=b,".repeat(2_049), Some("longer than 8192 bytes: it is ignored")),
        ("preferred-chain", &long, Some("longer than 256 bytes: it is ignored")),
        ("profile", &long, Some("longer than 256 bytes: it is ignored")),
        ("dnsrecord-class", &long, Some("longer than 256 bytes: it is ignored")),
    ] {
        let mut problems = Vec::new();
        assert_eq!(options(&of(&[(name, value)]), &mut problems), Options::default());
        match why {
            Some(why) => assert!(problems.join(" ").contains(why), "{problems:?}"),
            None => assert_eq!(problems, Vec::<String>::new(), "{name}={value}"),
        }
    }
}

#[test]
fn a_value_that_is_too_long_is_cut_and_still_refused() {
    let large = "ä".repeat(100_000);
    let names = ["issuer", "commonname", "dnsnames", "secret-labels", "profile", "purpose"];
    let mut all = of(&names.map(|name| (name, large.as_str())));
    all.insert("example.org/foreign".to_owned(), large.clone());
    all.insert("cert.gardener.cloud/unknown".to_owned(), large.clone());
    let kept = keep(&all);
    assert_eq!(kept.len(), names.len());
    let size: usize = kept.values().map(String::len).sum();
    assert!(size <= MAX_NAMES_TEXT + MAX_LABELS_TEXT + 4 * MAX_TEXT + 12, "{size}");
    for name in ["issuer", "commonname", "dnsnames"] {
        let one = keep(&of(&[(name, &large)]));
        assert!(refusal(&one, false).is_some_and(|why| why.contains(name)), "{name}");
    }
    let of_dns = keep(&[(DNS_NAMES_OF_DNS.to_owned(), large)].into());
    assert!(refusal(&of_dns, true).is_some() && refusal(&of_dns, false).is_none());
    let fits = of(&[("issuer", &"x".repeat(256)), ("dnsnames", &"x".repeat(32 << 10))]);
    assert_eq!((refusal(&keep(&fits), true), keep(&fits)), (None, fits));
}

#[test]
fn a_listener_set_inherits_all_annotations_but_names_from_its_gateway() {
    let parent = of(&[("purpose", "managed"), ("issuer", "a"), ("dnsnames", "x")]);
    let all = inherit(&of(&[("issuer", "b")]), &parent);
    assert_eq!(all, of(&[("purpose", "managed"), ("issuer", "b")]));
}
