use std::sync::Arc;

use hyper_util::{client::legacy::connect::Connection, rt::TokioIo};
use tokio::net::TcpListener;
use tower_service::Service;

use super::*;
use crate::net::{
    proxy::ProxySettings,
    reach::{AddressPolicy, NotPublic, TcpConnector},
    tunnel::{
        ProxyConnector,
        tests::{tcp, tls},
    },
};

/// What a proxy expects, and what it replies.
type Exchange = (&'static [u8], &'static [u8]);

const NO_CREDENTIALS: Exchange = (b"\x05\x01\x00", b"\x05\x00");
const CREDENTIALS: Exchange = (b"\x05\x02\x00\x02", b"\x05\x02");
const CA: &[u8] = b"\x05\x01\x00\x03\x0aca.example\x01\xbb";
const CONNECTED: &[u8] = b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00";

/// What a client receives from an echo server, through a proxy that follows `script`.
async fn through_socks(login: &str, url: &str, script: &[Exchange]) -> Result<String, String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        for (wanted, answer) in script {
            let mut asked = vec![0; wanted.len()];
            stream.read_exact(&mut asked).await.unwrap();
            assert_eq!(&asked, wanted, "{url}");
            stream.write_all(answer).await.unwrap();
        }
        let is_connected = script.last().is_some_and(|(_, answer)| answer.starts_with(&[5, 0, 0]));
        let mut first = [0; 5];
        if is_connected && stream.read_exact(&mut first).await.is_ok() {
            stream.write_all(&first).await.unwrap();
        }
    };
    let client = async {
        let proxy = format!("socks5://{login}{address}").parse().unwrap();
        let settings = Arc::new(ProxySettings::only(proxy));
        let mut connector = ProxyConnector::new(settings, tcp(), tls());
        let tunnel = connector.call(url.parse().unwrap()).await;
        let tunnel = tunnel.map_err(|error| error.to_string().replace(&address, "PROXY"))?;
        assert!(!tunnel.connected().is_proxied());
        let mut tunnel = TokioIo::new(tunnel);
        tunnel.write_all(b"hello").await.unwrap();
        let mut heard = String::new();
        tunnel.read_to_string(&mut heard).await.unwrap();
        Ok(heard)
    };
    futures::future::join(client, server).await.0
}

#[tokio::test]
async fn a_name_is_sent_unresolved_and_an_address_as_an_address() {
    let v6 = b"\x05\x01\x00\x04\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x01\xbb";
    for (url, request) in [
        ("https://ca.example/dir?x=1", CA),
        ("https://ca.example:8443/", b"\x05\x01\x00\x03\x0aca.example\x20\xfb"),
        ("http://api.example/version", b"\x05\x01\x00\x03\x0bapi.example\x00\x50"),
        ("https://192.0.2.1/", b"\x05\x01\x00\x01\xc0\x00\x02\x01\x01\xbb"),
        ("https://[::ffff:192.0.2.1]/", b"\x05\x01\x00\x01\xc0\x00\x02\x01\x01\xbb"),
        ("https://[2001:db8::1]/", v6),
    ] {
        let heard = through_socks("", url, &[NO_CREDENTIALS, (request, CONNECTED)]).await;
        assert_eq!(heard, Ok("hello".to_owned()), "{url}");
    }
}

#[tokio::test]
async fn a_reply_with_any_address_type_is_read() {
    for reply in [
        CONNECTED,
        b"\x05\x00\x00\x03\x00\x00\x00",
        b"\x05\x00\x00\x03\x05proxy\x00\x01",
        b"\x05\x00\x00\x04aaaabbbbccccdddd\x00\x01",
    ] {
        let heard = through_socks("", "https://ca.example/", &[NO_CREDENTIALS, (CA, reply)]).await;
        assert_eq!(heard, Ok("hello".to_owned()), "{reply:?}");
    }
}

#[tokio::test]
async fn credentials_are_only_sent_to_a_proxy_that_requires_them() {
    let unwanted: Exchange = (b"\x05\x02\x00\x02", b"\x05\x00");
    for (login, turns) in [
        ("us%40er:pass%20wd@", &[CREDENTIALS, (b"\x01\x05us@er\x07pass wd", b"\x01\x00")][..]),
        ("user@", &[CREDENTIALS, (b"\x01\x04user\x00", b"\x01\x00")]),
        ("user:hidden@", &[unwanted]),
    ] {
        let script = [turns, &[(CA, CONNECTED)]].concat();
        let heard = through_socks(login, "https://ca.example/", &script).await;
        assert_eq!(heard, Ok("hello".to_owned()), "{login}");
    }
}

#[tokio::test]
async fn an_error_names_the_proxy_without_its_credentials() {
    let not_socks = "it does not answer as a SOCKS 5 proxy";
    let hello = b"\x05\x01\x00";
    let pair = b"\x01\x04user\x06hidden";
    let user = "user:hidden@";
    let wants_login = "it requires credentials: add user and password to its URL";
    let wants_other = "it accepts neither user and password nor a client without credentials";
    let wrong = "it refuses the user and the password in its URL";
    let length = "the user in its URL must have 1 to 255 bytes, and the password at most 255";
    let rules = "its rules do not allow it (SOCKS reply 2)";
    let scripts: [(&str, &[Exchange], &str); 16] = [
        ("", &[(hello, b"HTTP/1.1 400 Bad Request\r\n\r\n")], not_socks),
        ("", &[(hello, b"")], not_socks),
        ("", &[(hello, b"\x05\x02")], not_socks),
        ("", &[(hello, b"\x04\x00")], not_socks),
        ("", &[(hello, b"\x05\xff")], wants_login),
        (user, &[(b"\x05\x02\x00\x02", b"\x05\xff")], wants_other),
        (user, &[CREDENTIALS, (pair, b"\x01\x01")], wrong),
        (user, &[CREDENTIALS, (pair, b"\x05\x00")], not_socks),
        (user, &[CREDENTIALS, (pair, b"\x01")], not_socks),
        (":hidden@", &[CREDENTIALS], length),
        ("", &[NO_CREDENTIALS, (CA, b"\x05\x02\x00\x01\0\0\0\0\0\0")], rules),
        ("", &[NO_CREDENTIALS, (CA, b"\x05\x05\x00\x01")], "connection refused (SOCKS reply 5)"),
        ("", &[NO_CREDENTIALS, (CA, b"\x05\xc8\x00\x01")], "failure (SOCKS reply 200)"),
        ("", &[NO_CREDENTIALS, (CA, b"\x05\x00\x00\x02\0\0")], not_socks),
        ("", &[NO_CREDENTIALS, (CA, b"\x05\x00\x01\x01\0\0")], not_socks),
        ("", &[NO_CREDENTIALS, (CA, b"\x04\x00\x00\x01\0\0\0\0\0\0")], not_socks),
    ];
    for (login, script, why) in scripts {
        let error = through_socks(login, "https://ca.example/", script).await.unwrap_err();
        let want = format!("proxy socks5://PROXY does not connect to ca.example:443: {why}");
        assert_eq!(error, want, "{script:?}");
    }
}

#[tokio::test]
async fn too_long_names_and_credentials_are_refused() {
    let length = "the user in its URL must have 1 to 255 bytes, and the password at most 255";
    let long = "x".repeat(256);
    for login in [format!("{long}:p@"), format!("u:{long}@")] {
        let error = through_socks(&login, "https://ca.example/", &[CREDENTIALS]).await.unwrap_err();
        assert!(error.ends_with(length), "{error}");
    }
    let error = through_socks("", &format!("https://{long}/"), &[]).await.unwrap_err();
    assert!(error.ends_with("the server's name has more than 255 bytes"), "{error}");
}

#[tokio::test]
async fn a_silent_proxy_times_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let proxy = format!("socks5://u:hidden@{address}").parse().unwrap();
    let mut connector = ProxyConnector::new(Arc::new(ProxySettings::only(proxy)), tcp(), tls());
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_exact(&mut [0; 4]).await.unwrap();
        // From here on only time passes.
        tokio::time::pause();
        stream.read(&mut [0; 16]).await
    };
    let tunnel = connector.call("https://ca.example/".parse().unwrap());
    let (tunnel, ended) = futures::future::join(tunnel, server).await;
    let error = tunnel.map(drop).unwrap_err().to_string();
    let want = format!("proxy socks5://{address} does not connect to ca.example:443 within 15 s");
    assert_eq!(error, want);
    assert_eq!(ended.unwrap(), 0);
}

/// The proxy must not bypass the check of addresses.
#[tokio::test]
async fn a_proxy_gets_a_checked_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = format!("socks5h://{}", listener.local_addr().unwrap());
    let settings = Arc::new(ProxySettings::only(proxy.parse().unwrap()));
    for (url, range, want) in [
        (
            "https://localhost:8443/",
            "127.0.0.0/8",
            Some(b"\x05\x01\x00\x01\x7f\x00\x00\x01\x20\xfb"),
        ),
        ("http://1.1.1.1/", "10.0.0.0/8", Some(b"\x05\x01\x00\x01\x01\x01\x01\x01\x00\x50")),
        ("https://localhost:8443/", "10.0.0.0/8", None),
        ("https://169.254.169.254/", "10.0.0.0/8", None),
        ("https://[::ffff:10.0.0.1]/", "192.168.0.0/16", None),
        ("http://metadata.invalid/", "10.0.0.0/8", None),
    ] {
        let policy = Arc::new(AddressPolicy::new(vec![range.parse().unwrap()]));
        let direct = TcpConnector::new(Some(policy));
        let mut connector = ProxyConnector::within(settings.clone(), direct, tls());
        let tunnel = connector.call(url.parse().unwrap());
        let Some(want) = want else {
            let error = tunnel.await.map(drop).unwrap_err();
            assert_eq!(error.to_string(), NotPublic.to_string(), "{url}");
            continue;
        };
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut hello, mut request) = ([0; 3], [0; 10]);
            stream.read_exact(&mut hello).await.unwrap();
            stream.write_all(b"\x05\x00").await.unwrap();
            stream.read_exact(&mut request).await.unwrap();
            stream.write_all(CONNECTED).await.unwrap();
            request
        };
        let (tunnel, asked) = futures::future::join(tunnel, server).await;
        tunnel.unwrap();
        assert_eq!(&asked, want, "{url}");
    }
}
