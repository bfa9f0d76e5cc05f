//! What the machine takes for itself. Whoever asserts that something is quick measures an exchange
//! with a server that only echoes beside it: what that one takes is nobody else's doing.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Between two exchanges.
const PAUSE: Duration = Duration::from_millis(5);
/// So many times what an exchange of two threads takes at worst, one of several does.
const FACTOR: u32 = 4;

/// Exchanges with an echo, one after the other, until they are asked how long they took.
pub struct Machine {
    over: Arc<AtomicBool>,
    exchanges: JoinHandle<Duration>,
}

impl Machine {
    pub fn watch() -> Machine {
        let echo = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = echo.local_addr().expect("it is bound");
        let over = Arc::new(AtomicBool::new(false));
        let is_over = over.clone();
        let exchanges = thread::spawn(move || {
            thread::scope(|scope| {
                // Ends with a connection that says nothing.
                scope.spawn(move || {
                    for stream in echo.incoming() {
                        let mut stream = stream.expect("an exchange");
                        let mut byte = [0];
                        match stream.read(&mut byte) {
                            Ok(1) => stream.write_all(&byte).expect("it reads"),
                            _ => return,
                        }
                    }
                });
                let connect = || TcpStream::connect(address).expect("it listens");
                let mut worst = Duration::ZERO;
                for n in 0.. {
                    let since = Instant::now();
                    let mut stream = connect();
                    stream.write_all(b"x").expect("it reads");
                    stream.read_to_end(&mut Vec::new()).expect("it echoes");
                    worst = worst.max(since.elapsed());
                    // A few at least, however quick what is measured was.
                    if n >= 5 && is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    thread::sleep(PAUSE);
                }
                drop(connect());
                worst
            })
        });
        Machine { over, exchanges }
    }

    /// How long an exchange took at worst.
    pub fn noise(self) -> Duration {
        self.over.store(true, Ordering::Relaxed);
        self.exchanges.join().expect("it echoes")
    }
}

/// How long something took, on a machine that was so busy.
pub struct Timed {
    pub took: Duration,
    noise: Duration,
}

/// Does `work` with an echo beside it.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Timed) {
    let machine = Machine::watch();
    let since = Instant::now();
    let done = work();
    let took = since.elapsed();
    let noise = machine.noise();
    (done, Timed { took, noise })
}

impl Timed {
    /// Asserts that it took `limit` at most on a machine that has nothing else to do.
    #[track_caller]
    pub fn assert_within(&self, limit: Duration) {
        let Timed { took, noise } = *self;
        let allowed = limit + noise * FACTOR;
        assert!(
            took < allowed,
            "{took:?}, expected {limit:?}; an echo took {noise:?}"
        );
    }
}
