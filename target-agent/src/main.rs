//! The target-agent program: `--digest` and `serve`, nothing else. No secret is ever an argument.

use std::ffi::OsStr;
use std::process::ExitCode;

use target_agent::{hardening, own_file, session};

const USAGE: &str = "usage: target-agent serve     speak the control protocol on stdin and stdout
       target-agent --digest  print the BLAKE3 digest of this program";

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match (arguments.next(), arguments.next()) {
        (Some(verb), None) if verb == OsStr::new("serve") => {
            hardening::bind_allocator();
            session::serve()
        }
        (Some(verb), None) if verb == OsStr::new("--digest") => match own_file::digest() {
            Ok(digest) => {
                println!("{}", formats::ids::to_hex(&digest));
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("target-agent: cannot read its own file: {error}");
                ExitCode::FAILURE
            }
        },
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}
