//! What is installed: units that name nothing that is not there, sandboxes that hold, users and directories as the units need
//! them, and coordinator and append-server at work as two users, neither of whom can read what the other keeps.

mod booted;
mod installed;
mod set_up;
mod two_users;
