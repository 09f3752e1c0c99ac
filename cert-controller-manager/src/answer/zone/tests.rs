use super::*;

fn key(name: &str) -> RecordKey {
    key_from(Origin::Entries, name)
}

fn key_from(origin: Origin, name: &str) -> RecordKey {
    RecordKey { origin, object: ObjectKey { namespace: "ns".into(), name: name.into() } }
}

fn source(name: &str, ttl: u32, values: &[&str]) -> Vec<Source> {
    let values = values.iter().map(|value| (*value).to_owned()).collect();
    vec![Source { name: name.parse().unwrap(), values, ttl }]
}

fn options() -> ZoneOptions {
    let zones = ["acme.test", "sub.acme.test", "far.below.acme.test"];
    let addresses = ["192.0.2.1", "2001:db8::1"].map(|address| address.parse().unwrap());
    ZoneOptions {
        addresses: addresses.to_vec(),
        ..ZoneOptions::of(zones.map(|zone| zone.parse().unwrap()).to_vec())
    }
}

fn empty() -> Table {
    Table::new(&options(), &[], 100)
}

fn table() -> Table {
    let mut table = empty();
    table.put(&key("a"), source("_c.a.b.acme.test", 120, &["v1", "v2"]));
    table.put(&key("b"), source("_c.a.b.acme.test", 3, &["v3", "v1"]));
    table.put(&key("c"), source("x.sub.acme.test", 5, &["v4"]));
    table
}

/// Formats a reply: code, AA, answers with TTL; then `/` and the authority section.
fn ask(table: &Table, name: &str, kind: RecordType) -> String {
    let reply = table.answer(&Name::from_ascii(name).unwrap(), kind);
    let line = |record: &Record| format!(" {} {} {}", record.name, record.ttl, record.data);
    let aa = if reply.authoritative { " aa" } else { "" };
    let mut text = format!("{:?}{aa}", reply.code);
    text.extend(reply.answers.iter().map(line));
    if !reply.authority.is_empty() {
        text.push_str(" /");
        text.extend(reply.authority.iter().map(line));
    }
    text
}

#[test]
fn queries_are_answered() {
    use RecordType as T;
    let table = table();
    let soa = |zone: &str| format!("{zone}. 5 ns.{zone}. hostmaster.{zone}. 103 3600 600 86400 5");
    let nodata = format!("NoError aa / {}", soa("acme.test"));
    let nxdomain = format!("NXDomain aa / {}", soa("acme.test"));
    for (name, kind, want) in [
        // The values of both entries without duplicates, with the lowest TTL.
        (
            "_c.a.b.acme.test.",
            T::TXT,
            "NoError aa _c.a.b.acme.test. 3 v1 _c.a.b.acme.test. 3 v2 _c.a.b.acme.test. 3 v3"
                .into(),
        ),
        ("_C.a.B.acme.TEST.", T::A, nodata.clone()),
        ("a.b.acme.test.", T::TXT, nodata.clone()),
        ("b.acme.test.", T::TXT, nodata.clone()),
        ("x.b.acme.test.", T::TXT, nxdomain.clone()),
        ("d._c.a.b.acme.test.", T::TXT, nxdomain.clone()),
        // A dot inside a label does not separate labels.
        ("_c.a\\.b.acme.test.", T::TXT, nxdomain.clone()),
        ("a\\.acme.test.", T::TXT, "Refused".into()),
        ("acme.test.", T::SOA, format!("NoError aa {}", soa("acme.test"))),
        ("acme.test.", T::NS, "NoError aa acme.test. 300 ns.acme.test.".into()),
        ("ACME.test.", T::NS, "NoError aa ACME.test. 300 ns.acme.test.".into()),
        ("acme.test.", T::TXT, nodata.clone()),
        ("acme.test.", T::ANY, "NoError aa acme.test. 300 RFC8482 ".into()),
        ("_c.a.b.acme.test.", T::ANY, "NoError aa _c.a.b.acme.test. 300 RFC8482 ".into()),
        ("b.acme.test.", T::ANY, "NoError aa b.acme.test. 300 RFC8482 ".into()),
        ("x.acme.test.", T::ANY, nxdomain.clone()),
        ("ns.acme.test.", T::A, "NoError aa ns.acme.test. 300 192.0.2.1".into()),
        ("ns.acme.test.", T::AAAA, "NoError aa ns.acme.test. 300 2001:db8::1".into()),
        ("ns.acme.test.", T::TXT, nodata.clone()),
        // Zones below a name let it exist.
        ("below.acme.test.", T::TXT, nodata),
        // The nested zone is authoritative.
        ("x.sub.acme.test.", T::TXT, "NoError aa x.sub.acme.test. 5 v4".into()),
        ("y.sub.acme.test.", T::TXT, format!("NXDomain aa / {}", soa("sub.acme.test"))),
        ("test.", T::SOA, "Refused".into()),
        ("other.test.", T::TXT, "Refused".into()),
        ("badacme.test.", T::TXT, "Refused".into()),
        (".", T::NS, "Refused".into()),
    ] {
        assert_eq!(ask(&table, name, kind), want, "{name} {kind}");
    }
}

#[test]
fn the_answer_has_the_case_of_the_query() {
    let reply = table().answer(&Name::from_ascii("X.sUb.AcMe.test.").unwrap(), RecordType::TXT);
    assert_eq!(reply.answers[0].name.to_string(), "X.sUb.AcMe.test.");
}

#[test]
fn the_name_server_has_its_addresses_in_the_additional_section() {
    let reply = table().answer(&Name::from_ascii("acme.test.").unwrap(), RecordType::NS);
    assert_eq!(reply.additional.len(), 2);
}

#[test]
fn removed_entries_remove_empty_parent_names() {
    let mut table = table();
    table.remove(&key("a"));
    let name = "_c.a.b.acme.test.";
    let left = "NoError aa _c.a.b.acme.test. 3 v1 _c.a.b.acme.test. 3 v3";
    assert_eq!(ask(&table, name, RecordType::TXT), left);
    table.put(&key("b"), source("_c.b.acme.test", 3, &["v3"]));
    assert!(ask(&table, "a.b.acme.test.", RecordType::TXT).starts_with("NXDomain"));
    assert!(ask(&table, "b.acme.test.", RecordType::TXT).starts_with("NoError"));
    table.remove(&key("b"));
    table.remove(&key("b"));
    table.remove(&key("c"));
    assert!(table.records.is_empty());
}

#[test]
fn only_changes_increase_the_serial() {
    let mut table = empty();
    let mut serials = vec![table.serial];
    for source in [source("a.acme.test", 1, &["v"]), source("a.acme.test", 1, &["v"])] {
        table.put(&key("a"), source);
        serials.push(table.serial);
    }
    table.remove(&key("a"));
    serials.push(table.serial);
    table.remove(&key("a"));
    serials.push(table.serial);
    assert_eq!(serials, [100, 101, 101, 102, 102]);
}

#[test]
fn no_name_is_absent_before_all_origins_are_complete() {
    let mut table = Table::new(&options(), &[Origin::Entries, Origin::Orders], 1);
    assert_eq!(ask(&table, "a.acme.test.", RecordType::TXT), "ServFail");
    table.put(&key("a"), source("a.acme.test", 1, &["v"]));
    assert_eq!(ask(&table, "a.acme.test.", RecordType::TXT), "NoError aa a.acme.test. 1 v");
    table.complete(Origin::Entries);
    assert_eq!(ask(&table, "b.acme.test.", RecordType::TXT), "ServFail");
    table.complete(Origin::Orders);
    assert!(table.is_complete());
    assert!(ask(&table, "b.acme.test.", RecordType::TXT).starts_with("NXDomain"));
}

#[test]
fn objects_of_all_origins_publish_values_at_several_names() {
    let mut table = empty();
    let order = key_from(Origin::Orders, "a");
    let sources = ["x", "y", "x"].map(|name| source(&format!("{name}.acme.test"), 9, &[name]));
    table.put(&order, sources.concat());
    table.put(&key("a"), source("x.acme.test", 5, &["entry"]));
    let both = "NoError aa x.acme.test. 5 entry x.acme.test. 5 x";
    assert_eq!(ask(&table, "x.acme.test.", RecordType::TXT), both);
    assert_eq!(ask(&table, "y.acme.test.", RecordType::TXT), "NoError aa y.acme.test. 9 y");
    assert_eq!(table.keys(Origin::Orders), std::slice::from_ref(&order.object));
    table.put(&order, source("y.acme.test", 9, &["y2"]));
    assert_eq!(ask(&table, "y.acme.test.", RecordType::TXT), "NoError aa y.acme.test. 9 y2");
    let entry = "NoError aa x.acme.test. 5 entry";
    assert_eq!(ask(&table, "x.acme.test.", RecordType::TXT), entry);
    table.put(&order, vec![]);
    table.remove(&key("a"));
    assert!(table.records.is_empty());
}

#[test]
fn a_name_server_outside_the_zones_has_no_addresses_here() {
    let options = ZoneOptions {
        server: Some("dns.elsewhere.test".parse().unwrap()),
        mailbox: Some("jo.doe@elsewhere.test".parse().unwrap()),
        ..options()
    };
    let table = Table::new(&options, &[], 1);
    let soa = r"acme.test. 5 dns.elsewhere.test. jo\.doe.elsewhere.test. 1 3600 600 86400 5";
    for (name, kind, want) in [
        ("acme.test.", RecordType::NS, "NoError aa acme.test. 300 dns.elsewhere.test.".to_owned()),
        ("acme.test.", RecordType::SOA, format!("NoError aa {soa}")),
        ("ns.acme.test.", RecordType::A, format!("NXDomain aa / {soa}")),
        ("dns.elsewhere.test.", RecordType::A, "Refused".to_owned()),
    ] {
        assert_eq!(ask(&table, name, kind), want, "{name} {kind}");
    }
    let reply = table.answer(&Name::from_ascii("acme.test.").unwrap(), RecordType::NS);
    assert!(reply.additional.is_empty());
}

#[test]
fn one_name_server_may_serve_all_zones() {
    let server = Some("a.b.sub.acme.test".parse().unwrap());
    let table = Table::new(&ZoneOptions { server, ..options() }, &[], 1);
    let name = |text: &str| Name::from_ascii(text).unwrap();
    for zone in ["acme.test.", "sub.acme.test."] {
        let reply = table.answer(&name(zone), RecordType::NS);
        assert_eq!(reply.additional.len(), 2, "{zone}");
        assert_eq!(reply.additional[0].name, name("a.b.sub.acme.test."));
    }
    let address = "NoError aa a.b.sub.acme.test. 300 192.0.2.1";
    assert_eq!(ask(&table, "a.b.sub.acme.test.", RecordType::A), address);
    assert!(ask(&table, "b.sub.acme.test.", RecordType::A).starts_with("NoError aa /"));
    assert!(ask(&table, "ns.acme.test.", RecordType::A).starts_with("NXDomain aa /"));
}

#[test]
fn the_ttl_of_values_is_limited_and_that_of_absence_is_half_of_it() {
    for (configured, of_entry, value, negative) in [
        (10, 120, 10, 5),
        (10, 3, 3, 5),
        (0, 120, 0, 0),
        (1, 120, 1, 1),
        (9_999, 9_999, 3600, 1800),
    ] {
        let mut table = Table::new(&ZoneOptions { ttl: configured, ..options() }, &[], 1);
        table.put(&key("a"), source("a.acme.test", of_entry, &["v"]));
        let want = format!("NoError aa a.acme.test. {value} v");
        assert_eq!(ask(&table, "a.acme.test.", RecordType::TXT), want);
        let absent = ask(&table, "b.acme.test.", RecordType::TXT);
        let want = format!("NXDomain aa / acme.test. {negative} ns.acme.test. ");
        assert!(absent.starts_with(&want), "{absent}");
        assert!(absent.ends_with(&format!(" {negative}")), "{absent}");
    }
}

#[test]
fn a_long_value_is_split_into_strings_of_one_record() {
    let mut table = empty();
    table.put(&key("a"), source("a.acme.test", 1, &[&"v".repeat(600)]));
    let reply = table.answer(&Name::from_ascii("a.acme.test.").unwrap(), RecordType::TXT);
    let RData::TXT(txt) = &reply.answers[0].data else { panic!("no TXT") };
    let lengths: Vec<_> = txt.txt_data.iter().map(|string| string.len()).collect();
    assert_eq!((reply.answers.len(), lengths), (1, vec![255, 255, 90]));
}
