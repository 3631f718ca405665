//! Memory that cores share: a plain request writes to none of it. Every thread of this process allocates from a region
//! of its own, so an address says whose memory it is. While one core serves, the memory of the thread that made the
//! plan, the inboxes and the gauges, that of the other core and all statics are read-only to it, page by page: what it
//! writes there nevertheless (a counter, a reference count, a lock) is noted with its place.

mod inside;
mod support;

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::net::TcpStream;
use std::ops::Range;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use inside::{Core, exchange};
use ringway::net::EngineKind;
use support::Origin;

/// Address space, not memory: a thread that reads into a new buffer each time fills it slowly.
const REGION_BYTES: usize = 8 << 30;
const REGIONS: usize = 64;
const PAGE: usize = 4096;
const WARM_UP: usize = 500;
const WATCHED: usize = 2_500;
/// A page that another thread has written in between is watched again after so many requests.
const WATCH_AGAIN: usize = 50;
/// Of so many rounds one has to be without a foreign write: each is well below a second, which is how often a core tells
/// the node what it has counted.
const ROUNDS_MAX: usize = 8;
const FAULTS_MAX: usize = 16;

/// Gives each thread memory from its own region, and takes none back: a request in steady state needs none.
struct ByThread;

static FIRST_REGION: AtomicUsize = AtomicUsize::new(0);
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Where the thread's next allocation goes; 0 before its first.
    static NEXT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: each place is handed out once, within memory that is mapped for good and that only this thread hands out.
unsafe impl GlobalAlloc for ByThread {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let next = match NEXT.get() {
            0 => region(THREADS.fetch_add(1, SeqCst)).start,
            next => next,
        };
        let place = next.next_multiple_of(layout.align());
        if place + layout.size() >= region(region_of(next)).end {
            return std::ptr::null_mut();
        }
        NEXT.set(place + layout.size());
        place as *mut u8
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's own promise. Pages that nobody has had before are zero.
        unsafe { self.alloc(layout) }
    }

    unsafe fn dealloc(&self, _place: *mut u8, _layout: Layout) {}
}

#[global_allocator]
static ALLOCATOR: ByThread = ByThread;

fn map(bytes: usize) -> usize {
    let (may, how) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
    // SAFETY: new memory where the kernel finds room.
    let place = unsafe { libc::mmap(std::ptr::null_mut(), bytes, may, how, -1, 0) };
    if place == libc::MAP_FAILED { std::process::abort() } else { place as usize }
}

fn region(number: usize) -> Range<usize> {
    if FIRST_REGION.load(SeqCst) == 0 {
        // The loser of a race leaves its reservation unused.
        let made = map((REGIONS + 1) * REGION_BYTES).next_multiple_of(REGION_BYTES);
        let _ = FIRST_REGION.compare_exchange(0, made, SeqCst, SeqCst);
    }
    let start = FIRST_REGION.load(SeqCst) + number * REGION_BYTES;
    if number < REGIONS { start..start + REGION_BYTES } else { std::process::abort() }
}

fn region_of(address: usize) -> usize {
    (address - FIRST_REGION.load(SeqCst)) / REGION_BYTES
}

fn own_region() -> Range<usize> {
    let here = Box::new(0u8);
    region(region_of(&raw const *here as usize))
}

fn own_thread() -> i32 {
    // SAFETY: asks the kernel for a number.
    unsafe { libc::syscall(libc::SYS_gettid) as i32 }
}

/// What the handler needs, in pages that are never watched.
#[derive(Default)]
struct Notes {
    /// The thread whose writes count.
    thread: AtomicI32,
    count: AtomicUsize,
    /// Address written, and instruction that wrote it.
    faults: [(AtomicUsize, AtomicUsize); FAULTS_MAX],
}

fn notes() -> &'static Notes {
    static NOTES: AtomicUsize = AtomicUsize::new(0);
    if NOTES.load(SeqCst) == 0 {
        let guard = map(PAGE + size_of::<Notes>().next_multiple_of(PAGE));
        let place = guard + PAGE;
        // SAFETY: new memory, large enough, aligned to a page. Where the kernel puts it right behind the statics of a
        // library, the page that nobody may touch tells the two apart.
        unsafe {
            assert_eq!(libc::mprotect(guard as *mut libc::c_void, PAGE, libc::PROT_NONE), 0);
            (place as *mut Notes).write(Notes::default());
        }
        NOTES.store(place, SeqCst);
    }
    // SAFETY: written above, once, before the first read; never unmapped.
    unsafe { &*(NOTES.load(SeqCst) as *const Notes) }
}

/// Notes who wrote where, and lets the write be done.
extern "C" fn on_fault(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel hands both over filled, and nobody else writes to them.
    let (address, registers) =
        unsafe { ((*info).si_addr() as usize, &(*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs) };
    let notes = notes();
    let page = address / PAGE * PAGE;
    // SAFETY: makes a page writable that was so before; one that never was stays what it is, and the fault comes back.
    let opened = unsafe { libc::mprotect(page as *mut libc::c_void, PAGE, libc::PROT_READ | libc::PROT_WRITE) } == 0;
    if !opened {
        // SAFETY: the default ends the process at the same instruction, as it should for a fault that is not ours.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        return;
    }
    if own_thread() == notes.thread.load(SeqCst) {
        let (place, by) = &notes.faults[notes.count.fetch_add(1, SeqCst).min(FAULTS_MAX - 1)];
        place.store(address, SeqCst);
        by.store(registers[libc::REG_RIP as usize] as usize, SeqCst);
    }
}

/// The statics of the program and its libraries, and the C library's own heap.
fn statics() -> Vec<Range<usize>> {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc/self/maps");
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let mut of_file = false;
    for line in maps.lines() {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (from, to) = fields[0].split_once('-').expect("a range");
        let [from, to] = [from, to].map(|hex| usize::from_str_radix(hex, 16).expect("hex"));
        let name = fields.get(5).copied().unwrap_or_default();
        let follows = of_file && name.is_empty() && ranges.last().is_some_and(|last| last.end == from);
        of_file = name.starts_with('/') && !name.starts_with("/dev");
        if fields[1] == "rw-p" && (of_file || follows || name == "[heap]") {
            ranges.push(from..to);
        }
    }
    assert!(ranges.len() >= 2, "no statics in\n{maps}");
    ranges
}

/// Watches `ranges` for writes by one thread.
struct Watch(Vec<Range<usize>>);

impl Watch {
    fn start(thread: i32, mut ranges: Vec<Range<usize>>) -> Watch {
        let notes = notes();
        notes.count.store(0, SeqCst);
        notes.thread.store(thread, SeqCst);
        // SAFETY: the action is filled before the kernel reads it; the handler is a function of this process.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_fault as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            assert_eq!(libc::sigaction(libc::SIGSEGV, &raw const action, std::ptr::null_mut()), 0);
        }
        ranges.extend(statics());
        let watch = Watch(ranges);
        watch.again();
        watch
    }

    /// Watches the pages again that have been written to.
    fn again(&self) {
        self.allow(libc::PROT_READ);
    }

    fn allow(&self, may: i32) {
        for range in &self.0 {
            // SAFETY: mapped memory of this process; a write to it ends in `on_fault`, which lets it be done.
            let done = unsafe { libc::mprotect(range.start as *mut libc::c_void, range.len(), may) };
            assert_eq!(done, 0, "{range:x?}");
        }
    }

    /// Ends it: where the thread wrote, and by which instructions of the program (for `addr2line`).
    fn end(self) -> Vec<String> {
        notes().thread.store(0, SeqCst);
        self.allow(libc::PROT_READ | libc::PROT_WRITE);
        let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc/self/maps");
        let program = usize::from_str_radix(maps.split('-').next().unwrap_or_default(), 16).expect("hex");
        let notes = notes();
        let line = |(place, by): &(AtomicUsize, AtomicUsize)| {
            format!("{:#x} by {:#x}", place.load(SeqCst), by.load(SeqCst).wrapping_sub(program))
        };
        let mut lines: Vec<String> = notes.faults.iter().take(notes.count.load(SeqCst)).map(line).collect();
        lines.dedup();
        lines
    }
}

/// Protection is the process's: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

const REQUESTS: [(&str, &str); 4] = [
    ("GET /api/a?b=c HTTP/1.1\r\nHost: a.test\r\n\r\n", "HTTP/1.1 200"),
    ("POST /api/a HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 200"),
    ("GET /fixed HTTP/1.1\r\nHost: a.test\r\n\r\n", "HTTP/1.1 203"),
    ("GET /nowhere HTTP/1.1\r\nHost: a.test\r\n\r\n", "HTTP/1.1 404"),
];

fn ask(client: &mut TcpStream, (request, status): (&str, &str)) {
    exchange(client, request.as_bytes(), &mut [0; 4096], status.as_bytes());
}

/// A connection that the kernel has given to this core.
fn client_of(core: &mut Core) -> TcpStream {
    for _ in 0..100 {
        let before = core.metric("ringway_core_requests_total");
        let mut client = TcpStream::connect(core.address).expect("connected");
        client.set_nodelay(true).expect("a socket");
        ask(&mut client, REQUESTS[0]);
        if core.metric("ringway_core_requests_total") > before {
            return client;
        }
    }
    panic!("of 100 connections none came to the core");
}

fn nothing_is_shared(engine: EngineKind) {
    let _alone = alone();
    let origin = Origin::saying("hello");
    let toml = format!(
        "[telemetry]\nbind = 'off'\n[listeners.l]\nbind = '127.0.0.1:0'\n[clusters.o]\nendpoints = ['{}']\n\
         [[routes]]\nname = 'api'\npath_prefix = '/api'\ncluster = 'o'\n\
         [[routes]]\nname = 'fixed'\npath = '/fixed'\nrespond = {{ status = 203, body = 'fixed' }}\n",
        origin.address()
    );
    let (tell, told) = std::sync::mpsc::channel();
    let own = move |core| tell.send((core, own_thread(), own_region())).expect("heard");
    let mut cores = Core::start_all(&toml, engine, 2, own);
    let mut threads: Vec<_> = told.iter().take(2).collect();
    threads.sort_by_key(|(core, ..)| *core);
    let clients: Vec<TcpStream> = cores.iter_mut().map(client_of).collect();
    let maker = own_region();
    let served = std::thread::spawn(move || {
        for (mut client, (core, thread, _)) in clients.into_iter().zip(&threads) {
            (0..WARM_UP).for_each(|round| ask(&mut client, REQUESTS[round % REQUESTS.len()]));
            let others = || threads.iter().filter(|(other, ..)| other != core).map(|(_, _, region)| region);
            let wrote = || {
                let watch = Watch::start(*thread, others().chain([&maker]).cloned().collect());
                for round in 0..WATCHED {
                    ask(&mut client, REQUESTS[round % REQUESTS.len()]);
                    if round % WATCH_AGAIN == 0 {
                        watch.again();
                    }
                }
                watch.end()
            };
            // On a busy machine a core may have a stall to report; what a request does it does each time.
            let each: Vec<_> = std::iter::repeat_with(wrote).take(ROUNDS_MAX).take_while(|w| !w.is_empty()).collect();
            assert!(each.len() < ROUNDS_MAX, "requests write to memory that other cores see: {each:#?}");
        }
    });
    if let Err(why) = served.join() {
        std::panic::resume_unwind(why);
    }
}

#[test]
fn a_request_writes_to_no_memory_of_another_thread_on_io_uring() {
    nothing_is_shared(EngineKind::IoUring);
}

#[test]
fn a_request_writes_to_no_memory_of_another_thread_on_epoll() {
    nothing_is_shared(EngineKind::Epoll);
}

/// The watch itself: what it is for does not escape it.
#[test]
fn a_count_that_two_threads_share_is_noticed() {
    // Alone on its page: what another thread has written to meanwhile is not watched any more.
    #[repr(align(4096))]
    struct OwnPage(AtomicUsize);
    static COUNT: OwnPage = OwnPage(AtomicUsize::new(0));
    let _alone = alone();
    let shared = Arc::new(0);
    let theirs = shared.clone();
    let maker = own_region();
    let thread = std::thread::spawn(move || {
        let watch = Watch::start(own_thread(), vec![maker]);
        std::hint::black_box(theirs.clone());
        COUNT.0.fetch_add(1, SeqCst);
        watch.end()
    });
    let noticed = thread.join().expect("it ends");
    assert_eq!(noticed.len(), 2, "one page with the reference count, one with the static: {noticed:?}");
    drop(shared);
}
