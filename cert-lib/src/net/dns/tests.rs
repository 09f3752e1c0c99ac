use hickory_proto::rr::{Name, RData, rdata::TXT};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, UdpSocket},
};

use super::*;
use crate::net::Record;

#[test]
fn name_servers_are_read_from_resolv_conf() {
    let text = "# nameserver 9.9.9.9\nsearch example.org\nnameserver 10.0.0.10 # cluster\n\
                nameserver\nnameserver fe80::1%eth0\n  nameserver 2001:db8::53\noptions ndots:5";
    let servers = parse_resolv_conf(text);
    assert_eq!(servers, ["10.0.0.10:53".parse().unwrap(), "[2001:db8::53]:53".parse().unwrap()]);
    assert!(parse_resolv_conf("").is_empty());
}

/// A TCP listener and a UDP socket with one port.
async fn sockets() -> (TcpListener, UdpSocket, SocketAddr) {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        if let Ok(udp) = UdpSocket::bind(address).await {
            return (tcp, udp, address);
        }
    }
}

/// A response with a code, truncated or not, and a text.
fn reply(question: &[u8], code: ResponseCode, truncated: bool, text: &[&str]) -> Vec<u8> {
    let mut message = Message::from_vec(question).unwrap().into_response();
    message.metadata.authoritative = true;
    message.metadata.truncation = truncated;
    message.metadata.response_code = code;
    let strings = text.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
    if !strings.is_empty() {
        let name = message.queries[0].name().clone();
        message.add_answer(hickory_proto::rr::Record::from_rdata(
            name,
            1,
            RData::TXT(TXT::new(strings)),
        ));
    }
    message.to_vec().unwrap()
}

async fn serve_tcp_once(tcp: &TcpListener, text: &[&str]) {
    let (mut stream, _) = tcp.accept().await.unwrap();
    let mut question = vec![0; usize::from(stream.read_u16().await.unwrap())];
    stream.read_exact(&mut question).await.unwrap();
    let wire = reply(&question, ResponseCode::NoError, false, text);
    stream.write_u16(u16::try_from(wire.len()).unwrap()).await.unwrap();
    stream.write_all(&wire).await.unwrap();
}

async fn query(server: SocketAddr) -> Result<Answer, ResolveError> {
    let name = "_acme-challenge.example.org".parse().unwrap();
    Udp::with_servers(vec![]).query(server, &name, RecordKind::Txt).await
}

#[tokio::test]
async fn fault_39_strings_of_one_record_are_joined_and_malformed_datagrams_skipped() {
    let (_tcp, udp, server) = sockets().await;
    let answering = async {
        let mut buffer = [0; 512];
        let (length, client) = udp.recv_from(&mut buffer).await.unwrap();
        let good = reply(&buffer[..length], ResponseCode::NoError, false, &["ab", "cd"]);
        let mut forged = good.clone();
        forged[0] ^= 0xff;
        for datagram in [&b"\0\x01garbage"[..], &forged, &buffer[..length], &good] {
            udp.send_to(datagram, client).await.unwrap();
        }
    };
    let (answer, ()) = tokio::join!(query(server), answering);
    let answer = answer.unwrap();
    assert!(answer.authoritative);
    assert_eq!(answer.records, [Record::Text("abcd".to_owned())]);
}

#[tokio::test]
async fn a_truncated_answer_is_retried_over_tcp() {
    let (tcp, udp, server) = sockets().await;
    let answering = async {
        let mut buffer = [0; 512];
        let (length, client) = udp.recv_from(&mut buffer).await.unwrap();
        let cut = reply(&buffer[..length], ResponseCode::NoError, true, &[]);
        udp.send_to(&cut, client).await.unwrap();
        serve_tcp_once(&tcp, &["whole"]).await;
    };
    let (answer, ()) = tokio::join!(query(server), answering);
    assert_eq!(answer.unwrap().records, [Record::Text("whole".to_owned())]);
}

#[tokio::test]
async fn fault_39_a_server_without_edns_is_queried_without_it() {
    let (_tcp, udp, server) = sockets().await;
    let answering = async {
        let mut buffer = [0; 512];
        for text in [&[][..], &["plain"]] {
            let (length, client) = udp.recv_from(&mut buffer).await.unwrap();
            let edns = Message::from_vec(&buffer[..length]).unwrap().edns.is_some();
            let code = if edns { ResponseCode::FormErr } else { ResponseCode::NoError };
            udp.send_to(&reply(&buffer[..length], code, false, text), client).await.unwrap();
        }
    };
    let (answer, ()) = tokio::join!(query(server), answering);
    assert_eq!(answer.unwrap().records, [Record::Text("plain".to_owned())]);
}

#[tokio::test]
async fn fault_39_a_failure_names_its_code_and_a_timeout_both_transports() {
    for (code, want) in [(ResponseCode::Refused, "REFUSED"), (ResponseCode::ServFail, "SERVFAIL")] {
        let (_tcp, udp, server) = sockets().await;
        let answering = async {
            let mut buffer = [0; 512];
            let (length, client) = udp.recv_from(&mut buffer).await.unwrap();
            let failure = reply(&buffer[..length], code, false, &[]);
            udp.send_to(&failure, client).await.unwrap();
        };
        let (failed, ()) = tokio::join!(query(server), answering);
        let want = format!("name server {server} answers {want}");
        assert_eq!(failed.unwrap_err().to_string(), want);
    }

    // No process listens there.
    let silent = query("127.0.0.1:1".parse().unwrap()).await.unwrap_err().to_string();
    assert!(silent.contains("UDP: ") && silent.contains("TCP: "), "{silent}");
}

/// One answer for the CNAME of the challenge name, with these records.
async fn aliased(records: &[(&str, &str)]) -> Result<Answer, ResolveError> {
    let (_tcp, udp, server) = sockets().await;
    let answering = async {
        let mut buffer = [0; 512];
        let (length, client) = udp.recv_from(&mut buffer).await.unwrap();
        let question = Message::from_vec(&buffer[..length]).unwrap();
        assert!(!question.metadata.recursion_desired, "no cache shall remember the absence");
        let mut message = question.into_response();
        message.metadata.authoritative = true;
        for (from, to) in records {
            let name = |text: &str| Name::from_ascii(text).unwrap();
            let target = RData::CNAME(hickory_proto::rr::rdata::CNAME(name(to)));
            message.add_answer(hickory_proto::rr::Record::from_rdata(name(from), 1, target));
        }
        udp.send_to(&message.to_vec().unwrap(), client).await.unwrap();
    };
    let name = "_acme-challenge.example.org".parse().unwrap();
    let resolver = Udp::with_servers(vec![]);
    let asking = resolver.query(server, &name, RecordKind::Cname);
    tokio::join!(asking, answering).0
}

#[tokio::test]
async fn fault_39_the_cname_of_the_name_itself_is_found_in_any_order() {
    const NAME: &str = "_ACME-challenge.Example.org.";
    for (records, want) in [
        (&[][..], None),
        (&[(NAME, "a.test.")], Some("a.test")),
        (&[("b.test.", "c.test."), ("a.test.", "b.test."), (NAME, "a.test.")], Some("a.test")),
        (&[("elsewhere.test.", "a.test.")], None),
        (&[(NAME, "b.test."), (NAME, "a.test.")], Some("a.test")),
        (&[(NAME, "a.test."), (NAME, "b.test.")], Some("a.test")),
    ] {
        let alias = aliased(records).await.unwrap().alias;
        assert_eq!(alias, want.map(|name| name.parse().unwrap()), "{records:?}");
    }
    for odd in ["*.a.test.", ".", "a\\.b.test."] {
        let error = aliased(&[(NAME, odd)]).await.unwrap_err().to_string();
        assert!(error.contains("where nothing can be published"), "{odd}: {error}");
    }
}

#[tokio::test]
async fn fault_39_an_answer_of_64_kilobytes_is_read_and_a_shortened_one_is_an_error() {
    let large = vec!["x".repeat(250); 255];
    let large: Vec<&str> = large.iter().map(String::as_str).collect();
    for (promised, whole) in [(false, true), (true, false)] {
        let (tcp, udp, server) = sockets().await;
        let large = &large;
        let answering = async {
            let mut buffer = [0; 512];
            let (length, client) = udp.recv_from(&mut buffer).await.unwrap();
            let cut = reply(&buffer[..length], ResponseCode::NoError, true, &[]);
            udp.send_to(&cut, client).await.unwrap();
            if promised {
                let (mut stream, _) = tcp.accept().await.unwrap();
                stream.write_all(&[0xff, 0xff, 0, 0, 0]).await.unwrap();
            } else {
                serve_tcp_once(&tcp, large).await;
            }
        };
        let (answer, ()) = tokio::join!(query(server), answering);
        assert_eq!(answer.is_ok(), whole, "{answer:?}");
    }
}

#[tokio::test]
async fn fault_39_a_truncated_answer_with_tcp_refused_names_both_transports() {
    let (tcp, udp, server) = sockets().await;
    drop(tcp);
    let answering = async {
        let mut buffer = [0; 512];
        let (length, client) = udp.recv_from(&mut buffer).await.unwrap();
        let cut = reply(&buffer[..length], ResponseCode::NoError, true, &["part"]);
        udp.send_to(&cut, client).await.unwrap();
    };
    let (answer, ()) = tokio::join!(query(server), answering);
    let error = answer.unwrap_err().to_string();
    let start = format!("name server {server} does not answer: UDP: cut off; TCP: ");
    assert!(error.starts_with(&start) && error.contains("refused"), "{error}");
}

/// A firewall may remove the OPT record of answers, or of questions.
#[tokio::test]
async fn fault_39_an_answer_whose_edns_was_removed_is_read() {
    let (_tcp, udp, server) = sockets().await;
    let answering = async {
        let mut buffer = [0; 512];
        let (length, client) = udp.recv_from(&mut buffer).await.unwrap();
        let wire = reply(&buffer[..length], ResponseCode::NoError, false, &["plain"]);
        let mut stripped = Message::from_vec(&wire).unwrap();
        stripped.edns = None;
        udp.send_to(&stripped.to_vec().unwrap(), client).await.unwrap();
    };
    let (answer, ()) = tokio::join!(query(server), answering);
    assert_eq!(answer.unwrap().records, [Record::Text("plain".to_owned())]);
}

type Damage = fn(&mut Vec<u8>);

/// Lies of a server about its own message, over TCP, where no other answer can follow.
#[tokio::test]
async fn fault_39_a_malformed_message_is_an_error() {
    let whole = |question: &[u8]| reply(question, ResponseCode::NoError, false, &["x"]);
    let damages: [(&str, Damage); 6] = [
        ("no message", |wire| wire.clear()),
        ("half a message", |wire| wire.truncate(wire.len() / 2)),
        ("more answers than there are", |wire| wire[6] = 0xff),
        ("a name that points to itself", |wire| {
            wire.truncate(12);
            wire.extend([0xc0, 12, 0, 16, 0, 1]);
        }),
        ("a record that is longer than the message", |wire| {
            let end = wire.len();
            // The length of the data precedes the length of its only string.
            let at = wire.windows(2).rposition(|pair| pair == [1, b'x']).unwrap_or(end);
            wire[at - 1] = 0xff;
        }),
        ("a question", |wire| wire[2] &= 0x7f),
    ];
    for (damage, apply) in damages {
        let (tcp, udp, server) = sockets().await;
        let answering = async {
            let mut buffer = [0; 512];
            let (length, client) = udp.recv_from(&mut buffer).await.unwrap();
            let cut = reply(&buffer[..length], ResponseCode::NoError, true, &[]);
            udp.send_to(&cut, client).await.unwrap();
            let (mut stream, _) = tcp.accept().await.unwrap();
            let mut question = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut question).await.unwrap();
            let mut wire = whole(&question);
            apply(&mut wire);
            stream.write_u16(u16::try_from(wire.len()).unwrap()).await.unwrap();
            stream.write_all(&wire).await.unwrap();
        };
        let (answer, ()) = tokio::join!(query(server), answering);
        let error = answer.expect_err(damage).to_string();
        assert!(error.ends_with("TCP: something that is no answer to the question"), "{error}");
    }
}

/// A resolver returns the whole chain, and the records of its end.
#[tokio::test]
async fn fault_39_the_values_behind_20_cnames_are_read_in_any_order() {
    let (tcp, udp, server) = sockets().await;
    let answering = async {
        let mut buffer = [0; 512];
        let (length, client) = udp.recv_from(&mut buffer).await.unwrap();
        let cut = reply(&buffer[..length], ResponseCode::NoError, true, &[]);
        udp.send_to(&cut, client).await.unwrap();
        let (mut stream, _) = tcp.accept().await.unwrap();
        let mut question = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut question).await.unwrap();
        let mut message = Message::from_vec(&question).unwrap().into_response();
        let hop = |n: usize| Name::from_ascii(format!("h{n}.test.")).unwrap();
        let text = RData::TXT(TXT::new(vec!["end".to_owned()]));
        message.add_answer(hickory_proto::rr::Record::from_rdata(hop(20), 1, text));
        for n in (0..20).rev() {
            let owner = if n == 0 { message.queries[0].name().clone() } else { hop(n) };
            let target = RData::CNAME(hickory_proto::rr::rdata::CNAME(hop(n + 1)));
            message.add_answer(hickory_proto::rr::Record::from_rdata(owner, 1, target));
        }
        let wire = message.to_vec().unwrap();
        stream.write_u16(u16::try_from(wire.len()).unwrap()).await.unwrap();
        stream.write_all(&wire).await.unwrap();
    };
    let (answer, ()) = tokio::join!(query(server), answering);
    let answer = answer.unwrap();
    assert_eq!(answer.records, [Record::Text("end".to_owned())]);
    assert_eq!(answer.alias, Some("h1.test".parse().unwrap()));
}
