//! How the sink breaks the rules of lanes when its script says so.
//! Neighbours: `sink`, which asks, `store`, which keeps the rules.

use whimbrel_plugin_api::Result;
use whimbrel_plugin_api::sink::{Checkpoint, Committed, LaneClaim, LaneState};

use crate::config::How;
use crate::store;

/// Takes lanes over, as the script says.
pub(crate) fn take_over(due: Option<How>, store: &str, claims: &[LaneClaim]) -> Result<Vec<LaneState>> {
    let changed = |change: fn(&mut LaneClaim)| {
        let mut claims = claims.to_vec();
        claims.iter_mut().for_each(change);
        store::take_over(store, &claims)
    };
    match due {
        Some(How::IgnoreHeld) => changed(|claim| claim.held = None),
        Some(How::NeverAnew) => changed(|claim| claim.begun_by.clear()),
        Some(How::AlwaysAnew) => {
            changed(|claim| claim.begun_by.push('*'))?;
            store::take_over(store, claims)
        }
        Some(How::GrantSome) => {
            let mut granted = Vec::new();
            for claim in claims {
                granted.extend(store::take_over(store, std::slice::from_ref(claim))?);
            }
            Ok(granted)
        }
        Some(How::OtherOrder) => {
            let mut granted = store::take_over(store, claims)?;
            granted.reverse();
            Ok(granted)
        }
        _ => store::take_over(store, claims),
    }
}

/// The checkpoint that is made durable, as the script says.
pub(crate) fn checkpoint(due: Option<How>, store: &str, sent: &Checkpoint) -> Result<Checkpoint> {
    let mut checkpoint = sent.clone();
    let stored = store::lane(store, &sent.lane)?.unwrap_or_else(|| LaneState::unknown(sent.lane.clone()));
    if matches!(due, Some(How::IgnoreGuard | How::WriteFenced)) {
        checkpoint.seq = stored.seq;
    }
    if matches!(due, Some(How::IgnoreEpoch | How::WriteFenced)) {
        checkpoint.epoch = stored.epoch;
    }
    if due == Some(How::LoseExtensions) {
        checkpoint.extensions.clear();
    }
    Ok(checkpoint)
}

/// What is said of a commit, as the script says.
pub(crate) fn said(
    due: Option<How>,
    sent: &Checkpoint,
    made: &Checkpoint,
    committed: Committed,
) -> Committed {
    match due {
        Some(How::UnknownKept) => Committed::Unknown,
        Some(How::WriteFenced) if (sent.epoch, sent.seq) != (made.epoch, made.seq) => Committed::Fenced,
        _ => committed,
    }
}
