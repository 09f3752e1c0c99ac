//! CONNECT (RFC 9110 section 9.3.6): asks an HTTP proxy for a connection to a server.

use ::http::HeaderValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    destination::Destination,
    error::{BoxError, TunnelError},
};
use crate::net::proxy::Proxy;

/// Asks `proxy`, at the other end of `stream`, for a connection to `server`.
pub(super) async fn ask<S>(
    stream: &mut S,
    proxy: &Proxy,
    authorization: Option<&HeaderValue>,
    server: &Destination,
) -> Result<(), BoxError>
where
    S: AsyncReadExt + AsyncWriteExt + Unpin,
{
    let mut request = format!("CONNECT {server} HTTP/1.1\r\nHost: {server}\r\n").into_bytes();
    if let Some(value) = authorization {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(value.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    stream.write_all(&request).await?;
    stream.flush().await?;

    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !is_complete(&head) && head.len() < MAX_HEAD {
        match stream.read(&mut buffer).await? {
            0 => break,
            length => head.extend_from_slice(buffer.get(..length).unwrap_or_default()),
        }
    }
    let (proxy, server) = (proxy.to_string(), server.to_string());
    match status(&head) {
        // The server does not send first, so no data follows the head.
        Some(200..=299) if head.ends_with(b"\r\n\r\n") => Ok(()),
        None | Some(..200 | 200..=299) => Err(TunnelError::NoProxy { proxy, server }.into()),
        Some(status) => {
            let hint = match status {
                407 => ", put the right user and password into its URL",
                _ => "",
            };
            Err(TunnelError::Refused { proxy, server, status, hint }.into())
        }
    }
}

pub(super) fn is_complete(head: &[u8]) -> bool {
    head.windows(4).any(|four| four == b"\r\n\r\n")
}

/// The status in a response that begins with `HTTP/1.1 200 …`.
fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    words.next().filter(|code| code.len() == 3)?.parse().ok()
}

/// More than the head of any real response.
const MAX_HEAD: usize = 8 * 1024;
