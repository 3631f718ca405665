//! The npm package `oidc-provider` as a process, and the way of a browser through its pages. Installed into a cache outside
//! of the repository by `oidc_provider/install`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::gateway::{ChildLimits, launch};
use super::ports::Port;
use super::{Client, Response, ms, wait_until};

/// A first start on a busy machine.
const START_TIME_MAX: Duration = Duration::from_secs(30);
/// From a request to the client's redirect, with all pages between.
const STEPS_MAX: usize = 12;

pub struct RealProvider {
    port: Port,
    child: Child,
    output: Arc<Mutex<String>>,
    /// Its own cookies, whatever path they are for.
    cookies: BTreeMap<String, String>,
}

impl RealProvider {
    /// `None`, and why is said: it cannot be had here.
    pub fn start(test: &str, redirect_uri: &str, post_logout_uri: &str) -> Option<RealProvider> {
        let scripts = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/support/oidc_provider");
        let skipped = |why: &str| {
            eprintln!("SKIPPED {test}: {why}");
            None
        };
        if Command::new("node").arg("--version").stdout(Stdio::null()).status().is_err() {
            return skipped("there is no node");
        }
        let installed = Command::new(scripts.join("install")).output();
        let Some(cache) = installed.ok().filter(|ran| ran.status.success()) else {
            return skipped("npm cannot install oidc-provider");
        };
        let cache = String::from_utf8(cache.stdout).expect("a path");
        let port = Port::lease();
        let mut command = Command::new("node");
        command.arg(scripts.join("provider.mjs")).arg(cache.trim()).arg(port.number.to_string());
        command.args([redirect_uri, post_logout_uri]);
        let (child, output) = launch(command, ChildLimits::default());
        let provider = RealProvider { port, child, output, cookies: BTreeMap::new() };
        wait_until("a provider that listens", START_TIME_MAX, || {
            let address = provider.port.address().parse().expect("an address");
            Client::try_to(address, ms(500)).is_ok() || {
                std::thread::sleep(ms(50));
                false
            }
        });
        Some(provider)
    }

    pub fn issuer(&self) -> String {
        format!("http://{}", self.port.address())
    }

    #[track_caller]
    fn ask(&mut self, method: &str, url: &str, form: &str) -> Response {
        let target = url.strip_prefix(&self.issuer()).unwrap_or(url);
        let pairs: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let kind = if form.is_empty() { "" } else { "Content-Type: application/x-www-form-urlencoded\r\n" };
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\nAccept: text/html\r\nCookie: {}\r\nContent-Length: {}\r\n{kind}\r\n{form}",
            self.port.address(),
            pairs.join("; "),
            form.len()
        );
        let mut client = Client::to(self.port.address().parse().expect("an address"));
        let answer = client.send(head).response_to(method);
        for cookie in answer.all("set-cookie") {
            let (name, value) = cookie.split(';').next().and_then(|pair| pair.split_once('=')).expect("a pair");
            match value.is_empty() {
                true => drop(self.cookies.remove(name)),
                false => drop(self.cookies.insert(name.to_owned(), value.to_owned())),
            }
        }
        answer
    }

    /// Follows a redirect of the gateway and fills in the pages until the provider leads to another host: where to. No
    /// user: he goes back.
    #[track_caller]
    pub fn visit(&mut self, location: &str, user: Option<&str>) -> String {
        let (mut method, mut url, mut form) = ("GET", location.to_owned(), String::new());
        for _ in 0..STEPS_MAX {
            let answer = self.ask(method, &url, &form);
            (method, form) = ("GET", String::new());
            match answer.status {
                302 | 303 => {
                    url = answer.header("location").expect("a location").to_owned();
                    if !url.starts_with('/') && !url.starts_with(&self.issuer()) {
                        return url;
                    }
                }
                200 => {
                    let page = answer.text();
                    url = value_of(&page, "action=\"").unwrap_or_else(|| panic!("no form in {page}"));
                    let Some(user) = user else {
                        url.push_str("/abort");
                        continue;
                    };
                    form = match ["login", "consent"].iter().find(|name| page.contains(&format!("value=\"{name}\""))) {
                        Some(&"login") => format!("prompt=login&login={user}&password=x"),
                        Some(_) => "prompt=consent".to_owned(),
                        // The page that asks whether to log out.
                        None => {
                            format!("xsrf={}&logout=yes", value_of(&page, "name=\"xsrf\" value=\"").unwrap_or_default())
                        }
                    };
                    method = "POST";
                }
                status => panic!("{status}: {}; {}", answer.text(), self.output.lock().expect("output")),
            }
        }
        panic!("the pages lead nowhere: {url}");
    }
}

fn value_of(page: &str, before: &str) -> Option<String> {
    let (_, rest) = page.split_once(before)?;
    Some(rest.split('"').next()?.to_owned())
}

impl Drop for RealProvider {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
