//! The bootstrap credentials: those that have assumed the role, and those offered that may.

use std::sync::Arc;

use super::secret::Credentials;
use crate::date::Date;

/// Bootstrap credentials that have worked.
struct Proven {
    credentials: Arc<Credentials>,
    offer: u64,
    /// STS does not accept them any more.
    is_dead: bool,
}

/// Bootstrap credentials that wait for a trial.
pub(super) struct Offered {
    pub(super) credentials: Arc<Credentials>,
    /// Offers are numbered as they come.
    pub(super) offer: u64,
    /// Trials that could not say whether they work.
    pub(super) failures: u32,
    pub(super) due: Date,
}

/// One of each at most: the newest counts.
pub(super) struct Signers {
    proven: Option<Proven>,
    offered: Option<Offered>,
    last_offer: u64,
}

impl Signers {
    pub(super) fn new(proven: Option<Arc<Credentials>>) -> Signers {
        let mut signers = Signers {
            proven: None,
            offered: None,
            last_offer: 0,
        };
        if let Some(credentials) = proven {
            signers.prove(0, credentials);
        }
        signers
    }

    /// Those that have worked.
    pub(super) fn proven(&self) -> Option<&Arc<Credentials>> {
        self.proven.as_ref().map(|proven| &proven.credentials)
    }

    /// Whether there are some that still do, as far as is known.
    pub(super) fn has_working(&self) -> bool {
        self.proven.as_ref().is_some_and(|proven| !proven.is_dead)
    }

    /// Those that wait.
    pub(super) fn offered(&self) -> Option<&Offered> {
        self.offered.as_ref()
    }

    /// Takes new ones in the place of any that wait.
    pub(super) fn offer(&mut self, credentials: Arc<Credentials>, due: Date) {
        self.last_offer += 1;
        self.offered = Some(Offered {
            credentials,
            offer: self.last_offer,
            failures: 0,
            due,
        });
    }

    /// Has them wait again, if no others do.
    pub(super) fn wait(&mut self, offered: Offered) {
        self.offered.get_or_insert(offered);
    }

    /// Those that wait, if they are due: for a trial.
    pub(super) fn take_due(&mut self, now: Date) -> Option<Offered> {
        self.offered.take_if(|offered| offered.due <= now)
    }

    /// Moves the next trial along with the clock.
    pub(super) fn shift(&mut self, by: time::Duration) {
        if let Some(offered) = &mut self.offered {
            offered.due = offered.due + by;
        }
    }

    /// Whether later ones than those of that offer have worked.
    pub(super) fn have_overtaken(&self, offer: u64) -> bool {
        let proven = self.proven.as_ref();
        proven.is_some_and(|proven| offer < proven.offer)
    }

    /// Those of that offer have worked.
    pub(super) fn prove(&mut self, offer: u64, credentials: Arc<Credentials>) {
        self.offered.take_if(|offered| offered.offer < offer);
        self.proven = Some(Proven {
            credentials,
            offer,
            is_dead: false,
        });
    }

    /// What STS said last of those that have worked.
    pub(super) fn set_dead(&mut self, is_dead: bool) {
        if let Some(proven) = &mut self.proven {
            proven.is_dead = is_dead;
        }
    }

    /// Gives up those that have worked.
    pub(super) fn forget(&mut self) {
        self.proven = None;
    }
}
