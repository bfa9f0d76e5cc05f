//! Where a configuration comes from: a file or the example compiled in, and the flags that override
//! it.

use std::fmt;
use std::path::{Path, PathBuf};

use super::file::{Config, Flag};
use super::report::Problem;

/// The configuration served without `--config`.
const EXAMPLE: &str = include_str!("../../config.json");

/// Where a configuration comes from: a file, or the example compiled in, and the flags that
/// override it.
#[derive(Clone, Debug, Default)]
pub struct Source {
    pub file: Option<PathBuf>,
    pub flags: Vec<Flag>,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match &self.file {
            None => write!(f, "the built-in example configuration"),
            Some(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Source {
    /// Reads and checks the configuration. Returns it with what deserves a warning, or everything
    /// that is wrong with it; the place of a problem with a flag is the flag.
    pub fn load(&self) -> Result<(Config, Vec<Problem>), Vec<Problem>> {
        let problem = |what: String| {
            let place = String::new();
            vec![Problem { place, what }]
        };
        let text = match &self.file {
            None => EXAMPLE.to_owned(),
            Some(path) => {
                let bytes = std::fs::read(path);
                let bytes = bytes.map_err(|e| problem(format!("cannot read it: {e}")))?;
                String::from_utf8(bytes).map_err(|e| {
                    let place = e.utf8_error().valid_up_to() + 1;
                    problem(format!("not UTF-8 (byte {place})"))
                })?
            }
        };
        let directory = self.file.as_ref().and_then(|path| path.parent());
        Config::parse(&text, directory.unwrap_or(Path::new("")), &self.flags)
    }
}
