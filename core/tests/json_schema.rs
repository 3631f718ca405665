//! Requests whose JSON must be as a schema says.

mod support;

use std::time::Instant;

use support::gateway::Dir;
use support::{Gateway, Origin, Response, ms, ringway};

const SCHEMA: &str = r##"{
    "type": "object", "required": ["id"], "additionalProperties": false,
    "properties": {
        "id": { "type": "integer", "minimum": 1 },
        "name": { "type": "string", "pattern": "^(a+)+$", "maxLength": 100000 },
        "mail": { "type": "string", "format": "email" },
        "a/b~c": { "type": "null" },
        "children": { "type": "array", "items": { "$ref": "#" }, "uniqueItems": true }
    }
}"##;

fn gateway(origin: &Origin, dir: &Dir) -> Gateway {
    let file = dir.file("schema.json", SCHEMA);
    Gateway::start(&format!(
        "[clusters.app]\nendpoints = [\"{}\"]\n
        [[routes]]\nname = \"strict\"\npath = \"/strict\"\ncluster = \"app\"\n
        filters = [{{ json_schema = {{ schema_file = \"{file}\", status = 400, formats = true, depth_max = 4, \
            bytes_max = \"1KiB\", types = [\"application/x\"], required = false }} }}]\n
        [[routes]]\nname = \"r\"\npath_prefix = \"/\"\ncluster = \"app\"\n
        filters = [{{ decompress = {{}} }}, {{ json_schema = {{ schema_file = \"{file}\" }} }}]\n",
        origin.endpoint(),
        file = file.display()
    ))
}

fn post(gateway: &Gateway, path: &str, kind: &str, body: &str) -> Response {
    gateway.client().request("POST", path, &format!("Content-Type: {kind}\r\n"), body.as_bytes())
}

fn code(answer: &Response) -> String {
    answer.problem()["code"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn json_that_fits_passes_as_it_came() {
    let (origin, dir) = (Origin::saying("x"), Dir::new());
    let gateway = gateway(&origin, &dir);
    let body = "{ \"id\": 1,\n \"children\": [ {\"id\": 2}, {\"id\": 3, \"name\": \"aaa\"} ], \"mail\": \"none\" }";
    for kind in ["application/json", "Application/JSON; charset=utf-8", "application/merge-patch+json"] {
        post(&gateway, "/", kind, body).expect(200);
        assert_eq!(origin.last().body, body.as_bytes(), "{kind}");
    }
    let mut client = gateway.client();
    client.send("PUT /a HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send("3\r\n{\"i\r\n7\r\nd\": 17}\r\n0\r\n\r\n").response().expect(200);
    assert_eq!(origin.last().body, b"{\"id\": 17}");
    client.get("/b").expect(200);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, b"{\"id\": 5}").unwrap();
    let extra = "Content-Type: application/json\r\nContent-Encoding: gzip\r\n";
    client.request("POST", "/", extra, &packed.finish().unwrap()).expect(200);
    assert_eq!(origin.last().body, b"{\"id\": 5}", "after decompress");
}

#[test]
fn json_that_does_not_fit_is_told_where_and_why() {
    let (origin, dir) = (Origin::saying("x"), Dir::new());
    let gateway = gateway(&origin, &dir);
    for (body, pointer, keyword) in [
        (r#"{"id": "secret"}"#, "/id", "type"),
        (r#"{"id": 0}"#, "/id", "minimum"),
        ("{}", "", "required"),
        ("[]", "", "type"),
        (r#"{"id": 1, "secret": 1}"#, "", "additionalProperties"),
        (r#"{"id": 1, "children": [{"id": 1}, {"id": 2, "name": "secret"}]}"#, "/children/1/name", "pattern"),
        (r#"{"id": 1, "children": [{"id": 1}, {"id": 1}]}"#, "/children", "uniqueItems"),
        (r#"{"id": 1, "a/b~c": "secret"}"#, "/a~1b~0c", "type"),
    ] {
        let got = post(&gateway, "/", "application/json", body).expect(422);
        let problem = got.problem();
        assert_eq!(code(&got), "json_schema");
        assert_eq!(problem["invalid"], serde_json::json!({ "pointer": pointer, "keyword": keyword }), "{body}");
        assert!(!got.text().contains("secret"), "no value is said back: {}", got.text());
    }
    let got = post(&gateway, "/strict", "application/x", r#"{"id": 1, "mail": "none"}"#).expect(400);
    assert_eq!(got.problem()["invalid"]["keyword"], "format");
    assert_eq!(origin.count(), 0);
    assert!(gateway.wait_log(9).iter().all(|line| line.has_flag("PR")));
}

#[test]
fn what_is_no_json_or_hides_something_is_a_400() {
    let (origin, dir) = (Origin::saying("x"), Dir::new());
    let gateway = gateway(&origin, &dir);
    let deep = |levels: usize| format!("{{\"id\": 1, \"children\": {}{}}}", "[".repeat(levels), "]".repeat(levels));
    for (body, wanted) in [
        ("{", "json_malformed"),
        ("{\"id\": 1} x", "json_malformed"),
        ("id=1", "json_malformed"),
        ("{\"id\": 1, \"id\": 2}", "json_duplicate_name"),
        (&deep(32), "json_too_deep"),
        (&"[".repeat(200_000), "json_too_deep"),
        ("", "body_missing"),
    ] {
        let got = post(&gateway, "/", "application/json", body).expect(400);
        assert_eq!(code(&got), wanted, "{body:.40}");
    }
    assert_eq!(code(&post(&gateway, "/strict", "application/x", &deep(4)).expect(400)), "json_too_deep");
    assert_eq!(code(&post(&gateway, "/strict", "application/x", &deep(3)).expect(400)), "json_schema");
    assert_eq!(origin.count(), 0);
    post(&gateway, "/strict", "application/x", "").expect(200);
    assert_eq!(origin.count(), 1, "none is required there");
}

#[test]
fn other_types_and_longer_bodies_are_refused() {
    let (origin, dir) = (Origin::saying("x"), Dir::new());
    let gateway = gateway(&origin, &dir);
    for kind in ["text/plain", "application/jsonx", "application/json\r\nContent-Type: text/plain"] {
        let got = post(&gateway, "/", kind, "{\"id\": 1}").expect(415);
        assert_eq!(code(&got), "unsupported_media_type", "{kind}");
    }
    let untyped = gateway.client().request("POST", "/", "", b"{\"id\": 1}").expect(415);
    assert_eq!(code(&untyped), "unsupported_media_type");
    let extra = "Content-Type: application/x\r\nContent-Encoding: gzip\r\n";
    let got = gateway.client().request("POST", "/strict", extra, b"{\"id\": 1}").expect(415);
    assert_eq!(code(&got), "unsupported_coding");
    let padded = |bytes: usize| format!("{{\"id\": 1{}}}", " ".repeat(bytes - 9));
    assert_eq!(code(&post(&gateway, "/strict", "application/x", &padded(1025)).expect(413)), "body_too_large");
    post(&gateway, "/strict", "application/x", &padded(1024)).expect(200);
    assert_eq!(code(&post(&gateway, "/", "application/json", &padded(256 * 1024 + 1)).expect(413)), "body_too_large");
    post(&gateway, "/", "application/json", &padded(256 * 1024)).expect(200);
}

/// Not what came is what is parsed.
#[test]
fn what_another_filter_has_made_of_a_body_counts_in_full() {
    let (origin, dir) = (Origin::saying("x"), Dir::new());
    let gateway = gateway(&origin, &dir);
    let packed = |bytes: usize| {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        // Not so dense that it would be taken for a bomb.
        let blank = |at: usize| [' ', '\n', '\t'][(at.wrapping_mul(0x9e37_79b9) >> 16) % 3];
        let body = format!("{{\"id\": 1{}}}", (9..bytes).map(blank).collect::<String>());
        std::io::Write::write_all(&mut packed, body.as_bytes()).unwrap();
        packed.finish().unwrap()
    };
    let extra = "Content-Type: application/json\r\nContent-Encoding: gzip\r\n";
    let answer = gateway.client().request("POST", "/", extra, &packed(256 * 1024 + 1)).expect(413);
    assert_eq!(code(&answer), "body_too_large");
    assert_eq!(origin.count(), 0);
    gateway.client().request("POST", "/", extra, &packed(256 * 1024)).expect(200);
}

/// All lists of lists with so many brackets, as text.
fn trees(open: usize, close: usize, text: &mut String, out: &mut Vec<String>) {
    if open == 0 && close == 0 {
        out.push(format!("[{text}]"));
    }
    for (bracket, may, left) in
        [('[', open > 0, (open.wrapping_sub(1), close + 1)), (']', close > 0, (open, close.wrapping_sub(1)))]
    {
        if may {
            // Lists that stand beside each other are parted by commas.
            let length = text.len();
            if bracket == '[' && text.ends_with(']') {
                text.push(',');
            }
            text.push(bracket);
            trees(left.0, left.1, text, out);
            text.truncate(length);
        }
    }
}

/// Each compared with all others they would hold a core for minutes.
#[test]
fn many_items_that_must_differ_do_not_take_long() {
    let origin = Origin::saying("x");
    let gateway = Gateway::start(&format!(
        "[clusters.app]\nendpoints = [\"{}\"]\n[[routes]]\nname = \"r\"\npath_prefix = \"/\"\ncluster = \"app\"\n\
         body_bytes_max = \"8MiB\"\n\
         filters = [{{ json_schema = {{ schema = '{{\"uniqueItems\": true}}', bytes_max = \"4MiB\" }} }}]\n",
        origin.endpoint()
    ));
    let mut items = Vec::new();
    trees(12, 0, &mut String::new(), &mut items);
    items.truncate(100_000);
    let began = Instant::now();
    post(&gateway, "/", "application/json", &format!("[{}]", items.join(","))).expect(200);
    items.push(items[500].clone());
    let same = post(&gateway, "/", "application/json", &format!("[{}]", items.join(","))).expect(422);
    assert_eq!(same.problem()["invalid"]["keyword"], "uniqueItems");
    assert!(began.elapsed() < ms(4000), "{:?}", began.elapsed());
}

#[test]
fn an_expression_does_not_take_long() {
    let (origin, dir) = (Origin::saying("x"), Dir::new());
    let gateway = gateway(&origin, &dir);
    let began = Instant::now();
    let got = post(&gateway, "/", "application/json", &format!("{{\"id\": 1, \"name\": \"{}!\"}}", "a".repeat(90_000)));
    assert_eq!(got.expect(422).problem()["invalid"]["keyword"], "pattern");
    assert!(began.elapsed() < ms(1000), "{:?}", began.elapsed());
}

/// Each level of a body would double the work: some hundred bytes could hold a core for hours.
#[test]
fn a_schema_that_a_small_body_could_hold_a_core_with_is_refused() {
    let dir = Dir::new();
    let schema = r##"{ "oneOf": [
        { "properties": { "args": { "items": { "$ref": "#" } }, "op": { "const": "and" } } },
        { "properties": { "args": { "items": { "$ref": "#" } }, "op": { "const": "or" } } } ] }"##;
    let check = |more: &str| {
        let text = format!(
            "[listeners.main]\nbind = \":1\"\n[[routes]]\nname = \"r\"\nrespond = {{}}\n\
             filters = [{{ json_schema = {{ schema = '''{schema}'''{more} }} }}]\n"
        );
        ringway(["check", dir.file("s.toml", &text).to_str().expect("a plain path")])
    };
    let refused = check("").expect(1);
    assert!(
        refused.err.contains("filters[0].json_schema.schema: may look at one value more than 32"),
        "{}",
        refused.err
    );
    assert!(refused.err.contains("set depth_max to 10 or less"), "{}", refused.err);
    check(", depth_max = 10").expect(0);
    // What is taken ends soon at its worst.
    let origin = Origin::saying("x");
    let gateway = Gateway::start(&format!(
        "[clusters.app]\nendpoints = [\"{}\"]\n[[routes]]\nname = \"r\"\npath_prefix = \"/\"\ncluster = \"app\"\n\
         filters = [{{ json_schema = {{ schema = '''{schema}''', depth_max = 10 }} }}]\n",
        origin.endpoint()
    ));
    let deep = format!("{}1{}", "{\"args\":[".repeat(4), "]}".repeat(4));
    let wide = format!("[{}]", vec![deep; 2000].join(","));
    let began = Instant::now();
    let status = post(&gateway, "/", "application/json", &format!("{{\"args\":{wide}}}")).status;
    assert!([400, 422].contains(&status), "{status}");
    assert!(began.elapsed() < ms(2000), "{:?}", began.elapsed());
}
