//! A session whose tokens are about to end is renewed once for the node: requests that bring it meanwhile wait for the same
//! answer, and those that bring its old cookie a short while later get it, too, since a provider that exchanges refresh
//! tokens takes the old one once.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::provider::LOOK_EVERY;
use super::session::Session;
use super::tokens::{By, Failed, Issued, unix_s, work_time};
use super::{Oidc, digest_of, unavailable};
use crate::filter::auth::in_time;
use crate::filter::jwt::may_wait;
use crate::filter::{RequestEdit, Then, Verdict, Waiting};
use crate::mesh::{Nonce, Progress, Turn};

/// How long an old cookie finds what it was renewed to.
const GRACE: Duration = Duration::from_secs(30);
/// How long a provider that was away is not asked again for one session.
const AWAY_TIME: Duration = Duration::from_secs(2);

type Renewed = Result<Arc<Issued>, Failed>;

impl Oidc {
    pub(super) fn renew<'p>(&'p self, request: &mut RequestEdit<'p, '_>, session: Rc<Session>) -> Verdict<'p> {
        let refresh = session.stored.refresh_token.as_deref().unwrap_or_default();
        let key = digest_of(&[&self.stamp.to_le_bytes(), refresh.as_bytes()]);
        let away = |why: &'static str| Err(Failed::new(By::Away, why));
        let doing = match self.provider.node.renewals.turn(key, Instant::now()) {
            Turn::Done(renewed) => return self.conclude(request, session, renewed),
            Turn::Full => return self.conclude(request, session, away("too many sessions are renewed at once")),
            Turn::Others => return self.wait_for_others(request, session, key),
            Turn::Mine(doing) => doing,
        };
        let (provider, stored) = (self.provider.clone(), session.stored.clone());
        // Done to its end though the request may go: the old refresh token is void then.
        let asked = self.server.errand(request.calls, move |asking| async move {
            let renewed = provider.renew(&asking, &stored).await;
            let time = match &renewed {
                // Until it is to be renewed itself, perhaps with the same refresh token.
                Ok(issued) => GRACE.min(Duration::from_secs(issued.stored.renew.saturating_sub(unix_s()).max(1))),
                Err(failed) if failed.by == By::Away => AWAY_TIME,
                Err(_) => GRACE,
            };
            doing.done(renewed.clone(), Instant::now() + time);
            renewed
        });
        let call = match asked {
            Ok(call) => call,
            Err(why) => return self.conclude(request, session, away(why)),
        };
        let time = request.net.sleep(work_time(self.deadline, &self.provider));
        let until = async move {
            let late = || away("the provider: it does not answer in time");
            let renewed = in_time(call, time).await.flatten().unwrap_or_else(late);
            let then: Then<'p> = Box::new(move |request| self.conclude(request, session, renewed));
            then
        };
        Verdict::Wait(Box::new(Waiting { until: Box::pin(until), shown: None }))
    }

    fn wait_for_others<'p>(
        &'p self,
        request: &mut RequestEdit<'p, '_>,
        session: Rc<Session>,
        key: Nonce,
    ) -> Verdict<'p> {
        let away = |why: &'static str| Err(Failed::new(By::Away, why));
        let Some(guard) = may_wait(request) else {
            return self.conclude(request, session, away("too many requests wait on this core"));
        };
        let (net, renewals) = (request.net.clone(), self.provider.node.renewals.clone());
        let end_ms = net.now_ms() + work_time(self.deadline, &self.provider).as_millis() as u64;
        let until = async move {
            let renewed: Renewed = loop {
                net.sleep(LOOK_EVERY).await;
                match renewals.progress(key, Instant::now()) {
                    Progress::Done(renewed) => break renewed,
                    Progress::UnderWay if net.now_ms() < end_ms => {}
                    _ => break away("nobody has renewed the session"),
                }
            };
            drop(guard);
            let then: Then<'p> = Box::new(move |request| self.conclude(request, session, renewed));
            then
        };
        Verdict::Wait(Box::new(Waiting { until: Box::pin(until), shown: None }))
    }

    fn conclude<'p>(
        &'p self,
        request: &mut RequestEdit<'p, '_>,
        session: Rc<Session>,
        renewed: Renewed,
    ) -> Verdict<'p> {
        let now = (request.unix_s)();
        match renewed {
            Ok(issued) => match self.keep(request, &issued) {
                Some(new) if now < new.stored.ends => self.admit(request, &new),
                _ => self.nobody(request, "the session has ended"),
            },
            Err(failed) if failed.by == By::Away && now < session.stored.ends => self.admit(request, &session),
            Err(failed) if failed.by == By::Away => unavailable(failed.why.to_string()),
            Err(_) => self.nobody(request, "the provider does not renew the session"),
        }
    }
}
