//! Arguments of `token`.

use append_server::quantity::Span;
use clap::{Args, Subcommand};

use crate::listener::address_range::AddressRange;
use crate::listener::token::Scope;

/// `token …`.
#[derive(Debug, Clone, Subcommand)]
pub enum TokenCommand {
    /// Make a token for the listener, and print it this once
    #[command(after_help = "\
The token goes into the header `Authorization: Bearer TOKEN`. It is shown once and kept
nowhere; what is kept is a digest of it.

Examples:
  coordinator token add prometheus --scope metrics --allow-from 192.0.2.10
  coordinator token add dashboard --scope health,status --expires 90d")]
    Add(TokenAddArgs),
    /// List tokens: what each is good for, and when it was last used
    Ls,
    /// Take a token away; it is not good from then on
    Rm(TokenRmArgs),
}

/// `token add`.
#[derive(Debug, Clone, Args)]
pub struct TokenAddArgs {
    /// A name for it: a-z, 0-9, ".", "_" and "-"
    #[arg(value_parser = parse_name)]
    pub name: String,
    /// What it is good for
    #[arg(long, value_delimiter = ',', required = true, value_name = "SCOPE")]
    pub scope: Vec<Scope>,
    /// Addresses from which it is good, such as 10.0.0.0/8; without it, everywhere
    #[arg(long, value_delimiter = ',', value_name = "RANGE")]
    pub allow_from: Vec<AddressRange>,
    /// For how long it is good, such as 90d; without it, until it is taken away
    #[arg(long, value_name = "TIME")]
    pub expires: Option<Span>,
}

/// `token rm`.
#[derive(Debug, Clone, Args)]
pub struct TokenRmArgs {
    /// Its name
    pub name: String,
}

fn parse_name(text: &str) -> Result<String, String> {
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    let is_name = !text.is_empty()
        && text.len() <= crate::listener::token::TOKEN_NAME_BYTES_MAX
        && text.bytes().all(plain);
    match is_name {
        true => Ok(text.to_owned()),
        false => Err("use 1 to 64 of a-z 0-9 . _ -".to_owned()),
    }
}
