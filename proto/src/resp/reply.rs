//! A reply as a value, the same for both versions of the protocol.

use bytes::Bytes;
use redis_protocol::{resp2, resp3};

use super::frame::RespError;

/// What a connection speaks since its `HELLO`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RespVersion {
    Resp2,
    Resp3,
}

/// What a server answered, or pushed. Strings share the memory they were received in: who keeps one for long copies it.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    Nil,
    /// A status or a string.
    Text(Bytes),
    Integer(i64),
    Double(f64),
    Boolean(bool),
    /// An array or a set.
    List(Vec<Reply>),
    /// In no order.
    Map(Vec<(Reply, Reply)>),
    /// `CODE message`.
    Error(Bytes),
    /// Not an answer to any command.
    Push(Vec<Reply>),
}

impl Reply {
    pub fn text(&self) -> Option<&Bytes> {
        match self {
            Reply::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn integer(&self) -> Option<i64> {
        match self {
            Reply::Integer(number) => Some(*number),
            _ => None,
        }
    }

    pub fn list(&self) -> Option<&[Reply]> {
        match self {
            Reply::List(list) => Some(list),
            _ => None,
        }
    }

    /// What stands behind `name` in a map, or in a list of names and values, which is a map of RESP2.
    pub fn field(&self, name: &str) -> Option<&Reply> {
        let is_it = |key: &Reply| key.text().is_some_and(|key| key == name.as_bytes());
        match self {
            Reply::Map(pairs) => pairs.iter().find(|(key, _)| is_it(key)).map(|(_, value)| value),
            Reply::List(list) => list.chunks_exact(2).find(|pair| is_it(&pair[0])).map(|pair| &pair[1]),
            _ => None,
        }
    }
}

/// Decodes one whole reply, whose end a [`super::FrameScan`] has found.
///
/// # Errors
/// [`RespError`]: what was taken for one reply is none, or has something behind it.
pub fn decode(frame: &Bytes, version: RespVersion) -> Result<Reply, RespError> {
    let whole = |used: usize| if used == frame.len() { Ok(()) } else { Err(RespError::BadEnd) };
    match version {
        RespVersion::Resp3 => {
            let decoded = resp3::decode::complete::decode_bytes(frame).map_err(|_| RespError::BadValue)?;
            let (value, used) = decoded.ok_or(RespError::BadEnd)?;
            whole(used)?;
            from_resp3(value)
        }
        RespVersion::Resp2 => {
            let decoded = resp2::decode::decode_bytes(frame).map_err(|_| RespError::BadValue)?;
            let (value, used) = decoded.ok_or(RespError::BadEnd)?;
            whole(used)?;
            Ok(from_resp2(value))
        }
    }
}

/// As deep as the scan allowed.
fn from_resp3(frame: resp3::types::BytesFrame) -> Result<Reply, RespError> {
    use resp3::types::BytesFrame as Frame;
    let all = |list: Vec<Frame>| list.into_iter().map(from_resp3).collect::<Result<Vec<_>, _>>();
    Ok(match frame {
        Frame::BlobString { data, .. }
        | Frame::SimpleString { data, .. }
        | Frame::VerbatimString { data, .. }
        | Frame::BigNumber { data, .. } => Reply::Text(data),
        Frame::SimpleError { data, .. } => Reply::Error(data.into_inner()),
        Frame::BlobError { data, .. } => Reply::Error(data),
        Frame::Boolean { data, .. } => Reply::Boolean(data),
        Frame::Null => Reply::Nil,
        Frame::Number { data, .. } => Reply::Integer(data),
        Frame::Double { data, .. } => Reply::Double(data),
        Frame::Array { data, .. } => Reply::List(all(data)?),
        Frame::Push { data, .. } => Reply::Push(all(data)?),
        Frame::Set { data, .. } => Reply::List(data.into_iter().map(from_resp3).collect::<Result<_, _>>()?),
        Frame::Map { data, .. } => {
            let pairs = data.into_iter().map(|(key, value)| Ok((from_resp3(key)?, from_resp3(value)?)));
            Reply::Map(pairs.collect::<Result<_, _>>()?)
        }
        Frame::Hello { .. } | Frame::ChunkedString(_) => return Err(RespError::BadValue),
    })
}

fn from_resp2(frame: resp2::types::BytesFrame) -> Reply {
    use resp2::types::BytesFrame as Frame;
    match frame {
        Frame::SimpleString(text) | Frame::BulkString(text) => Reply::Text(text),
        Frame::Error(text) => Reply::Error(text.into_inner()),
        Frame::Integer(number) => Reply::Integer(number),
        Frame::Array(list) => Reply::List(list.into_iter().map(from_resp2).collect()),
        Frame::Null => Reply::Nil,
    }
}
