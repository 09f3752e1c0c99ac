use base64::{Engine, prelude::BASE64_STANDARD};

use super::*;

fn settings(variables: &[(&'static str, &str)]) -> ProxySettings {
    ProxySettings::from_variables(|name| {
        let found = variables.iter().find(|(variable, _)| *variable == name);
        found.map(|(_, value)| (*value).to_owned())
    })
}

fn route_to(settings: &ProxySettings, url: &str) -> String {
    settings.proxy_for(&url.parse().unwrap()).map_or_else(|| "direct".to_owned(), Proxy::to_string)
}

/// The relevant cases of Go's own test (`TestProxyForURL`), and some more.
#[test]
fn the_environment_is_interpreted_as_go_does() {
    let simple = "http://example.com";
    for (variables, url, want) in [
        (&[][..], simple, "direct"),
        (&[("HTTP_PROXY", "127.0.0.1:8080")], simple, "http://127.0.0.1:8080"),
        (&[("HTTP_PROXY", "http://127.0.0.1:8080")], simple, "http://127.0.0.1:8080"),
        (
            &[("HTTP_PROXY", "https://cache.corp.example.com")],
            simple,
            "https://cache.corp.example.com:443",
        ),
        (
            &[("HTTP_PROXY", "cache.corp.example.com:1234")],
            simple,
            "http://cache.corp.example.com:1234",
        ),
        (&[("HTTP_PROXY", "cache.corp.example.com")], simple, "http://cache.corp.example.com:80"),
        (&[("HTTP_PROXY", "u:secret@cache:1")], simple, "http://cache:1"),
        (&[("http_proxy", "lower:1")], simple, "http://lower:1"),
        (&[("http_proxy", "lower:1"), ("HTTP_PROXY", "upper:1")], simple, "http://upper:1"),
        (&[("http_proxy", "lower:1"), ("HTTP_PROXY", "")], simple, "http://lower:1"),
        (&[("HTTPS_PROXY", "secure:1")], simple, "direct"),
        (&[("HTTPS_PROXY", "secure:1")], "https://example.com", "http://secure:1"),
        (&[("HTTP_PROXY", "plain:1")], "https://example.com", "direct"),
        (&[("HTTPS_PROXY", "p:1")], "https://localhost:8443", "direct"),
        (&[("HTTPS_PROXY", "p:1")], "https://127.1.2.3", "direct"),
        (&[("HTTPS_PROXY", "p:1")], "https://[::1]:6443", "direct"),
        (&[("HTTPS_PROXY", "p:1")], "https://[::ffff:127.0.0.1]", "direct"),
        (&[("HTTPS_PROXY", "p:1")], "https://10.0.0.1", "http://p:1"),
    ] {
        assert_eq!(route_to(&settings(variables), url), want, "{variables:?} {url}");
    }
}

/// The table of Go's `TestUseProxy` and of its IP and port tests.
#[test]
fn no_proxy_is_interpreted_as_go_does() {
    let list = "foobar.com, .barbaz.net, *.cidr.test, 192.168.1.1, 192.168.1.2:81, 10.0.0.0/30, \
                2001:db8::52:0:1, [2001:db8::52:0:2]:443, 2002:db8:a::45/64, port.test:8443, ß.de, \
                ,:80,  ";
    let settings = settings(&[("HTTPS_PROXY", "p:1"), ("NO_PROXY", list)]);
    for (host, direct) in [
        ("foobar.com", true),
        ("FOOBAR.com", true),
        ("www.foobar.com", true),
        ("foofoobar.com", false),
        ("barbaz.net", false),
        ("www.barbaz.net", true),
        ("cidr.test", false),
        ("a.cidr.test", true),
        ("baz.com", false),
        ("localhost.net", false),
        ("local.localhost", false),
        ("192.168.1.1", true),
        ("192.168.1.1:8443", true),
        ("192.168.1.2", false),
        ("192.168.1.2:81", true),
        ("192.168.1.3", false),
        ("10.0.0.2", true),
        ("10.0.0.4", false),
        ("[2001:db8::52:0:1]", true),
        ("[2001:db8::52:0:2]", true),
        ("[2001:db8::52:0:2]:80", false),
        ("[2001:db8::52:0:3]", false),
        ("[2002:db8:a::123]", true),
        ("port.test", false),
        ("port.test:8443", true),
        ("xn--zca.de", true),
    ] {
        let want = if direct { "direct" } else { "http://p:1" };
        assert_eq!(route_to(&settings, &format!("https://{host}/")), want, "{host}");
    }
    let none = ProxySettings { exceptions: Exceptions::parse("a.test, *"), ..settings };
    assert_eq!(route_to(&none, "https://example.com"), "direct");
    assert_eq!(route_to(&none, "https://10.9.9.9"), "direct");
}

#[test]
fn credentials_are_sent_and_never_shown() {
    let proxy: Proxy = "http://us%40er:p%3Ass+@proxy.test:3128".parse().unwrap();
    let Protocol::Http { authorization: Some(value) } = proxy.protocol() else { panic!("{proxy}") };
    let value = value.to_str().unwrap();
    let pair = BASE64_STANDARD.decode(value.strip_prefix("Basic ").unwrap()).unwrap();
    assert_eq!(pair, b"us@er:p:ss+");
    assert_eq!(proxy.to_string(), "http://proxy.test:3128");
    let encoded = BASE64_STANDARD.encode("us@er:hidden");
    for url in ["http://us%40er:hidden@p:1", "socks5://us%40er:hidden@p:1"] {
        let proxy: Proxy = url.parse().unwrap();
        let shown = format!("{proxy:?} {proxy}");
        assert!(["us@", "us%", "hidden", &encoded].iter().all(|it| !shown.contains(it)), "{shown}");
    }
    let variables =
        [("HTTPS_PROXY", "http://u:hidden@proxy.test"), ("HTTP_PROXY", "p:1"), ("NO_PROXY", "a,b")];
    let settings = settings(&variables);
    let shown = "https through http://proxy.test:80, http through http://p:1, not for a,b";
    assert_eq!(settings.to_string(), shown);
    assert!(!format!("{settings:?}").contains("hidden"));
    assert_eq!(ProxySettings::default().to_string(), "");
}

/// What Go 1.26 does with each value. Unusable ones are proxies for Go, too: their host is `http`,
/// or their port is invalid.
#[test]
fn an_invalid_variable_is_ignored_where_go_ignores_it() {
    for (value, want) in [
        ("socks5://u:hidden@p", "socks5://p:1080"),
        ("socks5h://u:hidden@p:1", "socks5h://p:1"),
        ("SOCKS5://p", "socks5://p:1080"),
        ("ftp://u:hidden@p:21", "http://p:21, scheme ftp"),
        ("socks4://p:1", "http://p:1, scheme socks4"),
        (":3128", "http://localhost:3128"),
        ("http://u:hidden@:1", "http://localhost:1"),
        ("[::1]:80", "http://[::1]:80"),
        ("http://u:p@hidden@p:1", "http://p:1"),
        ("http://p:/x?%zz", "http://p:80"),
        ("http://p:00081", "http://p:81"),
        ("http://p_q:1", "http://p_q:1"),
        ("http://pß.de:1", "http://xn--p-qfa.de:1"),
        ("http://p%C3%9F.de:1", "http://xn--p-qfa.de:1"),
        ("p/x:y", "http://p:80"),
        ("ftp://p", "nowhere"),
        ("u:hidden@p:70000", "nowhere"),
        ("http://p:0", "nowhere"),
        ("p:31x8", "nowhere"),
        ("http://p:31x8", "nowhere"),
        ("http://my proxy:1", "nowhere"),
        ("http://p:1 ", "nowhere"),
        ("p q", "nowhere"),
        ("http://u:hid^den@p:1", "nowhere"),
        ("http://u:hid#den@p:1", "nowhere"),
        ("http://u:hid/den@p:1", "nowhere"),
        ("http://p%20q:1", "nowhere"),
        ("http://p[::1]:1", "nowhere"),
        ("http://[1.2.3.4]:1", "nowhere"),
        ("http://[::1:80", "nowhere"),
        ("http://a:b:1", "nowhere"),
        ("http://", "nowhere"),
        ("http:p:1", "nowhere"),
        ("://p:1", "nowhere"),
        ("u:hid%zzden@p", "nowhere"),
        ("/p", "nowhere"),
        ("#", "nowhere"),
        (" http://p:1", "ignored"),
        ("http://p:1\n", "ignored"),
        ("http://u:hid%zzden@p:1", "ignored"),
        ("http://p:1/%zz", "ignored"),
        ("http://p:1#%zz", "ignored"),
        ("p%zz", "ignored"),
        ("::1", "ignored"),
    ] {
        let settings = settings(&[("https_proxy", value)]);
        let mut found = route_to(&settings, "https://example.com");
        for remark in settings.remarks() {
            assert!(!remark.to_string().contains("hid"), "{remark}");
            found = match remark {
                ProxyRemark::Ignored { .. } if found == "direct" => "ignored".to_owned(),
                ProxyRemark::Nowhere { .. } if found != "direct" => "nowhere".to_owned(),
                ProxyRemark::Scheme { scheme, .. } => format!("{found}, scheme {scheme}"),
                other => panic!("{value}: {other:?}, {found}"),
            };
        }
        assert_eq!(found, want, "{value}");
    }
}

#[test]
fn a_remark_names_the_variable_and_not_its_value() {
    let settings =
        settings(&[("HTTPS_PROXY", "http://user:hidden%@p"), ("http_proxy", "u:hidden@p:70000")]);
    let remarks: Vec<_> = settings.remarks().iter().map(ToString::to_string).collect();
    let want = [
        "the environment variable http_proxy names a proxy without a valid host and port, so servers \
         behind it cannot be reached; set a URL such as http://proxy.example.org:3128",
        "the environment variable HTTPS_PROXY is not the URL of a proxy and is ignored: its user or \
         password holds a % without two hexadecimal digits",
    ];
    assert_eq!(remarks, want);
    assert_eq!(settings.to_string(), "http through a URL without a valid host and port");
}

#[test]
fn an_invalid_proxy_url_is_refused_without_quoting_its_password() {
    let like = "it is not a URL such as http://proxy.example.org:3128: ";
    for (value, want) in [
        (
            "ftp://u:hidden@p:21",
            "its scheme is \"ftp\": use an http://, https://, socks5:// or socks5h:// proxy",
        ),
        (
            "http://u:hid den@p",
            "its user or password holds a character that needs percent encoding",
        ),
        ("http://u:hidden@p q", "its host is not valid"),
        ("http://u:hidden@p:x", "its port is not a number"),
        ("http://u:hidden@p:70000", "its host or port is not valid"),
        ("http://u:hidden@p\n", "it holds a control character, such as a line end"),
    ] {
        let error = value.parse::<Proxy>().unwrap_err().to_string();
        assert_eq!(error.trim_start_matches(like), want, "{value}");
    }
}

#[test]
fn a_socks_proxy_gets_no_authorization_header() {
    let settings = ProxySettings::only("socks5://u:p@proxy".parse().unwrap());
    assert_eq!(settings.authorization_for(&"http://api.example/".parse().unwrap()), None);
}

#[test]
fn the_proxy_of_a_kubeconfig_is_used_for_all_servers() {
    let settings = ProxySettings::only("http://u:p@proxy:1".parse().unwrap());
    for url in ["https://127.0.0.1:6443", "http://localhost:8001", "https://example.com"] {
        assert_eq!(route_to(&settings, url), "http://proxy:1", "{url}");
        let plain = settings.authorization_for(&url.parse().unwrap()).is_some();
        assert_eq!(plain, url.starts_with("http://"), "{url}");
    }
}
