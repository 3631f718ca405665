//! The process's own door: HTTP over a unix socket, for its owner alone. Both ends of it; what is asked for is done
//! elsewhere (`reload`, `drain`).

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use ringway_proto::{Method, decode_segment};
use socket2::{Domain, SockAddr, Socket, Type};

use super::http::{self, Answer, Request};
use super::{Control, Readiness};

/// What `control.socket` is where the operator says nothing.
const DEFAULT_PATH: &str = "/run/ringway/control.sock";
/// A reload of the largest file, with names to resolve and a core that is slow.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;
const PLACES: &str = "Here are POST /reload, POST /drain, GET /version, GET /endpoints, and POST /endpoints/drain and \
    /endpoints/resume with cluster=NAME&endpoint=ADDRESS.\n";
/// Commands that wait to be let in.
const BACKLOG: i32 = 64;

/// Where the socket may be, in the order of preference: the default one falls back to what an ordinary user may use.
pub fn candidates(configured: &Path) -> Vec<PathBuf> {
    let mut paths = vec![configured.to_owned()];
    if configured == Path::new(DEFAULT_PATH) {
        let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute());
        paths.extend(runtime_dir.map(|dir| dir.join("ringway.sock")));
        paths.push(PathBuf::from(format!("/tmp/ringway-{}/control.sock", own_uid())));
    }
    paths
}

fn own_uid() -> u32 {
    // SAFETY: geteuid only answers a number.
    unsafe { libc::geteuid() }
}

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("already running as pid {pid}, which answers on {}; stop it, or set control.socket to another path", path.display())]
    Running { pid: i32, path: PathBuf },
    #[error("the control socket {} cannot be made: {error}; set control.socket to a path that can", path.display())]
    Failed { path: PathBuf, error: io::Error },
}

/// The bound socket. Removes its file when dropped, if it is still its own.
pub struct Door {
    pub path: PathBuf,
    listener: Option<UnixListener>,
    inode: u64,
}

impl Door {
    /// At the first of `paths` that can be had.
    ///
    /// # Errors
    /// Another gateway's door is there, or none of the paths can be had.
    pub fn open(paths: &[PathBuf]) -> Result<Door, BindError> {
        let mut failed = None;
        for path in paths {
            match bind(path) {
                Ok(listener) => {
                    let inode = fs::symlink_metadata(path).map_or(0, |meta| meta.ino());
                    return Ok(Door { path: path.clone(), listener: Some(listener), inode });
                }
                Err(error @ BindError::Running { .. }) => return Err(error),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        let none = || BindError::Failed { path: PathBuf::new(), error: ErrorKind::NotFound.into() };
        Err(failed.unwrap_or_else(none))
    }

    /// For the runtime; once.
    ///
    /// # Errors
    /// The runtime's.
    pub fn listener(&mut self) -> io::Result<tokio::net::UnixListener> {
        let listener = self.listener.take().ok_or(ErrorKind::NotConnected)?;
        listener.set_nonblocking(true)?;
        tokio::net::UnixListener::from_std(listener)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|meta| meta.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn bind(path: &Path) -> Result<UnixListener, BindError> {
    let failed = |error| BindError::Failed { path: path.to_owned(), error };
    prepare_directory(path).map_err(failed)?;
    match UnixStream::connect(path) {
        Ok(stream) => return Err(BindError::Running { pid: peer_pid(&stream), path: path.to_owned() }),
        // Left by a process that ended without tidying up.
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(failed)?,
        Err(_) => {}
    }
    listen(path).map_err(failed)
}

/// The mode is set before the name is there, so that nobody else can come in between (unix(7): the kernel gives it to
/// the file).
fn listen(path: &Path) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let file = File::from(OwnedFd::from(socket));
    file.set_permissions(Permissions::from_mode(0o600))?;
    let socket = Socket::from(OwnedFd::from(file));
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    Ok(UnixListener::from(OwnedFd::from(socket)))
}

/// Makes the directory, for its owner alone. One below `/tmp` that somebody else has made is refused.
fn prepare_directory(path: &Path) -> io::Result<()> {
    let Some(directory) = path.parent() else { return Ok(()) };
    if !directory.exists() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    if directory.parent() == Some(Path::new("/tmp")) {
        let meta = fs::symlink_metadata(directory)?;
        if !meta.is_dir() || meta.uid() != own_uid() {
            return Err(io::Error::new(ErrorKind::PermissionDenied, "its directory belongs to another user"));
        }
    }
    Ok(())
}

/// 0 if the kernel does not say.
fn peer_pid(stream: &UnixStream) -> i32 {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the kernel fills at most `length` bytes of the struct.
    unsafe {
        let (level, option) = (libc::SOL_SOCKET, libc::SO_PEERCRED);
        libc::getsockopt(stream.as_raw_fd(), level, option, (&raw mut peer).cast(), &raw mut length);
    }
    peer.pid
}

impl Control {
    /// Serves for ever.
    pub async fn serve_door(self: Rc<Self>, listener: tokio::net::UnixListener) {
        http::serve(listener, Rc::new(move |request: Request| self.clone().door_answer(request))).await;
    }

    async fn door_answer(self: Rc<Self>, request: Request) -> Answer {
        let (method, allow) = match request.path.as_str() {
            "/reload" | "/drain" | "/endpoints/drain" | "/endpoints/resume" => (Method::Post, "POST"),
            "/version" | "/endpoints" => (Method::Get, "GET"),
            _ => return Answer::text(404, PLACES),
        };
        if request.method != method {
            return Answer::not_allowed(allow);
        }
        match request.path.as_str() {
            "/reload" => match self.check_file(&request.query) {
                Ok(()) => match self.order_reload().await {
                    Ok(said) => Answer::text(200, format!("{said}\n")),
                    Err(refused) => Answer::text(422, format!("{refused}\n")),
                },
                Err(other) => Answer::text(409, other),
            },
            "/endpoints" => self.list_endpoints(),
            "/endpoints/drain" => self.drain_endpoint(&request.query, true),
            "/endpoints/resume" => self.drain_endpoint(&request.query, false),
            "/drain" => {
                let already = self.readiness.get() == Readiness::Draining;
                self.drain_wanted.notify_one();
                let pid = std::process::id();
                Answer::text(202, if already { "draining already\n".into() } else { format!("pid {pid} drains\n") })
            }
            _ => Answer::text(200, format!("ringway {} pid {}\n", env!("CARGO_PKG_VERSION"), std::process::id())),
        }
    }

    /// `file=PATH`: who asks means that file, and must not reload another one by mistake.
    fn check_file(&self, query: &str) -> Result<(), String> {
        let Some(encoded) = query.strip_prefix("file=") else { return Ok(()) };
        let mut wanted = Vec::new();
        decode_segment(encoded.as_bytes(), &mut wanted);
        let wanted = PathBuf::from(std::ffi::OsStr::from_bytes(&wanted));
        match &self.path {
            None => Err("the embedded demo runs here, which has no file to reload\n".to_owned()),
            Some(own) if is_same_file(own, &wanted) => Ok(()),
            Some(own) => {
                Err(format!("the gateway that answers runs from {}, not {}\n", own.display(), wanted.display()))
            }
        }
    }
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    let canonical = |path: &Path| fs::canonicalize(path).ok();
    one == other || canonical(one).is_some_and(|one| canonical(other) == Some(one))
}

#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("no gateway answers on {}; start one with: ringway run", .0.display())]
    NotRunning(PathBuf),
    #[error("the control socket {} does not let you in: it is its owner's alone; ask as that user", .0.display())]
    NotAllowed(PathBuf),
    #[error("the gateway on {} gave no answer: {error}", path.display())]
    NoAnswer { path: PathBuf, error: io::Error },
}

/// Asks the gateway behind the first of `paths` that lets us in. The answer's status and text.
///
/// # Errors
/// There is none, or it hangs.
pub fn ask(paths: &[PathBuf], method: &str, target: &str) -> Result<(u16, String), AskError> {
    let mut refused = None;
    for path in paths {
        match UnixStream::connect(path) {
            Ok(stream) => {
                let no_answer = |error| AskError::NoAnswer { path: path.clone(), error };
                return converse(stream, method, target).map_err(no_answer);
            }
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                refused = Some(AskError::NotAllowed(path.clone()));
            }
            Err(_) => {}
        }
    }
    Err(refused.unwrap_or_else(|| AskError::NotRunning(paths.first().cloned().unwrap_or_default())))
}

fn converse(mut stream: UnixStream, method: &str, target: &str) -> io::Result<(u16, String)> {
    stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
    stream.set_write_timeout(Some(ANSWER_TIME_MAX))?;
    write!(stream, "{method} {target} HTTP/1.1\r\nHost: ringway\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut text)?;
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    status.zip(body).ok_or_else(|| ErrorKind::UnexpectedEof.into())
}

/// `/reload?file=...` with whatever a path may hold made safe.
pub fn reload_target(file: Option<&Path>) -> String {
    file.map_or("/reload".to_owned(), |file| format!("/reload?file={}", encoded(file.as_os_str().as_bytes())))
}

/// `/endpoints/drain?cluster=...&endpoint=...`, or `resume`.
pub fn endpoint_target(act: &str, cluster: &str, endpoint: &str) -> String {
    let (cluster, endpoint) = (encoded(cluster.as_bytes()), encoded(endpoint.as_bytes()));
    format!("/endpoints/{act}?cluster={cluster}&endpoint={endpoint}")
}

fn encoded(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' => text.push(char::from(*byte)),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh_path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("ringway-door-{name}-{}", std::process::id())).join("below").join("c.sock")
    }

    #[test]
    fn a_door_is_its_owners_alone_and_goes_with_it() {
        let path = fresh_path("owner");
        let door = Door::open(std::slice::from_ref(&path)).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        drop(door);
        assert!(!path.exists());
        fs::remove_dir_all(path.parent().unwrap().parent().unwrap()).unwrap();
    }

    #[test]
    fn a_stale_door_is_replaced_and_a_live_one_is_named() {
        let path = fresh_path("stale");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        drop(UnixListener::bind(&path).unwrap());
        let door = Door::open(std::slice::from_ref(&path)).unwrap();
        let own = std::process::id() as i32;
        match Door::open(std::slice::from_ref(&path)) {
            Err(BindError::Running { pid, .. }) => assert_eq!(pid, own),
            other => panic!("{:?}", other.err()),
        }
        drop(door);
        fs::remove_dir_all(path.parent().unwrap().parent().unwrap()).unwrap();
    }

    #[test]
    fn the_next_candidate_is_taken_where_the_first_cannot_be_had() {
        let path = fresh_path("next");
        let door = Door::open(&[PathBuf::from("/proc/nowhere/c.sock"), path.clone()]).unwrap();
        assert_eq!(door.path, path);
        drop(door);
        fs::remove_dir_all(path.parent().unwrap().parent().unwrap()).unwrap();
    }

    #[test]
    fn only_the_default_path_falls_back() {
        assert_eq!(candidates(Path::new("/a/b.sock")), [Path::new("/a/b.sock")]);
        assert!(candidates(Path::new(DEFAULT_PATH)).len() >= 2);
    }

    #[test]
    fn nobody_at_the_door_is_not_running() {
        let path = fresh_path("nobody");
        assert!(matches!(ask(std::slice::from_ref(&path), "GET", "/version"), Err(AskError::NotRunning(_))));
    }

    #[test]
    fn a_path_survives_the_target() {
        let target = reload_target(Some(Path::new("/a b/c?d=ä&e.toml")));
        assert_eq!(target, "/reload?file=/a%20b/c%3Fd%3D%C3%A4%26e.toml");
        let mut decoded = Vec::new();
        decode_segment(target.trim_start_matches("/reload?file=").as_bytes(), &mut decoded);
        assert_eq!(decoded, "/a b/c?d=ä&e.toml".as_bytes());
    }
}
