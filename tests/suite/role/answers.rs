//! What STS may answer, and what of it may be seen.

use super::*;

#[test]
fn a_call_ends_within_its_limit_however_slow_the_answer() {
    let sts = FakeSts::start(SECOND * 60);
    sts.script([Fault::Hang, Fault::Drip]);
    let started = start_with(&sts, &sts.user_key("BOOT"));
    let line = started.lines.wait_for("failing: ");
    assert!(line.contains("no whole answer within 1s"), "{line}");
    started.lines.wait_for("assumed: ");
    let calls = sts.calls();
    assert_eq!(calls.len(), 3);
    for pair in calls.windows(2) {
        let between = pair[1].at - pair[0].at;
        assert!(between < SECOND * 6, "{between:?}");
    }
}

#[test]
fn access_denied_is_the_unauthorized_failure_and_is_retried_slowly() {
    let sts = FakeSts::start(SECOND * 60);
    sts.script([Fault::error(403, "AccessDenied")]);
    let started = start_with(&sts, &sts.user_key("BOOT"));
    started
        .lines
        .wait_for("failing: AccessDenied: HTTP 403, as the test wanted");
    let (code, message) = started.now().unwrap_err();
    assert_eq!(code, FailureCode::AssumeRoleUnauthorizedAccess);
    assert_eq!(
        message,
        "EC2 cannot assume the role app.  Please see documentation at \
         http://docs.amazonwebservices.com/IAM/latest/UserGuide/RolesTroubleshooting.html. \
         AssumeRole failed: AccessDenied: HTTP 403, as the test wanted"
    );
    assert_eq!(started.role.phase(), Phase::Failed);
    let status = started.verbose();
    let date = |text: Option<String>| {
        time::OffsetDateTime::parse(
            &text.unwrap(),
            &time::format_description::well_known::Rfc3339,
        )
        .unwrap()
    };
    let wait = date(status.next_attempt) - date(status.last_attempt);
    assert!((59..=61).contains(&wait.whole_seconds()), "{wait}");
    // But what is offered anew is tried at once.
    started.offer(&sts.user_key("OTHER"));
    started.lines.wait_for("assumed: ");
}

#[test]
fn no_hostile_answer_gives_credentials_or_ends_the_renewing() {
    let elsewhere = FakeSts::start(SECOND * 60);
    let redirect = format!("Location: {}/\r\n", elsewhere.url());
    let credentials = "<AccessKeyId>ASIAX</AccessKeyId><SecretAccessKey>s</SecretAccessKey>\
        <SessionToken>t</SessionToken><Expiration>2001-01-01T00:00:00Z</Expiration>";
    let answer = |inner: &str| {
        format!(
            "<AssumeRoleResponse><AssumeRoleResult><Credentials>{inner}</Credentials>\
             </AssumeRoleResult></AssumeRoleResponse>"
        )
    };
    let plain = |status, body: String| Fault::Answer(status, String::new(), body);
    let huge = format!("<a>{}</a>", "x".repeat(2 * 1024 * 1024));
    side_by_side(
        [
            (Fault::Close, "NoAnswer", "127.0.0.1"),
            (
                plain(200, "<html>hello</html>".into()),
                "UnusableAnswer",
                "neither",
            ),
            (plain(200, "no xml".into()), "UnusableAnswer", "not XML"),
            (plain(200, String::new()), "UnusableAnswer", "not XML"),
            (
                plain(200, answer(&credentials[..60])),
                "UnusableAnswer",
                "not XML",
            ),
            (
                plain(200, answer(&credentials.replace("t</S", "</S"))),
                "UnusableAnswer",
                "SessionToken",
            ),
            (
                plain(200, answer(credentials)),
                "UnusableAnswer",
                "expired at 2001",
            ),
            (
                plain(200, huge),
                "UnusableAnswer",
                "more than 1048576 bytes",
            ),
            (
                plain(502, "<html>bad gateway</html>".into()),
                "UnusableAnswer",
                "HTTP 502",
            ),
            (
                Fault::Answer(307, redirect.clone(), String::new()),
                "UnusableAnswer",
                "redirect",
            ),
            (
                Fault::Answer(302, redirect.clone(), answer(credentials)),
                "UnusableAnswer",
                "redirect",
            ),
            (
                Fault::Answer(200, "Content-Length: 5\r\n".into(), answer(credentials)),
                "NoAnswer",
                "",
            ),
            (
                Fault::Answer(
                    200,
                    "X: ".to_owned() + &"y".repeat(100_000) + "\r\n",
                    answer(credentials),
                ),
                "NoAnswer",
                "",
            ),
            (
                Fault::error(500, "InternalFailure"),
                "InternalFailure",
                "HTTP 500",
            ),
            (Fault::error(400, "Throttling"), "Throttling", "HTTP 400"),
        ],
        |(fault, code, part)| {
            let sts = FakeSts::start(SECOND * 60);
            sts.script([fault]);
            let started = start_with(&sts, &sts.user_key("BOOT"));
            let line = started.lines.wait_for("failing: ");
            assert!(line.contains(code) && line.contains(part), "{line}");
            let line = started.lines.wait_for("assumed: ");
            assert!(line.contains("ASIASESSION0"), "{line}");
            assert_eq!(sts.calls().len(), 2);
        },
    );
    assert_eq!(elsewhere.calls().len(), 0, "a redirect was followed");
}

#[test]
fn an_expiration_is_served_in_utc_or_the_answer_is_of_no_use() {
    let answer = |expiration: &str| {
        let body = format!(
            "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIAX</AccessKeyId>\
             <SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>\
             <Expiration>{expiration}</Expiration></Credentials></AssumeRoleResult>\
             </AssumeRoleResponse>"
        );
        Fault::Answer(200, String::new(), body)
    };
    side_by_side(
        [
            ("2099-01-02T05:04:05+02:00", Ok("2099-01-02T03:04:05Z")),
            ("2099-01-02T05:04:05-23:59", Ok("2099-01-03T05:03:05Z")),
            ("9999-12-31T23:59:59Z", Ok("9999-12-31T23:59:59Z")),
            (
                "9999-12-31T23:59:59-23:59",
                Err("without a usable Expiration"),
            ),
            (
                "0000-01-01T00:00:00+00:01",
                Err("without a usable Expiration"),
            ),
            (
                "0000-01-01T00:00:00Z",
                Err("expired at 0000-01-01T00:00:00Z"),
            ),
        ],
        |(expiration, expected)| {
            let sts = FakeSts::start(SECOND * 60);
            sts.script([answer(expiration)]);
            let started = start_with(&sts, &sts.user_key("BOOT"));
            match expected {
                Ok(shown) => {
                    started.lines.wait_for(&format!(
                        "assumed: role app, session i-1234567890abcdef0, key ASIAX, expires {shown}"
                    ));
                    let Current::Valid(session) =
                        started.role.current(Date::now(), RoleDelivery::V2)
                    else {
                        panic!("nothing is served")
                    };
                    assert_eq!(session.expires().to_string(), shown);
                    assert_eq!(started.verbose().expiration.as_deref(), Some(shown));
                }
                Err(part) => {
                    let line = started.lines.wait_for("failing: UnusableAnswer: ");
                    assert!(line.contains(part), "{line}");
                    started.lines.wait_for("assumed: ");
                }
            }
        },
    );
}

#[test]
fn a_wish_to_wait_never_pushes_the_next_try_past_the_expiry() {
    let sts = FakeSts::start(SECOND * 3);
    let busy = |headers: &str| Fault::Answer(503, headers.to_owned(), "busy".to_owned());
    let started = start_with(&sts, &sts.user_key("BOOT"));
    started.lines.wait_for("assumed: ");
    let reader = Reader::start(&started.role);
    sts.script([
        busy("Retry-After: 3600\r\n"),
        busy("x-amz-retry-after: 600000\r\n"),
    ]);
    started.lines.wait_for("recovered: ");
    assert_eq!(reader.finish().0, 0);
}

#[test]
fn a_wish_to_wait_is_honoured_when_there_is_nothing_to_lose() {
    let sts = FakeSts::start(SECOND * 60);
    sts.script([Fault::Answer(
        429,
        "x-amz-retry-after: 3000\r\n".into(),
        String::new(),
    )]);
    let started = start_with(&sts, &sts.user_key("BOOT"));
    started.lines.wait_for("assumed: ");
    let calls = sts.calls();
    let between = calls[1].at - calls[0].at;
    assert!(between >= SECOND * 3 && between < SECOND * 6, "{between:?}");
}

#[test]
fn no_output_ever_has_a_part_of_a_secret() {
    let directory = Directory::new("secrets");
    // Long enough to arrive before their end, also on a busy machine: an answer that comes too late is
    // asked for again after a while.
    let sts = FakeSts::start(SECOND * 4);
    let (user, temporary) = (sts.user_key("BOOT"), sts.temporary_key("TEMP"));
    let started = start_for(&sts, ForV1::Separate, |options| {
        options.bootstrap = Some(Credentials::parse(user.json().as_bytes()).unwrap());
        options.state_file = Some(directory.file());
    });
    let mut shown = Vec::new();
    started.lines.wait_for("assumed: ");
    started.lines.wait_for("v1: assumed: ");
    sts.always(Fault::Echo);
    let both_are = |what: &str| {
        let lines = started.lines.all();
        let has = |line: &str| lines.iter().any(|l| l.starts_with(line));
        has(what) && has(&format!("v1: {what}"))
    };
    wait_until(|| both_are("failing: "));
    shown.push(format!("{:?}", started.verbose()));
    sts.always(Fault::None);
    started.offer(&temporary);
    wait_until(|| both_are("recovered: "));
    sts.always(Fault::Echo);
    wait_until(|| !started.is_good());
    wait_until(|| started.now_by(RoleDelivery::V1).is_err());
    shown.push(serde_json::to_string(&started.verbose()).unwrap());
    shown.push(started.now().unwrap_err().1);
    shown.extend(started.lines.all());
    assert!(
        shown.iter().any(|text| text.contains("[hidden]")),
        "{shown:#?}"
    );
    let mut keys = sts.issued();
    keys.extend([user, temporary]);
    for key in keys {
        for secret in [Some(key.secret), key.token].into_iter().flatten() {
            for part in secret.as_bytes().windows(8) {
                let part = std::str::from_utf8(part).unwrap();
                let leak = shown.iter().find(|text| text.contains(part));
                assert_eq!(leak, None, "{part} of {secret}");
            }
        }
    }
}
