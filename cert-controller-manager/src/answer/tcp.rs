//! DNS over TCP (RFC 7766) for unauthenticated clients. It limits connections in total and for each source,
//! the size of a query, and time.

mod connections;
mod limits;

use std::{convert::Infallible, io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};

use self::connections::{Admission, Connections, Source};
pub(super) use self::limits::Limits;
use super::handler::{Delivery, Handler, MAX_QUERY};
use crate::runtime::metrics::TcpConnection;

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
                    handler.metrics.answer_connection(TcpConnection::Accepted);
                    if let Admission::InPlaceOf(oldest) = open.admit(source) {
                        handler.metrics.answer_connection(TcpConnection::Replaced);
                        oldest.abort();
                    }
                    let talk = converse(stream, handler.clone(), limits);
                    let task = running.spawn(async move { drop(timeout(limits.life, talk).await) });
                    open.add(source, task);
                }
                Err(error) => {
                    // Most likely for lack of file descriptors.
                    handler.metrics.answer_connection(TcpConnection::Failed);
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
async fn converse(mut stream: TcpStream, handler: Handler, limits: Limits) {
    loop {
        let Ok(Ok(question)) = timeout(limits.timeout, read(&mut stream)).await else { return };
        let Some(answer) = answer(&question, &handler) else { return };
        match timeout(limits.timeout, stream.write_all(&answer)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

async fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = usize::from(stream.read_u16().await?);
    if length > MAX_QUERY {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut question = vec![0; length];
    stream.read_exact(&mut question).await?;
    Ok(question)
}

/// The response with its length prefix; `None` if the message is not answered.
fn answer(question: &[u8], handler: &Handler) -> Option<Vec<u8>> {
    let mut message = Vec::with_capacity(512);
    if !handler.answer(question, Delivery::Tcp, &mut message) {
        return None;
    }
    let length = u16::try_from(message.len()).ok()?;
    message.splice(0..0, length.to_be_bytes());
    Some(message)
}

/// Delay after a failed `accept`.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests;
