//! Fixtures of the system tests: a target behind a private sshd, the coordinator as a process, hostile peers, a corpus
//! that holds everything a filesystem can hold, and an independent comparison of two trees.

pub mod shapes;

pub mod booted_root;
pub mod btrfs_disk;
pub mod calendar;
pub mod certificates;
pub mod changing_host;
pub mod compare;
pub mod coordinator_process;
pub mod corpus;
pub mod databases;
pub mod escape;
pub mod fault_proxy;
pub mod faulty_machine;
pub mod held_command;
pub mod history;
pub mod host_network;
pub mod hostile_agent;
pub mod hostile_sshd;
pub mod http_client;
pub mod killer;
pub mod machine_facts;
pub mod own_network;
pub mod package_root;
pub mod places;
pub mod processes;
pub mod receivers;
pub mod s3_server;
pub mod sftp_faults;
pub mod small_disk;
pub mod sshd;
pub mod target_state;
pub mod tcp_proxy;
pub mod user_mode_linux;
pub mod world;
