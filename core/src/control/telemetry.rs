//! `/metrics`, `/livez` and `/readyz`, and the question to every core that a scrape is. Counts nothing itself.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use ringway_proto::Method;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, oneshot};
use tokio::time::{Instant, timeout};

use super::http::{self, Answer, Request};
use super::{Control, Readiness};
use crate::mesh::{Sent, ToShard};
use crate::observe::{MetersSnapshot, Scrape, prometheus};

/// A core that takes longer shows its last values, and `ringway_core_answered` 0.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);

pub struct Telemetry {
    scrape: RefCell<Scrape>,
    asks: Cell<u64>,
    asking: RefCell<Option<Asking>>,
    /// One scrape at a time; who waits for the turn takes a page that was begun after its own question.
    last: Mutex<Option<(Instant, Rc<str>)>>,
    /// By core, of its last snapshot.
    tunnels: RefCell<Vec<u64>>,
}

struct Asking {
    ask: u64,
    silent: Vec<usize>,
    all_answered: Option<oneshot::Sender<()>>,
}

impl Telemetry {
    pub fn new(cores: usize) -> Telemetry {
        Telemetry {
            scrape: RefCell::default(),
            asks: Cell::new(0),
            asking: RefCell::default(),
            last: Mutex::new(None),
            tunnels: RefCell::new(vec![0; cores]),
        }
    }

    pub fn on_meters(&self, core: usize, ask: u64, snapshot: Box<MetersSnapshot>) {
        if let Some(tunnels) = self.tunnels.borrow_mut().get_mut(core) {
            *tunnels = snapshot.own.total("ringway_core_tunnels_open");
        }
        self.scrape.borrow_mut().update(snapshot);
        let mut asking = self.asking.borrow_mut();
        let Some(asking) = asking.as_mut().filter(|asking| asking.ask == ask) else { return };
        asking.silent.retain(|silent| *silent != core);
        if asking.silent.is_empty()
            && let Some(all_answered) = asking.all_answered.take()
        {
            let _ = all_answered.send(());
        }
    }

    pub fn tunnels(&self) -> Vec<u64> {
        self.tunnels.borrow().clone()
    }
}

impl Control {
    /// Serves for ever.
    pub async fn serve_telemetry(self: Rc<Self>, listener: TcpListener) {
        http::serve(listener, Rc::new(move |request: Request| self.clone().telemetry_answer(request))).await;
    }

    async fn telemetry_answer(self: Rc<Self>, request: Request) -> Answer {
        let known = matches!(request.path.as_str(), "/metrics" | "/livez" | "/readyz");
        if !known {
            return Answer::text(404, "Here are /metrics, /livez and /readyz.\n");
        }
        if !matches!(request.method, Method::Get | Method::Head) {
            return Answer::not_allowed("GET, HEAD");
        }
        match request.path.as_str() {
            "/metrics" => {
                let page = self.metrics().await;
                Answer { content_type: prometheus::CONTENT_TYPE, ..Answer::text(200, &*page) }
            }
            "/livez" => Answer::text(200, "ok\n"),
            _ => match self.readiness.get() {
                Readiness::Ready => Answer::text(200, "ok\n"),
                Readiness::Starting => Answer::text(503, "starting: not every core has a plan yet\n"),
                Readiness::Draining => Answer::text(503, "draining\n"),
            },
        }
    }

    async fn metrics(&self) -> Rc<str> {
        let asked = Instant::now();
        let mut last = self.telemetry.last.lock().await;
        if let Some((begun, page)) = &*last
            && *begun >= asked
        {
            return page.clone();
        }
        let begun = Instant::now();
        let _ = timeout(ANSWER_TIME_MAX, self.begin_ask()).await;
        let facts = self.facts();
        let page: Rc<str> = self.telemetry.scrape.borrow_mut().render(&facts).into();
        *last = Some((begun, page.clone()));
        page
    }

    /// Asks every core for its snapshot; told when all have answered.
    pub fn begin_ask(&self) -> oneshot::Receiver<()> {
        let ask = self.telemetry.asks.get() + 1;
        self.telemetry.asks.set(ask);
        let (all_answered, answered) = oneshot::channel();
        let asking = Asking { ask, silent: (0..self.cores()).collect(), all_answered: Some(all_answered) };
        self.telemetry.asking.replace(Some(asking));
        for core in 0..self.cores() {
            // A core whose inbox is full is as good as silent.
            let _: Sent<_> = self.port.send(core, ToShard::Meters { ask });
        }
        answered
    }
}
