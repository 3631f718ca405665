//! Bodies of one's own for errors: of the gateway, of filters, of origin servers.

mod support;

use support::gateway::Dir;
use support::{Gateway, Origin, Response};

const BROWSER: &str = "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n";

fn gateway(origin: &Origin, dir: &Dir) -> Gateway {
    let file = dir.file("gone.html", "<p>{status} {code} <i>{request_id}</i></p>");
    Gateway::start(&format!(
        "[policies.pages]\nfilters = [{{ error_pages = {{ pages = [
            {{ status = [429], json = '{{\"limited\": true}}' }},
            {{ status = [\"4xx\", \"5xx\"], html_file = \"{}\", json = '{{\"e\": \"{{code}}\", \"s\": {{status}}}}' }},
        ] }} }}]\n
        [clusters.app]\nendpoints = [\"{}\"]\n
        [[routes]]\nname = \"r\"\npath_prefix = \"/\"\ncluster = \"app\"\npolicies = [\"pages\"]\nbody_bytes_max = 10\n
        filters = [{{ fault = {{ abort = {{ status = 429 }}, header = \"x-fail\" }} }}]\n
        [[routes]]\nname = \"origin\"\npath_prefix = \"/origin\"\ncluster = \"app\"\n
        filters = [{{ error_pages = {{ replace_origin = true, pages = [
            {{ status = [\"5xx\", 404], html = \"<h1>{{status}} {{code}}</h1>\" }},
        ] }} }}]\n
        [[routes]]\nname = \"respond\"\npath = \"/respond\"\nrespond = {{ status = 404, body = \"gone\" }}\n
        filters = [{{ response_headers = {{ set = {{ content-type = \"text/x\" }} }} }}]\n",
        file.display(),
        origin.endpoint()
    ))
}

fn origin() -> Origin {
    Origin::start(|x| match x.target() {
        "/origin/chunked" => x.send(
            "HTTP/1.1 500 Oh\r\nETag: \"a\"\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n\
             5\r\nnever\r\n4\r\nseen\r\n0\r\n\r\n",
        ),
        "/origin/empty" => x.reply(502, "X-A: 1\r\n", ""),
        "/origin/endless" => {
            x.send("HTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            while x.send(format!("8000\r\n{}\r\n", "a".repeat(0x8000))).is_ok() {}
            Ok(())
        }
        "/origin/404" => x.reply(404, "Accept-Ranges: bytes\r\n", "theirs, and longer than the page is"),
        "/origin/403" | "/404" => x.reply(if x.target() == "/404" { 404 } else { 403 }, "", "theirs"),
        _ => x.ok("fine"),
    })
}

fn text(answer: &Response) -> &str {
    std::str::from_utf8(&answer.body).expect("a text")
}

#[test]
fn errors_of_the_gateway_and_of_filters_have_pages() {
    let (origin, dir) = (origin(), Dir::new());
    let gateway = gateway(&origin, &dir);
    let mut client = gateway.client();
    let got = client.request("GET", "/", &format!("{BROWSER}x-fail: 1\r\n"), b"").expect(429);
    assert_eq!((text(&got), got.all("content-type")), ("{\"limited\": true}", vec!["application/json"]));
    let got = gateway.client().request("POST", "/", BROWSER, &[0; 11]).expect(413);
    let id = got.header("x-request-id").expect("an id");
    assert_eq!(text(&got), format!("<p>413 body_too_large <i>{id}</i></p>"));
    assert_eq!(got.all("content-type"), ["text/html; charset=utf-8"]);
    assert_eq!(got.all("content-length"), [got.body.len().to_string()]);
    assert_eq!(text(&client.get("/404").expect(404)), "theirs", "an origin's error stays");
    origin.refuse(true);
    origin.drop_connections();
    let got = client.get("/").expect(502);
    assert!(text(&got).starts_with("{\"e\": \"") && text(&got).ends_with("\", \"s\": 502}"), "{}", text(&got));
    assert!(gateway.wait_log(4).iter().any(|line| line.status() == 413 && line.has_flag("LB")));
}

#[test]
fn accept_chooses_between_html_and_json() {
    let (origin, dir) = (origin(), Dir::new());
    let gateway = gateway(&origin, &dir);
    let html = |accept: &str| {
        let got = gateway.client().request("POST", "/", accept, &[0; 11]).expect(413);
        assert_eq!(got.header("vary"), Some("Accept"));
        got.header("content-type").is_some_and(|kind| kind.starts_with("text/html"))
    };
    assert!(html(BROWSER) && html("Accept: text/*, application/json;q=0.9\r\n"));
    assert!(!html("") && !html("Accept: */*\r\n") && !html("Accept: text/html;q=0.5, application/problem+json\r\n"));
}

#[test]
fn errors_of_an_origin_are_replaced_if_that_is_asked_for() {
    let (origin, dir) = (origin(), Dir::new());
    let gateway = gateway(&origin, &dir);
    let mut client = gateway.client();
    for (path, status) in [("/origin/chunked", 500), ("/origin/empty", 502), ("/origin/404", 404)] {
        let got = client.get(path).expect(status);
        assert_eq!(text(&got), format!("<h1>{status} origin_error</h1>"), "{path}");
        assert_eq!(got.all("content-length"), [got.body.len().to_string()], "{path}");
        for name in ["etag", "content-encoding", "transfer-encoding", "accept-ranges"] {
            assert!(!got.has(name), "{path}: {name}");
        }
        let head = client.request("HEAD", path, "", b"").expect(status);
        assert_eq!(head.header("content-length"), got.header("content-length"), "{path}");
        assert_eq!(head.header("content-type"), got.header("content-type"), "{path}");
    }
    assert_eq!(text(&client.get("/origin/403").expect(403)), "theirs");
    assert_eq!(text(&client.get("/origin/fine").expect(200)), "fine");
    let got = gateway.get("/origin/endless").expect(500);
    assert_eq!(text(&got), "<h1>500 origin_error</h1>", "nobody waits for the end of what is thrown away");
    assert_eq!(gateway.wait_log(9).iter().filter(|line| line.status() >= 500).count(), 5);
}

#[test]
fn an_edit_of_an_answer_of_ours_takes_the_place_of_its_field() {
    let (origin, dir) = (origin(), Dir::new());
    let got = gateway(&origin, &dir).get("/respond").expect(404);
    assert_eq!((text(&got), got.all("content-type")), ("gone", vec!["text/x"]));
}
