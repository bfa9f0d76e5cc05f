//! Values changed under the running daemon, through its administrative service: shown, set and
//! removed, each change whole and visible to the next request.

use crate::common::Mock;
use crate::common::admin::{SECRET, rich};
use crate::common::crawler::crawl;
use crate::common::http::{Connection, request, send};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};

#[test]
fn every_value_and_listing_is_shown_as_it_is_served() {
    let live = Mock::live(rich());
    let all = crawl(&live, "/latest/");
    assert!(all.len() > 60, "{}", all.len());
    let mut shown = 0;
    for (path, bytes) in &all {
        let below = path.strip_prefix("/latest/").expect("asked for");
        let admin = match below.split_once('/') {
            Some(("meta-data", rest)) => format!("/metadata/{rest}"),
            Some(("dynamic", rest)) => format!("/dynamic/{rest}"),
            None if below == "user-data" => "/user-data".to_owned(),
            _ => continue,
        };
        if path.contains("/identity-credentials") || path.ends_with("/demo") {
            continue;
        }
        let answer = live.call("GET", &admin, "");
        assert_eq!(answer.status, 200, "{admin}");
        assert_eq!(&answer.body, bytes, "{admin}");
        let kind = match below {
            "user-data" => "application/octet-stream",
            _ => "text/plain",
        };
        assert_eq!(answer.field("Content-Type"), Some(kind), "{admin}");
        shown += 1;
    }
    assert!(shown > 50, "{shown}");
    assert_eq!(live.call("GET", "/metadata/nowhere", "").status, 404);
    assert_eq!(live.call("GET", "/dynamic/nowhere", "").status, 404);
    assert_eq!(live.call("GET", "/user-data/x", "").status, 404);
    let head = live.call("HEAD", "/metadata/instance-id", "");
    assert_eq!(
        (head.status, head.field("Content-Length")),
        (200, Some("19"))
    );
}

#[test]
fn credentials_are_neither_shown_nor_set_nor_removed() {
    let live = Mock::live(rich());
    let served = live.meta_data("iam/security-credentials/demo");
    assert!(served.1.contains(SECRET), "or nothing is tested");
    for path in [
        "iam/security-credentials/demo",
        "iam/security-credentials/demo/",
        "iam//security-credentials//demo",
        "/iam/security-credentials/demo",
        "iam/security-credentials-extended/demo",
        "identity-credentials",
        "identity-credentials/",
        "identity-credentials/ec2",
        "identity-credentials/ec2/info",
        "identity-credentials/ec2/security-credentials",
        "identity-credentials/ec2/security-credentials/ec2-instance",
    ] {
        for method in ["GET", "HEAD", "PUT", "DELETE"] {
            let answer = live.call(method, &format!("/metadata/{path}"), "x");
            assert_eq!(answer.status, 403, "{method} {path}");
            assert!(!answer.text().contains(SECRET), "{method} {path}");
        }
        // In a body, unlike in a path, slashes are not folded.
        let status = if path.contains("//") { 400 } else { 403 };
        let body = json!({"instance-id": "i-x", path: "x"}).to_string();
        let answer = live.call("PATCH", "/metadata", body);
        assert_eq!(answer.status, status, "PATCH {path}");
    }
    for path in [
        "iam/security%2dcredentials/demo",
        "iam%2fsecurity-credentials/demo",
        "IAM/security-credentials/demo",
        "iam/info/../security-credentials/demo",
        "iam/security-credentials;x/demo",
    ] {
        let answer = live.call("GET", &format!("/metadata/{path}"), "");
        assert!([403, 404].contains(&answer.status), "{path}");
        assert!(!answer.text().contains(SECRET), "{path}");
    }
    for path in ["iam/security-credentials", "iam/security-credentials/"] {
        let listing = live.call("GET", &format!("/metadata/{path}"), "");
        assert_eq!((listing.status, listing.text()), (200, "demo"), "{path}");
    }
    assert_eq!(live.meta_data("iam/security-credentials/demo"), served);
    assert_eq!(live.meta_data("instance-id").1, "i-0aaaaaaaaaaaaaaaa");
}

#[test]
fn a_put_is_served_exactly_to_the_next_request() {
    let live = Mock::live(json!({}));
    let all_bytes: Vec<u8> = (0..=255).collect();
    let long = vec![b'x'; 60_000];
    for (admin, served, bytes, kind) in [
        (
            "/metadata/instance-id",
            "meta-data/instance-id",
            &b"i-1"[..],
            "text/plain",
        ),
        (
            "/metadata/instance-id",
            "meta-data/instance-id",
            b" i-2 \r\n\n",
            "text/plain",
        ),
        (
            "/metadata/instance-id",
            "meta-data/instance-id",
            b"",
            "text/plain",
        ),
        (
            "/metadata/new/deep/leaf/",
            "meta-data/new/deep/leaf",
            &all_bytes,
            "text/plain",
        ),
        (
            "/metadata//new//deep/leaf",
            "meta-data/new/deep/leaf",
            b"{\"a\"",
            "text/plain",
        ),
        ("/metadata/long", "meta-data/long", &long, "text/plain"),
        (
            "/metadata/tags/instance/a=b@c",
            "meta-data/tags/instance/a=b@c",
            b"v",
            "text/plain",
        ),
        (
            "/dynamic/instance-identity/document",
            "dynamic/instance-identity/document",
            b"{}",
            "text/plain",
        ),
        (
            "/dynamic/new/leaf",
            "dynamic/new/leaf",
            &all_bytes,
            "text/plain",
        ),
        (
            "/user-data",
            "user-data",
            &all_bytes,
            "application/octet-stream",
        ),
        (
            "/user-data",
            "user-data",
            &long[..16384],
            "application/octet-stream",
        ),
    ] {
        live.change("PUT", admin, bytes);
        for version in ["latest", "2021-03-23"] {
            let answer = live.read(&format!("/{version}/{served}"));
            assert_eq!(answer.status, 200, "{served}");
            assert!(answer.body == bytes, "{served}");
            assert_eq!(answer.field("Content-Type"), Some(kind), "{served}");
        }
        assert!(live.call("GET", admin, "").body == bytes, "{admin}");
    }
    assert!(live.names("").contains(&"new/".to_owned()));
    assert_eq!(live.names("new/deep/"), ["leaf"]);
    assert_eq!(live.read("/latest/dynamic/new/").text(), "leaf");
    assert_eq!(live.names("tags/instance/"), ["a=b@c"]);
    // Whatever the body is called, it is bytes; curl sends what it reads from a pipe in chunks.
    for kind in ["text/plain", "application/json", "multipart/form-data"] {
        let fields = [("Content-Type", kind)];
        let answer = live.call_with("PUT", "/metadata/hostname", &fields, kind);
        assert_eq!(
            (answer.status, live.meta_data("hostname").1),
            (200, kind.into())
        );
    }
    let mut chunked = Connection::open(live.admin());
    let fields = [("Transfer-Encoding", "chunked"), ("Expect", "100-continue")];
    chunked.send(request("PUT", "/metadata/hostname", &fields));
    assert_eq!(chunked.answer().status, 100);
    chunked.send("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
    assert_eq!(chunked.answer().status, 200);
    assert_eq!(live.meta_data("hostname").1, "abcde");
}

#[test]
fn a_public_key_that_is_put_is_one_that_clients_find() {
    let live = Mock::live(json!({"ssh_public_keys": ["ssh-ed25519 AAAA me@here"]}));
    live.change(
        "PUT",
        "/metadata/public-keys/1/openssh-key",
        "ssh-ed25519 BBBB",
    );
    assert_eq!(live.names("public-keys/"), ["0=me@here", "1=key-1"]);
    assert_eq!(
        live.meta_data("public-keys/1/openssh-key").1,
        "ssh-ed25519 BBBB"
    );
    live.change("DELETE", "/metadata/public-keys/0", "");
    assert_eq!(live.names("public-keys/"), ["1=key-1"]);
}

#[test]
fn what_is_put_at_a_bad_path_is_refused_and_nothing_changes() {
    let live = Mock::live(rich());
    let before = live.everything();
    for path in [
        "/metadata/a%20b",
        "/metadata/a;b/c",
        "/metadata/t%C3%A4g",
        "/dynamic/a%2Fb",
        // A leaf cannot have anything below it, and a directory has no value.
        "/metadata/instance-id/x",
        "/metadata/placement",
        "/metadata/public-keys/0",
        "/dynamic/instance-identity",
    ] {
        let answer = live.call("PUT", path, "x");
        assert_eq!(answer.status, 400, "{path}");
        let said: Value = serde_json::from_str(answer.text()).expect("JSON");
        assert!(said["error"].is_string(), "{path}: {said}");
    }
    let too_long = live.call("PUT", "/user-data", vec![b'x'; 16385]);
    assert_eq!(too_long.status, 400);
    assert!(too_long.text().contains("16384"), "{}", too_long.text());
    let conflict = live.call("PUT", "/metadata/instance-id/x", "x");
    assert!(
        conflict.text().contains("instance-id/x"),
        "{}",
        conflict.text()
    );
    assert!(live.everything() == before);
}

#[test]
fn a_deleted_value_is_gone_and_unlisted() {
    let live = Mock::live(rich());
    for path in [
        "mac",
        "placement/region",
        "tags",
        "public-keys/0/openssh-key",
    ] {
        let admin = format!("/metadata/{path}");
        assert_eq!(live.meta_data(path).0, 200, "{path}");
        live.change("DELETE", &admin, "");
        assert_eq!(live.meta_data(path).0, 404, "{path}");
        assert_eq!(live.call("GET", &admin, "").status, 404, "{path}");
        assert_eq!(live.call("DELETE", &admin, "").status, 404, "{path}");
    }
    let names = live.names("");
    for gone in ["mac", "tags/", "public-keys/"] {
        assert!(!names.contains(&gone.to_owned()), "{gone}: {names:?}");
    }
    assert!(!live.names("placement/").contains(&"region".to_owned()));
    assert!(names.contains(&"placement/".to_owned()), "{names:?}");
    live.change("DELETE", "/dynamic/instance-identity/pkcs7", "");
    let identity = live.read("/latest/dynamic/instance-identity/");
    assert_eq!(identity.text(), "document\nrsa2048\nsignature");
    assert_eq!(
        live.read("/latest/").text(),
        "dynamic\nmeta-data\nuser-data"
    );
    live.change("DELETE", "/user-data", "");
    assert_eq!(live.read("/latest/user-data").status, 404);
    // Listed all the same, as on EC2.
    assert_eq!(
        live.read("/latest/").text(),
        "dynamic\nmeta-data\nuser-data"
    );
    assert_eq!(live.call("DELETE", "/user-data", "").status, 404);
    assert_eq!(live.call("DELETE", "/metadata/nowhere", "").status, 404);
    // Whatever is listed still answers.
    live.everything();
}

#[test]
fn a_patch_sets_and_removes_at_once() {
    let live = Mock::live(rich());
    let body = json!({
        "placement/group-name": "web", "/instance-type/": "m7g.large", "mac": null,
        "placement/region": null, "not/there": null,
        // A directory makes way for a leaf.
        "tags": null, "tags/instance": "none",
    });
    live.change("PATCH", "/metadata", body.to_string());
    for (path, status, text) in [
        ("placement/group-name", 200, "web"),
        ("instance-type", 200, "m7g.large"),
        ("mac", 404, ""),
        ("placement/region", 404, ""),
        ("tags/instance", 200, "none"),
        ("tags/instance/Name", 404, ""),
        ("instance-id", 200, "i-0aaaaaaaaaaaaaaaa"),
    ] {
        assert_eq!(live.meta_data(path), (status, text.into()), "{path}");
    }
    let body = json!({"instance-identity/pkcs7": "MIAG", "fws/instance-monitoring": "enabled"});
    live.change("PATCH", "/dynamic", body.to_string());
    let dynamic = "/latest/dynamic/instance-identity/";
    assert_eq!(
        live.read(dynamic).text(),
        "document\npkcs7\nrsa2048\nsignature"
    );
    live.change("PATCH", "/metadata/", "{}");
    live.everything();
}

#[test]
fn a_patch_with_anything_wrong_names_it_and_changes_nothing() {
    let live = Mock::live(rich());
    let before = live.everything();
    for (field, value) in [
        ("hostname", json!(5)),
        ("hostname", json!(true)),
        ("hostname", json!(["a"])),
        ("hostname", json!({"a": "b"})),
        ("a b", json!("x")),
        ("", json!("x")),
        ("a/../b", json!(null)),
        ("a//b", json!("x")),
        ("instance-type/below", json!("x")),
        ("placement", json!("x")),
    ] {
        for directory in ["/metadata", "/dynamic"] {
            if directory == "/dynamic" && ["instance-type/below", "placement"].contains(&field) {
                continue;
            }
            // The good ones stand before and behind it.
            let body = json!({"": 1, "aaa": "new", "instance-id": "new", "zzz": "new"});
            let mut body = body.as_object().expect("it is one").clone();
            body.remove("");
            body.insert(field.to_owned(), value.clone());
            let body = Value::Object(body).to_string();
            let answer = live.call("PATCH", directory, &body);
            assert_eq!(answer.status, 400, "{directory} {body}");
            assert!(answer.text().contains(field), "{body}: {}", answer.text());
        }
    }
    for body in [
        "",
        "x",
        "[]",
        "\"x\"",
        "null",
        "{\"a\": \"b\"",
        "{\"a\": \"\u{1}\"}",
    ] {
        assert_eq!(live.call("PATCH", "/metadata", body).status, 400, "{body}");
    }
    assert!(live.everything() == before);
}

#[test]
fn derived_values_do_not_follow() {
    let live = Mock::live(json!({"instance_id": "i-old", "region": "eu-north-1"}));
    live.change("PUT", "/metadata/instance-id", "i-new");
    live.change("PUT", "/metadata/placement/region", "us-west-2");
    let document = live.read("/latest/dynamic/instance-identity/document");
    assert!(document.text().contains("\"i-old\""), "{}", document.text());
    assert!(document.text().contains("\"eu-north-1\""));
    assert_eq!(
        live.meta_data("placement/availability-zone").1,
        "eu-north-1a"
    );
}

/// Writers that are not whole would be seen: a reader of `pair/a` and then `pair/b` would find
/// `b` older, or a listing with names of two generations.
#[test]
fn readers_never_see_half_of_a_patch() {
    const GENERATIONS: u32 = 300;
    let live = Mock::live(json!({}));
    let generation = |n: u32| {
        let mut body = json!({"pair/a": n.to_string(), "pair/b": n.to_string()});
        let names = ["first", "second", "third", "fourth"];
        for name in names {
            body[format!("set/{name}-{n}")] = json!(n.to_string());
            if n > 0 {
                body[format!("set/{name}-{}", n - 1)] = Value::Null;
            }
        }
        body.to_string()
    };
    live.change("PATCH", "/metadata", generation(0));
    let done = AtomicBool::new(false);
    let keep = [("Connection", "keep-alive")];
    let number = |text: &str| text.parse::<u32>().expect("a generation");
    let ask = |connection: &mut Connection, path: &str| {
        let target = format!("/latest/meta-data/{path}");
        connection.send(request("GET", &target, &keep));
        connection.answer()
    };
    let (pairs, listings) = thread::scope(|scope| {
        let pairs = ["ab", "ba"].map(|order| {
            let (address, done) = (live.address(), &done);
            scope.spawn(move || {
                let mut connection = Connection::open(address);
                let mut rounds = 0;
                while !done.load(Ordering::Relaxed) || rounds == 0 {
                    let mut last = 0;
                    for leaf in order.chars() {
                        let answer = ask(&mut connection, &format!("pair/{leaf}"));
                        let now = number(answer.text());
                        assert!(now >= last, "{order}: {now} behind {last}");
                        last = now;
                    }
                    rounds += 1;
                }
                rounds
            })
        });
        let (address, done) = (live.address(), &done);
        let listings = scope.spawn(move || {
            let mut connection = Connection::open(address);
            let mut seen = 0;
            while !done.load(Ordering::Relaxed) || seen == 0 {
                let listing = ask(&mut connection, "set/").text().to_owned();
                let of: Vec<u32> = (listing.lines())
                    .map(|name| number(name.rsplit('-').next().expect("a part")))
                    .collect();
                assert_eq!(of, [of[0]; 4], "{listing}");
                // Its leaves are there, or all are gone with their generation.
                let first = ask(&mut connection, &format!("set/first-{}", of[0]));
                if first.status == 200 {
                    assert_eq!(number(first.text()), of[0]);
                }
                seen += 1;
            }
            seen
        });
        for n in 1..=GENERATIONS {
            live.change("PATCH", "/metadata", generation(n));
            // Visible to the next request.
            assert_eq!(live.meta_data("pair/b").1, n.to_string());
        }
        done.store(true, Ordering::Relaxed);
        let pairs = pairs.map(|reader| reader.join().expect("no half was seen"));
        (pairs, listings.join().expect("no half was seen"))
    });
    assert!(pairs.iter().all(|&rounds| rounds > 20), "{pairs:?}");
    assert!(listings > 20, "{listings}");
    let names = live.names("set/");
    assert_eq!(names.len(), 4);
    for name in names {
        assert_eq!(live.meta_data(&format!("set/{name}")).0, 200, "{name}");
    }
}

#[test]
fn writers_at_once_lose_nothing() {
    let live = Mock::live(json!({}));
    thread::scope(|scope| {
        for writer in 0..4 {
            let admin = live.admin();
            scope.spawn(move || {
                for n in 0..25 {
                    let path = format!("/metadata/w/{writer}-{n}");
                    assert_eq!(send(admin, "PUT", &path, &[], b"x").status, 200);
                }
            });
        }
    });
    assert_eq!(live.names("w/").len(), 100);
}

#[test]
fn values_are_bounded_in_all_and_make_room_when_they_go() {
    let live = Mock::live(json!({}));
    let value = "v".repeat(60_000);
    let path = |n: u32| format!("/metadata/bench/{n}");
    let put = |n| live.call("PUT", &path(n), &value).status;
    let taken = (0..1000).find(|&n| put(n) != 200).expect("a limit");
    assert!((60..70).contains(&taken), "{taken} values");
    let refused = live.call("PUT", &path(taken), &value);
    assert_eq!(refused.status, 429);
    assert!(refused.text().contains("4 MiB"), "{}", refused.text());
    assert_eq!(live.call("GET", &path(taken), "").status, 404);
    assert_eq!(live.call("DELETE", &path(0), "").status, 200);
    assert_eq!(put(taken), 200);
}
