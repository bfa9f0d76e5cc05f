//! A daemon with its administrative service, spoken to as a test harness would: JSON in, JSON out,
//! the clock moved instead of waiting, clients on addresses of their own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use super::crawler::{Tree, crawl};
use super::http::{End, request, send};
use super::{Answer, Connection, Mock, PATIENCE, skipped};

/// The secret access key of [`role`].
pub const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

/// A role with credentials that are dated by the clock.
pub fn role() -> Value {
    json!({
        "arn": "arn:aws:iam::123456789012:role/demo",
        "credentials": {
            "access_key_id": "ASIAIOSFODNN7EXAMPLE", "secret_access_key": SECRET,
            "token": "IQoJb3JpZ2luX2VjEXAMPLETOKEN",
        },
    })
}

/// A configuration with something of every kind in it.
pub fn rich() -> Value {
    json!({
        "instance_id": "i-0aaaaaaaaaaaaaaaa", "public_ipv4": "203.0.113.25",
        "ssh_public_keys": ["ssh-ed25519 AAAA me@here"], "tags": {"Name": "web", "a=b": "c"},
        "user_data": "#!/bin/sh\n", "role": role(),
    })
}

impl Mock {
    /// Serves `config` with an administrative service on loopback beside it.
    pub fn with_admin(config: &Value, arguments: &[&str]) -> Mock {
        let admin = ["--admin-host", "127.0.0.1", "--admin-port", "0"];
        Mock::with(config, &[&admin[..], arguments].concat())
    }

    /// The same with tokens optional, unless `config` says otherwise.
    pub fn live(config: Value) -> Mock {
        Mock::live_with(config, &[])
    }

    pub fn live_with(config: Value, arguments: &[&str]) -> Mock {
        Mock::with_admin(&v1_too(config), arguments)
    }

    /// Where the administrative service listens.
    pub fn admin(&self) -> SocketAddr {
        *self.addresses.last().expect("it has one")
    }

    /// Its configuration file.
    pub fn config(&self) -> &Path {
        self.config.as_ref().expect("it was given one").path()
    }

    /// Replaces its file at once, as a careful editor does.
    pub fn write(&self, content: impl AsRef<[u8]>) {
        let new = self.config().with_extension("new");
        std::fs::write(&new, content).expect("the directory is ours");
        std::fs::rename(&new, self.config()).expect("the file is ours");
    }

    /// Writes another configuration, for the next reload.
    pub fn rewrite(&self, config: Value) {
        self.write(v1_too(config).to_string());
    }

    /// Asks the administrative service, with fields of the test's own.
    pub fn call_with(
        &self,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        body: impl AsRef<[u8]>,
    ) -> Answer {
        send(self.admin(), method, path, fields, body)
    }

    pub fn call(&self, method: &str, path: &str, body: impl AsRef<[u8]>) -> Answer {
        self.call_with(method, path, &[], body)
    }

    /// Asks the administrative service for what has to succeed, and is JSON.
    fn json(&self, method: &str, path: &str, body: &str, status: u16) -> Value {
        let answer = self.call(method, path, body);
        let text = answer.text();
        assert_eq!(answer.status, status, "{method} {path} {body}: {text}");
        assert_eq!(
            answer.field("Content-Type"),
            Some("application/json"),
            "{path}"
        );
        serde_json::from_str(text).unwrap_or_else(|e| panic!("{method} {path}: {e}: {text}"))
    }

    /// What the administrative service shows at `path`.
    pub fn shown(&self, path: &str) -> Value {
        self.json("GET", path, "", 200)
    }

    /// Makes an event or a fault, and returns how it is shown.
    pub fn add(&self, path: &str, object: Value) -> Value {
        let shown = self.json("POST", path, &object.to_string(), 201);
        assert!(!shown["id"].is_null(), "{shown}");
        shown
    }

    /// Moves the clock.
    pub fn clock(&self, object: Value) -> Value {
        self.json("POST", "/clock", &object.to_string(), 200)
    }

    pub fn advance(&self, by: &str) {
        self.clock(json!({"advance": by}));
    }

    /// Changes the instance; it has to succeed.
    pub fn change(&self, method: &str, path: &str, body: impl AsRef<[u8]>) {
        let answer = self.call(method, path, body);
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
    }

    /// Asserts that each body is answered 400 with what is wrong beginning with its field, and that
    /// `state` shows the same before and after.
    pub fn refuses(&self, method: &str, path: &str, state: &str, cases: &[(&str, Value)]) {
        let before = self.shown(state);
        for (field, body) in cases {
            let answer = self.call(method, path, body.to_string());
            assert_eq!(answer.status, 400, "{body}: {}", answer.text());
            let said: Value = serde_json::from_str(answer.text()).expect("JSON");
            let what = said["error"].as_str().expect("it says what is wrong");
            assert!(what.starts_with(field), "{body}: {what}");
        }
        assert_eq!(self.shown(state), before);
    }

    /// GET of the metadata, as version 1.
    pub fn read(&self, path: &str) -> Answer {
        self.ask("GET", path, &[])
    }

    /// Status and text of what is below `/latest/meta-data/`.
    pub fn meta_data(&self, path: &str) -> (u16, String) {
        let answer = self.read(&format!("/latest/meta-data/{path}"));
        let text = match answer.status {
            200 => answer.text().to_owned(),
            _ => String::new(),
        };
        (answer.status, text)
    }

    /// The names in a listing below `/latest/meta-data/`, none if there is no such directory.
    pub fn names(&self, directory: &str) -> Vec<String> {
        let (_, listing) = self.meta_data(directory);
        listing.lines().map(str::to_owned).collect()
    }

    /// GET as version 1 from that client address.
    pub fn read_as(&self, client: IpAddr, path: &str) -> Answer {
        self.ask_as(client, "GET", path, &[])
    }

    pub fn ask_as(
        &self,
        client: IpAddr,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
    ) -> Answer {
        ask_as(self.address(), client, method, path, fields)
    }

    /// Every path below `/latest/` that a client finds, with its bytes; credentials, which are dated
    /// by the moment, left out.
    pub fn everything(&self) -> Tree {
        let mut found = crawl(self, "/latest/");
        found.retain(|path, _| !path.contains("/iam/") && !path.contains("/identity-credentials"));
        found
    }
}

/// A connection to `address` from the address `client`.
pub fn connect_as(address: SocketAddr, client: IpAddr) -> Connection {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let bound = socket.bind(&SocketAddr::new(client, 0).into());
    bound.expect("it was tried before");
    let connected = socket.connect_timeout(&address.into(), PATIENCE);
    connected.expect("somebody listens");
    Connection::over(socket.into())
}

/// Asks from the address `client`.
pub fn ask_as(
    address: SocketAddr,
    client: IpAddr,
    method: &str,
    path: &str,
    fields: &[(&str, &str)],
) -> Answer {
    let mut connection = connect_as(address, client);
    connection.send(request(method, path, fields));
    let answer = connection.answer_to(method);
    assert_eq!(connection.end(), End::Closed);
    answer
}

fn v1_too(mut config: Value) -> Value {
    let object = config.as_object_mut().expect("a configuration");
    object
        .entry("http_tokens")
        .or_insert_with(|| json!("optional"));
    config
}

/// Addresses of clients, 127.0.0.2 and on. `None`, said on stderr, where the system has only
/// 127.0.0.1 (FreeBSD, unless it is told otherwise).
pub fn clients<const N: usize>() -> Option<[IpAddr; N]> {
    let clients = std::array::from_fn(|n| IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2 + n as u8)));
    let all = clients
        .iter()
        .all(|&client| TcpListener::bind((client, 0)).is_ok());
    if !all {
        skipped("no addresses beside 127.0.0.1");
    }
    all.then_some(clients)
}
