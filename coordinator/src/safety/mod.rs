//! What makes a run suspicious, a host another one, a backup incomplete, or too large. Pure: values in, values out. What is
//! done about it is in `backup::guard` and `retention::holds`.

pub mod absence;
pub mod anomaly;
pub mod coverage;
pub mod identity;
pub mod kept;
pub mod path_rules;
pub mod path_verdict;
pub mod quota;
pub mod stream_size;
