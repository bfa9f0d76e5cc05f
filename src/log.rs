//! Lines of output through one writer thread behind a bounded queue: a reader of our output that
//! stalls or goes away never blocks or ends the server. What had to be dropped is counted and said.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes that wait for the writer before lines are dropped.
const MAX_PENDING: usize = 1024 * 1024;
/// How long the writer gathers lines after it has written some, so that a busy server does not
/// wake it for each one.
const GATHER: Duration = Duration::from_millis(1);

/// Says something to whoever runs the mock: one line, without its end.
pub type Report = Arc<dyn Fn(&str) + Send + Sync>;

/// A handle on one output; clones write to the same.
#[derive(Clone)]
pub struct Log {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// There is something to write.
    filled: Condvar,
    /// All has been written, or never will be.
    drained: Condvar,
}

#[derive(Default)]
struct State {
    pending: Vec<u8>,
    lost: u64,
    writer_waits: bool,
    writing: bool,
    broken: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    /// Starts the thread that writes to `output`. `on_loss` is told once when the output is gone
    /// for good.
    pub fn start(
        output: impl Write + Send + 'static,
        on_loss: impl FnOnce(&io::Error) + Send + 'static,
    ) -> io::Result<Log> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            filled: Condvar::new(),
            drained: Condvar::new(),
        });
        let writer = shared.clone();
        thread::Builder::new()
            .name("log".into())
            .stack_size(128 * 1024)
            .spawn(move || write_all(&writer, output, on_loss))?;
        Ok(Log { shared })
    }

    /// Appends what `line` writes, and a newline. Never blocks on the output.
    pub fn line(&self, line: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.shared.lock();
        if state.broken || state.pending.len() > MAX_PENDING {
            state.lost += 1;
            return;
        }
        line(&mut state.pending);
        state.pending.push(b'\n');
        if state.writer_waits {
            state.writer_waits = false;
            self.shared.filled.notify_one();
        }
    }

    /// Waits until everything has been written, at most `limit`. Returns how many lines were lost
    /// and not yet reported in the output itself.
    pub fn finish(&self, limit: Duration) -> u64 {
        let deadline = Instant::now() + limit;
        let mut state = self.shared.lock();
        while !state.broken && (state.writing || !state.pending.is_empty()) {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                break;
            };
            state = self
                .shared
                .drained
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        state.lost
    }
}

fn write_all(shared: &Shared, mut output: impl Write, on_loss: impl FnOnce(&io::Error)) {
    let mut batch = Vec::new();
    let error = loop {
        let mut state = shared.lock();
        while state.pending.is_empty() {
            state.writing = false;
            state.writer_waits = true;
            shared.drained.notify_all();
            state = shared
                .filled
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.writer_waits = false;
        state.writing = true;
        std::mem::swap(&mut state.pending, &mut batch);
        let lost = std::mem::take(&mut state.lost);
        drop(state);
        if lost > 0 {
            let _ = writeln!(batch, "{lost} lines lost: the output did not keep up");
        }
        if let Err(e) = output.write_all(&batch).and_then(|()| output.flush()) {
            break e;
        }
        batch.clear();
        thread::sleep(GATHER);
    };
    let mut state = shared.lock();
    state.broken = true;
    state.writing = false;
    state.lost += batch.iter().filter(|&&b| b == b'\n').count() as u64;
    state.pending = Vec::new();
    shared.drained.notify_all();
    drop(state);
    on_loss(&error);
}

/// Writes `text` with control, quote-breaking and non-ASCII bytes as `\xNN`: a hostile target must
/// not command the terminal or forge a line.
pub fn escape(text: &str, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' => out.push(byte),
            _ => {
                let _ = write!(out, "\\x{byte:02x}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Takes one write, then blocks until told to go on or to fail.
    struct Stalled(mpsc::Sender<Vec<u8>>, mpsc::Receiver<io::Result<()>>);

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.send(bytes.to_vec());
            self.1.recv().unwrap_or(Ok(()))?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stalled_output_loses_lines_and_says_how_many() {
        let (written, writes) = mpsc::channel();
        let (go_on, gate) = mpsc::channel();
        let log = Log::start(Stalled(written, gate), |_| {}).unwrap();
        let kilobyte = |out: &mut Vec<u8>| out.extend([b'x'; 1023]);
        log.line(kilobyte);
        assert_eq!(writes.recv().unwrap().len(), 1024);
        let total = 2 * MAX_PENDING / 1024;
        (0..total).for_each(|_| log.line(kilobyte));
        go_on.send(Ok(())).unwrap();
        let batch = writes.recv().unwrap();
        let kept = batch.iter().filter(|&&b| b == b'\n').count() - 1;
        let said = format!("{} lines lost: the output did not keep up\n", total - kept);
        assert!(batch.ends_with(said.as_bytes()), "kept {kept} of {total}");
    }

    #[test]
    fn a_closed_output_is_reported_once_and_lines_are_counted() {
        let (written, _writes) = mpsc::channel();
        let (go_on, gate) = mpsc::channel();
        let (lost, loss) = mpsc::channel();
        let log = Log::start(Stalled(written, gate), move |e| {
            let _ = lost.send(e.kind());
        })
        .unwrap();
        log.line(|out| out.extend(b"one"));
        go_on.send(Err(io::ErrorKind::BrokenPipe.into())).unwrap();
        assert_eq!(loss.recv().unwrap(), io::ErrorKind::BrokenPipe);
        log.line(|out| out.extend(b"two"));
        assert_eq!(log.finish(Duration::from_secs(5)), 2);
    }

    #[test]
    fn what_could_command_a_terminal_is_escaped() {
        let mut out = Vec::new();
        escape("/a\x1b[2J\u{e9} b", &mut out);
        assert_eq!(out, b"/a\\x1b[2J\\xc3\\xa9 b");
    }
}
