//! The sources as one tree: which names of a directory are needed on the way to a source, and where a source
//! begins.

use std::collections::BTreeMap;

/// A directory on the way to a source, or a source.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SourceTree {
    /// Whether this is a source: it and everything below it is wanted.
    pub is_source: bool,
    /// The names in it that lead to sources.
    pub children: BTreeMap<Vec<u8>, SourceTree>,
}

impl SourceTree {
    /// The tree of source paths without the slash in front; the empty path is the root.
    pub fn new<'a>(sources: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut root = Self::default();
        for source in sources {
            let mut node = &mut root;
            for name in source.split(|byte| *byte == b'/') {
                if !name.is_empty() {
                    node = node.children.entry(name.to_vec()).or_default();
                }
            }
            node.is_source = true;
        }
        root
    }

    /// The paths of the sources at and below this node, itself being at `path`.
    pub fn sources_below(&self, path: &[u8]) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        if self.is_source {
            found.push(path.to_vec());
        }
        for (name, child) in &self.children {
            found.extend(child.sources_below(&formats::listing::entry::join(path, name)));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::SourceTree;

    #[test]
    fn nested_sources_share_their_way() {
        let sources = [&b"srv/a"[..], b"srv/a/b", b"etc"];
        let tree = SourceTree::new(sources);
        assert!(!tree.is_source && !tree.children[&b"srv"[..]].is_source);
        let a = &tree.children[&b"srv"[..]].children[&b"a"[..]];
        assert!(a.is_source && a.children[&b"b"[..]].is_source);
        assert_eq!(
            tree.sources_below(b""),
            [&b"etc"[..], b"srv/a", b"srv/a/b"].map(<[u8]>::to_vec)
        );
        assert!(SourceTree::new([&b""[..]]).is_source);
    }
}
