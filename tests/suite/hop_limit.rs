//! `http_put_response_hop_limit`: token answers leave with that IP TTL, and all else does not; a
//! client one hop too far gets no token (docs/reference/metadata.md, "Token"). Seen in the packets,
//! and across a router made of network namespaces; both need root on Linux.

use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::http::{Answer, Connection, request};
use crate::common::{Mock, TOKEN, TOKEN_TTL, TempFile, imds_mock, skipped};
use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};

/// A packet of TCP, from its IP header.
#[derive(Debug)]
struct Packet {
    hop_limit: u8,
    /// From and to.
    ports: (u16, u16),
    payload: Vec<u8>,
}

impl Packet {
    fn parse(bytes: &[u8]) -> Option<Packet> {
        let version = bytes.first()? >> 4;
        let (hop_limit, protocol, header) = match version {
            4 => (
                *bytes.get(8)?,
                *bytes.get(9)?,
                usize::from(bytes[0] & 15) * 4,
            ),
            6 => (*bytes.get(7)?, *bytes.get(6)?, 40),
            _ => return None,
        };
        let tcp = bytes.get(header..).filter(|_| protocol == 6)?;
        let offset = usize::from(tcp.get(12)? >> 4) * 4;
        Some(Packet {
            hop_limit,
            ports: (
                u16::from_be_bytes([tcp[0], tcp[1]]),
                u16::from_be_bytes([tcp[2], tcp[3]]),
            ),
            payload: tcp.get(offset..)?.to_vec(),
        })
    }
}

/// Sees every packet of this machine; `None`, said on stderr, where that is not allowed.
fn packets() -> Option<Socket> {
    const ETH_P_ALL: u16 = 3;
    let every = Protocol::from(i32::from(ETH_P_ALL.to_be()));
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(every));
    if let Err(e) = &socket {
        skipped(&format!("packets cannot be read: {e}"));
    }
    let socket = socket.ok()?;
    socket
        .set_read_timeout(Some(Duration::from_millis(500)))
        .expect("not zero");
    Some(socket)
}

/// Asks on a connection of its own. Returns the answer and the hop limit of the packet that
/// carried it; asks again where the kernel dropped our copy of that packet, as it does under load.
fn ask(mut socket: &Socket, server: SocketAddr, request: &str) -> (Answer, u8) {
    let mut bytes = [0; 65536];
    for _ in 0..20 {
        let mut client = Connection::open(server);
        let local = client.stream.local_addr().expect("it is connected");
        let answer = client.send(request).answer();
        // Other traffic of this machine passes here too: it must not keep us for ever.
        let until = Instant::now() + Duration::from_secs(2);
        while Instant::now() < until
            && let Ok(length) = socket.read(&mut bytes)
        {
            let packet = Packet::parse(&bytes[..length]);
            let ports = (server.port(), local.port());
            let mine = |p: &Packet| p.ports == ports && p.payload.starts_with(b"HTTP/1.1 ");
            if let Some(packet) = packet.filter(mine) {
                return (answer, packet.hop_limit);
            }
        }
    }
    panic!("no packet is seen");
}

#[test]
fn token_answers_alone_leave_with_the_configured_hop_limit() {
    let Some(socket) = packets() else { return };
    for host in ["127.0.0.1", "::1"] {
        for (limit, expected) in [
            (json!(1), 1),
            (json!(3), 3),
            (json!(64), 64),
            (json!(null), 64),
        ] {
            let config = json!({"http_put_response_hop_limit": limit});
            let mock = Mock::with(&config, &["--host", host]);
            let exchange = |method: &str, target: &str, field: (&str, &str)| {
                let fields = [field, ("Connection", "keep-alive")];
                ask(&socket, mock.address(), &request(method, target, &fields))
            };
            let path = "/latest/api/token";
            let (token, of_token) = exchange("PUT", path, (TOKEN_TTL, "60"));
            assert_eq!((token.status, of_token), (200, expected), "{host} {limit}");
            let (_, of_value) = exchange("GET", "/", (TOKEN, token.text()));
            let (_, of_error) = exchange("PUT", path, (TOKEN_TTL, "-1"));
            assert_eq!((of_value, of_error), (64, 64), "{host} {limit}");
        }
    }
}

/// Three namespaces in a row: a server, a router, a client. Removed when dropped.
struct Row {
    names: [String; 3],
}

const SERVER: usize = 0;
const ROUTER: usize = 1;
const CLIENT: usize = 2;

impl Row {
    /// `None`, said on stderr, where that is not allowed.
    fn new() -> Option<Row> {
        let id = std::process::id();
        let row = Row {
            names: ["server", "router", "client"].map(|name| format!("imds-{name}-{id}")),
        };
        let [server, router, client] = &row.names;
        let mut script = String::new();
        for name in &row.names {
            script += &format!("netns add {name}\n-n {name} link set lo up\n");
        }
        for (end, name, net) in [(server, "s", 1), (client, "c", 2)] {
            script += &format!(
                "link add imds-{name}{id} type veth peer name imds-r{name}{id}\n\
                 link set imds-{name}{id} netns {end} name eth0\n\
                 link set imds-r{name}{id} netns {router} name eth{net}\n\
                 -n {end} addr add 10.254.{net}.2/24 dev eth0\n\
                 -n {end} addr add fd00:254:{net}::2/64 dev eth0 nodad\n\
                 -n {router} addr add 10.254.{net}.1/24 dev eth{net}\n\
                 -n {router} addr add fd00:254:{net}::1/64 dev eth{net} nodad\n\
                 -n {end} link set eth0 up\n\
                 -n {router} link set eth{net} up\n\
                 -n {end} route add default via 10.254.{net}.1\n\
                 -n {end} route add default via fd00:254:{net}::1\n"
            );
        }
        for line in script.lines() {
            let output = Command::new("ip").args(line.split(' ')).output();
            let failed = match &output {
                Err(e) => Some(e.to_string()),
                Ok(o) if !o.status.success() => Some(String::from_utf8_lossy(&o.stderr).into()),
                Ok(_) => None,
            };
            if let Some(why) = failed {
                skipped(&format!("no namespaces here: ip {line}: {why}"));
                return None;
            }
        }
        let forward = "echo 1 >/proc/sys/net/ipv4/ip_forward; \
                       echo 1 >/proc/sys/net/ipv6/conf/all/forwarding";
        let mut sh = row.command(ROUTER, "sh");
        if !sh.args(["-c", forward]).status().is_ok_and(|s| s.success()) {
            skipped("no forwarding here");
            return None;
        }
        Some(row)
    }

    /// Runs `program` in one of them.
    fn command(&self, place: usize, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.names[place]])
            .arg(program);
        command
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}

/// How long a client behind the router waits for a token: the server's kernel sends an answer that
/// nobody acknowledges again after 0.2 s, and again within this.
const LONG_ENOUGH: Duration = Duration::from_millis(1000);
const ADDRESS: &str = "IMDS_MOCK_TEST_ADDRESS";

#[test]
#[ignore = "the client of the test below, which runs it in another namespace"]
fn client() {
    let address: SocketAddr = std::env::var(ADDRESS)
        .expect(ADDRESS)
        .parse()
        .expect("an address");
    let ask = |requests: String| {
        let mut client = Connection::open(address);
        client
            .stream
            .set_read_timeout(Some(LONG_ENOUGH))
            .expect("not zero");
        client.send(requests);
        match client.stream.peek(&mut [0]) {
            Ok(_) => client.answer().status.to_string(),
            Err(_) => "nothing".to_owned(),
        }
    };
    let token = "/latest/api/token";
    let keep = [(TOKEN_TTL, "60"), ("Connection", "keep-alive")];
    let put = request("PUT", token, &keep[..1]);
    // An answer that follows on the same connection must not take the lost one along.
    let put_and_get = request("PUT", token, &keep) + &request("GET", "/", &keep);
    let get = request("GET", "/", &[]);
    std::thread::scope(|scope| {
        let asked = [put, put_and_get, get].map(|requests| scope.spawn(|| ask(requests)));
        let [put, both, get] = asked.map(|asked| asked.join().expect("it asks"));
        println!("RESULT {put} {both} {get}");
    });
}

#[test]
fn a_client_one_hop_too_far_gets_no_token_and_everything_else() {
    let Some(row) = Row::new() else { return };
    for (host, limit, result) in [
        ("10.254.1.2", 1, "nothing nothing 401"),
        ("fd00:254:1::2", 1, "nothing nothing 401"),
        ("10.254.1.2", 2, "200 200 401"),
        ("fd00:254:1::2", 2, "200 200 401"),
    ] {
        let config = TempFile::new(json!({"http_put_response_hop_limit": limit}).to_string());
        let mut server = row.command(SERVER, imds_mock().get_program());
        server
            .args(["--port", "0", "--host", host])
            .arg("--config")
            .arg(config.path());
        let mock = Mock::spawn(server, 1, Some(config));
        let port = mock.address().port();
        let address = SocketAddr::new(host.parse::<IpAddr>().expect("an address"), port);
        let test = std::env::current_exe().expect("this program");
        let mut client = row.command(CLIENT, test);
        client.args(["--exact", "hop_limit::client", "--ignored", "--nocapture"]);
        let output = client
            .env(ADDRESS, address.to_string())
            .output()
            .expect("it runs");
        let output = String::from_utf8_lossy(&output.stdout);
        let seen = output.lines().find_map(|line| line.split_once("RESULT "));
        let (_, seen) = seen.unwrap_or_else(|| panic!("no result: {output}"));
        assert_eq!(seen, result, "{host} with a hop limit of {limit}");
    }
}
