//! The calls that a worker has begun and not ended, as its events and its board tell: what explains a crash.
//! Neighbour: `supervise` asks it when a worker is lost.

use std::collections::BTreeMap;

use whimbrel_plugin_api::manifest::Role;

use crate::events::Event;
use crate::loader::call_board::BoardCall;

/// One such call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningCall {
    /// The plugin.
    pub plugin: String,
    /// The role.
    pub role: Role,
    /// The call.
    pub call: String,
}

/// All of them, in the order in which they began.
#[derive(Debug, Default)]
pub struct RunningCalls(BTreeMap<u64, RunningCall>);

impl RunningCalls {
    /// Takes note of an event.
    pub fn observe(&mut self, event: &Event) {
        match event {
            Event::CallStarted {
                call_id,
                plugin,
                role,
                call,
            } => {
                let call = RunningCall {
                    plugin: plugin.clone(),
                    role: *role,
                    call: call.clone(),
                };
                self.0.insert(*call_id, call);
            }
            Event::CallEnded { call_id } => {
                self.0.remove(call_id);
            }
            _ => {}
        }
    }

    /// Takes over what stands on the board of a worker that is gone.
    pub fn add_board(&mut self, calls: Vec<BoardCall>) {
        self.0.extend(calls.into_iter().map(|on_board| {
            let call = RunningCall {
                plugin: on_board.plugin,
                role: on_board.role,
                call: on_board.call,
            };
            (on_board.call_id, call)
        }));
    }

    /// The one that began last: the likeliest to have ended the process.
    pub fn last(&self) -> Option<&RunningCall> {
        self.0.last_key_value().map(|(_, call)| call)
    }

    /// Each of them for people, the last one first: `read` of source `x`.
    pub fn each(&self) -> Vec<String> {
        let each = self.0.values().rev();
        each.map(|call| format!("`{}` of {} `{}`", call.call, call.role, call.plugin))
            .collect()
    }

    /// For people: `read` of source `x`, `write` of sink `y`.
    pub fn describe(&self) -> String {
        let each = self.each();
        if each.is_empty() {
            "no plugin call".to_owned()
        } else {
            each.join(", ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_begun_and_not_ended_is_named_last_first() {
        let mut calls = RunningCalls::default();
        for (call_id, call) in [(1, "open"), (2, "read"), (3, "write")] {
            calls.observe(&Event::CallStarted {
                call_id,
                plugin: "p".into(),
                role: Role::Source,
                call: call.into(),
            });
        }
        calls.observe(&Event::CallEnded { call_id: 1 });
        calls.add_board(vec![BoardCall {
            call_id: 4,
            plugin: "q".into(),
            role: Role::Sink,
            call: "flush".into(),
        }]);
        assert_eq!(
            calls.describe(),
            "`flush` of sink `q`, `write` of source `p`, `read` of source `p`"
        );
        assert_eq!(calls.last().unwrap().call, "flush");
    }
}
