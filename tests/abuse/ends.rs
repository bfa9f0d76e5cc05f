//! Connections that end when nobody expects it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use socket2::SockRef;

use super::siege::survives;
use super::{KEEP, MAC, USER_DATA, dial, open_mock};
use crate::common::http::request;

/// Ends a connection with a reset.
fn reset(stream: TcpStream) {
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
}

#[test]
fn resets_at_every_stage_are_survived() {
    survives(open_mock(), |mock| {
        let get = request("GET", USER_DATA, &[KEEP]);
        let put = "PUT /latest/api/token HTTP/1.1\r\nContent-Length: 10\r\n\r\n12345";
        let chunked = "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n123";
        for _ in 0..100 {
            reset(dial(mock.address()));
            for (sent, read) in [
                ("GE", 0),
                ("GET / HTTP/1.1\r\nHost: ", 0),
                (put, 0),
                (chunked, 0),
                (&get, 0),
                (&get, 1),
                (&get, 9000),
                (&get.repeat(50), 9000),
                ("\x16\x03\x01 no TLS here", 1),
                ("GET / HTTP/9.9\r\n\r\n", 1),
            ] {
                let mut client = dial(mock.address());
                let _ = client.write_all(sent.as_bytes());
                if read > 0 {
                    let _ = client.read(&mut vec![0; read]);
                }
                reset(client);
            }
        }
    });
}

/// Bytes behind a request that closes its connection are not read; they must not take its answer away.
#[test]
fn what_follows_the_last_request_costs_no_answer() {
    let mock = open_mock();
    for _ in 0..2000 {
        let mut client = dial(mock.address());
        client
            .write_all(request("GET", MAC, &[]).as_bytes())
            .expect("it is read");
        let _ = client.write_all(b"\r\n");
        let mut start = [0; 15];
        client.read_exact(&mut start).expect("an answer");
        assert_eq!(&start, b"HTTP/1.1 200 OK");
    }
}

#[test]
fn ends_of_one_direction_are_survived() {
    survives(open_mock(), |mock| {
        for _ in 0..200 {
            for end in [Shutdown::Read, Shutdown::Write, Shutdown::Both] {
                for sent in ["", "GET / HT", "GET / HTTP/1.1\r\n\r\n"] {
                    let mut client = dial(mock.address());
                    let _ = client.write_all(sent.as_bytes());
                    let _ = client.shutdown(end);
                }
            }
        }
    });
}
