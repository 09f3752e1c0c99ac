use super::*;

fn settings(variables: &[(&'static str, &str)]) -> Result<ProxySettings, ProxyError> {
    ProxySettings::from_variables(|name| {
        let found = variables.iter().find(|(variable, _)| *variable == name);
        found.map(|(_, value)| (*value).to_owned())
    })
}

fn way(settings: &ProxySettings, url: &str) -> String {
    settings.proxy_for(&url.parse().unwrap()).map_or_else(|| "direct".to_owned(), Proxy::to_string)
}

/// The cases of Go's own test (`TestProxyForURL`) that concern us, and some more.
#[test]
fn the_environment_means_what_go_takes_it_for() {
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
        assert_eq!(way(&settings(variables).unwrap(), url), want, "{variables:?} {url}");
    }
}

/// The table of Go's `TestUseProxy` and of its IP and port tests.
#[test]
fn no_proxy_means_what_go_takes_it_for() {
    let list = "foobar.com, .barbaz.net, *.cidr.test, 192.168.1.1, 192.168.1.2:81, 10.0.0.0/30, \
                2001:db8::52:0:1, [2001:db8::52:0:2]:443, 2002:db8:a::45/64, port.test:8443, ß.de, \
                ,:80,  ";
    let settings = settings(&[("HTTPS_PROXY", "p:1"), ("NO_PROXY", list)]).unwrap();
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
        assert_eq!(way(&settings, &format!("https://{host}/")), want, "{host}");
    }
    let none = ProxySettings { exceptions: Exceptions::parse("a.test, *"), ..settings };
    assert_eq!(way(&none, "https://example.com"), "direct");
    assert_eq!(way(&none, "https://10.9.9.9"), "direct");
}

#[test]
fn credentials_are_sent_and_never_shown() {
    let proxy: Proxy = "http://us%40er:p%3Ass+%zz@proxy.test:3128".parse().unwrap();
    let value = proxy.authorization().unwrap().to_str().unwrap();
    let pair = BASE64_STANDARD.decode(value.strip_prefix("Basic ").unwrap()).unwrap();
    assert_eq!(pair, b"us@er:p:ss+%zz");
    assert_eq!(proxy.to_string(), "http://proxy.test:3128");
    assert_eq!(format!("{proxy:?}"), "Proxy(http://proxy.test:3128)");
    let variables =
        [("HTTPS_PROXY", "http://u:hidden@proxy.test"), ("HTTP_PROXY", "p:1"), ("NO_PROXY", "a,b")];
    let settings = settings(&variables).unwrap();
    let shown = "https through http://proxy.test:80, http through http://p:1, not for a,b";
    assert_eq!(settings.to_string(), shown);
    assert!(!format!("{settings:?}").contains("hidden"));
    assert_eq!(ProxySettings::default().to_string(), "");
}

#[test]
fn a_proxy_that_cannot_be_used_is_refused_without_its_password() {
    for (value, want) in [
        ("socks5://u:hidden@p:1080", "its scheme is \"socks5\": use an http:// or https:// proxy"),
        ("http://u:hidden@:1", "it is not a URL such as http://proxy.example.org:3128: empty host"),
        (
            "u:hidden@p:70000",
            "it is not a URL such as http://proxy.example.org:3128: invalid port number",
        ),
    ] {
        let error = settings(&[("https_proxy", value)]).unwrap_err().to_string();
        let want = format!("the environment variable https_proxy holds no usable proxy: {want}");
        assert_eq!(error, want);
    }
}

#[test]
fn the_proxy_of_a_kubeconfig_is_for_everything() {
    let settings = ProxySettings::only("http://u:p@proxy:1".parse().unwrap());
    for url in ["https://127.0.0.1:6443", "http://localhost:8001", "https://example.com"] {
        assert_eq!(way(&settings, url), "http://proxy:1", "{url}");
        let plain = settings.authorization_for(&url.parse().unwrap()).is_some();
        assert_eq!(plain, url.starts_with("http://"), "{url}");
    }
}
