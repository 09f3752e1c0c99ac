//! Connects through the proxies of [`ProxySettings`]: by SOCKS, or by CONNECT where the proxy
//! speaks HTTP and the server TLS. For a server of plain HTTP, an HTTP proxy gets the absolute form
//! of the URL instead of CONNECT. Opens sockets only with the wrapped connector.

mod connect;
mod destination;
mod error;
mod socks5;

use std::{
    future, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use ::http::{Uri, uri::Scheme};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use rustls::ClientConfig;
use tower_service::Service;

pub use self::error::{SocksRefusal, TunnelError};
use self::{
    destination::Destination,
    error::{BoxError, DEADLINE},
};
use super::{
    proxy::{Protocol, Proxy, ProxySettings},
    reach::{Lookup, TcpConnector, host_and_port},
};

/// A connector that uses a proxy where [`ProxySettings`] select one, and the wrapped connector
/// otherwise.
#[derive(Clone, Debug)]
pub struct ProxyConnector<C> {
    settings: Arc<ProxySettings>,
    connector: HttpsConnector<C>,
    direct: C,
    /// Resolves a server before a proxy connects to it; `None` leaves that to the proxy.
    lookup: Option<Lookup>,
}

/// A connection to a server, through a proxy or not.
#[derive(Debug)]
pub struct Tunnel<S> {
    stream: MaybeHttpsStream<S>,
    /// Whether the peer is a proxy that requires the absolute form.
    absolute_form: bool,
}

impl<C: Clone> ProxyConnector<C> {
    /// Connects with `connector`, to proxies too. `tls` is for proxies with an https:// URL; it
    /// must not set ALPN protocols.
    #[must_use]
    pub fn new(settings: Arc<ProxySettings>, connector: C, tls: ClientConfig) -> Self {
        let direct = connector.clone();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        Self { settings, connector, direct, lookup: None }
    }
}

impl ProxyConnector<TcpConnector> {
    /// Connects to proxies at any address, and to servers with `direct`. If that one checks
    /// addresses, a proxy gets a checked address and never a name. So a proxy cannot bypass the
    /// check.
    #[must_use]
    pub(super) fn within(
        settings: Arc<ProxySettings>,
        direct: TcpConnector,
        tls: ClientConfig,
    ) -> Self {
        let lookup = direct.lookup();
        Self { direct, lookup, ..Self::new(settings, TcpConnector::new(None), tls) }
    }
}

impl<C> Service<Uri> for ProxyConnector<C>
where
    C: Service<Uri> + Send,
    C::Response: Connection + Read + Write + Send + Unpin + 'static,
    C::Future: Send + 'static,
    C::Error: Into<BoxError>,
{
    type Response = Tunnel<C::Response>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // Either connector may be used; one that is not ready returns an error when it is called.
        match self.direct.poll_ready(cx) {
            Poll::Ready(Ok(())) => self.connector.poll_ready(cx),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            Poll::Pending => Poll::Pending,
        }
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Some(proxy) = self.settings.proxy_for(&uri).cloned() else {
            let connecting = self.direct.call(uri);
            return Box::pin(async move {
                let stream = MaybeHttpsStream::Http(connecting.await.map_err(Into::into)?);
                Ok(Tunnel { stream, absolute_form: false })
            });
        };
        let Some(server) = proxy.server() else {
            let server = Destination::of(&uri).to_string();
            return Box::pin(future::ready(Err(TunnelError::Nowhere { server }.into())));
        };
        let connecting = self.connector.call(server.clone());
        let lookup = self.lookup.clone();
        Box::pin(async move { through(&proxy, &uri, lookup, connecting).await })
    }
}

/// Connects to `proxy`, and through it to the server of `uri`.
async fn through<S>(
    proxy: &Proxy,
    uri: &Uri,
    lookup: Option<Lookup>,
    connecting: impl Future<Output = Result<MaybeHttpsStream<S>, BoxError>>,
) -> Result<Tunnel<S>, BoxError>
where
    S: Connection + Read + Write + Send + Unpin + 'static,
{
    let server = Destination::of(uri);
    let opened = tokio::time::timeout(DEADLINE, async {
        let asked_for = match &lookup {
            Some(lookup) => {
                let (host, port) = host_and_port(uri);
                Destination::Address(lookup.first(host, port).await?)
            }
            None => server.clone(),
        };
        let mut stream = TokioIo::new(connecting.await?);
        match proxy.protocol() {
            Protocol::Http { .. } if lookup.is_none() && uri.scheme() == Some(&Scheme::HTTP) => {
                return Ok(Tunnel { stream: stream.into_inner(), absolute_form: true });
            }
            Protocol::Http { authorization } => {
                connect::ask(&mut stream, proxy, authorization.as_ref(), &asked_for).await?;
            }
            Protocol::Socks5 { login } => {
                socks5::ask(&mut stream, proxy, login.as_ref(), &asked_for).await?;
            }
        }
        Ok(Tunnel { stream: stream.into_inner(), absolute_form: false })
    });
    let late = || TunnelError::TimedOut { proxy: proxy.to_string(), server: server.to_string() };
    opened.await.unwrap_or_else(|_| Err(late().into()))
}

impl<S: Connection + Read + Write + Unpin> Connection for Tunnel<S> {
    fn connected(&self) -> Connected {
        self.stream.connected().proxy(self.absolute_form)
    }
}

impl<S: Read + Write + Unpin> Read for Tunnel<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: Read + Write + Unpin> Write for Tunnel<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
}

#[cfg(test)]
mod tests;
