//! From a request's host to the tries of the host patterns that match it, most specific first. Knows no paths.

use super::build::HOST_BYTES_MAX;
use super::edges::{Edge, Edges};
use ringway_config::snapshot::HostPattern;

/// The entry of routes that name no host: the end of every chain.
pub(super) const ANY: u32 = 0;
const NONE: u32 = u32::MAX;

pub(super) struct Hosts {
    /// All from parent 0: lower-case host → entry.
    exact: Edges,
    /// A trie of labels from the right (`com`, `example`).
    labels: Edges,
    /// By label node: the entry of the wildcard that ends there, or [`NONE`].
    wildcards: Box<[u32]>,
    entries: Box<[Entry]>,
}

#[derive(Clone, Copy)]
pub(super) struct Entry {
    /// Root of its trie.
    pub(super) root: u32,
    /// The entry of the next less specific pattern. Every host that matches this one matches that one too, so the
    /// chain depends on the pattern alone.
    pub(super) next: Option<u32>,
}

/// A host pattern and the root of its trie.
pub(super) struct Named<'a> {
    pub(super) host: &'a str,
    pub(super) wildcard: bool,
    pub(super) root: u32,
}

impl<'a> Named<'a> {
    pub(super) fn new(pattern: &'a HostPattern, root: u32) -> Named<'a> {
        match pattern {
            HostPattern::Exact(host) => Named { host, wildcard: false, root },
            HostPattern::Wildcard(suffix) => Named { host: suffix, wildcard: true, root },
        }
    }
}

impl Hosts {
    pub(super) fn new(any_root: u32, named: &[Named<'_>], hasher: &ahash::RandomState) -> Hosts {
        let mut entries = vec![Entry { root: any_root, next: None }];
        entries.extend(named.iter().map(|named| Entry { root: named.root, next: Some(ANY) }));
        let exact: Vec<Edge<'_>> = named
            .iter()
            .enumerate()
            .filter(|(_, named)| !named.wildcard)
            .map(|(index, named)| Edge { parent: 0, name: named.host.as_bytes(), child: Hosts::index(index) })
            .collect();
        let mut tree = LabelTree::default();
        for (index, named) in named.iter().enumerate().filter(|(_, named)| named.wildcard) {
            tree.insert(named.host, Hosts::index(index));
        }
        let mut hosts = Hosts {
            exact: Edges::new(exact.into_iter(), hasher),
            labels: Edges::new(tree.edges(), hasher),
            wildcards: tree.wildcards.into(),
            entries: entries.into(),
        };
        for (index, named) in named.iter().enumerate() {
            hosts.entries[Hosts::index(index) as usize].next = Some(hosts.wildcard(named.host.as_bytes(), hasher));
        }
        hosts
    }

    /// The entry of the pattern that stood at `place` among those given to [`new`](Self::new).
    pub(super) fn index(place: usize) -> u32 {
        place as u32 + 1 // after ANY
    }

    /// Where the pattern of an entry other than [`ANY`] stood.
    pub(super) fn place(index: u32) -> usize {
        index as usize - 1
    }

    pub(super) fn entry(&self, index: u32) -> Entry {
        self.entries[index as usize]
    }

    /// The entry of the most specific pattern that matches.
    pub(super) fn find(&self, host: &[u8], hasher: &ahash::RandomState) -> u32 {
        let host = host.strip_suffix(b".").unwrap_or(host);
        if host.is_empty() || host.len() > HOST_BYTES_MAX || self.entries.len() == 1 {
            return ANY;
        }
        let mut buffer = [0; HOST_BYTES_MAX];
        let lower = &mut buffer[..host.len()];
        lower.copy_from_slice(host);
        lower.make_ascii_lowercase();
        let lower = &*lower;
        let exact = self.exact.get(0, hasher.hash_one(lower), |name| name == lower);
        exact.unwrap_or_else(|| self.wildcard(lower, hasher))
    }

    /// The longest wildcard with something before its suffix, or [`ANY`]. Stops at the first label that no wildcard
    /// has, however many the host has.
    fn wildcard(&self, host: &[u8], hasher: &ahash::RandomState) -> u32 {
        let (mut best, mut node, mut rest) = (ANY, 0, host);
        while let Some(dot) = memchr::memrchr(b'.', rest) {
            let label = &rest[dot + 1..];
            let Some(child) = self.labels.get(node, hasher.hash_one(label), |name| name == label) else { break };
            (node, rest) = (child, &rest[..dot]);
            let ends_here = self.wildcards[node as usize];
            if ends_here != NONE && !rest.is_empty() {
                best = ends_here;
            }
        }
        best
    }
}

/// The labels while they are collected. Node 0 is the root.
struct LabelTree<'a> {
    found: std::collections::HashMap<(u32, &'a str), u32>,
    wildcards: Vec<u32>,
}

impl Default for LabelTree<'_> {
    fn default() -> Self {
        LabelTree { found: Default::default(), wildcards: vec![NONE] }
    }
}

impl<'a> LabelTree<'a> {
    fn insert(&mut self, suffix: &'a str, entry: u32) {
        let mut node = 0;
        for label in suffix.rsplit('.') {
            node = *self.found.entry((node, label)).or_insert_with(|| {
                self.wildcards.push(NONE);
                self.wildcards.len() as u32 - 1
            });
        }
        self.wildcards[node as usize] = entry;
    }

    fn edges(&self) -> impl ExactSizeIterator<Item = Edge<'a>> + '_ {
        self.found.iter().map(|((parent, label), child)| Edge {
            parent: *parent,
            name: label.as_bytes(),
            child: *child,
        })
    }
}
