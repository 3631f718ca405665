//! HTTP of the control thread, for itself and on errands of cores (`mesh::Calls`): for what the configuration names, never
//! for what a client says. Over https with the server's certificate verified; follows no redirect, uses no proxy, asks no
//! link-local and no metadata address, and takes answers of a bounded size within a bounded time.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{CACHE_CONTROL, HeaderMap};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Method, Response, Url};

/// Of an answer's body.
pub const ANSWER_BYTES_MAX: usize = 1 << 20;
/// A file of certificates.
const CA_BYTES_MAX: u64 = 4 << 20;
/// Idle connections to one server.
const IDLE_MAX: usize = 4;
/// The longest that a server is believed to stay fresh.
const FRESH_MAX: Duration = Duration::from_secs(24 * 3600);

/// A whole answer.
#[derive(Debug)]
pub struct Fetched {
    pub bytes: Vec<u8>,
    /// `max-age`, if the server says so.
    pub fresh: Option<Duration>,
}

/// What is asked on behalf of a request.
#[derive(Debug)]
pub struct Question {
    pub method: Method,
    /// Of a host that the configuration names.
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// An answer with whatever status.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// A client for one server. `ca_file`: certificates to trust, alone; the system's without it.
///
/// # Errors
/// The file cannot be read or has no certificate.
pub fn client(ca_file: Option<&Path>, timeout: Duration) -> Result<Client, String> {
    let mut builder = Client::builder()
        .redirect(Policy::none())
        .no_proxy()
        .referer(false)
        .timeout(timeout)
        .connect_timeout(timeout)
        .pool_max_idle_per_host(IDLE_MAX)
        .user_agent(concat!("ringway/", env!("CARGO_PKG_VERSION")))
        .dns_resolver(Arc::new(Allowed));
    if let Some(path) = ca_file {
        let cannot = |why: String| format!("{} cannot be used: {why}", path.display());
        let size = fs::metadata(path).map_err(|error| cannot(error.to_string()))?.len();
        if size > CA_BYTES_MAX {
            return Err(cannot(format!("{size} bytes; the most is {CA_BYTES_MAX}")));
        }
        let pem = fs::read(path).map_err(|error| cannot(error.to_string()))?;
        let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| cannot(error.to_string()))?;
        builder = builder.tls_certs_only(certificates);
    }
    builder.build().map_err(|error| format!("no client: {error}"))
}

/// Reads what is at `url`.
///
/// # Errors
/// Why it cannot be had.
pub async fn get(client: &Client, url: &str) -> Result<Fetched, String> {
    let request = client.get(allowed(url)?);
    whole(request.send().await.map_err(|error| reason(&error))?).await
}

/// Asks, and reads an answer of at most `bytes_max`.
///
/// # Errors
/// Why there is none.
pub async fn ask(client: &Client, question: Question, bytes_max: usize) -> Result<Answer, String> {
    let Question { method, url, headers, body } = question;
    // A name that the filter of addresses sees when it is resolved; an address is seen here.
    let request = client.request(method, allowed(url.as_str())?).headers(headers).body(body);
    let mut answer = request.send().await.map_err(|error| reason(&error))?;
    let body = body_of(&mut answer, bytes_max).await?;
    Ok(Answer { status: answer.status().as_u16(), headers: std::mem::take(answer.headers_mut()), body })
}

/// The URL, unless it names an address that must not be asked.
///
/// # Errors
/// It does.
pub fn allowed(url: &str) -> Result<Url, String> {
    let url = Url::parse(url).map_err(|error| error.to_string())?;
    let literal = url.host_str().map(|host| host.trim_start_matches('[').trim_end_matches(']'));
    match literal.and_then(|host| host.parse::<IpAddr>().ok()) {
        Some(address) if is_forbidden(address) => Err(format!("{address} is a link-local or metadata address")),
        _ => Ok(url),
    }
}

/// An answer with status 200, read to its end.
///
/// # Errors
/// It has another status, or is too long.
pub async fn whole(mut answer: Response) -> Result<Fetched, String> {
    let status = answer.status();
    if status.is_redirection() {
        return Err(format!("it answers {status}; redirects are not followed: write where it leads to"));
    }
    if status != 200 {
        return Err(format!("it answers {status}"));
    }
    let fresh = answer.headers().get(CACHE_CONTROL).and_then(|value| value.to_str().ok()).and_then(max_age);
    let bytes = body_of(&mut answer, ANSWER_BYTES_MAX).await?;
    Ok(Fetched { bytes, fresh })
}

async fn body_of(answer: &mut Response, bytes_max: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| reason(&error))? {
        if bytes.len() + chunk.len() > bytes_max {
            return Err(format!("its answer has more than {bytes_max} bytes"));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// The innermost cause says most; the URL is left out, since the configuration has it.
pub fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it does not answer in time".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// RFC 9111 section 5.2.2.1; `no-store` and `no-cache` make it 0.
fn max_age(value: &str) -> Option<Duration> {
    let mut directives = value.split(',').map(str::trim);
    if directives.clone().any(|one| one.eq_ignore_ascii_case("no-store") || one.eq_ignore_ascii_case("no-cache")) {
        return Some(Duration::ZERO);
    }
    let seconds =
        directives.find_map(|one| one.split_once('=').filter(|(name, _)| name.eq_ignore_ascii_case("max-age")))?.1;
    Some(Duration::from_secs(seconds.trim_matches('"').parse().ok()?).min(FRESH_MAX))
}

/// Link-local addresses, where clouds keep their metadata, and the metadata addresses that are elsewhere.
fn is_forbidden(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            address.is_link_local()
                || address.is_multicast()
                || address.is_broadcast()
                || address.is_unspecified()
                // Alibaba Cloud, Oracle Cloud, Azure.
                || [[100, 100, 100, 200], [192, 0, 0, 192], [168, 63, 129, 16]].contains(&address.octets())
        }
        IpAddr::V6(address) => {
            address.is_unicast_link_local()
                || address.is_multicast()
                || address.is_unspecified()
                // AWS (metadata, and credentials of pods), Google Cloud.
                || matches!(address.segments(), [0xfd00, 0xec2, 0, ..] | [0xfd20, 0xce, 0, ..])
                || inner_v4(address).is_some_and(|inner| is_forbidden(inner.into()))
        }
    }
}

/// The IPv4 address to which a translator would send this one (RFC 6052 section 2.1, RFC 4291 section 2.5.5.1).
fn inner_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, high, low] = address.segments();
    let is_translated = matches!([a, b, c, d, e, f], [0x64, 0xff9b, 0, 0, 0, 0] | [0, 0, 0, 0, 0, 0]);
    is_translated.then(|| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)))
}

/// Resolves as the system does, without the addresses that must not be asked.
struct Allowed;

impl Resolve for Allowed {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> = found.filter(|address| !is_forbidden(address.ip())).collect();
            if allowed.is_empty() {
                return Err(format!("{} has no address that may be asked", name.as_str()).into());
            }
            let addresses: Addrs = Box::new(allowed.into_iter());
            Ok(addresses)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_addresses_are_never_asked() {
        for url in [
            "http://169.254.169.254/latest",
            "http://[fe80::1]/",
            "http://[::ffff:169.254.169.254]/",
            "http://[fd00:ec2::254]/",
            "http://[fd00:ec2::23]/",
            "http://[fd20:ce::254]/",
            "http://[64:ff9b::a9fe:a9fe]/",
            "http://[::169.254.169.254]/",
            "http://168.63.129.16/",
            "http://169.254.169.254./",
            "http://100.100.100.200/",
            "http://192.0.0.192/",
            "http://0.0.0.0/",
            "http://2852039166/", // 169.254.169.254 in one number
            "http://0xa9fea9fe/",
        ] {
            assert!(allowed(url).is_err(), "{url}");
        }
        for url in [
            "https://127.0.0.1:1/",
            "https://10.0.0.1/",
            "https://id.example.com/",
            "https://[fd00::1]/",
            "https://[::1]/",
        ] {
            assert!(allowed(url).is_ok(), "{url}");
        }
    }

    /// What a name leads to is judged when it is asked, whatever it led to before.
    #[tokio::test(flavor = "current_thread")]
    async fn names_of_metadata_addresses_are_not_asked() {
        let resolve = |name: &str| Allowed.resolve(name.parse().unwrap());
        assert!(resolve("169.254.169.254").await.is_err());
        assert_eq!(resolve("127.0.0.1").await.unwrap().count(), 1);
    }

    #[test]
    fn how_long_an_answer_is_fresh() {
        let seconds = |value| max_age(value).map(|age| age.as_secs());
        assert_eq!(seconds("public, max-age=300, must-revalidate"), Some(300));
        assert_eq!(seconds("Max-Age=\"5\""), Some(5));
        assert_eq!(seconds("no-store, max-age=300"), Some(0));
        assert_eq!(seconds("max-age=99999999999"), Some(86_400));
        assert_eq!(seconds("s-maxage=5"), None);
        assert_eq!(seconds("max-age=x"), None);
    }
}
