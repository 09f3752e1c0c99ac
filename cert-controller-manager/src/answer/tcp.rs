//! DNS over TCP (RFC 7766) for unauthenticated clients. It limits connections in total and for each source,
//! the size of a query, and time. The listener of hickory-server limits neither connections nor buffers.

mod connections;
mod limits;

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use hickory_proto::{op::MessageType, serialize::binary::BinEncoder};
use hickory_server::{
    net::{NetError, xfer::Protocol},
    proto::rr::Record,
    server::{Request, ResponseHandler, ResponseInfo},
    zone_handler::MessageResponse,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};

use self::connections::{Admission, Connections, Source};
pub(super) use self::limits::Limits;
use super::handler::Handler;

/// Serves connections. Never returns.
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
                    tracing::warn!("the DNS responder cannot accept a TCP connection: {error}");
                    if let Some(oldest) = open.oldest() {
                        oldest.abort();
                    }
                    sleep(ACCEPT_RETRY_DELAY).await;
                }
            },
        }
    }
}

/// Handles the queries of a connection until the client closes it, is too slow, or sends an invalid
/// message.
async fn converse(mut stream: TcpStream, from: SocketAddr, handler: Handler, limits: Limits) {
    loop {
        let Ok(Ok(question)) = timeout(limits.timeout, read(&mut stream)).await else { return };
        let Some(answer) = answer(question, from, &handler).await else { return };
        match timeout(limits.timeout, stream.write_all(&answer)).await {
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

/// The response with its length prefix; `None` for an invalid query.
async fn answer(question: Vec<u8>, from: SocketAddr, handler: &Handler) -> Option<Vec<u8>> {
    let request = Request::from_bytes(question, from, Protocol::Tcp).ok()?;
    if request.metadata.message_type != MessageType::Query {
        return None;
    }
    let kept = StoredResponse::default();
    handler.answer(&request, kept.clone()).await;
    let mut message = kept.0.lock().ok()?.take()?;
    let length = u16::try_from(message.len()).ok()?;
    message.splice(0..0, length.to_be_bytes());
    Some(message)
}

/// Stores a response instead of sending it.
#[derive(Clone, Default)]
struct StoredResponse(Arc<std::sync::Mutex<Option<Vec<u8>>>>);

#[async_trait::async_trait]
impl ResponseHandler for StoredResponse {
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

/// Delay after a failed `accept`.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);
/// Maximum size of a query: a name of 255 bytes and some options.
const MAX_QUESTION: usize = 2048;

#[cfg(test)]
mod tests;
