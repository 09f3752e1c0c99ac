//! DNS over TCP (RFC 7766) for strangers, within limits: connections in all and per source, bytes of a
//! question, and time. Not hickory-server's listener, which bounds neither connections nor buffers.

mod connections;

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use hickory_proto::{op::MessageType, serialize::binary::BinEncoder};
use hickory_server::{
    net::{NetError, xfer::Protocol},
    proto::rr::Record,
    server::{Request, ResponseHandler, ResponseInfo},
    zone_handler::MessageResponse,
};
use rustix::process::{Resource, getrlimit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};

use self::connections::{Admission, Connections, Source};
use super::server::Handler;

/// What strangers may use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Limits {
    /// Connections at once. One more, and the oldest is closed (RFC 7766 section 6.2.3).
    pub(super) connections: usize,
    /// Connections of one source at once. One more, and its oldest is closed. Most of all: a resolver of a
    /// CA asks for many names at once, and behind a proxy or NAT all sources are one.
    pub(super) per_source: usize,
    /// From one answer to the end of the next question, and for taking an answer.
    pub(super) patience: Duration,
    /// How long a connection lasts.
    pub(super) life: Duration,
}

impl Limits {
    /// For one of `listeners`: the process keeps most of its file descriptors for its own use.
    pub(super) fn of_this_process(listeners: usize) -> Self {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Self::with(usize::try_from(descriptors).unwrap_or(usize::MAX), listeners)
    }

    fn with(descriptors: usize, listeners: usize) -> Self {
        let all = (descriptors / 4).clamp(1, MAX_CONNECTIONS);
        let connections = (all / listeners.max(1)).max(1);
        Self {
            connections,
            per_source: (connections - connections / 4).max(1),
            patience: Duration::from_secs(5),
            life: Duration::from_secs(30),
        }
    }
}

/// Accepts connections for as long as the process lives.
pub(super) async fn serve(listener: TcpListener, handler: Handler, limits: Limits) -> Infallible {
    let mut running = JoinSet::new();
    let mut open = Connections::new(limits);
    loop {
        tokio::select! {
            Some(ended) = running.join_next_with_id() => open.remove(match ended {
                Ok((id, ())) => id,
                Err(error) => error.id(),
            }),
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => {
                    let source = Source::of(from.ip());
                    if let Admission::InPlaceOf(oldest) = open.admit(source) {
                        oldest.abort();
                    }
                    let talk = converse(stream, from, handler.clone(), limits);
                    let task = running.spawn(async move { drop(timeout(limits.life, talk).await) });
                    open.add(source, task);
                }
                Err(error) => {
                    // Most likely for lack of file descriptors.
                    tracing::warn!("the DNS responder accepts no TCP connection: {error}");
                    if let Some(oldest) = open.oldest() {
                        oldest.abort();
                    }
                    sleep(AFTER_REFUSAL).await;
                }
            },
        }
    }
}

/// Questions and answers, one after the other, until the other side ends, is slow, or sends what is no
/// question.
async fn converse(mut stream: TcpStream, from: SocketAddr, handler: Handler, limits: Limits) {
    loop {
        let Ok(Ok(question)) = timeout(limits.patience, read(&mut stream)).await else { return };
        let Some(answer) = answer(question, from, &handler).await else { return };
        match timeout(limits.patience, stream.write_all(&answer)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

async fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = usize::from(stream.read_u16().await?);
    if length > MAX_QUESTION {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut question = vec![0; length];
    stream.read_exact(&mut question).await?;
    Ok(question)
}

/// The answer with its length before it; none to what is no question.
async fn answer(question: Vec<u8>, from: SocketAddr, handler: &Handler) -> Option<Vec<u8>> {
    let request = Request::from_bytes(question, from, Protocol::Tcp).ok()?;
    if request.metadata.message_type != MessageType::Query {
        return None;
    }
    let kept = Kept::default();
    handler.answer(&request, kept.clone()).await;
    let mut message = kept.0.lock().ok()?.take()?;
    let length = u16::try_from(message.len()).ok()?;
    message.splice(0..0, length.to_be_bytes());
    Some(message)
}

/// Keeps an answer instead of sending it.
#[derive(Clone, Default)]
struct Kept(Arc<std::sync::Mutex<Option<Vec<u8>>>>);

#[async_trait::async_trait]
impl ResponseHandler for Kept {
    async fn send_response<'a>(
        &mut self,
        response: MessageResponse<
            '_,
            'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
        >,
    ) -> Result<ResponseInfo, NetError> {
        let mut message = Vec::with_capacity(512);
        let info = response.destructive_emit(&mut BinEncoder::new(&mut message))?;
        if let Ok(mut kept) = self.0.lock() {
            *kept = Some(message);
        }
        Ok(info)
    }
}

/// When no connection can be accepted, wait for some to end.
const AFTER_REFUSAL: Duration = Duration::from_millis(50);
/// More than the resolvers have that ask for challenge records at the same time.
const MAX_CONNECTIONS: usize = 512;
/// A question is a name of 255 bytes and some options.
const MAX_QUESTION: usize = 2048;

#[cfg(test)]
mod tests;
