//! Reading the configuration again: by SIGHUP and by `POST /reload`, the same.

use std::sync::Arc;

use crate::config::{Problem, Source};
use crate::instance::Instance;
use crate::privileges;

/// What a reload reads, and what it changes.
#[derive(Clone)]
pub struct Reload {
    instance: Arc<Instance>,
    source: Source,
}

impl Reload {
    pub fn new(instance: Arc<Instance>, source: Source) -> Reload {
        Reload { instance, source }
    }

    /// Reads and applies. Returns what deserves a warning, or what is wrong: then nothing changes. A
    /// configuration that brings a role ends core dumps first.
    pub fn run(&self) -> Result<Vec<Problem>, Vec<Problem>> {
        let (config, mut warnings) = self.source.load()?;
        if config.role.is_some()
            && let Err(e) = privileges::disable_core_dumps()
        {
            return Err(vec![Problem {
                place: "role".to_owned(),
                what: format!("cannot switch core dumps off: {e}"),
            }]);
        }
        warnings.extend(self.instance.load(config)?);
        Ok(warnings)
    }
}
