use hickory_proto::rr::{Name, RData, rdata::TXT};
use tokio::net::TcpListener;

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
async fn strings_of_one_record_are_joined_and_forged_datagrams_skipped() {
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
async fn a_server_without_edns_is_queried_without_it() {
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
async fn a_refusal_names_its_code_and_a_timeout_both_transports() {
    let (_tcp, udp, server) = sockets().await;
    let answering = async {
        let mut buffer = [0; 512];
        let (length, client) = udp.recv_from(&mut buffer).await.unwrap();
        let refused = reply(&buffer[..length], ResponseCode::Refused, false, &[]);
        udp.send_to(&refused, client).await.unwrap();
    };
    let (refused, ()) = tokio::join!(query(server), answering);
    assert!(refused.unwrap_err().to_string().ends_with("answers REFUSED"));

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
async fn the_cname_of_the_name_itself_is_found_in_any_order() {
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
async fn an_answer_of_64_kilobytes_is_read_and_a_shortened_one_is_an_error() {
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
