//! The rules, case by case, and the bounds.

use std::time::Duration;

use super::super::outcome::Outcome;
use super::*;
use std::net::Ipv4Addr;

use crate::date::Date;
use crate::instance::Meaning;

const MAC: &str = "/latest/meta-data/mac";
const ACTION: &str = "/latest/meta-data/spot/instance-action";
const TERMINATION: &str = "/2021-03-23/meta-data/spot/termination-time/";

fn address(n: usize) -> IpAddr {
    Ipv4Addr::from_bits(0x0a00_0000 + n as u32).into()
}

/// A read of `path` with the token `t`, answered with `status`.
fn read(path: &str, status: u16) -> Seen<'_> {
    Seen {
        client: address(1),
        at: Duration::ZERO,
        instance_ms: 0,
        path,
        token: Some("t"),
        outcome: Outcome {
            status,
            protocol: Protocol::V2,
            asked: Asked::Read,
            is_forced: false,
            token_age_s: None,
            fault: None,
            meaning: Meaning::Nothing,
        },
    }
}

fn without_token(status: u16) -> Seen<'static> {
    let mut seen = read(MAC, status);
    seen.outcome.protocol = Protocol::V1;
    Seen {
        token: None,
        ..seen
    }
}

fn put(status: u16) -> Seen<'static> {
    let mut seen = without_token(status);
    (seen.outcome.protocol, seen.outcome.asked) = (Protocol::Token, Asked::Token);
    seen
}

fn forced(mut seen: Seen) -> Seen {
    seen.outcome.is_forced = true;
    seen
}

/// Reads `path` and learns of an interruption at 1000 ms.
fn warned(path: &str) -> Seen<'_> {
    let mut seen = read(path, 200);
    seen.outcome.meaning = Meaning::Interruption(Date::from_unix_ms(1000));
    seen
}

fn at_instance_ms(instance_ms: i64, seen: Seen) -> Seen {
    Seen {
        instance_ms,
        ..seen
    }
}

fn judge<'a>(all: impl IntoIterator<Item = Seen<'a>>) -> Vec<(Verdict, u64)> {
    let mut verdicts = Verdicts::default();
    // A minute apart: nobody polls.
    for (n, seen) in all.into_iter().enumerate() {
        let at = Duration::from_secs(60 * n as u64);
        verdicts.note(&Seen { at, ..seen });
    }
    let found = verdicts.findings().into_iter();
    found
        .map(|((_, verdict), count)| (verdict, count))
        .collect()
}

#[test]
fn who_has_no_token_is_answered_or_refused() {
    assert_eq!(
        judge([200, 404, 405, 401, 403].map(without_token)),
        [(Verdict::V1, 3), (Verdict::NoToken, 1)]
    );
    assert_eq!(
        judge([200, 401, 503].map(|status| forced(without_token(status)))),
        []
    );
    assert_eq!(
        judge([put(200), put(400), read(MAC, 200), read(MAC, 404)]),
        []
    );
}

#[test]
fn as_many_tokens_as_reads_are_too_many_from_five_on() {
    let pairs = |tokens: usize, reads: usize| {
        let puts = std::iter::repeat_n(put(200), tokens);
        judge(puts.chain(std::iter::repeat_n(read(MAC, 200), reads)))
    };
    assert_eq!(pairs(4, 4), []);
    assert_eq!(pairs(5, 6), []);
    assert_eq!(pairs(5, 5), [(Verdict::TokenPerRequest, 5)]);
    assert_eq!(pairs(9, 2), [(Verdict::TokenPerRequest, 9)]);
    assert_eq!(judge(std::iter::repeat_n(put(503), 9)), []);
    // What a client must do when its tokens are refused.
    let tokens = ["a", "b", "c", "d", "e", "f", "g"].map(Some);
    let renewed = tokens.map(|token| {
        [
            put(200),
            Seen {
                token,
                ..read(MAC, 401)
            },
        ]
    });
    assert_eq!(judge(renewed.into_iter().flatten()), []);
}

#[test]
fn the_third_use_of_a_refused_token_is_one_too_many() {
    let ignored = |count| vec![(Verdict::Ignored401, count)];
    let dead = read(MAC, 401);
    let other = Seen {
        token: Some("u"),
        ..dead
    };
    assert_eq!(judge([dead, dead]), []);
    assert_eq!(judge([dead, other, dead, other]), []);
    assert_eq!(judge([dead, other, dead, dead]), ignored(1));
    assert_eq!(judge([dead, forced(dead), dead, dead]), ignored(2));
    // It was not dead; a fault does not show that.
    assert_eq!(judge([dead, dead, read(MAC, 200), dead]), []);
    assert_eq!(
        judge([dead, dead, forced(read(MAC, 503)), dead]),
        ignored(1)
    );
}

#[test]
fn who_has_read_of_an_interruption_may_read_on_until_then() {
    let spot = "/latest/meta-data/spot/";
    for (warning, read_next, at, verdicts) in [
        (ACTION, MAC, 1000, &[][..]),
        (ACTION, MAC, 1001, &[(Verdict::IgnoredSpot, 1)]),
        (TERMINATION, MAC, 1001, &[(Verdict::IgnoredSpot, 1)]),
        (ACTION, ACTION, 1001, &[]),
        (ACTION, spot, 1001, &[]),
    ] {
        let found = judge([warned(warning), at_instance_ms(at, read(read_next, 200))]);
        assert_eq!(found, verdicts, "{warning} {read_next} {at}");
    }
    let late = at_instance_ms(5000, read(MAC, 200));
    // It has not read it, or has read that it is over.
    assert_eq!(judge([read(ACTION, 200), read(ACTION, 404), late]), []);
    assert_eq!(judge([warned(ACTION), read(ACTION, 404), late]), []);
    assert_eq!(
        judge([warned(ACTION), read(TERMINATION, 404), late]).len(),
        1
    );
    assert_eq!(judge([warned(ACTION), read(ACTION, 503), late]).len(), 1);
}

#[test]
fn eleven_reads_of_one_path_in_ten_seconds_are_too_many() {
    let polled = |reads: usize, pause_ms: u64, paths: &[&str], asked| {
        let mut verdicts = Verdicts::default();
        for n in 0..reads {
            let seen = read(paths[n % paths.len()], 200);
            let at = Duration::from_millis(n as u64 * pause_ms);
            let outcome = Outcome {
                asked,
                ..seen.outcome
            };
            verdicts.note(&Seen {
                at,
                outcome,
                ..seen
            });
        }
        let found = verdicts.findings();
        assert!(
            found
                .keys()
                .all(|(_, verdict)| *verdict == Verdict::FastPoll)
        );
        found.into_values().sum::<u64>()
    };
    assert_eq!(polled(10, 0, &[MAC], Asked::Read), 0);
    assert_eq!(polled(11, 0, &[MAC], Asked::Read), 1);
    assert_eq!(polled(15, 989, &[MAC], Asked::Read), 5);
    assert_eq!(polled(100, 990, &[MAC], Asked::Read), 0);
    assert_eq!(
        polled(11, 0, &[MAC, "/latest/meta-data/mac/"], Asked::Read),
        1
    );
    assert_eq!(polled(20, 0, &[MAC, ACTION], Asked::Read), 0);
    assert_eq!(polled(50, 0, &[MAC], Asked::Other), 0);
}

#[test]
fn starting_anew_forgets_the_deeds_but_not_that_there_were_any() {
    let mut verdicts = Verdicts::default();
    let found = (address(1), Verdict::V1);
    verdicts.note(&without_token(200));
    verdicts.note(&warned(ACTION));
    verdicts.clear();
    assert_eq!(verdicts.findings(), Findings::new());
    assert_eq!(verdicts.all_findings(), Findings::from([(found, 1)]));
    verdicts.note(&at_instance_ms(5000, read(MAC, 200)));
    assert_eq!(verdicts.findings(), Findings::new());
    verdicts.note(&without_token(200));
    assert_eq!(verdicts.findings(), Findings::from([(found, 1)]));
    assert_eq!(verdicts.all_findings(), Findings::from([(found, 2)]));
}

#[test]
fn many_clients_take_bounded_room_and_verdicts_last() {
    let mut verdicts = Verdicts::default();
    let from = |n: usize, seen| Seen {
        client: address(n),
        at: Duration::from_millis(n as u64),
        ..seen
    };
    verdicts.note(&from(0, without_token(401)));
    (1..10_000).for_each(|n| verdicts.note(&from(n, read(MAC, 200))));
    assert!(verdicts.clients.len() <= MAX_CLIENTS);
    let earned = (address(0), Verdict::NoToken);
    assert_eq!(verdicts.findings(), Findings::from([(earned, 1)]));
    // Now everyone deserves something, and the longest silent goes first.
    (10_000..20_000).for_each(|n| verdicts.note(&from(n, without_token(200))));
    verdicts.note(&from(20_000, read(MAC, 200)));
    assert!(verdicts.clients.len() <= MAX_CLIENTS);
    assert!(!verdicts.findings().contains_key(&earned));
    assert!(verdicts.all_findings().contains_key(&earned));
    assert_eq!(verdicts.past.len(), MAX_PAST);
    assert!(verdicts.all_findings().len() <= MAX_PAST + MAX_CLIENTS);
}

#[test]
fn many_paths_take_bounded_room() {
    let mut verdicts = Verdicts::default();
    for n in 0..3 * MAX_POLLS {
        let path = format!("/{n}");
        verdicts.note(&read(&path, 404));
        assert!(verdicts.polls.len() <= MAX_POLLS);
    }
}

#[test]
fn keys_that_are_read_without_a_token_are_a_verdict_of_their_own() {
    let of_keys = |protocol, status| {
        let mut seen = without_token(status);
        (seen.outcome.protocol, seen.outcome.meaning) = (protocol, Meaning::Keys);
        seen
    };
    let found = judge([of_keys(Protocol::V1, 200), without_token(200)]);
    assert_eq!(found, [(Verdict::V1, 2), (Verdict::V1Credentials, 1)]);
    assert_eq!(judge([of_keys(Protocol::V2, 200)]), []);
    assert_eq!(judge([forced(of_keys(Protocol::V1, 200))]), []);
}

#[test]
fn refused_reads_do_not_excuse_a_token_for_every_read() {
    let refused = (0..20).map(|_| without_token(401));
    let wasteful = (0..5).flat_map(|_| [put(200), read(MAC, 200)]);
    let found = judge(refused.chain(wasteful));
    assert!(found.contains(&(Verdict::TokenPerRequest, 5)), "{found:?}");
}

#[test]
fn what_is_asked_of_other_clouds_earns_nothing() {
    for path in [
        "/computeMetadata/v1/",
        "/metadata/instance",
        "/opc/v2/instance/",
        "/openstack",
        "/2021-03-24/meta-data/",
    ] {
        for status in [401, 404] {
            let seen = Seen {
                path,
                ..without_token(status)
            };
            assert_eq!(judge([seen]), [], "{path} {status}");
        }
    }
    for path in ["/", "/latest", "/1.0/meta-data/x", "/latest/no/such"] {
        let seen = Seen {
            path,
            ..without_token(401)
        };
        assert_eq!(judge([seen]), [(Verdict::NoToken, 1)], "{path}");
    }
}
