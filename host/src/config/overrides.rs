//! What the flags of a command say about a job.
//!
//! Flags arrive as texts and are read as the schema of the job asks, so that a bad one is said in the same words as a
//! bad value of a file. Neighbours: `cli` makes them, `layers.rs` lays them over everything else.

use std::path::PathBuf;

use serde_json::Value;

/// All of them; the default says nothing.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--settings`: the settings file.
    pub settings: Option<PathBuf>,
    /// `--working-dir`: the folder of the job's runs.
    pub working_dir: Option<PathBuf>,
    /// `--set`: each as `name=value`.
    pub parameters: Vec<String>,
    /// `--source`: the environment that is read.
    pub source: Option<String>,
    /// `--sink`: the environment that is written.
    pub sink: Option<String>,
    /// Keys of the job that flags set.
    pub keys: Vec<KeyFlag>,
}

/// A flag that sets one key of the job.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyFlag {
    /// The flag, such as `--batch-size`.
    pub flag: &'static str,
    /// The key, as a pointer such as `/import/batch_size`.
    pub pointer: &'static str,
    /// What it says.
    pub says: Said,
}

/// What a flag says.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// A text, to be read as the schema asks.
    Text(String),
    /// A value that is what it is.
    Value(Value),
}
