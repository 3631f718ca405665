//! Functions that run within Redis, atomically. A cluster does not spread them between masters, and one that is new or was
//! emptied has none: whoever misses ours gets it.

use std::rc::Rc;

use ringway_proto::resp::Reply;
use smallvec::SmallVec;

use super::cluster::{Cluster, Errand};
use super::error::RedisError;
use super::node::Node;
use crate::observe::core_meters::add;

/// A library of functions, as `FUNCTION LOAD` takes it.
#[derive(Debug, Clone, Copy)]
pub struct Library {
    /// For reports; the code's first line has it, too.
    pub name: &'static str,
    pub code: &'static str,
}

impl Cluster {
    /// Calls a function of `library` on the master that has the keys, which are all of one slot. Loads the library where it
    /// is missing.
    ///
    /// # Errors
    /// [`RedisError`]. A call that was refused for want of its function has not run.
    pub async fn function(
        &self,
        library: &Library,
        function: &str,
        keys: &[&[u8]],
        args: &[&[u8]],
    ) -> Result<Reply, RedisError> {
        let mut errand = self.errand(keys.first().copied().unwrap_or_default(), false);
        let mut count = itoa::Buffer::new();
        let count = count.format(keys.len());
        let mut all: SmallVec<[&[u8]; 16]> = SmallVec::new();
        all.extend([&b"FCALL"[..], function.as_bytes(), count.as_bytes()]);
        all.extend(keys.iter().chain(args).copied());
        let mut answer = errand.run(&all).await;
        if let Ok((node, Reply::Error(text))) = &answer
            && is_missing(text)
        {
            answer = match errand.load(node, library).await {
                Ok(()) => errand.run(&all).await,
                Err(error) => Err(error),
            };
        }
        errand.conclude(answer)
    }
}

fn is_missing(error: &[u8]) -> bool {
    error.starts_with(b"ERR Function not found")
}

impl Errand<'_> {
    /// One load at a time: whoever finds one under way waits for it.
    async fn load(&self, node: &Rc<Node>, library: &Library) -> Result<(), RedisError> {
        if node.loading.get() {
            while node.loading.get() && self.linger().await {}
            return Ok(());
        }
        node.loading.set(true);
        let _done = Loading(node);
        match self.send(node, false, &[b"FUNCTION", b"LOAD", b"REPLACE", library.code.as_bytes()]).await? {
            Reply::Error(text) => {
                let text = format!("library {}: {}", library.name, String::from_utf8_lossy(&text));
                Err(RedisError::Refused { node: node.label.clone(), text: text.into() })
            }
            _ => {
                add(&self.inner.meters.functions_loaded, 1);
                Ok(())
            }
        }
    }
}

struct Loading<'a>(&'a Node);

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        self.0.loading.set(false);
    }
}
