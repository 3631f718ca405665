//! HTTP/1 as bytes: heads parsed in place, bodies framed, paths normalised, the pieces of messages written; credentials taken
//! apart (`credentials`), JSON of strangers read (`json`), and the replies of Redis (`resp`). Strict, without I/O, clock or
//! unsafe code. What a gateway does with a message is not here.
#![forbid(unsafe_code)]

mod authority;
mod chunked;
mod cookie;
pub mod credentials;
mod encode;
mod field;
mod forwarded;
mod framing;
pub mod json;
mod known;
mod method;
mod path;
mod request;
pub mod resp;
mod response;
mod scan;
mod span;
mod target;

pub use authority::{host_of, port_of};
pub use chunked::{
    CHUNK_END, ChunkedDecoder, ChunkedError, LAST_CHUNK, Step, Trailers, write_chunk_head, write_last_chunk,
};
pub use cookie::cookies;
pub use encode::{reason, write_decimal, write_field, write_status_line};
pub use field::{Field, FieldError, named};
pub use forwarded::{client_ip, write_forwarded, write_ip};
pub use framing::{Body, FramingError};
pub use known::Known;
pub use method::{Method, Version};
pub use path::{NormalPath, PathError, decode_segment, hides_segments, segments};
pub use request::{HeadLimits, Progress, RequestError, RequestHead};
pub use response::{ResponseError, ResponseHead};
pub use span::{SPAN_END_MAX, Span};
pub use target::{Target, TargetForm};
