//! A server of an issuer's keys.

use std::sync::{Arc, Mutex};

use super::Origin;
use super::tokens::{Signer, jwks};

/// Whose answer changes.
pub struct KeyServer {
    pub origin: Origin,
    answer: Arc<Mutex<(u16, String)>>,
}

impl KeyServer {
    pub fn new(signers: &[&Signer]) -> KeyServer {
        let answer = Arc::new(Mutex::new((200, jwks(signers))));
        let said = answer.clone();
        let origin = Origin::start(move |x| {
            let (status, body) = said.lock().unwrap().clone();
            x.reply(status, "Content-Type: application/jwk-set+json\r\n", body)
        });
        KeyServer { origin, answer }
    }

    pub fn say(&self, status: u16, body: impl Into<String>) {
        *self.answer.lock().unwrap() = (status, body.into());
    }

    /// Lines of an issuer's table that lead here.
    pub fn issuer(&self, extra: &str) -> String {
        format!(
            "algorithms = \"ES256\"\njwks_url = \"http://{}/jwks\"\ninsecure = true\n{extra}",
            self.origin.address()
        )
    }
}
