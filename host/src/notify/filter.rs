//! Which notifications one notifier of a job gets: those of its events, from its severity on.
//! Neighbour: `notices`, which makes them for all notifiers alike.

use whimbrel_plugin_api::notifier::{Notification, Severity};

use crate::config::{NotifierJob, ToldEvent};

/// What one notifier wants to hear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    events: Vec<ToldEvent>,
    min_severity: Severity,
}

impl Filter {
    /// What `job` says.
    pub fn new(job: &NotifierJob) -> Self {
        Self {
            events: job.events.clone(),
            min_severity: job.min_severity,
        }
    }

    /// Whether the notifier gets it. What is critical goes to every notifier: somebody must act now.
    pub fn wants(&self, notification: &Notification) -> bool {
        let is_named = || self.events.iter().any(|event| event.name() == notification.event);
        notification.severity == Severity::Critical
            || (notification.severity >= self.min_severity && is_named())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notification(event: ToldEvent, severity: Severity) -> Notification {
        Notification {
            event: event.name().to_owned(),
            severity,
            ..Notification::default()
        }
    }

    #[test]
    fn events_and_severity_both_count_but_critical_reaches_everybody() {
        let filter = Filter {
            events: vec![ToldEvent::Completed, ToldEvent::Failed],
            min_severity: Severity::Warning,
        };
        for (event, severity, wanted) in [
            (ToldEvent::Completed, Severity::Info, false),
            (ToldEvent::Completed, Severity::Warning, true),
            (ToldEvent::Failed, Severity::Error, true),
            (ToldEvent::ErrorAdded, Severity::Error, false),
            (ToldEvent::RollbackCompleted, Severity::Critical, true),
        ] {
            assert_eq!(
                filter.wants(&notification(event, severity)),
                wanted,
                "{event:?} {severity:?}"
            );
        }
        let deaf = Filter {
            events: Vec::new(),
            min_severity: Severity::Info,
        };
        assert!(!deaf.wants(&notification(ToldEvent::Failed, Severity::Error)));
    }
}
