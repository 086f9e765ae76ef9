//! What a lane says of records that are sent before their checkpoint: whoever goes on there after a crash, or in another session, may
//! meet them, and takes them for its own.
//!
//! It is noted before the first of them, where it matters whose a document is, and the checkpoint takes the note back. Commits that are
//! guarded need none: they note what is ahead (`lane_commit`). Neighbours: `session` asks for it, `lane_document` stores it.

use whimbrel_plugin_api::Result;
use whimbrel_plugin_api::runtime::Runtime;
use whimbrel_plugin_api::sink::LaneId;

use super::lane_commit::change_of;
use super::lane_document::Stored;
use super::lanes::{Lanes, no_time};
use super::policy::Policy;
use super::session::Writer;
use crate::error::{Class, Fault};

/// As which [`Sending::Unnoted`] and [`Sending::Earlier`] are stored; names of calls are longer.
const UNNOTED: &str = "unnoted";
const EARLIER: &str = "earlier";

/// Which records may be there that have no checkpoint yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Sending {
    /// None.
    #[default]
    Nothing,
    /// Those of whoever has the lane; it need not know whose a document is, so it notes nothing. Nor do earlier versions.
    Unnoted,
    /// Those that the call of this name is followed by. They come again with the next checkpoint, which is of the same epoch.
    Noted(String),
    /// Those of an earlier epoch: nobody knows how many, so that later checkpoints do not end it.
    Earlier,
}

impl Sending {
    /// As it is stored.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Nothing => "",
            Self::Unnoted => UNNOTED,
            Self::Noted(name) => name,
            Self::Earlier => EARLIER,
        }
    }

    /// What is stored; `None` by earlier versions.
    pub(super) fn of(text: Option<String>) -> Self {
        match text {
            None => Self::Unnoted,
            Some(text) if text.is_empty() => Self::Nothing,
            Some(text) if text == UNNOTED => Self::Unnoted,
            Some(text) if text == EARLIER => Self::Earlier,
            Some(name) => Self::Noted(name),
        }
    }

    /// Whether a document that is there may be the run's own.
    pub(super) fn is_doubtful(&self) -> bool {
        matches!(self, Self::Noted(_) | Self::Earlier)
    }
}

impl Stored {
    /// Whether documents may be there that were written since the checkpoint, for this lane.
    pub(super) fn is_doubtful(&self) -> bool {
        self.ahead.count > 0 || self.sending.is_doubtful()
    }

    /// What it says once somebody goes on with it.
    pub(super) fn sending_taken_over(&self) -> Sending {
        // Only a run that says which one it is can have been there before.
        let is_silent = self.sending == Sending::Unnoted && !self.state.begun_by.is_empty();
        match self.is_doubtful() || is_silent {
            true => Sending::Earlier,
            false => self.sending.clone(),
        }
    }

    /// What it says after a checkpoint whose records were sent before it; `None` if there were none of these.
    pub(super) fn sending_committed(&self, sent: Option<Way>) -> Sending {
        match (&self.sending, sent) {
            (Sending::Earlier, _) => Sending::Earlier,
            (before, None) => before.clone(),
            (_, Some(Way::Silently)) => Sending::Unnoted,
            (_, Some(Way::Noted | Way::WithCheckpoint)) => Sending::Nothing,
        }
    }
}

/// How records of a transaction are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// With their checkpoint.
    WithCheckpoint,
    /// Before it, after a note.
    Noted,
    /// Before it, where it does not matter whose a document is.
    Silently,
}

impl Writer {
    /// Before records of the open transaction are sent: has the lane say so where that matters.
    ///
    /// # Errors
    /// What reading and writing bring.
    pub(super) fn note_sending(&mut self, policy: Policy) -> Result<()> {
        let Self {
            lanes,
            services,
            open,
            ..
        } = self;
        let Some(open) = open else { return Ok(()) };
        let now = match policy.tells_own() {
            true => Way::Noted,
            false => Way::Silently,
        };
        // What goes without a note after one is covered by it.
        if open.sent == Some(Way::Noted) || open.sent == Some(now) {
            return Ok(());
        }
        let noted = Runtime::get()?.block_on(services, lanes.note_sending(&open.lane, now));
        let was_noted = self.stopping_at(noted)?;
        if let Some(open) = &mut self.open {
            open.sent = Some(now);
            open.is_doubtful |= was_noted;
        }
        Ok(())
    }
}

impl Lanes {
    /// Notes that records are sent, unless the lane says enough. Answers whether some of the run may be there already.
    ///
    /// # Errors
    /// What reading and writing bring.
    async fn note_sending(&mut self, lane: &LaneId, way: Way) -> Result<bool> {
        // A lost answer is no loss: who finds its own name there has noted it.
        let note = match way {
            Way::Silently => Sending::Unnoted,
            _ => Sending::Noted(format!("{:032x}", fastrand::u128(..))),
        };
        let mut attempts = self.client.attempts();
        // If nobody has taken it over, there will be no checkpoint either.
        let Some(mut stored) = self.known.get(lane).cloned() else {
            return Ok(false);
        };
        loop {
            if stored.is_doubtful() || stored.sending == note {
                return Ok(stored.is_doubtful() && stored.sending != note);
            }
            let fault = match self.try_to_note(&stored, &note).await {
                Ok(now) => {
                    self.known.insert(lane.clone(), now);
                    return Ok(false);
                }
                Err(fault) if fault.is_unmet_condition() => fault.contended(),
                Err(fault) => fault,
            };
            if fault.class == Class::RateLimited {
                self.client.writes().slow_down(fault.retry_after);
            }
            attempts.after(fault).await?;
            // Another session may have taken it over for this one; whether it was another run is for the commit to find out.
            match self.look_again(lane).await? {
                Some(now) => stored = now,
                None => return Ok(false),
            }
        }
    }

    async fn try_to_note(&mut self, stored: &Stored, note: &Sending) -> Result<Stored, Fault> {
        let write = change_of(stored, note, &stored.state).sending(self.client.root());
        let times = self.send(vec![write]).await?;
        let update_time = times.first().copied().flatten().ok_or_else(no_time)?;
        Ok(Stored {
            sending: note.clone(),
            update_time,
            ..stored.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use gcloud_sdk::prost_types::Timestamp;
    use whimbrel_plugin_api::sink::LaneState;

    use super::super::lane_document::{Ahead, Pages};
    use super::*;

    fn lane(begun_by: &str, sending: Sending, ahead: u64) -> Stored {
        Stored {
            state: LaneState {
                begun_by: begun_by.to_owned(),
                ..LaneState::default()
            },
            ahead: Ahead {
                count: ahead,
                digest: Vec::new(),
            },
            sending,
            pages: Pages::default(),
            begun_epoch: 1,
            holder: String::new(),
            update_time: Timestamp::default(),
        }
    }

    #[test]
    fn what_is_stored_is_what_is_read() {
        let noted = || Sending::Noted("0123456789".to_owned());
        for sending in [Sending::Nothing, Sending::Unnoted, noted(), Sending::Earlier] {
            assert_eq!(Sending::of(Some(sending.text().to_owned())), sending);
        }
        assert_eq!(Sending::of(None), Sending::Unnoted);
    }

    #[test]
    fn who_goes_on_cannot_exclude_what_was_not_noted_and_does_not_know_how_much_was_sent() {
        let noted = || Sending::Noted("a call".to_owned());
        for (sending, ahead, expected) in [
            (Sending::Nothing, 0, Sending::Nothing),
            (Sending::Nothing, 7, Sending::Earlier),
            (Sending::Unnoted, 0, Sending::Earlier),
            (noted(), 0, Sending::Earlier),
            (Sending::Earlier, 0, Sending::Earlier),
        ] {
            let lane = lane("run 1", sending, ahead);
            assert_eq!(lane.sending_taken_over(), expected, "{lane:?}");
        }
        let nobody = lane("", Sending::Unnoted, 0);
        assert_eq!(nobody.sending_taken_over(), Sending::Unnoted);
    }

    #[test]
    fn a_checkpoint_ends_the_doubt_about_its_own_records_alone() {
        let noted = || Sending::Noted("a call".to_owned());
        for (sending, way, expected) in [
            (noted(), Some(Way::Noted), Sending::Nothing),
            (noted(), None, noted()),
            (Sending::Unnoted, Some(Way::Silently), Sending::Unnoted),
            (Sending::Nothing, Some(Way::WithCheckpoint), Sending::Nothing),
            (Sending::Earlier, Some(Way::Noted), Sending::Earlier),
            (Sending::Earlier, Some(Way::WithCheckpoint), Sending::Earlier),
        ] {
            let lane = lane("run 1", sending, 0);
            assert_eq!(lane.sending_committed(way), expected, "{lane:?} {way:?}");
        }
    }
}
