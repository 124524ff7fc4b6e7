//! What can be wrong with a schedule or a window.

/// Why a text is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// In no form that is known.
    #[error(
        "{text:?} is no schedule: write cron's five fields (\"0 1 * * *\"), a systemd calendar (\"Mon..Fri *-*-* 02:00\") \
         or a word such as \"daily\" or \"@daily\""
    )]
    Unknown {
        /// What was written.
        text: String,
    },
    /// A part of it is not what stands there.
    #[error("{text:?} is no {field}: write {expected}")]
    Field {
        /// What was written.
        text: String,
        /// Which part.
        field: &'static str,
        /// What may stand there.
        expected: String,
    },
    /// Once, at the start of the machine.
    #[error("\"@reboot\" is no time: the daemon catches up after it starts, see catch_up")]
    Reboot,
    /// A zone in the calendar.
    #[error("the schedule ends in {zone:?}: a time zone goes into the key `timezone`")]
    Zone {
        /// What stands there.
        zone: String,
    },
    /// Such as the 30th of February.
    #[error("the schedule {text:?} never comes")]
    Never {
        /// What was written.
        text: String,
    },
    /// The window is closed whenever it comes.
    #[error("the schedule {schedule:?} never comes within the window {window}")]
    NeverInWindow {
        /// The schedule.
        schedule: String,
        /// The window.
        window: String,
    },
    /// No window.
    #[error("{text:?} is no window: write two different times of a day, as in \"00:30-05:30\"")]
    Window {
        /// What was written.
        text: String,
    },
}
