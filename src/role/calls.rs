//! The calls of AssumeRole under way: what each is for, numbered in the order they start.

use std::sync::Arc;

use super::clock::Clock;
use super::secret::Credentials;
use super::state::LastError;

/// A call to be made.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) id: u64,
    pub(super) signer: Arc<Credentials>,
    /// By which it is dated.
    pub(super) clock: Clock,
}

/// What a call is for.
pub(super) enum Purpose {
    /// To find out whether offered credentials work, which so many trials could not say.
    Trial { offer: u64, failures: u32 },
    /// To renew, signed by the session.
    BySession,
    /// To renew, signed by the bootstrap credentials; with the reason if the session was refused.
    ByBootstrap(Option<LastError>),
}

/// A call that has not been answered.
pub(super) struct UnderWay {
    pub(super) call: Call,
    pub(super) purpose: Purpose,
    /// Made because the first answer showed the clock to be off.
    pub(super) is_second: bool,
}

/// All of them.
#[derive(Default)]
pub(super) struct Calls {
    under_way: Vec<UnderWay>,
    last: u64,
}

impl Calls {
    pub(super) fn start(
        &mut self,
        purpose: Purpose,
        signer: Arc<Credentials>,
        clock: Clock,
        is_second: bool,
    ) -> Call {
        self.last += 1;
        let id = self.last;
        let call = Call { id, signer, clock };
        self.under_way.push(UnderWay {
            call: call.clone(),
            purpose,
            is_second,
        });
        call
    }

    /// The call of that number, which is over.
    pub(super) fn end(&mut self, id: u64) -> Option<UnderWay> {
        let at = self.under_way.iter().position(|of| of.call.id == id)?;
        Some(self.under_way.remove(at))
    }

    /// The number of the latest call.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// How many try offered credentials.
    pub(super) fn trials(&self) -> usize {
        let is_trial = |of: &&UnderWay| matches!(of.purpose, Purpose::Trial { .. });
        self.under_way.iter().filter(is_trial).count()
    }

    /// How many renew.
    pub(super) fn renewals(&self) -> usize {
        self.under_way.len() - self.trials()
    }
}
