use hickory_proto::{
    op::OpCode,
    rr::{
        RData, Record,
        rdata::{CNAME, NS, SOA},
    },
};

use super::*;

fn wire(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn soa(zone: &str) -> Record {
    let data = SOA::new(wire("ns.test."), wire("hostmaster.test."), 1, 60, 60, 60, 1);
    Record::from_rdata(wire(zone), 60, RData::SOA(data))
}

fn ns(zone: &str) -> Record {
    Record::from_rdata(wire(zone), 60, RData::NS(NS(wire("ns.test."))))
}

fn cname(name: &str) -> Record {
    Record::from_rdata(wire(name), 60, RData::CNAME(CNAME(wire("x.test."))))
}

#[test]
fn the_zone_of_a_name_is_read_from_authoritative_answers() {
    let name: DnsName = "_acme-challenge.a.test".parse().unwrap();
    let zone = |text: &str| Finding::Zone(text.parse().unwrap());
    let delegation = Finding::Delegation("a.test".parse().unwrap());
    let (found, absent) = (ResponseCode::NoError, ResponseCode::NXDomain);
    for (code, authoritative, answers, authorities, wanted) in [
        (absent, true, vec![], vec![soa("a.test.")], zone("a.test")),
        (found, true, vec![], vec![soa("A.test.")], zone("a.test")),
        (
            found,
            true,
            vec![soa("_acme-challenge.a.test.")],
            vec![ns("a.test.")],
            zone(name.as_str()),
        ),
        (found, false, vec![], vec![soa("a.test.")], Finding::Nothing),
        (found, true, vec![], vec![soa("b.test.")], Finding::Nothing),
        (found, true, vec![], vec![soa(".")], Finding::Nothing),
        (found, false, vec![], vec![ns("a.test.")], delegation),
        (found, false, vec![], vec![ns(".")], Finding::Nothing),
        (found, true, vec![cname(name.as_str())], vec![soa("test.")], Finding::Nothing),
        (ResponseCode::Refused, false, vec![], vec![], Finding::Nothing),
        (ResponseCode::ServFail, true, vec![], vec![soa("a.test.")], Finding::Nothing),
    ] {
        let mut message = Message::response(1, OpCode::Query);
        message.metadata.response_code = code;
        message.metadata.authoritative = authoritative;
        message.insert_answers(answers);
        message.insert_authorities(authorities);
        assert_eq!(read(&message, &name), wanted, "{message:?}");
    }
}
