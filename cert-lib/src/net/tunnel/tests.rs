use hyper_util::client::legacy::connect::HttpConnector;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{connect::is_complete, *};
use crate::net::reach::AddressPolicy;

/// What a client receives through a proxy that sends `answer`, and what it sent to the proxy.
async fn through_proxy(url: &str, answer: &'static [u8]) -> (Result<String, String>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = format!("http://user:pass@{}", listener.local_addr().unwrap());
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        if !answer.is_empty() {
            while !is_complete(&asked) {
                asked.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer).await.unwrap();
            if stream.read_u8().await.is_ok() {
                stream.write_all(b"hello").await.unwrap();
            }
        }
        String::from_utf8(asked).unwrap()
    };
    let client = async {
        let settings = Arc::new(ProxySettings::only(proxy.parse().unwrap()));
        let mut connector = ProxyConnector::new(settings, tcp(), tls());
        let tunnel = connector.call(url.parse().unwrap()).await;
        let tunnel = tunnel.map_err(|error| error.to_string().replace(&proxy[17..], "PROXY"))?;
        let absolute_form = tunnel.connected().is_proxied();
        if absolute_form {
            return Ok("absolute form".to_owned());
        }
        let mut heard = String::new();
        let mut tunnel = TokioIo::new(tunnel);
        tunnel.write_u8(0).await.unwrap();
        tunnel.read_to_string(&mut heard).await.unwrap();
        Ok(heard)
    };
    futures::future::join(client, server).await
}

pub(super) fn tcp() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector
}

pub(super) fn tls() -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth()
}

#[tokio::test]
async fn a_server_with_tls_is_reached_by_connect() {
    for (url, server) in [
        ("https://ca.example/dir?x=1", "ca.example:443"),
        ("https://ca.example:8443/", "ca.example:8443"),
        ("https://[2001:db8::1]/", "[2001:db8::1]:443"),
    ] {
        let (heard, asked) =
            through_proxy(url, b"HTTP/1.1 200 Connection established\r\n\r\n").await;
        assert_eq!(heard, Ok("hello".to_owned()));
        let want = format!(
            "CONNECT {server} HTTP/1.1\r\nHost: {server}\r\n\
             Proxy-Authorization: Basic dXNlcjpwYXNz\r\n\r\n"
        );
        assert_eq!(asked, want);
    }
}

#[tokio::test]
async fn plain_http_goes_to_the_proxy_in_absolute_form() {
    let (way, asked) = through_proxy("http://api.example/version", b"").await;
    assert_eq!((way.unwrap().as_str(), asked.as_str()), ("absolute form", ""));
}

#[tokio::test]
async fn an_error_names_the_proxy_without_its_credentials() {
    let url = "https://ca.example/dir";
    for (answer, want) in [
        (
            &b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 5\r\n\r\n"[..],
            "proxy http://PROXY refuses to connect to ca.example:443: HTTP 407, \
             put the right user and password into its URL",
        ),
        (
            b"HTTP/1.0 503 Service Unavailable\r\n\r\n<h1>",
            "proxy http://PROXY refuses to connect to ca.example:443: HTTP 503",
        ),
        (
            b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
            "proxy http://PROXY does not answer CONNECT to ca.example:443 as an HTTP proxy",
        ),
        (
            b"HTTP/1.1 200 OK\r\n\r\nmore than the head",
            "proxy http://PROXY does not answer CONNECT to ca.example:443 as an HTTP proxy",
        ),
    ] {
        let (outcome, _) = through_proxy(url, answer).await;
        assert_eq!(outcome, Err(want.to_owned()));
    }
}

/// The proxy must not bypass the check of addresses.
#[tokio::test]
async fn a_proxy_gets_a_checked_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = format!("http://{}", listener.local_addr().unwrap());
    let settings = Arc::new(ProxySettings::only(proxy.parse().unwrap()));
    for (url, range, want) in [
        ("https://localhost:8443/dir", "127.0.0.0/8", Some("CONNECT 127.0.0.1:8443 HTTP/1.1\r\n")),
        ("https://127.0.0.1:8443/dir", "127.0.0.0/8", Some("CONNECT 127.0.0.1:8443 HTTP/1.1\r\n")),
        ("http://1.1.1.1/dir", "10.0.0.0/8", Some("CONNECT 1.1.1.1:80 HTTP/1.1\r\n")),
        (
            "https://[2606:4700::1111]/dir",
            "10.0.0.0/8",
            Some("CONNECT [2606:4700::1111]:443 HTTP/1.1\r\n"),
        ),
        ("https://localhost:8443/dir", "10.0.0.0/8", None),
        ("https://169.254.169.254/latest", "10.0.0.0/8", None),
        ("http://metadata.invalid/latest", "10.0.0.0/8", None),
    ] {
        let policy = Arc::new(AddressPolicy::new(vec![range.parse().unwrap()]));
        let direct = TcpConnector::new(Some(policy));
        let mut connector = ProxyConnector::within(settings.clone(), direct, tls());
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            // Refused connections send nothing to the proxy.
            while !is_complete(&asked) {
                let Ok(byte) = stream.read_u8().await else { break };
                asked.push(byte);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            String::from_utf8(asked).unwrap()
        };
        let tunnel = connector.call(url.parse().unwrap());
        let Some(want) = want else {
            let error = tunnel.await.map(drop).unwrap_err();
            assert_eq!(error.to_string(), crate::net::reach::NotPublic.to_string(), "{url}");
            continue;
        };
        let (tunnel, asked) = futures::future::join(tunnel, server).await;
        assert!(!tunnel.unwrap().connected().is_proxied());
        assert!(asked.starts_with(want), "{url}: {asked}");
    }
}

#[tokio::test]
async fn without_a_proxy_the_server_is_reached_directly() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let mut connector = ProxyConnector::new(Arc::default(), tcp(), tls());
    let (tunnel, accepted) =
        futures::future::join(connector.call(url.parse().unwrap()), listener.accept()).await;
    accepted.unwrap();
    assert!(!tunnel.unwrap().connected().is_proxied());
}

#[tokio::test]
async fn an_unusable_proxy_is_not_bypassed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let value = |name| (name == "HTTPS_PROXY").then(|| "u:hidden@p:70000".to_owned());
    let settings = Arc::new(ProxySettings::from_variables(value));
    let mut connector = ProxyConnector::new(settings, tcp(), tls());
    let uri = format!("https://localhost.:{port}/").parse().unwrap();
    let error = connector.call(uri).await.map(drop).unwrap_err().to_string();
    let want = format!(
        "the URL of the proxy for localhost.:{port} has no valid host and port, correct HTTPS_PROXY \
         or HTTP_PROXY"
    );
    assert_eq!(error, want);
}
