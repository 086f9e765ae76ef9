//! Plays the script: counts calls, and does what is due.
//!
//! What spoils the whole process happens here; what spoils one answer is returned, for the call to carry out.

use std::collections::HashMap;
use std::hint::black_box;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use whimbrel_plugin_api::{Error, ErrorKind, ErrorScope, Result, Services};

use crate::config::{Call, How, ScriptedConfig};

/// How long a hanging call waits before it looks again whether it was cancelled; the token wakes it at once.
const HANG_STEP: Duration = Duration::from_secs(60);

/// Calls so far, by store and call.
static CALLS: Mutex<Option<HashMap<(String, Call), u64>>> = Mutex::new(None);

/// The script of one opened object.
#[derive(Clone)]
pub(crate) struct Script {
    pub(crate) config: ScriptedConfig,
    services: Services,
}

impl Script {
    pub(crate) fn new(config: ScriptedConfig, services: Services) -> Self {
        Self { config, services }
    }

    /// Notes one call and does what is due; what is left to the caller is returned.
    pub(crate) fn play(&self, call: Call) -> Result<Option<How>> {
        self.play_about(call, Value::Null)
    }

    /// As [`Script::play`], with what the call is about.
    pub(crate) fn play_about(&self, call: Call, about: Value) -> Result<Option<How>> {
        self.services.check_cancelled()?;
        self.act_about(call, &about)
    }

    /// As [`Script::play`], also after the call was cancelled.
    pub(crate) fn act(&self, call: Call) -> Result<Option<How>> {
        self.act_about(call, &Value::Null)
    }

    fn act_about(&self, call: Call, about: &Value) -> Result<Option<How>> {
        let number = self.count(call);
        self.tell(call, about)?;
        let due = self.config.misbehave.iter().find(|one| {
            one.call == call && number >= one.at && (one.times == 0 || number - one.at < one.times)
        });
        let Some(how) = due.map(|one| one.how) else {
            return Ok(None);
        };
        match how {
            How::Panic => panic!("scripted panic in call {number}{}", self.words()),
            How::Error => Err(Error::new(
                ErrorKind::Internal,
                "scripted.error",
                format!("the script says so{}", self.words()),
            )),
            How::TransientError => Err(Error::new(
                ErrorKind::Unavailable,
                "scripted.unavailable",
                format!(
                    "the script says that the system cannot be reached{}",
                    self.words()
                ),
            )
            .with_scope(ErrorScope::Transaction)
            .with_retry_after_ms(1)),
            How::Full => Err(self.full()),
            How::Hang => self.hang().map(|()| None),
            How::Slow | How::Wait => {
                let time = Duration::from_millis(self.config.slow_ms);
                if how == How::Wait {
                    self.services.waits(time);
                }
                if self.services.cancel_token().wait(time) {
                    return Err(Error::cancelled());
                }
                Ok(None)
            }
            How::Exit0 => std::process::exit(0),
            How::Segfault => segfault(),
            How::StackOverflow => Err(Error::internal(format!("{} calls", overflow(0)))),
            How::Abort => std::process::abort(),
            How::PrintStdout => {
                print(std::io::stdout(), &self.words());
                Ok(None)
            }
            How::PrintStderr => {
                print(std::io::stderr(), &self.words());
                Ok(None)
            }
            other => Ok(Some(other)),
        }
    }

    /// The error of a sink whose disk is full while a file of the config is there.
    pub(crate) fn check_full(&self) -> Result<()> {
        match &self.config.full_while {
            Some(path) if path.exists() => Err(self.full()),
            _ => Ok(()),
        }
    }

    fn full(&self) -> Error {
        let message = format!("the script says that the disk is full{}", self.words());
        Error::new(ErrorKind::Unavailable, "scripted.full", message)
            .with_help("make room")
            .with_scope(ErrorScope::Transaction)
            .with_pause()
    }

    /// What the config wants said, after a colon.
    fn words(&self) -> String {
        let words = [&self.config.says, &self.config.secret];
        words
            .into_iter()
            .flatten()
            .map(|text| format!(": {text}"))
            .collect()
    }

    /// Notes that the source bills `units` for `collection`, if it bills anything.
    pub(crate) fn bill(&self, collection: &str, units: u64) -> Result<()> {
        match &self.config.billed {
            Some(_) => self.append(
                &json!("billed"),
                &json!({ "collection": collection, "units": units }),
            ),
            None => Ok(()),
        }
    }

    fn tell(&self, call: Call, about: &Value) -> Result<()> {
        self.append(&json!(call), about)
    }

    /// Appends a line to the file of calls, in one write, so that lines of several threads stay whole.
    fn append(&self, call: &Value, about: &Value) -> Result<()> {
        let Some(path) = &self.config.calls_path else {
            return Ok(());
        };
        let line = json!({ "store": self.config.store, "call": call, "about": about });
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()))
            .map_err(|error| {
                Error::config("scripted.calls_path", "`calls_path` cannot be written").with_cause(&error)
            })
    }

    fn count(&self, call: Call) -> u64 {
        let mut calls = CALLS.lock().unwrap_or_else(PoisonError::into_inner);
        let number = calls
            .get_or_insert_default()
            .entry((self.config.store.clone(), call))
            .or_default();
        *number += 1;
        *number
    }

    fn hang(&self) -> Result<()> {
        loop {
            if self.config.hang_ignores_cancel {
                std::thread::park();
            } else if self.services.cancel_token().wait(HANG_STEP) {
                return Err(Error::cancelled());
            }
        }
    }
}

fn print(mut to: impl std::io::Write, words: &str) {
    let lines = format!(
        "scripted plugin prints{words}\n{{\"event\":\"run_finished\",\"outcome\":\"succeeded\"}}\n\x1b[2Jno line end"
    );
    // Whether it arrives is what the test wants to know.
    drop(to.write_all(lines.as_bytes()).and_then(|()| to.flush()));
}

fn segfault() -> ! {
    #[expect(unsafe_code, reason = "the test wants a segmentation fault")]
    // SAFETY: none; the address is not mapped, so the process ends here. It is aligned and not null, or the debug checks
    // of the standard library would abort first.
    unsafe {
        std::ptr::without_provenance_mut::<u64>(64).write_volatile(1);
    }
    std::process::abort()
}

#[expect(unconditional_recursion, reason = "the test wants the stack to overflow")]
fn overflow(depth: u64) -> u64 {
    let page = black_box([depth; 512]);
    overflow(depth + 1) + page[depth as usize % page.len()]
}
