//! `token add`, `ls` and `rm`: who may ask the listener. Opens no key and no destination.

use std::io::{self, Write};

use formats::keys::secret::RandomError;
use jiff::Timestamp;
use serde::Serialize;

use crate::audit::alone;
use crate::catalog::state::State;
use crate::catalog::state::tokens::TokenRow;
use crate::cli::token::{TokenAddArgs, TokenCommand};
use crate::clock::{Clock, SystemClock, utc};
use crate::config::Config;
use crate::database::DatabaseError;
use crate::events::Event;
use crate::events::what::What;
use crate::exit_code::ExitCode;
use crate::listener::token::Token;
use crate::repository::layout::StateDir;
use crate::terminal::{Align, write_json, write_table};

/// `token` failed.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The state file.
    #[error(transparent)]
    State(#[from] DatabaseError),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// There is one of that name.
    #[error(
        "there is a token {name} already: take it away with `coordinator token rm {name}`, or choose another name"
    )]
    Exists {
        /// The name.
        name: String,
    },
    /// There is none of that name.
    #[error("there is no token {name:?}: `coordinator token ls` lists the ones there are")]
    Unknown {
        /// The name.
        name: String,
    },
    /// Standard output.
    #[error("could not write the result")]
    Output(#[from] io::Error),
}

impl TokenError {
    /// The program's exit code for it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Unknown { .. } => ExitCode::NotFound,
            _ => ExitCode::Error,
        }
    }
}

/// `token …`.
pub fn token_command(
    command: &TokenCommand,
    config: &Config,
    json: bool,
    out: &mut dyn Write,
) -> Result<ExitCode, TokenError> {
    let state_dir = StateDir::new(&config.state_dir);
    let mut state = State::open(&state_dir.state_file())?;
    match command {
        TokenCommand::Add(args) => add(args, &mut state, &state_dir, json, out)?,
        TokenCommand::Ls => list(&state, json, out)?,
        TokenCommand::Rm(args) => {
            let name = args.name.clone();
            if !state.remove_token(&name)? {
                return Err(TokenError::Unknown { name });
            }
            let event = Event::new(What::TokenRevoked { name: name.clone() });
            alone::record(&state_dir, &SystemClock, vec![event]);
            writeln!(out, "token {name} is not good any more")?;
        }
    }
    Ok(ExitCode::Ok)
}

/// What `token add --json` prints.
#[derive(Debug, Serialize)]
struct AddedJson<'a> {
    name: &'a str,
    token: &'a str,
    expires: Option<String>,
}

fn add(
    args: &TokenAddArgs,
    state: &mut State,
    state_dir: &StateDir,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), TokenError> {
    let token = Token::fresh()?;
    let now = SystemClock.now();
    let mut scopes = args.scope.clone();
    scopes.sort_by_key(|scope| scope.as_str());
    scopes.dedup();
    let row = TokenRow {
        name: args.name.clone(),
        digest: token.digest(),
        scopes,
        allow_from: args.allow_from.clone(),
        created: now,
        expires: args.expires.map(|span| {
            let end = now.checked_add(span.duration());
            end.unwrap_or(Timestamp::MAX)
        }),
        last_used: None,
    };
    if !state.add_token(&row)? {
        let name = row.name;
        return Err(TokenError::Exists { name });
    }
    let what = What::TokenAdded {
        name: row.name.clone(),
        scopes: row.scopes.iter().map(ToString::to_string).collect(),
    };
    alone::record(state_dir, &SystemClock, vec![Event::new(what)]);
    let text = token.text();
    if json {
        let added = AddedJson {
            name: &row.name,
            token: &text,
            expires: row.expires.map(utc),
        };
        return Ok(write_json(out, &added)?);
    }
    // Alone on its line, for scripts; it is never shown again.
    Ok(writeln!(out, "{}", *text)?)
}

/// One element of what `token ls --json` prints.
#[derive(Debug, Serialize)]
struct TokenJson {
    name: String,
    scopes: Vec<String>,
    allow_from: Vec<String>,
    created: String,
    expires: Option<String>,
    last_used: Option<String>,
}

fn list(state: &State, json: bool, out: &mut dyn Write) -> Result<(), TokenError> {
    let tokens: Vec<TokenJson> = state
        .tokens()?
        .into_iter()
        .map(|row| TokenJson {
            name: row.name,
            scopes: row.scopes.iter().map(ToString::to_string).collect(),
            allow_from: row.allow_from.iter().map(ToString::to_string).collect(),
            created: utc(row.created),
            expires: row.expires.map(utc),
            last_used: row.last_used.map(utc),
        })
        .collect();
    if json {
        return Ok(write_json(out, &tokens)?);
    }
    let columns = ["name", "scopes", "from", "expires", "last used"];
    let columns = columns.map(|title| (title, Align::Left));
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let rows: Vec<Vec<String>> = tokens
        .into_iter()
        .map(|token| {
            let from = match token.allow_from.is_empty() {
                true => "everywhere".to_owned(),
                false => token.allow_from.join(" "),
            };
            vec![
                token.name,
                token.scopes.join(" "),
                from,
                or_dash(token.expires),
                or_dash(token.last_used),
            ]
        })
        .collect();
    Ok(write_table(out, &columns, &rows)?)
}
