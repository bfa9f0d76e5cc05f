//! The servers side by side: how each is started on a loopback port, what it costs, and a plain
//! client to look around in its tree.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a server may take to answer for the first time.
const START_LIMIT: Duration = Duration::from_secs(10);
/// The kernel's clock ticks a second in /proc/PID/stat, the same on every Linux.
const TICKS: u64 = 100;

/// A running server. Ends when dropped.
pub struct Contender {
    pub name: String,
    pub address: SocketAddr,
    /// What looking around carries as `X-aws-ec2-metadata-token`.
    token: Option<String>,
    /// From exec to the first answer.
    pub start: Duration,
    child: Child,
}

impl Drop for Contender {
    fn drop(&mut self) {
        // A master process takes its workers along only on a signal it can act on.
        let pid = self.child.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).status();
        let deadline = Instant::now() + Duration::from_secs(3);
        while asked.is_ok() && Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Contender {
    /// Starts a command that listens on `port` of 127.0.0.1 and waits for its first answer.
    pub fn start(name: &str, port: u16, mut command: Command) -> io::Result<Contender> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let started = Instant::now();
        let child = command.stdin(Stdio::null()).spawn()?;
        let mut contender = Contender {
            name: name.to_owned(),
            address,
            token: None,
            start: Duration::ZERO,
            child,
        };
        while contender.get("/").is_err() {
            if started.elapsed() > START_LIMIT {
                let what = format!("{name} does not answer on port {port}");
                return Err(io::Error::new(ErrorKind::TimedOut, what));
            }
            if let Some(status) = contender.child.try_wait()? {
                return Err(io::Error::other(format!("{name} ended: {status}")));
            }
            thread::yield_now();
        }
        contender.start = started.elapsed();
        contender.token = contender.new_token()?;
        Ok(contender)
    }

    /// A token, where this server issues any.
    fn new_token(&self) -> io::Result<Option<String>> {
        let (status, token) = self.ask(&token_request("close"))?;
        Ok((status == 200).then_some(token))
    }

    /// Sends a request that asks for a close. Returns the status and the body.
    fn ask(&self, request: &[u8]) -> io::Result<(u16, String)> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(START_LIMIT))?;
        stream.write_all(request)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .ok_or(ErrorKind::InvalidData)?;
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        Ok((status.ok_or(ErrorKind::InvalidData)?, body.to_owned()))
    }

    /// GET of a path: status and body.
    pub fn get(&self, path: &str) -> io::Result<(u16, String)> {
        self.ask(&request(path, "close", self.token.as_deref()))
    }

    /// GET requests, complete, all with one new token: the last one may have had to make room for
    /// those that were issued since.
    pub fn requests<'a>(
        &self,
        paths: impl IntoIterator<Item = &'a str>,
        connection: &str,
    ) -> io::Result<Vec<Vec<u8>>> {
        let token = self.new_token()?;
        let request = |path| request(path, connection, token.as_deref());
        Ok(paths.into_iter().map(request).collect())
    }

    /// Every path below /latest/meta-data/ and /latest/dynamic/, listings included, and user data.
    pub fn tree(&self) -> Vec<String> {
        let mut paths = vec!["/latest/user-data".to_owned()];
        let mut listings = vec![
            "/latest/meta-data/".to_owned(),
            "/latest/dynamic/".to_owned(),
        ];
        while let Some(listing) = listings.pop() {
            let Ok((200, names)) = self.get(&listing) else {
                continue;
            };
            for name in names.lines() {
                // Of `0=my-key` the number is the name, and it is a directory.
                let key = name.split_once('=').filter(|_| listing.ends_with("keys/"));
                match key {
                    Some((index, _)) => listings.push(format!("{listing}{index}/")),
                    None if name.ends_with('/') => listings.push(format!("{listing}{name}")),
                    None => paths.push(format!("{listing}{name}")),
                }
            }
            paths.push(listing);
        }
        paths.retain(|path| matches!(self.get(path), Ok((200, _))));
        paths
    }

    /// The role's document with credentials.
    pub fn credentials(&self) -> Option<String> {
        let listing = "/latest/meta-data/iam/security-credentials/";
        let (200, role) = self.get(listing).ok()? else {
            return None;
        };
        let path = format!("{listing}{}", role.lines().next()?);
        matches!(self.get(&path), Ok((200, _))).then_some(path)
    }

    fn processes(&self) -> Vec<u32> {
        let mut all = vec![self.child.id()];
        let mut next = 0;
        while let Some(pid) = all.get(next) {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
            let children = children.unwrap_or_default();
            all.extend(children.split_whitespace().flat_map(str::parse::<u32>));
            next += 1;
        }
        all
    }

    /// Processor time it has used, its children's included; known on Linux.
    pub fn processor_time(&self) -> Option<Duration> {
        let mut ticks = 0;
        for pid in self.processes() {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // Behind the name, which may hold anything: state is field 3, utime 14, stime 15.
            let (_, fields) = stat.rsplit_once(')')?;
            let fields = fields.split_whitespace().skip(11).take(2);
            ticks += fields.flat_map(str::parse::<u64>).sum::<u64>();
        }
        Some(Duration::from_millis(ticks * 1000 / TICKS))
    }

    /// Memory in KiB: what nobody else shares and, where that is not known, resident.
    pub fn memory(&self) -> Memory {
        let mut memory = Memory::default();
        for pid in self.processes() {
            let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"));
            memory.private += sum_of(&rollup.unwrap_or_default(), "Private_");
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            memory.peak += sum_of(&status, "VmHWM");
            let rss = Command::new("ps")
                .args(["-o", "rss=", "-p", &pid.to_string()])
                .output();
            let rss = rss.map(|output| String::from_utf8_lossy(&output.stdout).trim().parse());
            memory.resident += rss.ok().and_then(Result::ok).unwrap_or(0);
        }
        memory
    }
}

/// KiB; what the system does not tell is 0.
#[derive(Default)]
pub struct Memory {
    pub private: u64,
    pub resident: u64,
    pub peak: u64,
}

fn sum_of(text: &str, key: &str) -> u64 {
    let lines = text.lines().filter(|line| line.starts_with(key));
    lines
        .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
        .sum()
}

/// A token request, complete.
pub fn token_request(connection: &str) -> Vec<u8> {
    format!(
        "PUT /latest/api/token HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n\
         X-aws-ec2-metadata-token-ttl-seconds: 21600\r\nContent-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

fn request(path: &str, connection: &str, token: Option<&str>) -> Vec<u8> {
    let token = token.map_or(String::new(), |token| {
        format!("X-aws-ec2-metadata-token: {token}\r\n")
    });
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n{token}\r\n")
        .into_bytes()
}

/// A port nobody listens on.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Ours. `log` takes the request lines; without it there are none.
pub fn ours(name: &str, config: &Path, log: Option<&Path>) -> io::Result<Contender> {
    let port = free_port()?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_imds_mock"));
    command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
    command.arg("--config").arg(config).stderr(Stdio::null());
    match log {
        Some(log) => command.stdout(File::create(log)?),
        None => command.arg("--quiet").stdout(Stdio::null()),
    };
    Contender::start(name, port, command)
}

/// Where nginx is; on Debian /usr/sbin is not in everybody's path.
fn nginx_program() -> PathBuf {
    let known = ["/usr/sbin/nginx", "/usr/local/sbin/nginx"];
    let found = known.iter().map(PathBuf::from).find(|path| path.exists());
    found.unwrap_or("nginx".into())
}

/// nginx with one worker, answering the given paths with bodies of the given sizes: from its
/// configuration, and the large ones from files it keeps open.
pub fn nginx(directory: &Path, sizes: &[(String, usize)]) -> io::Result<Contender> {
    // A longer string does not fit nginx's buffer for its configuration.
    const MAX_INLINE: usize = 3000;
    let port = free_port()?;
    let mut locations = String::new();
    for (index, (path, size)) in sizes.iter().enumerate() {
        let body = "x".repeat(*size);
        let action = if *size <= MAX_INLINE {
            format!("return 200 \"{body}\";")
        } else {
            fs::write(directory.join(format!("body{index}")), body)?;
            format!("try_files /body{index} =404;")
        };
        locations.push_str(&format!("location = \"{path}\" {{ {action} }}\n"));
    }
    let at = directory.display();
    let config = format!(
        "worker_processes 1;\ndaemon off;\npid {at}/nginx.pid;\nerror_log {at}/nginx.log;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\naccess_log off;\nkeepalive_requests 1000000000;\nroot {at};\nsendfile on;\n\
         default_type text/plain;\nopen_file_cache max=100;\nopen_file_cache_valid 3600s;\n\
         client_body_temp_path {at}/1;\nproxy_temp_path {at}/2;\nfastcgi_temp_path {at}/3;\n\
         uwsgi_temp_path {at}/4;\nscgi_temp_path {at}/5;\n\
         server {{\nlisten 127.0.0.1:{port} backlog=1024;\n{locations}\n}}\n}}\n"
    );
    let file = directory.join("nginx.conf");
    fs::write(&file, config)?;
    let mut command = Command::new(nginx_program());
    command.arg("-p").arg(directory).arg("-c").arg(&file);
    command.stderr(Stdio::null());
    Contender::start("nginx", port, command)
}

/// Any other command, run by the shell; `{port}` in it is the port to listen on.
pub fn other(name: &str, command: &str) -> io::Result<Contender> {
    let port = free_port()?;
    let script = format!("exec {}", command.replace("{port}", &port.to_string()));
    let mut command = Command::new("sh");
    command.args(["-c", &script]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    Contender::start(name, port, command)
}
