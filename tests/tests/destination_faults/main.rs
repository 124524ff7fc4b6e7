//! Destinations behind networks and services that fail, lie and dawdle: real servers with a fault proxy before them.
//! Each test names the rows of the fault table that it covers. Whatever happens, an object is durable when that was
//! said, nothing is overwritten, and an unknown answer is never "absent".

mod fixtures;

mod runs;
mod s3_bad_answers;
mod s3_lists;
mod s3_puts;
mod s3_reads;
mod sftp;
mod sftp_lies;
mod together;
