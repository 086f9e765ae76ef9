//! The notifier role: each notification is a line that is on the disk before the receipt is given.
//! Neighbours: `line` (what is written), `appender` (how), `findings` (what is checked).

use whimbrel_plugin_api::{
    Error, Finding, Notification, NotificationReceipt, Notifier, NotifierCapabilities, OpenNotifier, Result,
    Services,
};

use crate::appender::Appender;
use crate::config::NotifierConfig;
use crate::error::too_long;
use crate::findings::findings;
use crate::line::{self, LINE_BYTES_MAX};

/// Octets of title and body that are kept whole, whatever their letters.
const TEXT_BYTES_MAX: u64 = 1024 * 1024;

/// The notifier.
pub struct FileNotifier {
    config: NotifierConfig,
    services: Services,
    appender: Appender,
}

impl OpenNotifier for FileNotifier {
    type Config = NotifierConfig;

    fn capabilities() -> NotifierCapabilities {
        NotifierCapabilities {
            dedupes: true,
            text_bytes_max: TEXT_BYTES_MAX,
        }
    }

    fn open(config: NotifierConfig, services: Services) -> Result<Self> {
        config.validate()?;
        Ok(Self {
            appender: Appender::new(config.clone(), services.clone()),
            config,
            services,
        })
    }
}

impl Notifier for FileNotifier {
    fn check(&mut self) -> Result<Vec<Finding>> {
        Ok(findings(&self.config))
    }

    fn send(&mut self, notification: &Notification) -> Result<NotificationReceipt> {
        self.services.check_cancelled()?;
        let line = line::of(notification, self.config.format).map_err(|error| {
            Error::internal("a notification could not be written as JSON").with_cause(&error)
        })?;
        if line.len() > LINE_BYTES_MAX {
            return Err(too_long(line.len(), LINE_BYTES_MAX));
        }
        let place = self.appender.append(&notification.dedupe_key, &line)?;
        Ok(NotificationReceipt { id: Some(place.id()) })
    }
}
