//! The renewal against tables and random lives: time is a number here, and nobody waits.

use super::*;
use crate::role::answer;
use crate::role::secret::Secret;

const SECOND: time::Duration = time::Duration::SECOND;
const HOUR: u64 = 3600;
const DENIED: &str = "AccessDenied";
const BUSY: &str = "ServiceUnavailable";
const WRONG_CLOCK: &str = "SignatureDoesNotMatch";

fn keys(id: &str) -> Credentials {
    Credentials {
        access_key_id: id.to_owned(),
        secret_access_key: Secret::new(format!("secret of {id}")),
        token: Some(Secret::new(format!("token of {id}"))),
    }
}

/// A renewal in a world of its own: its machine's clocks, and STS's.
struct World {
    renewal: Renewal,
    now: Moment,
    /// STS's time minus that of the machine's wall clock.
    ahead: time::Duration,
    calls: Vec<Call>,
    lines: Vec<String>,
    saves: usize,
    granted: usize,
}

impl World {
    fn with(bootstrap: Option<&str>, session: Option<(&str, i64)>) -> World {
        let now = Moment {
            wall: Date::parse("2026-01-02T03:04:05Z").unwrap(),
            monotonic: Duration::from_secs(1000),
        };
        let session = session.map(|(id, life)| {
            let expires = now.wall + SECOND * life as i32;
            Arc::new(Session::new(keys(id), expires, now.wall))
        });
        let bootstrap = bootstrap.map(|id| Arc::new(keys(id)));
        let names = ("app", "i-1");
        World {
            renewal: Renewal::new(names, bootstrap, session, || 0.0, now),
            now,
            ahead: time::Duration::ZERO,
            calls: Vec::new(),
            lines: Vec::new(),
            saves: 0,
            granted: 0,
        }
    }

    /// One that serves a session of an hour.
    fn serving() -> World {
        let mut world = World::with(None, None);
        world.offer("BOOT");
        world.grant();
        assert_eq!(world.served(), Some("S1"));
        world
    }

    fn step(&mut self, event: Event) -> usize {
        let actions = self.renewal.step(event, self.now);
        let count = actions.len();
        for action in actions {
            match action {
                Action::Call(call) => self.calls.push(call),
                Action::Log(line) => self.lines.push(line),
                Action::Save => self.saves += 1,
            }
        }
        count
    }

    fn sleep(&mut self, by: Duration) {
        self.now.wall = self.now.wall + by;
        self.now.monotonic += by;
    }

    /// So much later: everything that is due until then is done.
    fn pass(&mut self, seconds: u64) {
        let mut left = Duration::from_secs(seconds);
        while !left.is_zero() {
            let pause = self.renewal.pause(self.now).min(left);
            self.sleep(pause);
            left -= pause;
            let actions = self.step(Event::Wake);
            let is_lazy = pause >= Duration::from_millis(100) || actions > 0 || left.is_zero();
            assert!(is_lazy, "woken after {pause:?} for nothing");
        }
    }

    fn offer(&mut self, id: &str) {
        self.step(Event::Offer(Arc::new(keys(id))));
    }

    fn sts_time(&self) -> Date {
        self.now.wall + self.ahead
    }

    fn answer(&mut self, call: &Call, outcome: Result<Grant, CallError>, ahead: time::Duration) {
        let exchange = Exchange {
            outcome,
            date: Some((self.now.wall + ahead).truncate_to_second()),
            sent: self.now,
            answered: self.now,
        };
        self.step(Event::Answer(call.id, exchange));
    }

    /// Answers the oldest call by a session of an hour.
    fn grant(&mut self) -> Call {
        let call = self.calls.remove(0);
        self.grant_to(&call, HOUR);
        call
    }

    fn grant_to(&mut self, call: &Call, life: u64) {
        self.granted += 1;
        let grant = Grant {
            credentials: keys(&format!("S{}", self.granted)),
            expires: (self.sts_time() + Duration::from_secs(life)).truncate_to_second(),
        };
        self.answer(call, Ok(grant), self.ahead);
    }

    /// Answers the oldest call by an error.
    fn refuse(&mut self, code: &str) -> Call {
        let ahead = self.ahead;
        self.refuse_dated(code, ahead)
    }

    /// As somebody whose clock is so far ahead of the machine's.
    fn refuse_dated(&mut self, code: &str, ahead: time::Duration) -> Call {
        let call = self.calls.remove(0);
        self.refuse_to(&call, code, ahead);
        call
    }

    fn refuse_to(&mut self, call: &Call, code: &str, ahead: time::Duration) {
        let status = if code == BUSY { 503 } else { 403 };
        let body = format!("<R><Error><Code>{code}</Code><Message>no</Message></Error></R>");
        let outcome = answer::read(status, body.as_bytes(), None);
        self.answer(call, outcome, ahead);
    }

    fn served(&self) -> Option<&str> {
        let session = self.renewal.state().live(self.now)?;
        Some(session.access_key_id())
    }

    /// What is said of it since the last time.
    fn said(&mut self) -> String {
        std::mem::take(&mut self.lines).join("\n")
    }
}

fn signer(call: &Call) -> &str {
    &call.signer.access_key_id
}

#[test]
fn an_offer_is_tried_at_once_and_the_session_renews_itself_at_half_of_its_life() {
    let mut world = World::with(None, None);
    assert!(world.renewal.state().is_waiting && world.calls.is_empty());
    world.pass(HOUR);
    world.offer("BOOT");
    assert_eq!(signer(&world.grant()), "BOOT");
    assert!(
        world
            .said()
            .starts_with("assumed: role app, session i-1, key S1")
    );
    for n in 1..10 {
        world.pass(HOUR / 2 - 10);
        assert!(world.calls.is_empty());
        world.pass(10);
        assert_eq!(signer(&world.grant()), format!("S{n}"));
        assert!(world.said().starts_with("renewed: "));
    }
    assert_eq!(world.saves, 10);
}

#[test]
fn what_is_remembered_is_served_and_renewed_at_once() {
    for (bootstrap, session, served, signed) in [
        (None, None, None, None),
        (Some("B"), None, None, Some("B")),
        (Some("B"), Some(("S", 60)), Some("S"), Some("S")),
        (Some("B"), Some(("S", -60)), None, Some("B")),
        // Perhaps only the clock is wrong.
        (None, Some(("S", -60)), None, Some("S")),
    ] {
        let mut world = World::with(bootstrap, session);
        assert_eq!(world.served(), served);
        world.step(Event::Wake);
        assert_eq!(world.calls.first().map(signer), signed);
    }
}

#[test]
fn a_clock_that_is_off_is_corrected_within_the_first_try() {
    for hours in [-30, 2, 9000] {
        let mut world = World::with(None, None);
        world.ahead = time::Duration::hours(hours);
        world.offer("BOOT");
        world.refuse(WRONG_CLOCK);
        let second = world.grant();
        let off = second.clock.at(world.now) - world.sts_time();
        assert!(off.abs() < SECOND * 2, "{off}");
        assert_eq!(world.served(), Some("S1"));
        let said = world.said();
        assert!(
            said.starts_with("clock: ") && !said.contains("failing"),
            "{said}"
        );
        world.pass(HOUR - 5);
        assert_eq!(world.served(), Some("S1"));
        world.pass(5);
        assert_eq!(world.served(), None);
    }
}

#[test]
fn a_clock_measured_from_a_refusal_withdraws_nothing_and_dates_the_next_try() {
    for (code, hours) in [(BUSY, 10), (DENIED, 10), (BUSY, -10), (WRONG_CLOCK, 10)] {
        let mut world = World::serving();
        let lie = time::Duration::hours(hours);
        world.pass(HOUR / 2);
        world.refuse_dated(code, lie);
        assert_eq!(world.served(), Some("S1"), "{code}");
        assert_eq!(
            world.renewal.state().clock.correction(),
            time::Duration::ZERO
        );
        // That of STS sets it right again, and nothing was lost.
        let next = world.refuse(WRONG_CLOCK);
        let off = next.clock.at(world.now) - world.sts_time() - lie;
        assert!(off.abs() < SECOND * 2, "{off}");
        assert_eq!(world.served(), Some("S1"));
        world.grant();
        assert_eq!(world.served(), Some("S2"));
        let correction = world.renewal.state().clock.correction();
        assert!(correction.abs() < SECOND * 2, "{correction}");
    }
}

#[test]
fn a_clock_that_a_success_has_proven_rules() {
    // Set ahead while it ran: what is served ends, and STS is asked at once.
    let mut world = World::serving();
    world.ahead = -time::Duration::HOUR;
    world.now.wall = world.now.wall + time::Duration::HOUR;
    world.step(Event::Wake);
    assert_eq!(world.served(), None);
    world.refuse(WRONG_CLOCK);
    assert_eq!(world.served(), None, "not yet proven");
    assert_eq!(signer(&world.grant()), "BOOT");
    assert_eq!(world.served(), Some("S2"));
    assert!(world.said().contains("s ahead of STS's"));
    // The session that such a clock thinks over may sign what shows it to be wrong.
    let mut world = World::with(Some("B"), Some(("S", -60)));
    world.ahead = -time::Duration::HOUR;
    world.step(Event::Wake);
    world.refuse(WRONG_CLOCK);
    world.refuse("ExpiredToken");
    assert_eq!(world.served(), None);
    assert_eq!(signer(&world.grant()), "S");
    assert_eq!(world.served(), Some("S1"));
}

#[test]
fn a_session_that_is_refused_falls_back_to_the_bootstrap_credentials() {
    for (code, falls_back) in [
        (DENIED, true),
        ("ExpiredToken", true),
        ("InvalidClientTokenId", true),
        (BUSY, false),
        ("ValidationError", false),
    ] {
        let mut world = World::serving();
        world.pass(HOUR / 2);
        assert_eq!(signer(&world.refuse(code)), "S1");
        assert_eq!(!world.calls.is_empty(), falls_back, "{code}");
        if falls_back {
            assert_eq!(signer(&world.grant()), "BOOT");
            let said = world.said();
            assert!(said.contains("because the session was refused"), "{said}");
        }
    }
}

#[test]
fn an_outage_is_told_once_and_ends_what_is_served_with_its_own_end() {
    let mut world = World::serving();
    world.pass(HOUR / 2);
    world.said();
    let mut tries = 0;
    while world.served().is_some() {
        world.refuse(BUSY);
        tries += 1;
        while world.calls.is_empty() && world.served().is_some() {
            world.pass(1);
        }
    }
    assert!((90..200).contains(&tries), "{tries}");
    let said = world.said();
    assert_eq!(said.lines().count(), 2, "{said}");
    assert!(said.starts_with("failing: ServiceUnavailable") && said.contains("\nexpired: "));
    let state = world.renewal.state();
    assert!(state.failure.message.contains("ServiceUnavailable"));
    world.pass(2);
    world.grant();
    assert!(world.said().starts_with("recovered: "));
}

#[test]
fn an_answer_that_was_overtaken_changes_nothing() {
    let mut world = World::serving();
    world.pass(HOUR / 2);
    let renewal = world.calls.remove(0);
    for id in ["OLD", "NEW"] {
        world.offer(id);
    }
    let old = world.calls.remove(0);
    assert_eq!(signer(&world.grant()), "NEW");
    for late in [&renewal, &old] {
        world.grant_to(late, HOUR);
        assert_eq!(world.served(), Some("S2"));
    }
    // Nor does one that was never asked for, or is answered twice.
    world.refuse_to(&renewal, DENIED, time::Duration::ZERO);
    assert_eq!(world.renewal.bootstrap().unwrap().access_key_id, "NEW");
    assert!(world.renewal.state().last_error.is_none());
}

#[test]
fn offers_beyond_the_trials_wait_and_only_the_newest_of_them() {
    let mut world = World::with(None, None);
    for n in 0..10 {
        world.offer(&format!("B{n}"));
    }
    assert_eq!(world.calls.len(), MAX_TRIALS);
    world.refuse("InvalidClientTokenId");
    assert_eq!(world.calls.last().map(signer), Some("B9"));
}

#[test]
fn a_grant_that_is_over_is_none() {
    for life in [0, -1, -86_400] {
        let mut world = World::with(None, None);
        world.offer("BOOT");
        let call = world.calls.remove(0);
        let grant = Grant {
            credentials: keys("S"),
            expires: world.now.wall + SECOND * life,
        };
        world.answer(&call, Ok(grant), time::Duration::ZERO);
        assert_eq!(world.served(), None);
        let error = world.renewal.state().last_error.clone().unwrap();
        assert_eq!(error.code, UNUSABLE);
        assert!(error.message.contains("expired at 2026-01-0"), "{error}");
    }
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) % n
    }
}

/// Offers, answers good, bad, late, twice and with lies about the time, sleep and clocks that are
/// set, in any order.
fn random_life(seed: u64, clock_is_set: bool) {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut world = World::with(None, None);
    let start = world.now.monotonic;
    let mut offers = 0;
    // Served last, its end by STS's clock.
    let mut last_end = None;
    for _ in 0..300 {
        match random.below(12) {
            0 => {
                offers += 1;
                world.offer(&format!("B{}", random.below(4)));
            }
            1..=3 if !world.calls.is_empty() => {
                let at = random.below(world.calls.len() as u64) as usize;
                let call = world.calls.remove(at);
                let life = [1, 2, 60, 900, HOUR][random.below(5) as usize];
                world.grant_to(&call, life);
            }
            4..=6 if !world.calls.is_empty() => {
                let at = random.below(world.calls.len() as u64) as usize;
                let call = world.calls.remove(at);
                let codes = [DENIED, BUSY, WRONG_CLOCK, "ExpiredToken", "ValidationError"];
                let lie =
                    SECOND * (random.below(200_000) as i32 - 100_000) * (random.below(2) as i32);
                let ahead = world.ahead + lie;
                world.refuse_to(&call, codes[random.below(5) as usize], ahead);
                if random.below(4) == 0 {
                    world.refuse_to(&call, DENIED, ahead);
                }
            }
            7 if clock_is_set => {
                let by = SECOND * (random.below(20_000) as i32 - 10_000);
                world.now.wall = world.now.wall + by;
                world.ahead -= by;
                world.step(Event::Wake);
            }
            8 if !clock_is_set => {
                // The monotonic clock of Linux stands still in a suspended machine. Set back as
                // well, its clocks would know nothing of the time that passed.
                let by = Duration::from_secs(random.below(1000));
                world.now.wall = world.now.wall + by;
                world.step(Event::Wake);
            }
            _ => {
                let pause = world.renewal.pause(world.now);
                world.sleep(pause);
                let actions = world.step(Event::Wake);
                let is_lazy = actions > 0 || pause >= Duration::from_millis(100);
                assert!(is_lazy, "seed {seed}: woken after {pause:?} for nothing");
            }
        }
        let state = world.renewal.state();
        assert!(
            world.calls.len() <= MAX_TRIALS + MAX_RENEWALS,
            "seed {seed}"
        );
        let can_sign = state.session.is_some()
            || world.renewal.bootstrap().is_some()
            || world.renewal.signers.offered().is_some();
        let goes_on = !world.calls.is_empty() || state.next_attempt.is_some();
        assert!(goes_on || !can_sign, "seed {seed}: it has given up");
        let sts_time = world.sts_time();
        match state.live(world.now) {
            Some(session) => {
                assert!(state.clock.at(world.now) < session.expires);
                // `Date` leaves a second open.
                assert!(
                    sts_time < session.expires + SECOND,
                    "seed {seed}: served too long"
                );
                last_end = Some(session.expires);
            }
            None if !clock_is_set => {
                let is_over = last_end.is_none_or(|end| sts_time >= end + SECOND * -3);
                assert!(is_over, "seed {seed}: withdrawn too early");
            }
            None => {}
        }
        world.said();
    }
    let seconds = (world.now.monotonic - start).as_secs();
    let most = 10 * (seconds + 1) + 4 * offers + 300;
    assert!(
        world.renewal.calls.last() <= most,
        "seed {seed}: too many calls"
    );
}

#[test]
fn no_life_serves_what_is_over_gives_up_or_never_rests() {
    for seed in 0..100 {
        random_life(seed, false);
        random_life(seed, true);
    }
}
