//! Clients let in or kept out by their address.

mod support;

use std::fmt::Write as _;

use support::gateway::Dir;
use support::{Client, Gateway, Origin, ringway};

fn gateway(origin: &Origin, filter: &str) -> Gateway {
    Gateway::start(&format!(
        "[listeners.main]\n\n[listeners.trusting]\ntrusted_proxies = [\"127.0.0.0/8\"]\n
        [clusters.app]\nendpoints = [\"{}\"]\n
        [[routes]]\nname = \"r\"\npath_prefix = \"/\"\ncluster = \"app\"\nfilters = [{{ ip_access = {{ {filter} }} }}]\n",
        origin.endpoint()
    ))
}

/// The status of a request that a trusted proxy passes on for `client`.
fn status_for(gateway: &Gateway, client: &str) -> u16 {
    let extra = format!("X-Forwarded-For: {client}\r\n");
    Client::to(gateway.addr_of("trusting")).request("GET", "/", &extra, b"").status
}

#[test]
fn deny_goes_before_allow() {
    let origin = Origin::saying("x");
    let gateway =
        gateway(&origin, "allow = [\"10.0.0.0/8\", \"2001:db8::/32\"], deny = [\"10.6.0.0/16\", \"10.7.0.7\"]");
    for (client, status) in [
        ("10.1.2.3", 200),
        ("2001:db8::1", 200),
        ("::ffff:10.1.2.3", 200),
        ("10.6.0.1", 403),
        ("10.7.0.7", 403),
        ("::ffff:10.7.0.7", 403),
        ("11.0.0.1", 403),
        ("2001:db9::1", 403),
    ] {
        assert_eq!(status_for(&gateway, client), status, "{client}");
    }
    assert_eq!(origin.count(), 3, "who is kept out does not reach the origin");
    let log = gateway.wait_log(8);
    assert!(log.iter().filter(|line| line.status() == 403).all(|line| line.has_flag("FB")), "{log:?}");
}

#[test]
fn only_a_trusted_proxy_says_who_the_client_is() {
    let origin = Origin::saying("x");
    let gateway = gateway(&origin, "allow = [\"10.0.0.0/8\"]");
    let spoofed = Client::to(gateway.addr_of("main")).request("GET", "/", "X-Forwarded-For: 10.1.2.3\r\n", b"");
    assert_eq!(spoofed.expect(403).problem()["code"].as_str(), Some("forbidden"));
    assert_eq!(
        status_for(&gateway, "10.9.9.9, 192.0.2.1"),
        403,
        "the proxy says who came to it, whatever that one said"
    );
    assert_eq!(status_for(&gateway, "192.0.2.1, 10.9.9.9"), 200);
}

#[test]
fn long_lists_are_read_from_a_file() {
    let dir = Dir::new();
    let mut text = "# blocked\n\n198.51.100.0/24 # a range\n".to_owned();
    for number in 0..100_000_u32 {
        let [a, b, c, _] = (0x1400_0000 + (number << 9)).to_be_bytes();
        writeln!(text, "{a}.{b}.{c}.0/24").unwrap();
    }
    let file = dir.file("blocked.txt", &text);
    let origin = Origin::saying("x");
    let gateway = gateway(&origin, &format!("deny_file = \"{}\", deny = [\"192.0.2.1\"]", file.display()));
    for (client, status) in [
        ("198.51.100.9", 403),
        ("192.0.2.1", 403),
        ("20.0.0.1", 403),
        ("20.0.1.1", 200),
        ("23.13.62.255", 403),
        ("23.13.63.0", 200),
        ("23.13.64.0", 200),
    ] {
        assert_eq!(status_for(&gateway, client), status, "{client}");
    }
}

#[test]
fn what_is_no_address_is_told_with_its_line() {
    let dir = Dir::new();
    let list = dir.file("list.txt", "10.0.0.0/8\n\n10.0.0.1/8\n");
    let checked = |filter: &str| {
        let text = format!(
            "[listeners.a]\nbind = \":18080\"\n[[routes]]\nname = \"r\"\nrespond = {{}}\nfilters = [\n\
             {{ ip_access = {{ {filter} }} }}]\n"
        );
        ringway(["check".as_ref(), dir.file("c.toml", &text).as_os_str()]).expect(1).all()
    };
    for (filter, parts) in [
        (format!("allow_file = \"{}\"", list.display()), ["line 3 of", "write \"10.0.0.0/8\""]),
        ("deny_file = \"/nowhere/at/all\"".to_owned(), ["cannot be read", "c.toml:7"]),
        (format!("deny_file = \"{}\"", dir.path().display()), ["is no regular file", "deny_file"]),
        ("deny = [\"10.0.0.300\"]".to_owned(), ["is not an address range", "deny[0]"]),
        ("allow = []".to_owned(), ["lets nobody in", "allow"]),
        (String::new(), ["lets everybody in", "add allow"]),
    ] {
        let said = checked(&filter);
        assert!(parts.iter().all(|part| said.contains(part)), "{filter}: {said}");
    }
}
