//! The first words on a connection: which protocol, who we are, that a replica may answer reads. Sends no commands of others
//! (`link`).

use std::rc::Rc;

use ringway_proto::resp::{Reply, RespVersion, write_command};

use super::inner::Inner;
use super::link::Replies;
use super::node::Node;
use crate::net::{Address, Stream};
use ringway_config::snapshot::ReadFrom;

/// How the connection is named in `CLIENT LIST`.
const CLIENT_NAME: &[u8] = b"ringway";
/// Redis's own name of the user who is meant when none is.
const DEFAULT_USER: &[u8] = b"default";

/// Connects and logs in, within `connect_timeout`.
///
/// # Errors
/// Why the connection cannot be used, for the operator. No secret stands in it.
pub(super) async fn open(inner: &Rc<Inner>, node: &Rc<Node>) -> Result<(Stream, Replies), String> {
    let timeout = inner.plan().config.connect_timeout;
    let stream = inner.net.connect(&Address::Ip(node.address)).map_err(|error| format!("no socket: {error}"))?;
    stream.set_send_deadline(Some(timeout));
    stream.set_recv_deadline(Some(timeout));
    stream.connected().await.map_err(|error| format!("cannot connect: {error}"))?;
    let mut talk = Talk { inner, stream, replies: Replies::new() };
    talk.log_in().await?;
    if inner.plan().config.read_from == ReadFrom::Replica {
        // A server without cluster support refuses it, and needs none.
        if let Reply::Error(text) = talk.ask(&[b"READONLY"]).await?
            && text.starts_with(b"NOPERM")
        {
            return Err(format!("cannot read from replicas: {}", String::from_utf8_lossy(&text)));
        }
    }
    Ok((talk.stream, talk.replies))
}

/// True of a server that does not know HELLO, or not our version. Any other error is a refusal: of too many clients, by
/// protected mode; taken for an old server, it would be connected to again and again without a pause.
fn is_old(text: &[u8]) -> bool {
    const UNKNOWN: &[u8] = b"ERR unknown command";
    text.get(..UNKNOWN.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(UNKNOWN)) || text.starts_with(b"NOPROTO")
}

/// A server repeats the arguments of a command that it does not know, the password among them: they are left out.
fn refused(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    format!("cannot log in: {}", text.split(", with args").next().unwrap_or_default())
}

struct Talk<'a> {
    inner: &'a Rc<Inner>,
    stream: Stream,
    replies: Replies,
}

impl Talk<'_> {
    /// RESP3 where the server has it (Redis 6 and later), for its pushes; else RESP2.
    async fn log_in(&mut self) -> Result<(), String> {
        let plan = self.inner.plan();
        let user = plan.config.username.as_deref().map_or(DEFAULT_USER, str::as_bytes);
        let password = plan.password.as_ref().map(|password| password.bytes());
        let mut hello: Vec<&[u8]> = vec![b"HELLO", b"3"];
        if let Some(password) = password {
            hello.extend([&b"AUTH"[..], user, password]);
        }
        hello.extend([&b"SETNAME"[..], CLIENT_NAME]);
        let Reply::Error(text) = self.ask(&hello).await? else { return Ok(()) };
        if !is_old(&text) {
            return Err(refused(&text));
        }
        self.replies.version = RespVersion::Resp2;
        let Some(password) = password else { return Ok(()) };
        // Servers before Redis 6 have no users.
        let reply = match &plan.config.username {
            Some(user) => self.ask(&[b"AUTH", user.as_bytes(), password]).await?,
            None => self.ask(&[b"AUTH", password]).await?,
        };
        match reply {
            Reply::Error(text) => Err(refused(&text)),
            _ => Ok(()),
        }
    }

    async fn ask(&mut self, args: &[&[u8]]) -> Result<Reply, String> {
        let mut out = self.inner.net.buffers().send_buffer();
        write_command(&mut out, args);
        self.stream.queue_buffer(out);
        self.stream.start();
        loop {
            while let Some(reply) = self.replies.next().map_err(|error| error.to_string())? {
                if !matches!(reply, Reply::Push(_)) {
                    return Ok(reply);
                }
            }
            match self.stream.recv().await {
                Ok(Some(chunk)) => self.replies.push(&chunk),
                Ok(None) => return Err("the server closed within the first words".to_owned()),
                Err(error) => return Err(format!("no answer to {}: {error}", String::from_utf8_lossy(args[0]))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_does_not_know_hello_is_old() {
        for old in ["ERR unknown command `HELLO`, with args beginning with: `3`", "NOPROTO unsupported version"] {
            assert!(is_old(old.as_bytes()), "{old}");
        }
        for refusal in ["ERR max number of clients reached", "DENIED Redis is in protected mode", "NOAUTH", ""] {
            assert!(!is_old(refusal.as_bytes()), "{refusal}");
        }
    }

    #[test]
    fn what_a_server_repeats_of_a_password_is_left_out() {
        let text = b"ERR unknown command 'AUTH', with args beginning with: 'gateway' 'swordfish' ";
        assert_eq!(refused(text), "cannot log in: ERR unknown command 'AUTH'");
        let text = b"WRONGPASS invalid username-password pair or user is disabled.";
        assert_eq!(refused(text), "cannot log in: WRONGPASS invalid username-password pair or user is disabled.");
    }
}
