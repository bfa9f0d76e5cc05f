//! One simulated instance: what it says of itself, and what comes over it.

mod categories;
mod changes;
mod events;
mod faults;
mod iam;
mod identity;
mod meaning;
mod running;
mod snapshot;
mod token;
mod token_store;
mod tree;
mod ttl;

pub use changes::{Change, Refused};
pub use events::{Closed, MAX_EVENTS, Phase, parse_closing};
pub use faults::{Injection, MAX_FAULTS, forced_status};
pub use meaning::Meaning;
pub use running::Instance;
pub use snapshot::Snapshot;
pub use token::{TOKEN, Tokens};
pub use tree::{Conflict, Found, Leaf, Leaves, Reader, Tree};
pub use ttl::Ttl;
