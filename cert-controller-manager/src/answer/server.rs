//! The DNS server over UDP and TCP.
//!
//! hickory-server handles UDP and [`super::tcp`] handles TCP. [`Table::answer`](super::zone::Table::answer)
//! determines the answers. Everything but a plain query is refused.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use tokio::{
    net::{TcpListener, UdpSocket},
    task::JoinSet,
};
use tracing::info;

use super::{
    error::AnswerError,
    handler::{Handler, Shared},
    tcp::{self, Limits},
};

/// A DNS server with bound sockets.
pub struct Server {
    udp: hickory_server::Server<Handler>,
    /// Aborted when this is dropped.
    tcp: JoinSet<Infallible>,
    addresses: Vec<SocketAddr>,
}

impl Server {
    /// Binds all addresses for UDP and TCP. Port 0 selects a free port for both.
    ///
    /// # Errors
    /// When an address cannot be bound.
    pub async fn bind(listen: &[SocketAddr], table: Arc<Shared>) -> Result<Self, AnswerError> {
        let handler = Handler::new(table);
        let mut server = hickory_server::Server::new(handler.clone());
        let limits = Limits::of_this_process(listen.len());
        let (mut over_tcp, mut addresses) = (JoinSet::new(), Vec::new());
        for &address in listen {
            let bound = bind_both(address).await;
            let (udp, tcp) = bound.map_err(|source| AnswerError::Bind { address, source })?;
            addresses.push(udp.local_addr().unwrap_or(address));
            server.register_socket(udp);
            over_tcp.spawn(tcp::serve(tcp, handler.clone(), limits));
        }
        info!(?addresses, "answering DNS queries on {addresses:?}");
        Ok(Self { udp: server, tcp: over_tcp, addresses })
    }

    /// The bound addresses.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Runs until the server fails.
    ///
    /// # Errors
    /// When the server fails.
    pub async fn run(&mut self) -> Result<(), AnswerError> {
        tokio::select! {
            ended = self.udp.block_until_done() => {
                ended.map_err(|error| AnswerError::Server(error.to_string()))
            }
            Some(ended) = self.tcp.join_next() => match ended {
                Ok(never) => match never {},
                Err(error) => Err(AnswerError::Server(error.to_string())),
            },
        }
    }

    /// Stops listening and waits for running queries over UDP.
    ///
    /// # Errors
    /// When the server failed before.
    pub async fn stop(&mut self) -> Result<(), AnswerError> {
        self.tcp.shutdown().await;
        self.udp.shutdown_gracefully().await.map_err(|e| AnswerError::Server(e.to_string()))
    }
}

/// Binds UDP and TCP to the same port. With port 0, this is retried, because a free TCP port may be in use
/// for UDP.
async fn bind_both(address: SocketAddr) -> std::io::Result<(UdpSocket, TcpListener)> {
    let mut tries = if address.port() == 0 { 8 } else { 1 };
    loop {
        tries -= 1;
        let tcp = TcpListener::bind(address).await?;
        match UdpSocket::bind(tcp.local_addr()?).await {
            Ok(udp) => return Ok((udp, tcp)),
            Err(error) if tries == 0 => return Err(error),
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use cert_lib::net::{Record, RecordKind, Resolver, dns::Udp};
    use hickory_proto::{
        op::{Edns, Message, OpCode, Query, ResponseCode},
        rr::{DNSClass, Name, RecordType},
    };
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::{
        answer::zone::{Source, Table},
        api::ObjectKey,
    };

    /// A running server with `values` at one name, and its address.
    async fn serve(values: &[String]) -> (SocketAddr, tokio::task::JoinHandle<()>) {
        let mut table = Table::new(&["acme.test".parse().unwrap()], &[], 1);
        table.complete();
        let key = ObjectKey { namespace: "ns".into(), name: "a".into() };
        let name = "_c.acme.test".parse().unwrap();
        table.put(&key, Source { name, values: values.to_vec(), ttl: 10 });
        let listen = ["127.0.0.1:0".parse().unwrap()];
        let mut server = Server::bind(&listen, Arc::new(Shared::new(table))).await.unwrap();
        let address = server.addresses()[0];
        (address, tokio::spawn(async move { server.run().await.unwrap() }))
    }

    fn question(name: &str, kind: RecordType) -> Message {
        let mut message = Message::query();
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        message
    }

    async fn over_udp(server: SocketAddr, wire: &[u8]) -> Message {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(wire, server).await.unwrap();
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).await.unwrap();
        Message::from_vec(&buffer[..length]).unwrap()
    }

    async fn over_tcp(server: SocketAddr, wire: &[u8]) -> Message {
        let mut stream = tokio::net::TcpStream::connect(server).await.unwrap();
        stream.write_u16(u16::try_from(wire.len()).unwrap()).await.unwrap();
        stream.write_all(wire).await.unwrap();
        let mut buffer = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut buffer).await.unwrap();
        Message::from_vec(&buffer).unwrap()
    }

    #[tokio::test]
    async fn both_transports_answer_in_the_case_of_the_query() {
        let (server, task) = serve(&["v1".into(), "v2".into()]).await;
        let wire = question("_C.aCmE.test.", RecordType::TXT).to_vec().unwrap();
        for response in [over_udp(server, &wire).await, over_tcp(server, &wire).await] {
            assert!(response.metadata.authoritative && !response.metadata.truncation);
            assert_eq!(response.queries[0].name().to_string(), "_C.aCmE.test.");
            let names: Vec<_> = response.answers.iter().map(|r| r.name.to_string()).collect();
            assert_eq!(names, ["_C.aCmE.test."; 2]);
        }
        task.abort();
    }

    #[tokio::test]
    async fn our_resolver_falls_back_to_tcp_for_many_values() {
        let values: Vec<String> = (0..100).map(|n| format!("{n:0>43}")).collect();
        let (server, task) = serve(&values).await;
        let wire = question("_c.acme.test.", RecordType::TXT).to_vec().unwrap();
        let cut = over_udp(server, &wire).await;
        assert!(cut.metadata.truncation);

        let resolver = Udp::with_servers(vec![]);
        let name = "_c.acme.test".parse().unwrap();
        let answer = resolver.query(server, &name, RecordKind::Txt).await.unwrap();
        assert!(answer.authoritative);
        assert_eq!(answer.records, values.into_iter().map(Record::Text).collect::<Vec<_>>());
        let absent = "d.acme.test".parse().unwrap();
        let answer = resolver.query(server, &absent, RecordKind::Txt).await.unwrap();
        assert!(answer.no_such_name && answer.zone == Some("acme.test".parse().unwrap()));
        task.abort();
    }

    #[tokio::test]
    async fn other_messages_than_queries_are_refused() {
        let (server, task) = serve(&["v".into()]).await;
        let mut update = question("acme.test.", RecordType::SOA);
        update.metadata.op_code = OpCode::Update;
        let mut chaos = question("version.bind.", RecordType::TXT);
        chaos.queries[0].set_query_class(DNSClass::CH);
        let mut newer = question("_c.acme.test.", RecordType::TXT);
        newer.set_edns(Edns::new()).edns.as_mut().unwrap().set_version(1);
        let mut none = question("acme.test.", RecordType::SOA);
        none.queries.clear();
        for (message, want) in [
            (update, ResponseCode::NotImp),
            (chaos, ResponseCode::Refused),
            (question("acme.test.", RecordType::AXFR), ResponseCode::Refused),
            (question("elsewhere.test.", RecordType::TXT), ResponseCode::Refused),
            (newer, ResponseCode::BADVERS),
            (none, ResponseCode::FormErr),
        ] {
            let response = over_udp(server, &message.to_vec().unwrap()).await;
            // Compared as numbers, because BADVERS and BADSIG have the same code.
            assert_eq!(u16::from(response.metadata.response_code), u16::from(want));
            assert!(response.answers.is_empty() && !response.metadata.authoritative);
        }
        let garbage = [0xff; 40];
        UdpSocket::bind("127.0.0.1:0").await.unwrap().send_to(&garbage, server).await.unwrap();
        let wire = question("_c.acme.test.", RecordType::TXT).to_vec().unwrap();
        assert_eq!(over_udp(server, &wire).await.answers.len(), 1);
        task.abort();
    }
}
