use super::*;

fn key(name: &str) -> ObjectKey {
    ObjectKey { namespace: "ns".into(), name: name.into() }
}

fn source(name: &str, ttl: u32, values: &[&str]) -> Source {
    let values = values.iter().map(|value| (*value).to_owned()).collect();
    Source { name: name.parse().unwrap(), values, ttl }
}

fn empty() -> Table {
    let zones = ["acme.test", "sub.acme.test"].map(|zone| zone.parse().unwrap());
    let addresses = ["192.0.2.1", "2001:db8::1"].map(|address| address.parse().unwrap());
    let mut table = Table::new(&zones, &addresses, 100);
    table.complete();
    table
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
        ("acme.test.", T::ANY, format!("NoError aa {}", soa("acme.test"))),
        ("ns.acme.test.", T::A, "NoError aa ns.acme.test. 300 192.0.2.1".into()),
        ("ns.acme.test.", T::AAAA, "NoError aa ns.acme.test. 300 2001:db8::1".into()),
        ("ns.acme.test.", T::TXT, nodata),
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
    assert!(table.names.is_empty() && table.above.is_empty() && table.sources.is_empty());
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
fn no_name_is_absent_before_the_entries_are_complete() {
    let mut table = Table::new(&["acme.test".parse().unwrap()], &[], 1);
    assert_eq!(ask(&table, "a.acme.test.", RecordType::TXT), "ServFail");
    table.put(&key("a"), source("a.acme.test", 1, &["v"]));
    assert_eq!(ask(&table, "a.acme.test.", RecordType::TXT), "NoError aa a.acme.test. 1 v");
    table.complete();
    assert!(ask(&table, "b.acme.test.", RecordType::TXT).starts_with("NXDomain"));
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
