//! How much memory answers take that have not been sent yet.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::reply::error;
use crate::http::{Entity, Reply};

/// Bytes of answers on their way at which the journal is not listed once more: that alone takes ten
/// megabytes, and a client may read slowly.
const MAX_UNDER_WAY: usize = 32 * 1024 * 1024;

/// Answers that may not have been sent yet. Whoever makes one holds the lock, so that what requests
/// take while they are worked on is bounded, too.
#[derive(Default)]
pub struct UnderWay(Mutex<Vec<Weak<Entity>>>);

impl UnderWay {
    /// The answer that `make` makes or, for one that may be large, that there is no room for it.
    pub fn add(&self, may_be_large: bool, make: impl FnOnce() -> Reply) -> Reply {
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        answers.retain(|answer| answer.strong_count() > 0);
        let entities = answers.iter().filter_map(Weak::upgrade);
        let bytes: usize = entities.map(|entity| entity.body().len()).sum();
        if may_be_large && bytes >= MAX_UNDER_WAY {
            let what = "too many large answers are on their way; try again, or ask for less";
            return error(503, what);
        }
        let reply = make();
        // A value of the instance is there in any case.
        if Arc::strong_count(&reply.entity) == 1 {
            answers.push(Arc::downgrade(&reply.entity));
        }
        reply
    }
}
