//! What goes wrong on purpose. The three keys of imds_mock.py are exactly its own: by the path as
//! it was asked, query cut, without folding slashes (docs/reference/imds_mock_py.md, "Order of
//! checks"). Faults are richer, and go by the folded path.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::config::{Config, Effect, FaultSpec};
use crate::http::{Method, Request};

/// Faults that may exist at once.
pub const MAX_FAULTS: usize = 1000;
/// Client addresses that one fault counts by themselves; later ones share a count.
const MAX_COUNTED_CLIENTS: usize = 4096;

/// The status to answer with, empty, whatever else is asked. A PUT is never forced; 0 is none.
pub fn forced_status(config: &Config, request: &Request) -> Option<u16> {
    let status = *config.force_status.get(request.raw_path)?;
    (request.method != Method::Put && status != 0).then_some(status)
}

/// What goes wrong with one request.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Injection {
    /// Before it is answered.
    pub wait: Duration,
    /// The one effect, beside waiting, that happens.
    pub effect: Option<Effect>,
    /// The fault that decided, for the journal.
    pub fault: Option<u64>,
}

/// Counts of one fault, for all clients together or for one.
#[derive(Clone, Copy)]
struct Count {
    requests: u64,
    step: usize,
    random: u64,
    /// Throttling: how many requests may come at once, as of `refilled`. At first as many as the
    /// rate has a second.
    allowance: f64,
    refilled: Instant,
}

struct Fault {
    id: u64,
    spec: FaultSpec,
    since: Instant,
    counts: HashMap<Option<IpAddr>, Count>,
    applied: u64,
}

/// All faults of the instance.
#[derive(Default)]
pub struct Faults {
    list: Mutex<List>,
    /// How many there are: without any, a request takes no lock.
    count: AtomicUsize,
    /// Times a fault happened, for the metrics.
    applied: AtomicU64,
}

#[derive(Default)]
struct List {
    faults: Vec<Fault>,
    issued: u64,
}

impl Faults {
    fn lock(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counted(&self, list: &List) {
        self.count.store(list.faults.len(), Ordering::Relaxed);
    }

    /// Adds a fault and returns it as it is shown; `None` when there are too many.
    pub fn add(&self, spec: FaultSpec) -> Option<Value> {
        let mut list = self.lock();
        list.drop_spent();
        if list.faults.len() >= MAX_FAULTS {
            return None;
        }
        list.issued += 1;
        let fault = Fault {
            id: list.issued,
            spec,
            since: Instant::now(),
            counts: HashMap::new(),
            applied: 0,
        };
        let shown = fault.to_json();
        list.faults.push(fault);
        self.counted(&list);
        Some(shown)
    }

    /// Every fault that is not spent, as it is shown.
    pub fn list(&self) -> Vec<Value> {
        let mut list = self.lock();
        list.drop_spent();
        self.counted(&list);
        list.faults.iter().map(Fault::to_json).collect()
    }

    /// Removes one fault. Whether there was one.
    pub fn remove(&self, id: u64) -> bool {
        let mut list = self.lock();
        list.drop_spent();
        let before = list.faults.len();
        list.faults.retain(|fault| fault.id != id);
        self.counted(&list);
        list.faults.len() < before
    }

    /// Removes all.
    pub fn clear(&self) {
        let mut list = self.lock();
        list.faults.clear();
        self.counted(&list);
    }

    /// Times a fault happened.
    pub fn applied(&self) -> u64 {
        self.applied.load(Ordering::Relaxed)
    }

    /// What happens to this request: the configured delay, and what faults do. Delays add up; of the
    /// other effects the first fault's wins, and later faults are not counted for it.
    pub fn inject(&self, config: &Config, request: &Request) -> Injection {
        let mut injection = Injection {
            wait: delay(config, request),
            ..Injection::default()
        };
        if self.count.load(Ordering::Relaxed) == 0 {
            return injection;
        }
        let now = Instant::now();
        let mut list = self.lock();
        list.drop_spent();
        for fault in &mut list.faults {
            if injection.effect.is_some() {
                break;
            }
            let Some(effect) = fault.judge(request, now) else {
                continue;
            };
            fault.applied += 1;
            injection.fault = Some(fault.id);
            match effect {
                Effect::Delay { delay, .. } => injection.wait += delay,
                other => injection.effect = Some(other),
            }
        }
        list.drop_spent();
        self.counted(&list);
        if injection.fault.is_some() {
            self.applied.fetch_add(1, Ordering::Relaxed);
        }
        injection
    }
}

/// How long to wait before answering. A PUT never waits; a path's own delay replaces the default.
fn delay(config: &Config, request: &Request) -> Duration {
    match request.method {
        Method::Put => Duration::ZERO,
        _ => *(config.endpoint_delay)
            .get(request.raw_path)
            .unwrap_or(&config.default_delay),
    }
}

impl List {
    fn drop_spent(&mut self) {
        let now = Instant::now();
        self.faults.retain(|fault| !fault.is_spent(now));
    }
}

impl Fault {
    fn to_json(&self) -> Value {
        let mut object = self.spec.given.clone();
        object.insert("id".into(), json!(self.id));
        object.insert("applied".into(), json!(self.applied));
        Value::Object(object)
    }

    /// Whether it will never happen again. What is counted for each client by itself may always
    /// happen to another one.
    fn is_spent(&self, now: Instant) -> bool {
        let over = |lasts: Duration| now.duration_since(self.since) >= lasts;
        if self.spec.lasts.is_some_and(over) {
            return true;
        }
        let used_up = |count: &Count| {
            let ended = |sequence: &crate::config::Sequence| {
                !sequence.repeat && count.step >= sequence.steps.len()
            };
            self.spec
                .requests
                .is_some_and(|requests| count.requests >= requests)
                || self.spec.sequence.as_ref().is_some_and(ended)
        };
        match self.spec.per_client {
            false => self.spec.requests == Some(0) || self.counts.values().any(used_up),
            // All that it was meant for have had it.
            true => {
                let clients = &self.spec.clients;
                let had = |client: &IpAddr| self.counts.get(&Some(*client)).is_some_and(used_up);
                self.spec.requests == Some(0) || !clients.is_empty() && clients.iter().all(had)
            }
        }
    }

    /// What this fault does to a request, with any delay's jitter already drawn.
    fn judge(&mut self, request: &Request, now: Instant) -> Option<Effect> {
        let spec = &self.spec;
        let client = request.caller.address;
        let meant = spec.clients.is_empty() || spec.clients.contains(&client);
        if !meant || !spec.path.matches(request.path) {
            return None;
        }
        let key = match spec.per_client {
            true if self.counts.len() < MAX_COUNTED_CLIENTS
                || self.counts.contains_key(&Some(client)) =>
            {
                Some(client)
            }
            _ => None,
        };
        let count = self.counts.entry(key).or_insert_with(|| Count {
            requests: 0,
            step: 0,
            random: spec.rate.map_or(0, |(_, seed)| seed),
            allowance: f64::INFINITY,
            refilled: now,
        });
        if spec
            .requests
            .is_some_and(|requests| count.requests >= requests)
        {
            return None;
        }
        if spec.rate.is_some_and(|(rate, _)| count.draw() >= rate) {
            return None;
        }
        let effect = match &spec.sequence {
            None => spec.effect,
            Some(sequence) => {
                let step = match sequence.repeat {
                    true => count.step % sequence.steps.len(),
                    false => count.step,
                };
                count.step += 1;
                match sequence.steps.get(step) {
                    Some(Some(effect)) => *effect,
                    _ => return None,
                }
            }
        };
        let effect = match effect {
            Effect::Throttle {
                requests_per_second,
            } => match count.takes_allowance(requests_per_second, now) {
                true => return None,
                false => Effect::Status(503),
            },
            Effect::Delay { delay, jitter } => Effect::Delay {
                delay: delay + jitter.mul_f64(count.draw()),
                jitter,
            },
            other => other,
        };
        count.requests += 1;
        Some(effect)
    }
}

impl Count {
    /// A number in 0..1, the next of a sequence that the seed alone decides (SplitMix64).
    fn draw(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Whether this request is within the rate: so many in the first second, then as time allows.
    fn takes_allowance(&mut self, per_second: f64, now: Instant) -> bool {
        let elapsed = now.duration_since(self.refilled).as_secs_f64();
        let full = if per_second > 0.0 {
            per_second.max(1.0)
        } else {
            0.0
        };
        self.allowance = (self.allowance + elapsed * per_second).min(full);
        self.refilled = now;
        let within = self.allowance >= 1.0;
        if within {
            self.allowance -= 1.0;
        }
        within
    }
}
