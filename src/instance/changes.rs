//! Changing the instance under its clients: leaves are set and removed while it runs, each change
//! whole and visible to the next request. Derived values do not follow.

use std::fmt;
use std::sync::{Arc, PoisonError};

use super::categories;
use super::running::Instance;
use super::tree::{Conflict, Leaf, Reader};

use crate::config::{is_credential_path, is_segment};
use crate::http::Entity;

/// What all values may take, by [`Leaves::bytes`], if some are added.
///
/// [`Leaves::bytes`]: super::tree::Leaves::bytes
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// Why a value is not shown or not changed; then nothing was.
#[derive(Debug)]
pub enum Refused {
    /// Credentials are neither shown nor set here.
    Credentials,
    /// There is nothing at that path.
    NotThere,
    /// No client could ask for it.
    BadPath(String),
    Conflict(Conflict),
    /// There would be more than [`MAX_BYTES`].
    TooMuch,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Refused::Credentials => write!(f, "credentials are neither shown nor set here"),
            Refused::NotThere => write!(f, "there is nothing at that path"),
            Refused::BadPath(path) => write!(f, "{path:?}: no client could ask for that path"),
            Refused::Conflict(conflict) => conflict.fmt(f),
            Refused::TooMuch => write!(
                f,
                "all values would take more than {} MiB; delete some",
                MAX_BYTES >> 20
            ),
        }
    }
}

/// Paths below a version (`meta-data/mac`) with what is set there; `None` removes.
pub type Change = (String, Option<Vec<u8>>);

impl Instance {
    /// What `path` (below a version) holds for everyone: a value, or a listing.
    pub fn value(&self, path: &str) -> Result<Arc<Entity>, Refused> {
        let documents = path.strip_prefix("meta-data/").unwrap_or_default();
        let listings = [
            "iam/security-credentials",
            "iam/security-credentials-extended",
        ];
        if is_credential_path(documents) && !listings.contains(&documents) {
            return Err(Refused::Credentials);
        }
        let found = self.get(&self.snapshot(), path, Reader::LATEST, None);
        found.map(|found| found.entity).ok_or(Refused::NotThere)
    }

    /// Removes a value, or a directory with all that is below it, which has to be there.
    pub fn remove(&self, path: &str) -> Result<(), Refused> {
        if self.snapshot().tree.get(path, Reader::LATEST).is_none() {
            return Err(Refused::NotThere);
        }
        self.change(&[(path.to_owned(), None)])
    }

    /// Applies all changes at once, or none. As in the configuration, what is to be removed need
    /// not be there.
    pub fn change(&self, changes: &[Change]) -> Result<(), Refused> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = self.snapshot();
        let mut leaves = snapshot.leaves.clone();
        for (path, _) in changes {
            if path
                .strip_prefix("meta-data/")
                .is_some_and(is_credential_path)
            {
                return Err(Refused::Credentials);
            }
            if !path.split('/').all(is_segment) {
                return Err(Refused::BadPath(path.clone()));
            }
        }
        // Removals first, as in the configuration: a directory can make way for a leaf.
        for (path, _) in changes.iter().filter(|(_, value)| value.is_none()) {
            leaves.remove(path);
        }
        for (path, value) in changes {
            let Some(bytes) = value.clone() else { continue };
            match path.as_str() {
                "user-data" => leaves.put("user-data", Leaf::Bytes(bytes)),
                path => categories::put(path, bytes, &mut leaves),
            }
        }
        let adds = changes.iter().any(|(_, value)| value.is_some());
        if adds && leaves.bytes() > MAX_BYTES {
            return Err(Refused::TooMuch);
        }
        let changed = snapshot.with(leaves, &self.clock);
        self.set(changed.map_err(Refused::Conflict)?);
        Ok(())
    }

    /// Dates the tree by the clock, which was moved: no document is from the future.
    pub fn redate(&self) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = self.snapshot();
        // What was built once has no conflict.
        if let Ok(redated) = snapshot.with(snapshot.leaves.clone(), &self.clock) {
            self.set(redated);
        }
    }
}
