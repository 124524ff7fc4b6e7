//! A page of a folder being gathered, for backends whose folders are directories: which names belong to it, and when it
//! is full.

use formats::object::ObjectName;

use crate::destination::ObjectList;

/// Objects after a name, at most so many.
pub(super) struct ListPage {
    after: Option<String>,
    limit: usize,
    pub(super) list: ObjectList,
}

impl ListPage {
    pub(super) fn new(after: Option<&ObjectName>, limit: usize) -> Self {
        Self {
            after: after.map(ToString::to_string),
            limit,
            list: ObjectList::default(),
        }
    }

    /// Whether every name with this prefix comes before the page.
    pub(super) fn is_past(&self, prefix: &str) -> bool {
        self.after
            .as_deref()
            .is_some_and(|after| after > prefix && !after.starts_with(prefix))
    }

    /// The object that a text names, if it comes after the page's beginning. What is no object's name is left out.
    pub(super) fn wanted(&self, text: &str) -> Option<ObjectName> {
        if self.after.as_deref().is_some_and(|after| text <= after) {
            return None;
        }
        let name = text.parse::<ObjectName>().ok();
        if name.is_none() {
            tracing::debug!(name = text, "not an object");
        }
        name
    }

    /// Adds an object, or notes that there are more than fit.
    pub(super) fn push(&mut self, name: ObjectName, bytes: u64) {
        if self.list.objects.len() == self.limit {
            self.list.more = true;
            return;
        }
        self.list.objects.push((name, bytes));
    }
}

/// Whether a folder's name is that of the objects beginning with one byte.
pub(super) fn is_shard(name: &str) -> bool {
    name.len() == 2
        && name
            .bytes()
            .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}
