use super::*;

const JSON: (&str, &str) = ("content-type", "application/json");

fn check(guard: &Guard, method: Method, headers: &[(&str, &str)]) -> Result<()> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
    }
    guard.check(&method, &Uri::from_static("/v1/jobs"), &map)
}

fn kind(result: Result<()>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

fn allowing(hosts: &[&str], origins: &[&str]) -> Guard {
    Guard {
        any_host: false,
        hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
        origins: origins.iter().map(|origin| origin.parse().unwrap()).collect(),
    }
}

#[test]
fn without_a_token_only_loopback_names_and_configured_hosts_are_taken() {
    let guard = allowing(&["llm.home.arpa", "192.168.1.5", "fd00::1"], &[]);
    let loopback = [
        "localhost",
        "localhost:7833",
        "LOCALHOST:1",
        "localhost.",
        "127.0.0.1",
        "127.0.0.1:7833",
        "127.9.9.9:80",
        "[::1]",
        "[::1]:7833",
        "[::ffff:127.0.0.1]:7833",
    ];
    let configured = [
        "llm.home.arpa",
        "LLM.home.arpa.:7833",
        "192.168.1.5:7833",
        "[fd00::1]:7833",
        "[fd00:0:0::1]:7833",
    ];
    for host in loopback.iter().chain(&configured) {
        assert_eq!(kind(check(&guard, Method::GET, &[("host", host)])), None, "{host}");
    }
    for host in loopback {
        assert_eq!(kind(check(&Guard::default(), Method::GET, &[("host", host)])), None, "{host}");
    }
    let foreign = [
        "",
        "evil.example",
        "evil.example:7833",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "[fd00::2]",
        "0.0.0.0:7833",
        "[::]:7833",
        "localhost@evil.example",
        "evil.example@localhost",
        "localhost:x:7833",
        "127.0.0.1:80:80",
        "2130706433",
        "::1",
    ];
    for host in foreign {
        let refused = kind(check(&guard, Method::GET, &[("host", host)]));
        assert_eq!(refused, Some(ErrorKind::PermissionDenied), "{host}");
    }
    // A page has no token, and a machine of the network has many names.
    for host in ["evil.example:7833", "gpu-box", "10.0.0.1"] {
        assert_eq!(kind(check(&Guard::with_token(), Method::GET, &[("host", host)])), None);
    }
}

#[test]
fn the_host_in_the_first_line_counts_like_the_one_in_the_header() {
    let headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static("localhost"))]);
    let uri = Uri::from_static("http://evil.example/v1/jobs");
    let refused = Guard::default().check(&Method::GET, &uri, &headers).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    assert!(refused.message().contains("evil.example"), "{refused}");
    let uri = Uri::from_static("http://localhost:7833/v1/jobs");
    assert!(Guard::default().check(&Method::GET, &uri, &headers).is_ok());
}

#[test]
fn over_http_2_the_address_names_the_host() {
    let own = Uri::from_static("http://localhost:7833/v1/jobs");
    assert!(Guard::default().check(&Method::GET, &own, &HeaderMap::new()).is_ok());
    let foreign = Uri::from_static("http://evil.example:7833/v1/jobs");
    let refused = Guard::default().check(&Method::GET, &foreign, &HeaderMap::new()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    assert!(Guard::with_token().check(&Method::GET, &foreign, &HeaderMap::new()).is_ok());
}

#[test]
fn what_is_open_without_a_token_is_not_for_names_that_a_page_may_have() {
    let guard = Guard { any_host: true, ..allowing(&["llm.home.arpa"], &[]) };
    let ask = |host: &str| {
        let headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_str(host).unwrap())]);
        kind(guard.check_open(&Uri::from_static("/metrics"), &headers))
    };
    for host in ["localhost:7833", "llm.home.arpa", "192.168.1.5:7833", "[fd00::1]:7833"] {
        assert_eq!(ask(host), None, "{host}");
    }
    for host in ["evil.example:7833", "192.168.1.5.evil.example", ""] {
        assert_eq!(ask(host), Some(ErrorKind::PermissionDenied), "{host}");
    }
}

#[test]
fn a_header_that_decides_is_there_once() {
    let guard = Guard::with_token();
    assert_eq!(kind(check(&guard, Method::GET, &[])), Some(ErrorKind::InvalidRequest));
    for name in ["host", "authorization", "x-api-key", "origin"] {
        let twice = [("host", "localhost"), (name, "http://localhost"), (name, "http://localhost")];
        let refused = check(&guard, Method::GET, &twice).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidRequest, "{name}");
        assert!(refused.message().contains(name), "{refused}");
    }
    let twice = [("host", "localhost"), JSON, JSON];
    assert_eq!(kind(check(&guard, Method::POST, &twice)), Some(ErrorKind::InvalidRequest));
}

#[test]
fn pages_of_other_origins_are_refused_whatever_they_ask() {
    let guards = [Guard::default(), Guard::with_token(), allowing(&[], &["https://chat.example"])];
    let foreign = [
        "http://evil.example",
        "https://localhost:7834",
        "http://127.0.0.1:7833",
        "null",
        "",
        "http://localhost:7833.evil.example",
        "http://chat.example",
        "https://chat.example:8443",
        "https://chat.example.evil.example",
        "file://",
    ];
    for (guard, origin) in guards.iter().flat_map(|guard| foreign.map(|origin| (guard, origin))) {
        for method in [Method::GET, Method::POST, Method::DELETE, Method::OPTIONS] {
            let headers = [("host", "localhost:7833"), ("origin", origin), JSON];
            let refused = kind(check(guard, method.clone(), &headers));
            assert_eq!(refused, Some(ErrorKind::PermissionDenied), "{method} of {origin}");
        }
    }
}

#[test]
fn the_daemons_own_pages_and_allowed_ones_are_taken() {
    let guard =
        allowing(&[], &["https://chat.example", "http://localhost:3000", "app://obsidian.md"]);
    let own = "http://localhost:7833";
    for origin in [own, "https://chat.example", "http://localhost:3000", "app://obsidian.md"] {
        for method in [Method::GET, Method::POST, Method::DELETE] {
            let headers = [("host", "localhost:7833"), ("origin", origin), JSON];
            assert_eq!(kind(check(&guard, method.clone(), &headers)), None, "{method} of {origin}");
        }
    }
}

#[test]
fn requests_that_a_foreign_page_causes_without_its_origin_are_refused_but_for_links() {
    let guard = Guard::default();
    let from = |site, mode| {
        let headers = [("host", "localhost"), ("sec-fetch-site", site), ("sec-fetch-mode", mode)];
        kind(check(&guard, Method::GET, &headers))
    };
    for site in ["cross-site", "same-site"] {
        assert_eq!(from(site, "no-cors"), Some(ErrorKind::PermissionDenied), "{site}");
        assert_eq!(from(site, "navigate"), None, "{site}");
    }
    for site in ["none", "same-origin"] {
        assert_eq!(from(site, "no-cors"), None, "{site}");
    }
}

#[test]
fn what_changes_something_says_that_it_sends_json() {
    let guard = Guard::with_token();
    let with = |method, more: &[(&str, &str)]| {
        let headers: Vec<_> = [("host", "gpu-box")].iter().chain(more).copied().collect();
        kind(check(&guard, method, &headers))
    };
    let forms = [
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain",
        "text/plain; application/json",
        "application/jsonp",
        "",
    ];
    for method in [Method::POST, Method::PUT, Method::PATCH] {
        assert_eq!(with(method.clone(), &[]), Some(ErrorKind::UnsupportedMediaType), "{method}");
        for form in forms {
            let refused = with(method.clone(), &[("content-type", form)]);
            assert_eq!(refused, Some(ErrorKind::UnsupportedMediaType), "{method} {form}");
        }
        for json in ["application/json", "Application/JSON; charset=utf-8"] {
            assert_eq!(with(method.clone(), &[("content-type", json)]), None, "{method} {json}");
        }
    }
    assert_eq!(with(Method::DELETE, &[]), None);
    assert_eq!(with(Method::DELETE, &[("content-length", "0")]), None);
    for body in [("content-length", "2"), ("transfer-encoding", "chunked")] {
        assert_eq!(with(Method::DELETE, &[body]), Some(ErrorKind::UnsupportedMediaType));
        assert_eq!(with(Method::DELETE, &[body, JSON]), None);
    }
    assert_eq!(with(Method::PUT, &[("content-type", BYTES)]), None);
    assert_eq!(
        with(Method::POST, &[("content-type", BYTES)]),
        Some(ErrorKind::UnsupportedMediaType)
    );
    for method in [Method::GET, Method::HEAD] {
        assert_eq!(with(method, &[]), None);
    }
}

#[test]
fn an_origin_or_host_that_cannot_be_allowed_is_named() {
    let bad_origins = [
        "*",
        "null",
        "NULL",
        "chat.example",
        "https://",
        "https://chat.example/",
        "https://a/b",
        "https://*.example",
        "://x",
        "1x://y",
        "https://a b",
        "https://user@chat.example",
        "https://chät.example",
    ];
    for text in bad_origins {
        let error = text.parse::<AllowedOrigin>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{text}");
        assert!(error.message().contains(&format!("{text:?}")), "{error}");
    }
    for (text, normal) in [
        ("HTTPS://Chat.Example", "https://chat.example"),
        ("https://chat.example:443", "https://chat.example"),
        ("http://chat.example:80", "http://chat.example"),
        ("http://chat.example:443", "http://chat.example:443"),
        ("app://obsidian.md", "app://obsidian.md"),
        ("file://", "file://"),
        ("http://[::1]:3000", "http://[::1]:3000"),
    ] {
        assert_eq!(text.parse::<AllowedOrigin>().unwrap().to_string(), normal, "{text}");
    }
    for text in ["", "http://x", "x:80", "x/y", "a b", "[::1]:80", "*"] {
        let error = text.parse::<AllowedHost>().unwrap_err();
        assert!(error.message().contains(&format!("{text:?}")), "{error}");
    }
}
