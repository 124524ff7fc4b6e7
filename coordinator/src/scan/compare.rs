//! Compares a destination's lists with what should be there: names, sizes, and where its log ends.

use std::collections::HashSet;

use append_server::destination::DestinationName;
use formats::object::{ObjectKind, ObjectName};

use crate::scan::bad::Fault;
use crate::scan::expected::ExpectedObject;
use crate::scan::{DestinationScan, Scan, ScanError};

/// The most objects on their way to a destination that are remembered by name; past that, nothing is called missing there.
const PENDING_MAX: usize = 1_000_000;
/// Objects that nothing is known of; a list with more is made up.
const UNKNOWN_MAX: u64 = 10_000_000;
/// Unknown records of the log that are looked at again.
const UNKNOWN_RECORDS_MAX: usize = 64;

impl Scan<'_> {
    pub(super) async fn compare(
        &mut self,
        destination: &DestinationName,
        here: &mut DestinationScan,
    ) -> Result<(), ScanError> {
        self.pending = self.all_pending(destination).await?;
        here.pending = self.pending.len() as u64;
        if self.pending.len() > PENDING_MAX {
            here.problem(format!(
                "more than {PENDING_MAX} objects are on their way there: what else is missing is not told before they are"
            ));
        }
        for kind in ObjectKind::ALL {
            self.compare_kind(destination, kind, here).await?;
        }
        Ok(())
    }

    async fn all_pending(
        &self,
        destination: &DestinationName,
    ) -> Result<HashSet<ObjectName>, ScanError> {
        let storage = &self.coordinator.storage;
        let mut pending = HashSet::new();
        let mut after: Option<ObjectName> = None;
        loop {
            let page = storage.pending_page(destination, self.repository, after.as_ref());
            let (names, more) = page.await?;
            after = names.last().cloned();
            pending.extend(names);
            if !more || pending.len() > PENDING_MAX {
                return Ok(pending);
            }
        }
    }

    async fn compare_kind(
        &mut self,
        destination: &DestinationName,
        kind: ObjectKind,
        here: &mut DestinationScan,
    ) -> Result<(), ScanError> {
        let storage = self.storage_at(destination);
        let mut expected = Pages::new(kind);
        let mut wanted = expected.next(self)?;
        let mut after: Option<ObjectName> = None;
        let mut more = true;
        let mut missing = Vec::new();
        while more {
            let (page, has_more) = storage
                .list_page(self.repository, kind, after.as_ref())
                .await?;
            more = has_more;
            after = page.last().map(|(name, _)| name.clone()).or(after);
            for (name, bytes) in page {
                while let Some(object) = wanted.take_if(|object| object.name < name) {
                    missing.push(object.name);
                    wanted = expected.next(self)?;
                }
                match wanted.take_if(|object| object.name == name) {
                    Some(object) => {
                        wanted = expected.next(self)?;
                        let is_other = object.bytes.is_some_and(|expected| expected != bytes);
                        if is_other && !self.expected.is_thinned(destination, &name) {
                            let fault = Fault::OtherSize { bytes };
                            self.found_bad(destination, &name, fault, here).await;
                        } else {
                            here.objects += 1;
                        }
                    }
                    None => self.found_unknown(destination, &name, here)?,
                }
            }
        }
        while let Some(object) = wanted {
            missing.push(object.name);
            wanted = expected.next(self)?;
        }
        for name in missing {
            if self.pending.contains(&name)
                || self.pending.len() > PENDING_MAX
                || self.expected.is_thinned(destination, &name)
            {
                continue;
            }
            self.found_bad(destination, &name, Fault::Missing, here)
                .await;
        }
        Ok(())
    }

    /// A record that was not known when the scan began is another story than a pack of a run that died.
    fn found_unknown(
        &mut self,
        destination: &DestinationName,
        name: &ObjectName,
        here: &mut DestinationScan,
    ) -> Result<(), ScanError> {
        here.unknown += 1;
        if here.unknown > UNKNOWN_MAX {
            return Err(ScanError::EndlessList {
                destination: destination.clone(),
            });
        }
        if name
            .digest()
            .is_some_and(|pack| self.expected.lost.contains(&pack))
        {
            let places = self.listed_again.entry(name.clone()).or_default();
            places.insert(destination.clone());
        }
        if let ObjectName::Log(sequence) = name
            && self.unknown_records.len() < UNKNOWN_RECORDS_MAX
        {
            self.unknown_records.push((destination.clone(), *sequence));
        }
        Ok(())
    }
}

/// What should be there, one after another.
struct Pages {
    kind: ObjectKind,
    after: Option<ObjectName>,
    page: std::vec::IntoIter<ExpectedObject>,
}

impl Pages {
    fn new(kind: ObjectKind) -> Self {
        Self {
            kind,
            after: None,
            page: Vec::new().into_iter(),
        }
    }

    fn next(&mut self, scan: &Scan<'_>) -> Result<Option<ExpectedObject>, ScanError> {
        if self.page.len() == 0 {
            self.page = scan
                .expected
                .page(self.kind, self.after.as_ref())?
                .into_iter();
        }
        let object = self.page.next();
        if let Some(object) = &object {
            self.after = Some(object.name.clone());
        }
        Ok(object)
    }
}
