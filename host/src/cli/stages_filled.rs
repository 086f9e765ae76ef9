//! Whether records that were refused on the way into a stage are missing in it: a stage that never became whole, or was lost, is filled
//! again from the start by the next run, which meets such records again.
//!
//! No commit decides about them; which phases the runs have begun tells how far their stages are. Neighbours:
//! [`crate::cli::refused_before`] and `rejected` ask this.

use whimbrel_plugin_api::Error;

use crate::events::Phase;
use crate::state::{PhaseStep, RunId, StateStore};

/// What a run has done with the stages of its job.
#[derive(Debug, Clone, Copy, Default)]
pub struct StagesFilled {
    is_staged: bool,
    /// Whether it has begun to fill what is extracted, and what is transformed.
    fills: (bool, bool),
    /// Whether it has got past filling them, or past those that an earlier run had filled.
    is_past: (bool, bool),
}

impl StagesFilled {
    /// Of `run`.
    ///
    /// # Errors
    /// What is wrong with the state.
    pub fn of(store: &dyn StateStore, run: &RunId) -> Result<Self, Error> {
        Ok(Self::by(&store.phase_steps(run)?))
    }

    fn by(steps: &[PhaseStep]) -> Self {
        let at = |wanted: PhaseStep| steps.iter().position(|step| *step == wanted);
        let started = |phase: Phase| at(PhaseStep::Started(phase));
        let ended = |phase: Phase| at(PhaseStep::Ended(phase));
        let extraction = started(Phase::Extraction).or(ended(Phase::Extraction));
        // Without stages, all phases begin before any of them ends.
        let is_staged = extraction.is_some()
            && started(Phase::Import)
                .is_none_or(|import| ended(Phase::Extraction).is_some_and(|extracted| extracted < import));
        let imports = started(Phase::Import).or(ended(Phase::Import)).is_some();
        let transforms = started(Phase::Transformation).or(ended(Phase::Transformation));
        Self {
            is_staged,
            fills: (
                started(Phase::Extraction).is_some(),
                started(Phase::Transformation).is_some(),
            ),
            // Somebody's wish may end a phase early, so that its own end says nothing; the next one begins only after a whole one.
            is_past: (
                is_staged && (imports || transforms.is_some()),
                is_staged && imports,
            ),
        }
    }

    /// Whether a record that this run refused without a commit, in the phase `stage`, was left out of a stage.
    pub fn left_out(&self, stage: Phase) -> bool {
        self.is_staged && matches!(stage, Phase::Extraction | Phase::Transformation)
    }

    /// Whether this run, a later one, meets records again that were refused in the phase `stage` on the way into a stage.
    pub fn meets_again(&self, stage: Phase) -> bool {
        // What is transformed is made of what is extracted.
        self.fills.0 || (stage == Phase::Transformation && self.fills.1)
    }

    /// Whether the stage is known to be whole that the phase `stage` fills.
    pub fn is_past(&self, stage: Phase) -> bool {
        match stage {
            Phase::Extraction => self.is_past.0,
            _ => self.is_past.1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Phase::{Extraction, Import, Transformation};
    use PhaseStep::{Ended, Started};

    /// Whether what was refused in extraction and in transformation is left out of a stage, is met again, and its stage whole.
    fn known(steps: &[PhaseStep]) -> [[bool; 3]; 2] {
        let of = StagesFilled::by(steps);
        [Extraction, Transformation]
            .map(|stage| [of.left_out(stage), of.meets_again(stage), of.is_past(stage)])
    }

    #[test]
    fn a_stage_is_whole_once_the_next_phase_has_begun_and_filled_again_by_whoever_begins_its_phase() {
        let (yes, no) = (true, false);
        let extracts = [Started(Extraction)];
        assert_eq!(known(&extracts), [[yes, yes, no], [yes, yes, no]]);
        let ends = [Started(Extraction), Ended(Extraction)];
        assert_eq!(
            known(&ends),
            [[yes, yes, no], [yes, yes, no]],
            "it may have been stopped"
        );
        let transforms = [Started(Extraction), Ended(Extraction), Started(Transformation)];
        assert_eq!(known(&transforms), [[yes, yes, yes], [yes, yes, no]]);
        let reuses_one = [Ended(Extraction), Started(Transformation), Ended(Transformation)];
        assert_eq!(known(&reuses_one), [[yes, no, yes], [yes, yes, no]]);
        let reuses_both = [Ended(Extraction), Ended(Transformation), Started(Import)];
        assert_eq!(known(&reuses_both), [[yes, no, yes], [yes, no, yes]]);
        assert!(!StagesFilled::by(&reuses_both).left_out(Import));
        // Without a stage, and where nothing was begun, no commit means what it did.
        let at_once = [
            Started(Extraction),
            Started(Import),
            Ended(Extraction),
            Ended(Import),
        ];
        assert_eq!(known(&at_once), [[no, yes, no], [no, yes, no]]);
        assert_eq!(known(&[]), [[no; 3]; 2]);
    }
}
