//! What both rivals share: their flags, and the monoio runtime set up as well as it can be.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use monoio::net::{ListenerOpts, TcpListener, TcpStream};

const RING_ENTRIES: u32 = 4096;
const BACKLOG: i32 = 4096;

/// Serves `--port`, each connection by a task of its own that is told the address of `--origin`.
pub fn serve<F: Future<Output = ()> + 'static>(connection: impl Fn(TcpStream, SocketAddr) -> F) -> io::Result<()> {
    let mut flags = pico_args::Arguments::from_env();
    let mut port = |flag| flags.value_from_str::<_, u16>(flag).map_err(io::Error::other);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port("--port")?));
    let origin = SocketAddr::from((Ipv4Addr::LOCALHOST, port("--origin")?));
    let mut uring = io_uring::IoUring::builder();
    uring.setup_single_issuer().setup_coop_taskrun().setup_defer_taskrun();
    let builder = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new();
    let mut runtime = builder.uring_builder(uring).with_entries(RING_ENTRIES).build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind_with_config(address, &ListenerOpts::new().backlog(BACKLOG))?;
        println!("ready");
        loop {
            let (client, _) = listener.accept().await?;
            client.set_nodelay(true)?;
            monoio::spawn(connection(client, origin));
        }
    })
}

/// A new connection to the origin.
pub async fn connect(origin: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_addr(origin).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
