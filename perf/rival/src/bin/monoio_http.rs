//! A minimal reverse proxy on monoio-http, the field's HTTP library for the runtime that the gateway shares.
//!
//! usage: monoio_http --port PORT --origin PORT

use std::cell::RefCell;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use http::header::{CONNECTION, HeaderName, HeaderValue, TE, UPGRADE};
use monoio::io::sink::SinkExt;
use monoio::io::stream::Stream;
use monoio::net::TcpStream;
use monoio_http::h1::codec::decoder::FillPayload;
use monoio_http::h1::codec::{ClientCodec, ServerCodec};

type Pool = Rc<RefCell<Vec<ClientCodec<TcpStream>>>>;

fn main() -> io::Result<()> {
    let pool = Pool::default();
    ringway_rival::serve(move |client, origin| {
        let pool = pool.clone();
        async move {
            // However it ends, the connection is over.
            let _ = connection(client, origin, pool).await;
        }
    })
}

async fn connection(client: TcpStream, origin_address: SocketAddr, pool: Pool) -> Result<(), Box<dyn Error>> {
    const FORWARDED: HeaderName = HeaderName::from_static("x-forwarded-for");
    let mut client = ServerCodec::new(client);
    while let Some(request) = client.next().await {
        let mut request = request?;
        // The library reads a whole body before it passes on any of it.
        client.fill_payload().await?;
        let close =
            request.headers().get(CONNECTION).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"));
        remove_hop_by_hop(request.headers_mut());
        request.headers_mut().insert(FORWARDED, HeaderValue::from_static("127.0.0.1"));
        let idle = pool.borrow_mut().pop();
        let mut origin = match idle {
            Some(origin) => origin,
            None => ClientCodec::new(ringway_rival::connect(origin_address).await?),
        };
        origin.send_and_flush(request).await?;
        let (mut head, body) = origin.next().await.ok_or("the origin closed")??.into_parts();
        remove_hop_by_hop(&mut head.headers);
        if close {
            head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        client.send_and_flush(http::Response::from_parts(head, body.with_io(&mut origin))).await?;
        pool.borrow_mut().push(origin);
        if close {
            break;
        }
    }
    Ok(())
}

fn remove_hop_by_hop(fields: &mut http::HeaderMap) {
    const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
    for name in [CONNECTION, KEEP_ALIVE, UPGRADE, TE] {
        fields.remove(name);
    }
}
