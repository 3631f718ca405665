//! Issuers and consumers as they were checked. No secret is in it: only where secrets are, unless the operator wrote one
//! out, and then it is not shown.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Who signs tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Issuer {
    pub name: String,
    /// `None` only if its tokens may lack `iss`.
    pub issuer: Option<String>,
    pub audiences: Vec<String>,
    pub algorithms: Vec<Algorithm>,
    pub source: KeySource,
    /// Good signatures are not verified again.
    pub remember: bool,
    pub leeway: Duration,
    /// Of the registered claims those that tokens may lack.
    pub may_lack: Vec<Required>,
    /// Paths of claims that tokens must have.
    pub require: Vec<String>,
    /// Paths of claims that hold roles.
    pub roles: Vec<String>,
    pub consumer: Option<String>,
    /// Lower-case header and the path of its claim.
    pub headers: Vec<(String, String)>,
}

/// Where an issuer's keys come from: from all of these.
#[derive(Debug, Clone, PartialEq)]
pub struct KeySource {
    pub keys: Vec<IssuerKey>,
    pub file: Option<PathBuf>,
    pub url: Option<ControlUrl>,
    pub ca_file: Option<PathBuf>,
    pub refresh: Duration,
    pub refetch_min: Duration,
    pub timeout: Duration,
}

#[derive(Debug, Clone, PartialEq)]
pub struct IssuerKey {
    pub kid: Option<String>,
    pub algorithm: Option<Algorithm>,
    pub material: KeyMaterial,
    /// Dotted, for messages.
    pub place: String,
}

#[derive(Debug, Clone, PartialEq)]
pub enum KeyMaterial {
    Pem(Secret),
    Secret(Secret),
}

/// Of RFC 7518 section 3.1 and RFC 8037.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
    EdDsa,
}

/// What a key must be to be used with an algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Hmac,
    Rsa,
    Ec,
    Ed25519,
}

impl Algorithm {
    pub const ALL: [Algorithm; 13] = [
        Algorithm::Hs256,
        Algorithm::Hs384,
        Algorithm::Hs512,
        Algorithm::Rs256,
        Algorithm::Rs384,
        Algorithm::Rs512,
        Algorithm::Ps256,
        Algorithm::Ps384,
        Algorithm::Ps512,
        Algorithm::Es256,
        Algorithm::Es384,
        Algorithm::Es512,
        Algorithm::EdDsa,
    ];

    /// As tokens say it.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Hs256 => "HS256",
            Algorithm::Hs384 => "HS384",
            Algorithm::Hs512 => "HS512",
            Algorithm::Rs256 => "RS256",
            Algorithm::Rs384 => "RS384",
            Algorithm::Rs512 => "RS512",
            Algorithm::Ps256 => "PS256",
            Algorithm::Ps384 => "PS384",
            Algorithm::Ps512 => "PS512",
            Algorithm::Es256 => "ES256",
            Algorithm::Es384 => "ES384",
            Algorithm::Es512 => "ES512",
            Algorithm::EdDsa => "EdDSA",
        }
    }

    pub fn named(name: &str) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    pub fn family(self) -> Family {
        match self {
            Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => Family::Hmac,
            Algorithm::Es256 | Algorithm::Es384 | Algorithm::Es512 => Family::Ec,
            Algorithm::EdDsa => Family::Ed25519,
            _ => Family::Rsa,
        }
    }
}

/// A claim that is required unless the operator says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Required {
    Iss,
    Aud,
    Exp,
}

/// Somebody whom the operator knows.
#[derive(Debug, Clone, PartialEq)]
pub struct Consumer {
    pub name: String,
    pub api_keys: Vec<ApiKey>,
    pub password: Option<PasswordHash>,
    /// By key id.
    pub hmac_keys: Vec<(String, Secret)>,
    pub groups: Vec<String>,
}

/// Where a secret is.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    Env(String),
    File(PathBuf),
    Text(String),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Secret::Env(name) => write!(f, "env:{name}"),
            Secret::File(path) => write!(f, "file:{}", path.display()),
            Secret::Text(_) => f.write_str("text:(not shown)"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiKey {
    Sha256([u8; 32]),
    Secret(Secret),
}

/// As `htpasswd` or `argon2` print it (PHC string format, or bcrypt's).
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(pub String);

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(not shown)")
    }
}

/// Where the control thread may ask. Comes from the configuration alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlUrl {
    pub text: String,
    /// https.
    pub encrypted: bool,
}
