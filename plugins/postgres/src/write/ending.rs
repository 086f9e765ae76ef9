//! The ways out of a transaction: COMMIT together with the checkpoint of its lane, and ROLLBACK.
//!
//! What a lane is, and the statement that moves it on, is in `lanes`. Neighbour: [`Writer`] opens the transaction and fills it.

use whimbrel_plugin_api::sink::{Checkpoint, Committed};
use whimbrel_plugin_api::{Error, ErrorScope, Result};

use super::{Writer, no_connection, no_transaction};
use crate::error::Fault;
use crate::lanes;

impl Writer {
    /// Makes the transaction durable, together with the lane's checkpoint. `takes_over`: whether the session has lanes.
    ///
    /// # Errors
    /// Of scope transaction or session: it is certainly not durable.
    pub(crate) fn commit(&mut self, checkpoint: &Checkpoint, takes_over: bool) -> Result<Committed> {
        match &self.open {
            None => return Err(no_transaction()),
            Some(open) if open.load.is_some() => {
                return Err(Error::internal("`commit` came before `flush`"));
            }
            Some(_) => self.client.services().check_cancelled()?,
        }
        self.open = None;
        if self.connection.is_none() {
            return Err(no_connection());
        }
        let mut message = lanes::guard_statement(&self.client.config().state_schema, checkpoint, takes_over);
        // A guard that fails keeps the server from what follows in the same message.
        message += "COMMIT";
        let sent = self.on(async |connection| {
            let mut ended = 0;
            let outcome = connection.run_steps(&message, &mut ended).await;
            Ok((outcome, ended))
        });
        let Ok(Ok((outcome, ended))) = sent else {
            return Ok(Committed::Unknown);
        };
        let Err(fault) = outcome else {
            return Ok(Committed::Committed {
                seq: checkpoint.seq + 1,
            });
        };
        if self.connection.is_none() {
            return Ok(Committed::Unknown);
        }
        // What a trigger raises at COMMIT may look the same.
        let is_fenced = ended == 0 && lanes::is_fenced(&fault);
        let is_to_be_repeated = fault.sqlstate.as_deref().is_some_and(is_to_be_repeated);
        let error = self.end_by(fault);
        if is_fenced {
            Ok(Committed::Fenced)
        } else if is_to_be_repeated {
            Ok(Committed::NotCommitted)
        } else {
            Err(error)
        }
    }

    /// Undoes everything since `begin`. The session can be used again afterwards, over another connection if need be.
    pub(crate) fn abort(&mut self) {
        let Some(open) = self.open.take() else {
            return;
        };
        if let Some(load) = open.load {
            let connection = load.pump.give_up(&self.client).ok();
            self.connection = connection.filter(|connection| !connection.is_spoilt());
        }
        if self.connection.is_some() {
            let undone = self.on(async |connection| connection.run("ROLLBACK").await);
            if !matches!(undone, Ok(Ok(_))) {
                self.connection = None;
            }
        }
    }

    /// Ends the transaction because of `fault`, and says how much is gone with it.
    pub(super) fn end_by(&mut self, fault: Fault) -> Error {
        self.open = None;
        if self.connection.is_some() {
            let undone = self.on(async |connection| connection.run("ROLLBACK").await);
            if matches!(undone, Ok(Ok(_))) {
                return fault.error.with_scope(ErrorScope::Transaction);
            }
            self.connection = None;
        }
        fault.error.with_scope(ErrorScope::Session)
    }
}

/// Whether the database says that the same transaction may succeed if it is repeated.
fn is_to_be_repeated(sqlstate: &str) -> bool {
    matches!(sqlstate, "40001" | "40P01")
}
