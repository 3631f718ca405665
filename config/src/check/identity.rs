//! Issuers and consumers: what a token must say is stated, keys come from somewhere, no key is two consumers'.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::decode::Table;
use crate::identity::{self, ClaimPath};
use crate::place::Place;
use crate::problem::{Fault, Problems};
use crate::snapshot::{Consumer, Family, Issuer, IssuerKey, KeyMaterial, KeySource, Required};

pub(super) fn issuers(issuers: Vec<(String, Table<identity::Issuer>)>, problems: &mut Problems) -> Vec<Issuer> {
    let root = Place::ROOT.key("issuers");
    issuers.into_iter().map(|(name, Table(keys))| issuer(name, keys, &root, problems)).collect()
}

fn issuer(name: String, keys: identity::Issuer, root: &Place<'_>, problems: &mut Problems) -> Issuer {
    let place = root.key(&name);
    let may_lack = keys.may_lack.0;
    if keys.issuer.is_none() && !may_lack.contains(&Required::Iss) {
        let fault = Fault::new("tokens of anybody would do");
        problems.error(&place, fault.cure("add issuer = \"...\" as tokens have it, or may_lack = [\"iss\"]"));
    }
    if keys.audiences.0.is_empty() && !may_lack.contains(&Required::Aud) {
        let fault = Fault::new("tokens for anybody would do");
        problems.error(&place, fault.cure("add audiences = [\"...\"], or may_lack = [\"aud\"]"));
    }
    if keys.jwks_url.is_none() && keys.jwks_file.is_none() && keys.keys.0.is_empty() {
        let fault = Fault::new("has no keys: nothing could be verified");
        problems.error(&place, fault.cure("add jwks_url, jwks_file, or keys = [{ pem = \"file:/...\" }]"));
    }
    if keys.jwks_url.is_some() && keys.jwks_file.is_some() {
        problems.error(&place.key("jwks_file"), Fault::new("both jwks_url and jwks_file").cure("keep one"));
    }
    if let Some(url) = &keys.jwks_url
        && !url.encrypted
        && !keys.insecure
    {
        let fault = Fault::new("is not encrypted: whoever is on the way could sign tokens");
        problems.error(&place.key("jwks_url"), fault.cure("use https, or say insecure = true"));
    }
    let algorithms = keys.algorithms.0;
    let hmac = algorithms.iter().any(|algorithm| algorithm.family() == Family::Hmac);
    if hmac && algorithms.iter().any(|algorithm| algorithm.family() != Family::Hmac) {
        let fault = Fault::new("shared secrets and public keys are not mixed: one could be taken for the other");
        problems.error(&place.key("algorithms"), fault.cure("write two issuers"));
    }
    let list = place.key("keys");
    let own = keys.keys.0.into_iter().enumerate();
    let own = own.filter_map(|(index, Table(key))| issuer_key(key, &algorithms, &list.index(index), problems));
    let own: Vec<IssuerKey> = own.collect();
    let texts = |list: Vec<ClaimPath>| list.into_iter().map(|ClaimPath(path)| path).collect::<Vec<_>>();
    Issuer {
        issuer: keys.issuer,
        audiences: keys.audiences.0,
        source: KeySource {
            keys: own,
            file: keys.jwks_file.map(PathBuf::from),
            url: keys.jwks_url,
            ca_file: keys.ca_file.map(PathBuf::from),
            refresh: keys.refresh.duration(),
            refetch_min: keys.refetch_min.duration(),
            timeout: keys.timeout.duration(),
        },
        algorithms,
        remember: keys.remember,
        leeway: keys.leeway.duration(),
        may_lack,
        require: texts(keys.require.0),
        roles: texts(keys.roles.0),
        consumer: keys.consumer.map(|ClaimPath(path)| path),
        headers: keys.headers.0.into_iter().map(|(name, ClaimPath(path))| (name.into_string(), path)).collect(),
        name,
    }
}

fn issuer_key(
    key: identity::IssuerKey,
    algorithms: &[crate::snapshot::Algorithm],
    place: &Place<'_>,
    problems: &mut Problems,
) -> Option<IssuerKey> {
    if let Some(algorithm) = key.algorithm
        && !algorithms.contains(&algorithm)
    {
        let fault = Fault::new(format!("the issuer does not take {}", algorithm.name()));
        problems.error(&place.key("algorithm"), fault.cure("add it to its algorithms"));
    }
    let material = match (key.pem, key.secret) {
        (Some(pem), None) => KeyMaterial::Pem(pem),
        (None, Some(secret)) => KeyMaterial::Secret(secret),
        _ => {
            let fault = Fault::new("one of `pem` and `secret` is a key");
            problems.error(place, fault.cure("write pem = \"file:/...\" or secret = \"env:...\""));
            return None;
        }
    };
    Some(IssuerKey {
        kid: key.kid.map(|identity::KeyId(kid)| kid),
        algorithm: key.algorithm,
        material,
        place: place.to_string(),
    })
}

pub(super) fn consumers(consumers: Vec<(String, Table<identity::Consumer>)>, problems: &mut Problems) -> Vec<Consumer> {
    let root = Place::ROOT.key("consumers");
    let mut key_ids: HashMap<String, String> = HashMap::new();
    let mut checked = Vec::with_capacity(consumers.len());
    for (name, Table(keys)) in consumers {
        let place = root.key(&name);
        for (id, _) in &keys.hmac_keys.0 {
            if let Some(other) = key_ids.insert(id.clone(), name.clone()) {
                let fault = Fault::new(format!("the key id {id:?} is {other:?}'s already"));
                problems.error(&place.key("hmac_keys"), fault.cure("give each key its own id"));
            }
        }
        if keys.api_keys.0.is_empty()
            && keys.password.is_none()
            && keys.hmac_keys.0.is_empty()
            && keys.groups.0.is_empty()
        {
            let fault = Fault::new("has neither credentials nor groups");
            problems.warn(&place, fault.cure("add api_keys, password, hmac_keys or groups"));
        }
        checked.push(Consumer {
            name,
            api_keys: keys.api_keys.0,
            password: keys.password,
            hmac_keys: keys.hmac_keys.0,
            groups: keys.groups.0,
        });
    }
    checked
}
