//! The 178 exchanges recorded from imds_mock.py, replayed: each gets the recorded status and body,
//! or is named below with what it gets instead and why (docs/architecture.md, D2 to D5).

use std::collections::BTreeMap;

use crate::common::{Answer, Mock, TOKEN, http};
use serde_json::{Map, Value};

/// The exchanges, in the order of the recording; docs/reference/imds_mock_py.md says how it was
/// made.
const TRANSCRIPT: &str = include_str!("../data/imds_mock_py-transcript.json");

/// What an exchange gets where that is not what was recorded.
#[derive(Clone, Copy, Debug)]
enum Instead {
    Empty(u16),
    Body(u16, &'static str),
    /// 200, and what is in the body is the promise of another test.
    Served,
    /// 404 with EC2's page.
    Page,
    /// It cannot be asked: the configuration of the recording is refused, at this key.
    Refused(&'static str),
}
use Instead::{Body, Empty, Page, Refused, Served};

/// Exchanges by their place in the recording, with the target for the reader's sake, what they get
/// instead, and why.
#[rustfmt::skip]
const DIFFERENCES: &[(&[usize], &str, Instead, &str)] = &[
    // Listings that EC2 has (D2, D4).
    (&[1, 171], "/latest/meta-data/", Served, "D4: lists what can be fetched, sorted"),
    (&[17], "/latest/meta-data/placement/", Body(200, "availability-zone\navailability-zone-id\nregion"), "D2: EC2's categories"),
    (&[21], "/latest/meta-data/public-keys/", Body(200, "0=key-0\n1=key-1"), "D2: cloud-init ignores keys listed as 0/"),
    (&[61], "/latest/meta-data/network/interfaces/macs/02:00:00:00:00:01/", Served, "D2: EC2's categories"),
    (&[73], "/latest/dynamic/", Body(200, "instance-identity/"), "D2: EC2 lists it"),
    (&[75], "/latest/dynamic/instance-identity/", Body(200, "document\npkcs7\nrsa2048\nsignature"), "D2: EC2 lists it"),
    (&[87], "/latest/meta-data/placement/region", Body(200, "antarctica-1"), "D2: EC2 has it"),
    (&[89], "/latest/meta-data/ami-id", Served, "D2: EC2 has it"),
    (&[93], "/latest/", Body(200, "dynamic\nmeta-data\nuser-data"), "D2: EC2 lists it"),
    (&[95], "/latest", Body(200, "dynamic\nmeta-data\nuser-data"), "D2: EC2 lists it"),
    (&[97], "/", Served, "D2: EC2 lists its versions"),
    (&[99], "/2021-03-23/meta-data/instance-id", Body(200, "i-1234567890"), "D2: EC2 serves dated versions"),
    (&[27], "/latest/meta-data/public-keys/0/openssh-key", Body(200, "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQDkey1\n"), "D2: ends with a line's end"),
    (&[31], "/latest/meta-data/public-keys/1/openssh-key", Body(200, "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIkey2\n"), "D2: ends with a line's end"),
    // Slashes and escapes (D2, D3).
    (&[109], "/latest/meta-data/instance%2Did", Body(200, "i-1234567890"), "D2: escapes are decoded"),
    (&[53], "/latest/meta-data/public-keys", Body(200, "0=key-0\n1=key-1"), "D3: a directory without its slash"),
    (&[81], "/latest/meta-data", Served, "D3: a directory without its slash"),
    (&[85], "/latest/meta-data/placement", Body(200, "availability-zone\navailability-zone-id\nregion"), "D3: a directory without its slash"),
    (&[79], "/latest/user-data/", Served, "D3: a leaf with a slash"),
    (&[83], "/latest/meta-data/instance-id/", Body(200, "i-1234567890"), "D3: a leaf with a slash"),
    (&[113], "/latest//meta-data/instance-id", Body(200, "i-1234567890"), "D3: runs of slashes are folded"),
    // Accidents of the program's own routing (D2).
    (&[37], "/latest/meta-data/public-keys/-1/openssh-key", Page, "D2: a negative index counted from the end by accident"),
    (&[45], "/latest/meta-data/public-keys/0/other", Page, "D2: anything behind an index was openssh-key by accident"),
    (&[47], "/latest/meta-data/public-keys/0/other/openssh-key", Page, "D2: anything behind an index was skipped by accident"),
    // The token is asked for on every path (D2; docs/reference/metadata.md, "With and without a
    // token").
    (&[96], "/latest", Empty(401), "D2: 401 before 404, everywhere"),
    (&[98], "/", Empty(401), "D2: 401 before 404, everywhere"),
    (&[100], "/2021-03-23/meta-data/instance-id", Empty(401), "D2: 401 before 404, everywhere"),
    (&[156], "/nowhere", Empty(401), "D2: 401 before 404, everywhere"),
    // The token path knows its methods before it asks for a token (D3).
    (&[101, 102], "/latest/api/token", Empty(405), "D3: the token path by method"),
    // Lifetimes (D2; docs/reference/metadata.md, "Token").
    (&[120], "/latest/api/token", Empty(400), "D2: a negative TTL"),
    (&[122, 124], "/latest/api/token", Empty(400), "D2: a TTL above 21600"),
    (&[123], "/latest/meta-data/instance-id", Empty(401), "D2: its token was not granted"),
    (&[129], "/latest/api/token", Empty(400), "D2: a TTL is decimal digits, not Python's int()"),
    (&[130], "/latest/meta-data/instance-id", Empty(401), "D2: its token was not granted"),
    (&[131], "/latest/api/token", Empty(400), "D2: a TTL is decimal digits, not Python's int()"),
    (&[133], "/latest/api/token/", Served, "D2: the token path may have a slash"),
    (&[134], "/latest/api/token?x=1", Served, "D2: query strings are ignored (imds.md, section 1)"),
    (&[135], "/2021-03-23/api/token", Empty(401), "D2: a dated path issues no tokens"),
    (&[136], "/latest/meta-data/instance-id", Empty(401), "D3: the token before the method"),
    (&[137], "/latest/api/token", Empty(403), "D2: X-Forwarded-For is rejected"),
    // Methods (D3).
    (&[145], "/latest/meta-data/instance-id", Body(200, ""), "D2: EC2 serves HEAD"),
    (&[146, 147, 149], "/latest/meta-data/instance-id", Empty(403), "D2: EC2 answers 403"),
    (&[148], "/latest/meta-data/instance-id", Empty(200), "D2: EC2 answers OPTIONS"),
    // Values (D2, D4).
    (&[69, 175], "/latest/dynamic/instance-identity/document", Served, "D2: EC2's 15 keys and layout"),
    (&[172], "/latest/user-data", Page, "D4: empty means not configured"),
    (&[173], "/latest/meta-data/instance-id", Body(200, "i-0123456789abcdef0"), "D4: what every instance has gets a default"),
    (&[174], "/latest/meta-data/network/interfaces/macs/", Served, "D4: what every instance has gets a default"),
    (&[177], "/latest/meta-data/hostname", Served, "D4: null means not configured, which gets a default"),
    // Wrong types (D5).
    (&[167], "/latest/meta-data/placement/", Refused("force_status"), "D5: a text where a status belongs"),
    (&[176], "/latest/meta-data/instance-id", Refused("instance_id"), "D5: a number where a text belongs"),
];

/// The value of wrong type in the configuration of these exchanges is taken out for the replay of
/// their neighbours, which do not look at it.
fn without_wrong_types(overrides: &Value) -> Value {
    let mut overrides = overrides.clone();
    if overrides["instance_id"].is_number() {
        overrides["instance_id"] = "i-1234567890".into();
    }
    if let Some(forced) = overrides["force_status"].as_object_mut() {
        forced.retain(|_, status| status.is_number());
    }
    overrides
}

fn configuration(base: &Map<String, Value>, overrides: &Value) -> Value {
    let mut config = base.clone();
    for (key, value) in overrides.as_object().expect("an object") {
        match value.as_str() {
            Some("<absent>") => drop(config.remove(key)),
            _ => drop(config.insert(key.clone(), value.clone())),
        }
    }
    Value::Object(config)
}

/// A recorded token is matched by any token, which later requests then present.
fn is_token(recorded: &str) -> bool {
    recorded.starts_with("<TOKEN")
}

fn replay(mock: &Mock, exchange: &Value, tokens: &mut BTreeMap<String, String>) -> Answer {
    let request = &exchange["request"];
    let fields = request["headers"].as_object().expect("an object");
    let fields: Vec<(&str, &str)> = fields
        .iter()
        .map(|(name, value)| {
            let value = value.as_str().expect("a text");
            let known = tokens.get(value).map(String::as_str);
            // A token that was not granted is presented as some other.
            (name.as_str(), known.unwrap_or(value))
        })
        .collect();
    let text = |key: &str| request[key].as_str().expect("a text");
    let mut connection = mock.connect();
    let head = http::request(text("method"), text("path"), &fields);
    connection.send(match exchange["note"].as_str() {
        Some("HTTP/1.0, no Host header") => head
            .replace("HTTP/1.1", "HTTP/1.0")
            .replace("Host: 169.254.169.254\r\n", ""),
        Some("HTTP/1.1 without a Host header is accepted") => {
            head.replace("Host: 169.254.169.254\r\n", "")
        }
        _ => head,
    });
    let answer = connection.answer_to(text("method"));
    let recorded = exchange["response"]["body"].as_str().expect("a text");
    if answer.status == 200 && is_token(recorded) {
        tokens.insert(recorded.to_owned(), answer.text().to_owned());
    }
    answer
}

/// Whether the answer is what was recorded.
fn matches(answer: &Answer, exchange: &Value) -> bool {
    let recorded = &exchange["response"];
    let body = recorded["body"].as_str().expect("a text");
    let same_body = match is_token(body) {
        true => answer.status == 200 && answer.body.len() == 56,
        false => answer.body == body.as_bytes(),
    };
    recorded["status"] == answer.status && same_body
}

fn is_page(answer: &Answer) -> bool {
    answer.status == 404 && answer.body.len() == 339
}

fn is_instead(answer: &Answer, instead: Instead) -> bool {
    match instead {
        Empty(status) => answer.status == status && answer.body.is_empty(),
        Body(status, body) => answer.status == status && answer.body == body.as_bytes(),
        Served => answer.status == 200 && !answer.body.is_empty(),
        Page => is_page(answer),
        Refused(_) => false,
    }
}

#[test]
fn each_recorded_exchange_is_kept_or_its_difference_is_named() {
    let base: Map<String, Value> =
        serde_json::from_str(crate::common::IMDS_MOCK_PY_CONFIG).expect("JSON");
    let exchanges: Vec<Value> = serde_json::from_str(TRANSCRIPT).expect("JSON");
    assert_eq!(exchanges.len(), 178);
    let difference = |index: usize| {
        let mut rows = DIFFERENCES.iter();
        rows.find(|(indexes, ..)| indexes.contains(&index))
    };
    // One server for each configuration of the recording, in its order; all at once, since some
    // answers are delayed.
    let groups = exchanges.chunk_by(|a, b| a["config_override"] == b["config_override"]);
    let mut start = 0;
    let mut wrong = Vec::new();
    let mut pages = 0;
    std::thread::scope(|scope| {
        let replayed: Vec<_> = groups
            .map(|group| {
                let first = start;
                start += group.len();
                let overrides = without_wrong_types(&group[0]["config_override"]);
                let config = configuration(&base, &overrides);
                let answers = scope.spawn(move || {
                    let mock = Mock::start(&config);
                    let mut tokens = BTreeMap::from([("<TOKEN>".into(), mock.token().into())]);
                    let answers = group.iter().map(|e| replay(&mock, e, &mut tokens));
                    answers.collect::<Vec<_>>()
                });
                (first, group, answers)
            })
            .collect();
        for (first, group, answers) in replayed {
            let answers = answers.join().expect("the replay ends");
            for ((index, exchange), answer) in (first..).zip(group).zip(answers) {
                let as_recorded = matches(&answer, exchange);
                let not_found = exchange["response"]["status"] == 404;
                let fine = match difference(index) {
                    Some((_, target, instead, _)) => {
                        assert_eq!(exchange["request"]["path"], *target, "row of {index}");
                        match instead {
                            Refused(key) => is_refused(&base, exchange, key),
                            instead => !as_recorded && is_instead(&answer, *instead),
                        }
                    }
                    // D2: the one difference that is the same everywhere, the page of a 404.
                    None if not_found && is_page(&answer) => {
                        pages += 1;
                        true
                    }
                    None => as_recorded,
                };
                if !fine {
                    let got = (answer.status, String::from_utf8_lossy(&answer.body));
                    let (request, response) = (&exchange["request"], &exchange["response"]);
                    wrong.push(format!("{index}: {request}\n  {response}\n  got {got:?}"));
                }
            }
        }
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(pages > 10, "{pages} of the recorded 404");
}

/// Whether the configuration as it was recorded is refused, at `key`.
fn is_refused(base: &Map<String, Value>, exchange: &Value, key: &str) -> bool {
    let config = configuration(base, &exchange["config_override"]);
    let file = crate::common::TempFile::new(config.to_string());
    let path = file.path().to_str().expect("UTF-8");
    let (status, _, stderr) = crate::common::run(&["--check", "--config", path]);
    status == 78 && stderr.contains(key)
}

#[test]
fn each_difference_has_one_row_and_a_reason() {
    let mut seen = std::collections::BTreeSet::new();
    for (indexes, target, _, why) in DIFFERENCES {
        assert!(
            why.starts_with('D') && why.contains(": "),
            "{target}: {why}"
        );
        for index in *indexes {
            assert!(seen.insert(index), "{index} stands in two rows");
        }
    }
}

#[test]
fn the_token_field_of_the_recording_is_ours() {
    // Guards the replay itself: with another name every answer would be a 401.
    assert!(TRANSCRIPT.contains(&format!("\"{TOKEN}\": \"<TOKEN>\"")));
}
