//! Who may ask: those who sign tokens, and the consumers that the operator knows by name. How credentials are checked is
//! the filters'; what must fit together is `check`'s.

use serde::de::{Deserialize, Deserializer};
use toml::de::DeValue;

use crate::bounded::Time;
use crate::decode::{Decode, List, Named, OneOrMore, Table, Word, choice, document, wrong_type};
use crate::http::{HeaderName, deserialize};
use crate::place::Place;
use crate::problem::{Fault, Problems, quoted};
use crate::snapshot::{Algorithm, ApiKey, ControlUrl, PasswordHash, Required, Secret};

const ALGORITHMS_MAX: usize = 13;
const AUDIENCES_MAX: usize = 64;
const CLAIMS_MAX: usize = 32;
const KEYS_MAX: usize = 64;
const GROUPS_MAX: usize = 64;
const CLAIM_BYTES_MAX: usize = 128;
const KEY_ID_BYTES_MAX: usize = 256;
const URL_BYTES_MAX: usize = 2048;

/// A month is longer than anybody should go on with old keys, and five seconds as often as a server should be asked.
const REFRESH_MS: (u64, u64) = (1000, 31 * 24 * 3600 * 1000);

document! {
    /// Who signs tokens, and what its tokens must say. A `jwt` filter names one or several; keys of one never verify the
    /// tokens of another.
    struct Issuer {
        /// The claim `iss`, exactly.
        issuer: Option<String>;
        /// `aud` must name one of them. A filter may say others.
        audiences: List<String, AUDIENCES_MAX> = [];
        /// Those that its keys may be used with; what a token says of itself chooses among them at most.
        algorithms: OneOrMore<Algorithm, ALGORITHMS_MAX>;
        /// Where its public keys are, as a JWK set (RFC 7517). Asked by the control thread, ahead of need.
        jwks_url: Option<ControlUrl>;
        /// The same from a file, looked at again as often.
        jwks_file: Option<String>;
        /// Keys that stand here.
        keys: List<Table<IssuerKey>, KEYS_MAX> = [];
        /// `jwks_url` may be plain http: whoever is on the way can then sign tokens.
        insecure: bool = false;
        /// Certificates that sign the server of `jwks_url`, as PEM; unset are those of the system.
        ca_file: Option<String>;
        /// How often the set is read again. A server that says for how long it is fresh is believed if that is shorter.
        refresh: Time<{ REFRESH_MS.0 }, { REFRESH_MS.1 }> = "5m";
        /// A token with an unknown key asks for the set at once, so often at most, for all cores together.
        refetch_min: Time<1000, 3600000> = "10s";
        /// For one answer of the server.
        timeout: Time<1, 60000> = "5s";
        /// Each core remembers which signatures were good; what tokens say is judged on every request all the same. With false
        /// every signature is verified anew, at 1 to 400 microseconds by its algorithm.
        remember: bool = true;
        /// By how much clocks may differ.
        leeway: Time<0, 300000> = "30s";
        /// Of "iss", "aud" and "exp" those that its tokens need not have. One that is there must be right all the same.
        may_lack: List<Required, 3> = [];
        /// Claims that each token must have.
        require: List<ClaimPath, CLAIMS_MAX> = ["sub"];
        /// Claims that hold roles: text parted by spaces, or a list of one role each. Dots lead into objects:
        /// "realm_access.roles".
        roles: List<ClaimPath, CLAIMS_MAX> = [];
        /// The claim that names the consumer, if the operator knows some: "azp".
        consumer: Option<ClaimPath>;
        /// Request headers that the origin gets from claims: { x-user = "sub" }. No client can send them, on any route.
        headers: ClaimHeaders = {};
    }

    /// One key, as PEM or as a secret.
    struct IssuerKey {
        /// Tokens that name a key name this one. Unset: it is tried for those that name none.
        kid: Option<KeyId>;
        /// The one algorithm it is used with; unset are all that fit it.
        algorithm: Option<Algorithm>;
        /// A public key: "file:/etc/ringway/corp.pem".
        pem: Option<Secret>;
        /// For the HS algorithms, at least as long as the hash: "env:CORP_SECRET".
        secret: Option<Secret>;
    }

    /// Somebody whom the operator knows. The name is the user's name for Basic authentication, and what the log says.
    struct Consumer {
        /// Keys for `api_key`: "sha256:" and the digest in hexadecimal, or a secret.
        api_keys: List<ApiKey, KEYS_MAX> = [];
        /// For `basic`: what `htpasswd -nB` or `argon2` print, never the password.
        password: Option<PasswordHash>;
        /// For `hmac`: secrets by key id.
        hmac_keys: Named<Secret, KEYS_MAX> = {};
        /// Roles for `rbac`.
        groups: List<String, GROUPS_MAX> = [];
    }
}

/// A claim's name; dots lead into objects.
#[derive(Debug)]
pub(crate) struct ClaimPath(pub(crate) String);

impl Word for ClaimPath {
    const SHAPE: &'static str = "claim";
    const EXAMPLE: &'static str = "\"sub\"";

    fn parse(text: &str) -> Result<Self, Fault> {
        if (1..=CLAIM_BYTES_MAX).contains(&text.len()) {
            return Ok(Self(text.to_owned()));
        }
        Err(Fault::new(format!("{} is no claim", quoted(text))).cure(format!("use 1 to {CLAIM_BYTES_MAX} bytes")))
    }
}

/// `kid` of RFC 7515 section 4.1.4.
#[derive(Debug)]
pub(crate) struct KeyId(pub(crate) String);

impl Word for KeyId {
    const SHAPE: &'static str = "key id";

    fn parse(text: &str) -> Result<Self, Fault> {
        if (1..=KEY_ID_BYTES_MAX).contains(&text.len()) {
            return Ok(Self(text.to_owned()));
        }
        Err(Fault::new(format!("{} is no key id", quoted(text))).cure(format!("use 1 to {KEY_ID_BYTES_MAX} bytes")))
    }
}

/// Claims by the header that carries them, in the order written.
#[derive(Debug)]
pub(crate) struct ClaimHeaders(pub(crate) Vec<(HeaderName, ClaimPath)>);

impl Decode for ClaimHeaders {
    fn shape() -> String {
        "claims by header".to_owned()
    }

    fn range() -> String {
        format!("at most {CLAIMS_MAX}")
    }

    fn decode(value: &DeValue<'_>, place: &Place<'_>, problems: &mut Problems) -> Option<Self> {
        let DeValue::Table(table) = value else {
            problems.error(place, wrong_type("a table { x-user = \"sub\" }", value));
            return None;
        };
        if table.len() > CLAIMS_MAX {
            problems.error(place, Fault::new(format!("{} headers; the most is {CLAIMS_MAX}", table.len())));
            return None;
        }
        let mut read = Vec::with_capacity(table.len());
        for (key, value) in table {
            let here = place.key(key.get_ref());
            let name =
                HeaderName::parse(key.get_ref()).and_then(|name| match name.is_ours() || name.as_str() == "host" {
                    false => Ok(name),
                    true => Err(Fault::new("frames the message or belongs to one hop").cure("use a name of your own")),
                });
            let name = name.map_err(|fault| problems.error(&here, fault)).ok();
            read.push(name.zip(ClaimPath::decode(value.get_ref(), &here, problems)));
        }
        read.into_iter().collect::<Option<Vec<_>>>().map(Self)
    }
}

choice!(Algorithm {
    "HS256" => Algorithm::Hs256,
    "HS384" => Algorithm::Hs384,
    "HS512" => Algorithm::Hs512,
    "RS256" => Algorithm::Rs256,
    "RS384" => Algorithm::Rs384,
    "RS512" => Algorithm::Rs512,
    "PS256" => Algorithm::Ps256,
    "PS384" => Algorithm::Ps384,
    "PS512" => Algorithm::Ps512,
    "ES256" => Algorithm::Es256,
    "ES384" => Algorithm::Es384,
    "ES512" => Algorithm::Es512,
    "EdDSA" => Algorithm::EdDsa,
});

choice!(Required { "iss" => Required::Iss, "aud" => Required::Aud, "exp" => Required::Exp });

impl Word for Secret {
    const SHAPE: &'static str = "\"env:NAME\" | \"file:PATH\" | \"text:...\"";
    const EXAMPLE: &'static str = "\"env:SECRET\"";

    fn parse(text: &str) -> Result<Self, Fault> {
        match text.split_once(':') {
            Some(("env", name)) if !name.is_empty() => Ok(Secret::Env(name.to_owned())),
            Some(("file", path)) if path.starts_with('/') => Ok(Secret::File(path.into())),
            Some(("file", _)) => Err(Fault::new("a secret's file has a whole path").cure("write \"file:/path\"")),
            Some(("text", secret)) if !secret.is_empty() => Ok(Secret::Text(secret.to_owned())),
            // What was written may be the secret itself: it is not shown again.
            _ => Err(Fault::new("does not say where the secret is")
                .cure("write \"env:NAME\", \"file:/path\", or \"text:\" before the secret itself")),
        }
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize(deserializer)
    }
}

impl<'de> Deserialize<'de> for ControlUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize(deserializer)
    }
}

impl Word for ApiKey {
    const SHAPE: &'static str = "\"sha256:HEX\" | \"env:NAME\" | \"file:PATH\" | \"text:...\"";
    const EXAMPLE: &'static str = "\"env:KEY\"";

    fn parse(text: &str) -> Result<Self, Fault> {
        let Some(digits) = text.strip_prefix("sha256:") else { return Secret::parse(text).map(ApiKey::Secret) };
        let mut digest = [0; 32];
        let pairs = digits.as_bytes().chunks_exact(2);
        if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Fault::new("is no SHA-256").cure("it has 64 hexadecimal digits: printf %s KEY | sha256sum"));
        }
        for (byte, pair) in std::iter::zip(&mut digest, pairs) {
            let digit = |digit: u8| char::from(digit).to_digit(16).unwrap_or_default() as u8;
            *byte = digit(pair[0]) << 4 | digit(pair[1]);
        }
        Ok(ApiKey::Sha256(digest))
    }
}

impl Word for PasswordHash {
    const SHAPE: &'static str = "hash of a password";
    const EXAMPLE: &'static str = "\"$2y$...\"";

    fn parse(text: &str) -> Result<Self, Fault> {
        const KNOWN: [&str; 6] = ["$2a$", "$2b$", "$2y$", "$argon2id$", "$argon2i$", "$pbkdf2-sha256$"];
        if KNOWN.iter().any(|known| text.starts_with(known)) && text.len() <= 512 {
            return Ok(PasswordHash(text.to_owned()));
        }
        Err(Fault::new("is no hash that we know").cure(
            "print one with: htpasswd -nB USER, or argon2; we take bcrypt, \
             argon2id, argon2i and pbkdf2-sha256",
        ))
    }
}

impl Word for ControlUrl {
    const SHAPE: &'static str = "https URL";
    const EXAMPLE: &'static str = "\"https://id.example.com/jwks.json\"";

    fn parse(text: &str) -> Result<Self, Fault> {
        let wrong = |why: String| Fault::new(format!("{} {why}", quoted(text)));
        let Ok(url) = url::Url::parse(text) else {
            return Err(wrong("is no URL".to_owned()).cure("write \"https://host/path\""));
        };
        if !matches!(url.scheme(), "https" | "http") {
            return Err(wrong(format!("has the scheme {}", url.scheme())).cure("write \"https://...\""));
        }
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            // What was written may be a password: it is not shown again.
            return Err(Fault::new("the URL has a user or a fragment").cure("leave out \"user@\" and \"#...\""));
        }
        if text.len() > URL_BYTES_MAX {
            return Err(Fault::new(format!("{} bytes; the most is {URL_BYTES_MAX}", text.len())));
        }
        Ok(ControlUrl { encrypted: url.scheme() == "https", text: url.to_string() })
    }
}
