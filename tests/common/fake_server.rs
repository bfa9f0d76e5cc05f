//! A metadata server as a test wants it: what it answers to each request, well-behaved or not. It
//! understands no more of HTTP than where a request ends.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What a server does with a request.
#[derive(Clone)]
pub enum Reply {
    Keep(Vec<u8>),
    Close(Vec<u8>),
    /// These bytes again and again, slowly, for as long as somebody reads.
    Drip(&'static str),
    Silence,
}

/// A whole answer with its length.
pub fn reply(status: &str, body: &str) -> Reply {
    let length = body.len();
    Reply::Keep(format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}").into())
}

pub fn ok(body: &str) -> Reply {
    reply("200 OK", body)
}

/// The end of an answer, after which the server closes.
pub fn closing(rest: impl AsRef<[u8]>) -> Reply {
    Reply::Close([b"HTTP/1.1 200 OK\r\n", rest.as_ref()].concat())
}

/// A server on loopback for as long as the test runs. `seen` are the lines `GET /path` it has
/// read, and `+` for each connection.
pub struct Server {
    pub host: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// `answer` gets the line `GET /path` and the token of a request.
    pub fn start(answer: impl Fn(&str, Option<&str>) -> Reply + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        Server::on(listener, answer)
    }

    pub fn on(
        listener: TcpListener,
        answer: impl Fn(&str, Option<&str>) -> Reply + Send + Sync + 'static,
    ) -> Server {
        let host = listener.local_addr().expect("it is bound").to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (seen.clone(), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (log, answer) = (log.clone(), answer.clone());
                log.lock().expect("nobody panicked").push("+".to_owned());
                thread::spawn(move || connection(stream, &log, &*answer));
            }
        });
        Server { host, seen }
    }

    /// How often something was seen.
    pub fn count(&self, what: &str) -> usize {
        let seen = self.seen.lock().expect("nobody panicked");
        seen.iter().filter(|line| *line == what).count()
    }
}

fn connection(
    mut stream: TcpStream,
    log: &Mutex<Vec<String>>,
    answer: &dyn Fn(&str, Option<&str>) -> Reply,
) -> Option<()> {
    let lines = BufReader::new(stream.try_clone().ok()?).lines();
    let mut lines = lines.map_while(Result::ok);
    loop {
        let head: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
        let line = head.first()?.strip_suffix(" HTTP/1.1")?;
        log.lock().expect("nobody panicked").push(line.to_owned());
        let field = |name: &str| head.iter().find_map(|line| line.strip_prefix(name));
        if line.starts_with("PUT") {
            assert_eq!(
                field("X-aws-ec2-metadata-token-ttl-seconds: "),
                Some("21600")
            );
        }
        let token = field("X-aws-ec2-metadata-token: ");
        match answer(line, token) {
            Reply::Keep(bytes) => stream.write_all(&bytes).ok()?,
            Reply::Close(bytes) => return stream.write_all(&bytes).ok(),
            Reply::Drip(text) => loop {
                stream.write_all(text.as_bytes()).ok()?;
                thread::sleep(Duration::from_millis(20));
            },
            Reply::Silence => {}
        }
    }
}
