//! What is asked for: the cases of the comparison, and what a contender has of them.

use std::io;

use crate::contender::{Contender, token_request};
use crate::load::Load;

pub const SMALL: &str = "/latest/meta-data/instance-id";
const USER_DATA: &str = "/latest/user-data";

/// What one client asks for, again and again.
#[derive(Clone, Copy)]
pub enum Work {
    Small,
    TokenAndGet,
    Credentials,
    UserData,
    Tree,
}

pub struct Case {
    pub what: &'static str,
    pub work: Work,
    pub keep_alive: bool,
    pub clients: usize,
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |what, work, keep_alive, clients: &[usize]| {
        cases.extend(clients.iter().map(|&clients| Case {
            what,
            work,
            keep_alive,
            clients,
        }));
    };
    add("instance-id", Work::Small, true, &[1, 16, 64, 256]);
    add("instance-id", Work::Small, false, &[1, 16, 64, 256]);
    add("token PUT, then GET", Work::TokenAndGet, false, &[1, 16]);
    add("credentials, 1.3 KB", Work::Credentials, true, &[1, 16]);
    add("credentials, 1.3 KB", Work::Credentials, false, &[16]);
    add("user data, 16 KB", Work::UserData, true, &[1, 16]);
    add("user data, 16 KB", Work::UserData, false, &[16]);
    add("walk of the tree", Work::Tree, true, &[1]);
    add("walk of the tree", Work::Tree, false, &[1, 16]);
    cases
}

/// What a contender has to ask for.
#[derive(Default)]
pub struct Paths {
    tree: Vec<String>,
    credentials: Option<String>,
}

impl Paths {
    pub fn of(contender: &Contender) -> Paths {
        Paths {
            tree: contender.tree(),
            credentials: contender.credentials(),
        }
    }
}

/// What a case asks a contender for: nothing, where it has none of it.
pub fn paths<'a>(case: &Case, known: &'a Paths) -> Vec<&'a str> {
    match case.work {
        Work::Small | Work::TokenAndGet => vec![SMALL],
        Work::Credentials => known.credentials.as_deref().into_iter().collect(),
        Work::UserData => vec![USER_DATA],
        Work::Tree => known.tree.iter().map(String::as_str).collect(),
    }
}

/// The load of a case for one contender.
pub fn load(case: &Case, contender: &Contender, paths: &[&str]) -> io::Result<Load> {
    let connection = if case.keep_alive {
        "keep-alive"
    } else {
        "close"
    };
    let mut requests = contender.requests(paths.iter().copied(), connection)?;
    if matches!(case.work, Work::TokenAndGet) {
        requests.insert(0, token_request(connection));
    }
    Ok(Load {
        address: contender.address,
        requests,
        clients: case.clients,
        keep_alive: case.keep_alive,
        source: None,
    })
}

pub fn title(case: &Case) -> String {
    let connection = match case.keep_alive {
        true => "kept alive",
        false => "closing",
    };
    format!("{} | {connection} | {}", case.what, case.clients)
}
