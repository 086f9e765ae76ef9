//! Lanes in a file: the rules, what a commit that is fenced off leaves, and processes that write one file.
//! The other process is this test's own program, started anew.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process};
use whimbrel_plugin_api::abi::Validation;
use whimbrel_plugin_api::abi::root_module::local;
use whimbrel_plugin_api::abi::sink::ForeignSink;
use whimbrel_plugin_api::serde_json::json;
use whimbrel_plugin_api::sink::{Checkpoint, Committed, LaneClaim, LaneState};
use whimbrel_plugin_api::{CollectionsRequest, ConflictPolicy, Error, Sink as _, Source as _};
use whimbrel_turso::WhimbrelPlugin;

use crate::harness::{File, Quiet, prepared, todos};
use crate::rules::{checkpoint, claim, commit, keeps_the_rules, lane, prepare, some};

/// Names the file for [`one_process_that_writes`].
const FILE: &str = "WHIMBREL_TEST_LANES_FILE";

fn stored(file: &File) -> Vec<i64> {
    let connection = file.sql();
    let mut statement = connection.prepare("SELECT n FROM numbers ORDER BY n").unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

/// A session that has lane 0, and what it has of it.
fn holder(file: &File) -> (ForeignSink, LaneState) {
    let mut sink = file.sink();
    prepare(&mut sink);
    let mut states = sink.take_over(&[claim(0)]).unwrap();
    (sink, states.remove(0))
}

#[test]
fn claims_and_commits_keep_the_rules() {
    let file = File::new();
    let wanted = keeps_the_rules(400, &mut || file.sink());
    assert_eq!(stored(&file), wanted);
}

#[test]
fn the_table_is_made_by_the_first_claim_and_is_no_collection() {
    let file = File::new();
    let mut sink = file.sink();
    sink.check().unwrap();
    prepared(&mut sink, &todos());
    let tables = "SELECT count(*) FROM sqlite_master WHERE name = '_whimbrel_lane'";
    assert_eq!(file.one::<i64>(tables), 0);
    assert_eq!(sink.take_over(&[]).unwrap(), []);
    assert_eq!(file.one::<i64>(tables), 0);
    sink.take_over(&[claim(0)]).unwrap();
    assert_eq!(file.one::<i64>(tables), 1);
    let found = file.source().collections(&CollectionsRequest::default()).unwrap();
    let names: Vec<&str> = found.iter().map(|collection| collection.name.as_str()).collect();
    assert_eq!(names, ["todos"]);
}

#[test]
fn tables_of_another_prefix_have_lanes_of_their_own() {
    let file = File::new();
    let (mut sink, state) = holder(&file);
    let records = some(0..3);
    commit(&mut sink, Some(&records), &checkpoint(&state, 3, true)).unwrap();
    let mut config = file.config.clone();
    config["table_prefix"] = json!("other_");
    let open = local::<WhimbrelPlugin>().open_sink(&config, Arc::new(Quiet), Validation::Full);
    let state = open.unwrap().take_over(&[claim(0)]).unwrap().remove(0);
    assert_eq!((state.epoch, state.seq, state.done), (1, 0, false));
}

#[test]
fn a_commit_that_is_fenced_off_leaves_no_record_and_the_session_usable() {
    let file = File::new();
    let (mut old, state) = holder(&file);
    let records = some(0..5);
    commit(&mut old, Some(&records), &checkpoint(&state, 5, false)).unwrap();
    // Of the past, and of a future that nobody has granted.
    for (epoch, seq) in [(1, 0), (1, 2), (2, 1), (2, 0)] {
        let next = Checkpoint {
            epoch,
            seq,
            ..checkpoint(&state, 5, false)
        };
        let outcome = commit(&mut old, Some(&some(10..15)), &next).unwrap();
        assert_eq!(outcome, Committed::Fenced, "{epoch} {seq}");
    }
    // Taken over in between: known at `begin`, before anything is written.
    let (mut new, _) = holder(&file);
    let state = LaneState { seq: 1, ..state };
    assert_eq!(old.begin(&lane(0)).unwrap_err().code, Error::fenced().code);
    // Whoever has not claimed the lane itself finds out when it commits.
    let mut third = file.sink();
    prepare(&mut third);
    let outcome = commit(&mut third, Some(&some(20..25)), &checkpoint(&state, 5, false));
    assert_eq!(outcome.unwrap(), Committed::Fenced);
    assert_eq!(stored(&file), [0, 1, 2, 3, 4]);
    let now = LaneState { epoch: 2, ..state };
    let outcome = commit(&mut new, Some(&some(30..31)), &checkpoint(&now, 1, false));
    assert_eq!(outcome.unwrap(), Committed::Committed { seq: 2 });
}

#[test]
fn a_lane_that_somebody_removed_or_spoilt_lets_nothing_in() {
    let file = File::new();
    let (mut sink, state) = holder(&file);
    file.execute("DELETE FROM _whimbrel_lane");
    let outcome = commit(&mut sink, Some(&some(0..5)), &checkpoint(&state, 5, false));
    assert_eq!(outcome.unwrap(), Committed::Fenced);
    assert!(stored(&file).is_empty());
    sink.take_over(&[claim(0)]).unwrap();
    for spoilt in [
        "epoch = -1",
        "cursor = 'text'",
        "extensions = '['",
        "begun_by = x'ff'",
    ] {
        file.execute(&format!("UPDATE _whimbrel_lane SET {spoilt}"));
        assert_eq!(
            sink.take_over(&[claim(0)]).unwrap_err().code,
            "turso.bad_lane",
            "{spoilt}"
        );
        file.execute("DELETE FROM _whimbrel_lane");
        sink.take_over(&[claim(0)]).unwrap();
    }
}

#[test]
fn a_checkpoint_without_a_lane_is_what_it_was() {
    let file = File::new();
    let mut sink = file.sink();
    prepare(&mut sink);
    for _ in 0..2 {
        let outcome = commit(&mut sink, None, &Checkpoint::default()).unwrap();
        assert_eq!(outcome, Committed::Committed { seq: 1 });
    }
    let outcome = commit(&mut sink, Some(&some(0..2)), &Checkpoint::default()).unwrap();
    assert_eq!(
        (outcome, stored(&file).len()),
        (Committed::Committed { seq: 1 }, 2)
    );
    // Who takes some lanes over takes all of them over.
    sink.take_over(&[claim(0)]).unwrap();
    let unclaimed = Checkpoint {
        lane: lane(1),
        ..Checkpoint::default()
    };
    let outcome = commit(&mut sink, Some(&some(2..4)), &unclaimed).unwrap();
    assert_eq!((outcome, stored(&file).len()), (Committed::Fenced, 2));
}

#[test]
fn a_file_that_somebody_else_has_locked_is_said_to_be_busy() {
    let file = File::new();
    let (mut sink, _) = holder(&file);
    let other = file.sql();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = sink.take_over(&[claim(0)]).unwrap_err();
    assert_eq!(error.code, "turso.busy");
    assert!(error.kind.is_transient());
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(sink.take_over(&[claim(0)]).unwrap()[0].epoch, 2);
}

/// Another process that writes the file as it is told.
struct Other {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Other {
    fn start(path: &Path) -> Self {
        let name = "one_process_that_writes";
        let module = module_path!().split_once("::").unwrap().1;
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", &format!("{module}::{name}")])
            .env(FILE, path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            input: child.stdin.take().unwrap(),
            output: BufReader::new(child.stdout.take().unwrap()).lines(),
            child,
        }
    }

    /// Has it do something; what it says of that.
    fn told(&mut self, what: &str) -> String {
        writeln!(self.input, "{what}").unwrap();
        let said = self.output.by_ref().map_while(Result::ok).find_map(|line| {
            let (_, said) = line.split_once("it says: ")?;
            Some(said.to_owned())
        });
        said.unwrap()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    fn name(&self) -> String {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        format!("process {} on `{host}`", self.child.id())
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Does nothing unless a test of this file has started it.
#[test]
fn one_process_that_writes() {
    let Some(path) = std::env::var_os(FILE).map(PathBuf::from) else {
        return;
    };
    let config = json!({ "url": path.to_str().unwrap(), "busy_timeout_ms": 50 });
    let mut session: Option<(ForeignSink, LaneState)> = None;
    for line in std::io::stdin().lines().map_while(Result::ok) {
        let outcome = match (line.as_str(), &mut session) {
            ("take over", None) => {
                let mut sink = local::<WhimbrelPlugin>()
                    .open_sink(&config, Arc::new(Quiet), Validation::Full)
                    .unwrap();
                prepare(&mut sink);
                sink.take_over(&[claim(0)])
                    .map(|mut states| session = Some((sink, states.remove(0))))
            }
            ("write", Some((sink, _))) => sink
                .begin(&lane(0))
                .and_then(|()| sink.write("numbers", &some(100..200), ConflictPolicy::Overwrite))
                .map(drop),
            ("commit" | "commit all", Some((sink, state))) => {
                let next = checkpoint(state, 100, line == "commit all");
                sink.commit(&next).map(|outcome| {
                    *state = state.committed(&next).unwrap();
                    assert_eq!(outcome, Committed::Committed { seq: state.seq });
                })
            }
            ("finalize", Some((sink, _))) => sink.finalize(),
            ("close", _) => {
                session = None;
                Ok(())
            }
            _ => panic!("`{line}` makes no sense here"),
        };
        println!(
            "it says: {}",
            outcome.err().map_or("done".to_owned(), |error| error.code)
        );
    }
}

/// Refused because `other` lives, whoever else is claimed.
fn refused(sink: &mut ForeignSink, other: &Other) {
    let error = sink.take_over(&[claim(1), claim(0)]).unwrap_err();
    assert_eq!(error.code, "run.lane_held");
    assert!(error.message.starts_with(&other.name()), "{}", error.message);
}

#[test]
fn a_writer_that_lives_is_named_and_one_that_was_killed_is_replaced() {
    let file = File::new();
    let mut other = Other::start(&file.path);
    for told in ["take over", "write", "commit"] {
        assert_eq!(other.told(told), "done");
    }
    let mut sink = file.sink();
    refused(&mut sink, &other);
    // All or none: the other lane was free.
    assert_eq!(file.one::<i64>("SELECT count(*) FROM _whimbrel_lane"), 1);
    // Stopped with a transaction open: the lock is not waited for, and whoever does wait is told of whom.
    assert_eq!(other.told("write"), "done");
    other.signal(Signal::STOP);
    refused(&mut sink, &other);
    let finding = file.sink().check().unwrap().remove(0);
    assert_eq!(finding.code, "turso.busy");
    assert!(finding.message.contains(&other.name()), "{}", finding.message);
    other.signal(Signal::KILL);
    other.child.wait().unwrap();
    let claim = LaneClaim {
        begun_by: "another run".to_owned(),
        ..claim(0)
    };
    let state = sink.take_over(&[claim]).unwrap().remove(0);
    assert_eq!((state.epoch, state.seq), (2, 0));
    // What was not committed is gone with its writer.
    assert_eq!(stored(&file), (100..200).collect::<Vec<i64>>());
}

#[test]
fn a_writer_that_cannot_be_looked_at_is_fenced_off() {
    let file = File::new();
    let mut other = Other::start(&file.path);
    for told in ["take over", "write", "commit"] {
        assert_eq!(other.told(told), "done");
    }
    let mut sink = file.sink();
    refused(&mut sink, &other);
    file.execute("UPDATE _whimbrel_lane SET holder = json_set(holder, '$.host', 'elsewhere', '$.boot', 'other pid:[1]')");
    assert_eq!(sink.take_over(&[claim(0)]).unwrap()[0].epoch, 2);
    assert_eq!(other.told("write"), Error::fenced().code);
    // It lets go of nothing that is not its own.
    assert_eq!(other.told("finalize"), "done");
    let holders = "SELECT count(*) FROM _whimbrel_lane WHERE holder <> ''";
    assert_eq!(file.one::<i64>(holders), 1);
}

#[test]
fn who_was_replaced_is_told_so_and_not_who_holds_the_lane() {
    let file = File::new();
    let (mut sink, state) = holder(&file);
    sink.finalize().unwrap();
    let mut other = Other::start(&file.path);
    assert_eq!(other.told("take over"), "done");
    refused(&mut sink, &other);
    let held = LaneClaim {
        held: Some(state.epoch),
        ..claim(0)
    };
    for claims in [vec![held.clone()], vec![claim(0), held]] {
        assert_eq!(sink.take_over(&claims).unwrap_err().code, Error::fenced().code);
    }
}

#[test]
fn what_is_committed_is_found_by_the_next_process() {
    let file = File::new();
    let mut other = Other::start(&file.path);
    for told in ["take over", "write", "commit"] {
        assert_eq!(other.told(told), "done");
    }
    drop(other);
    let state = file.sink().take_over(&[claim(0)]).unwrap().remove(0);
    let before = LaneState {
        epoch: 1,
        ..LaneState::unknown(lane(0))
    };
    let after = before.committed(&checkpoint(&before, 100, false)).unwrap();
    assert_eq!(state, LaneState { epoch: 2, ..after });
}

#[test]
fn a_process_that_has_ended_its_work_and_lives_on_holds_nothing() {
    // By the last call of a successful run, and by closing a session whose lanes are done.
    let endings: [(&[&str], bool); 4] = [
        (&["write", "commit", "finalize"], false),
        (&["write", "commit all", "close"], false),
        (&["write", "commit", "close"], true),
        (&["write", "close"], true),
    ];
    for (told, holds) in endings {
        let file = File::new();
        let mut other = Other::start(&file.path);
        assert_eq!(other.told("take over"), "done");
        for told in told {
            assert_eq!(other.told(told), "done");
        }
        let mut sink = file.sink();
        if holds {
            refused(&mut sink, &other);
        } else {
            assert_eq!(sink.take_over(&[claim(0)]).unwrap()[0].epoch, 2, "{told:?}");
        }
    }
}

#[test]
fn after_finalize_the_last_checkpoint_is_made_by_who_still_has_the_lane() {
    let file = File::new();
    let (mut sink, state) = holder(&file);
    sink.finalize().unwrap();
    let next = checkpoint(&state, 0, true);
    assert_eq!(
        commit(&mut sink, None, &next).unwrap(),
        Committed::Committed { seq: 1 }
    );
    drop(sink);
    let state = file.sink().take_over(&[claim(0)]).unwrap().remove(0);
    assert_eq!((state.seq, state.done, state.cursor), (1, true, next.cursor));
}

#[test]
fn who_was_replaced_does_not_let_go_in_the_name_of_the_next() {
    let file = File::new();
    let (mut old, state) = holder(&file);
    commit(&mut old, None, &checkpoint(&state, 0, true)).unwrap();
    let (new, _) = holder(&file);
    old.finalize().unwrap();
    drop(old);
    let holders = "SELECT count(*) FROM _whimbrel_lane WHERE holder <> ''";
    assert_eq!(file.one::<i64>(holders), 1);
    // Its lane is done.
    drop(new);
    assert_eq!(file.one::<i64>(holders), 0);
}
