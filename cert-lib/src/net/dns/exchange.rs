//! One exchange with one DNS server over UDP or TCP, within a deadline. Opens a socket per exchange.
//!
//! A socket is used directly and not a client with a background task, because nothing in this crate
//! spawns. Not here: the fallback from UDP to TCP, which depends on the reason.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

/// Sends `wire` in one datagram and returns what `read` makes of the answer. A datagram that `read`
/// does not accept may be forged: the right one may still arrive.
pub(crate) async fn over_udp<T>(
    server: SocketAddr,
    wire: &[u8],
    read: impl Fn(&[u8]) -> Option<T>,
) -> Result<T, ExchangeError> {
    within_deadline(async {
        let any: IpAddr = match server {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).await?;
        // A connected socket only receives datagrams of the server.
        socket.connect(server).await?;
        socket.send(wire).await?;
        let mut buffer = vec![0; usize::from(MAX_DATAGRAM)];
        for _ in 0..MAX_STRAY_DATAGRAMS {
            let length = socket.recv(&mut buffer).await?;
            if let Some(answer) = read(buffer.get(..length).unwrap_or_default()) {
                return Ok(answer);
            }
        }
        Err(ExchangeError::NotAnAnswer)
    })
    .await
}

/// Sends `wire` over a connection of its own and returns what `read` makes of the answer.
pub(crate) async fn over_tcp<T>(
    server: SocketAddr,
    wire: &[u8],
    read: impl Fn(&[u8]) -> Option<T>,
) -> Result<T, ExchangeError> {
    within_deadline(async {
        let length = u16::try_from(wire.len()).map_err(|_| ExchangeError::TooLarge)?;
        let mut stream = TcpStream::connect(server).await?;
        // In one write, because a server may read the length as the whole message.
        stream.write_all(&[&length.to_be_bytes(), wire].concat()).await?;
        let mut buffer = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut buffer).await?;
        read(&buffer).ok_or(ExchangeError::NotAnAnswer)
    })
    .await
}

/// Whether `response` is for this `question`. A server that fails or refuses may omit the question,
/// and one that is updated may always (RFC 2136 section 3.8).
pub(crate) fn answers(question: &Message, response: &Message) -> bool {
    let of_response = &response.metadata;
    let code = of_response.response_code;
    let same_question = match response.queries.as_slice() {
        [] if question.metadata.op_code == OpCode::Update => true,
        [] => !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain),
        queries => queries == question.queries,
    };
    of_response.message_type == MessageType::Response
        && of_response.id == question.metadata.id
        && same_question
}

/// The mnemonics of the registry (RFC 6895 section 2.3), which users search for.
pub(crate) fn code_name(code: ResponseCode) -> String {
    match code {
        ResponseCode::FormErr => "FORMERR".to_owned(),
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::NXDomain => "NXDOMAIN".to_owned(),
        ResponseCode::NotImp => "NOTIMP".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        ResponseCode::YXRRSet => "YXRRSET".to_owned(),
        ResponseCode::NotAuth => "NOTAUTH".to_owned(),
        ResponseCode::NotZone => "NOTZONE".to_owned(),
        other => format!("code {}", u16::from(other)),
    }
}

async fn within_deadline<T>(
    exchange: impl Future<Output = Result<T, ExchangeError>>,
) -> Result<T, ExchangeError> {
    timeout(DEADLINE, exchange).await.unwrap_or(Err(ExchangeError::TimedOut))
}

/// Why an exchange failed.
#[derive(Debug)]
pub(crate) enum ExchangeError {
    TimedOut,
    NotAnAnswer,
    TooLarge,
    Io(std::io::Error),
}

impl From<std::io::Error> for ExchangeError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl fmt::Display for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => write!(f, "nothing within {} s", DEADLINE.as_secs()),
            Self::NotAnAnswer => f.write_str("something that is no answer to the question"),
            Self::TooLarge => f.write_str("the message is larger than 65535 bytes"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

/// Fits every path without fragmentation (DNS flag day 2020).
pub(crate) const MAX_DATAGRAM: u16 = 1232;
/// For one exchange over one transport.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);
/// After so many unrelated datagrams TCP is tried, which is harder to forge.
const MAX_STRAY_DATAGRAMS: usize = 16;
