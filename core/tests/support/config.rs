//! Fills in what a test's TOML does not say: ports, sockets, shards, the engine. Not the gateway's own defaults.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use toml::{Table, Value};

use super::ports::Port;

/// The engine under test: the variable lets the whole suite run on each.
pub fn engine() -> String {
    std::env::var("RINGWAY_TEST_IO").unwrap_or_else(|_| "auto".to_owned())
}

/// Shards under test; above the machine's cores they run unpinned.
pub fn shards() -> usize {
    let set = std::env::var("RINGWAY_TEST_SHARDS").ok();
    set.map_or(2, |n| n.parse().expect("RINGWAY_TEST_SHARDS is a number"))
}

/// A document that is complete, and where it listens.
#[derive(Debug)]
pub struct Filled {
    pub text: String,
    pub listeners: BTreeMap<String, SocketAddr>,
    pub telemetry: SocketAddr,
}

/// Ports once given to a name stay its own over reloads.
#[derive(Debug, Default)]
pub struct Ports(BTreeMap<String, Port>);

impl Ports {
    pub fn of(&mut self, name: &str) -> String {
        self.0.entry(name.to_owned()).or_insert_with(Port::lease).address()
    }
}

/// `text` wins wherever it says something. Without any listener it gets `main`.
pub fn fill(text: &str, dir: &Path, ports: &mut Ports) -> Filled {
    let mut doc: Table = text.parse().unwrap_or_else(|e| panic!("the test's own TOML: {e}\n{text}"));
    put(&mut doc, "io", engine());
    section(&mut doc, "cores", |t| put(t, "count", i64::try_from(shards()).expect("few shards")));
    let telemetry = ports.of("telemetry");
    section(&mut doc, "telemetry", |t| put(t, "bind", telemetry));
    section(&mut doc, "control", |t| put(t, "socket", dir.join("control.sock").display().to_string()));
    section(&mut doc, "log", |t| put(t, "access", dir.join("access.log").display().to_string()));
    section(&mut doc, "drain", |t| {
        put(t, "wait", "50ms");
        put(t, "deadline", "2s");
    });
    let mut listeners = BTreeMap::new();
    section(&mut doc, "listeners", |all| {
        if all.is_empty() {
            all.insert("main".to_owned(), Value::Table(Table::new()));
        }
        for (name, one) in all.iter_mut() {
            let one = one.as_table_mut().expect("a listener is a table");
            put(one, "bind", ports.of(name));
            let bind = match &one["bind"] {
                Value::Array(many) => many[0].as_str(),
                one => one.as_str(),
            };
            listeners.insert(name.clone(), bind.and_then(|b| b.parse().ok()).expect("bind is an address"));
        }
    });
    let telemetry = doc["telemetry"]["bind"].as_str().and_then(|b| b.parse().ok()).expect("telemetry has an address");
    Filled { text: toml::to_string(&doc).expect("a table is TOML"), listeners, telemetry }
}

fn put(table: &mut Table, key: &str, value: impl Into<Value>) {
    table.entry(key).or_insert_with(|| value.into());
}

fn section(doc: &mut Table, name: &str, with: impl FnOnce(&mut Table)) {
    let entry = doc.entry(name).or_insert_with(|| Value::Table(Table::new()));
    with(entry.as_table_mut().unwrap_or_else(|| panic!("{name} is a table")));
}
