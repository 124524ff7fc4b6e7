//! A command that is held in the middle of what it asks of an S3 server: there it can be looked at, something else be done
//! beside it, and it be ended for good.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::coordinator_process::{Finished, Running};
use crate::fault_proxy::{Fault, FaultProxy, Gate, Operation, Which};
use crate::world::World;

/// How long a command may take to its request, or to its end.
const LONG: Duration = Duration::from_secs(60);

/// Where a request is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Before the server hears of it.
    Before,
    /// Before its answer is heard.
    After,
}

impl Side {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Before, Self::After];
}

/// A command, one of whose requests is held.
#[derive(Debug)]
pub enum Held {
    /// It has no such request.
    Ended(Finished),
    /// It waits for this gate.
    Waits {
        /// The command.
        running: Running,
        /// Before its request.
        gate: Gate,
    },
}

/// Starts a command whose request of this number, counted from 0, and of this kind is held.
pub fn hold(
    world: &World,
    proxy: &FaultProxy,
    arguments: &[&str],
    (operation, number, side): (Operation, u64, Side),
) -> Result<Held> {
    let gate = Gate::default();
    let fault = match side {
        Side::Before => Fault::HoldBefore(gate.clone()),
        Side::After => Fault::HoldAfter(gate.clone()),
    };
    proxy.forget_plan();
    let which = Which::all(operation).after(number).times(1);
    proxy.plan(which, fault);
    let mut running = world.start(arguments)?;
    let start = Instant::now();
    while !gate.is_reached() {
        if running.has_ended()? {
            proxy.forget_plan();
            return Ok(Held::Ended(running.finish(LONG)?));
        }
        ensure!(start.elapsed() < LONG, "neither a request nor an end");
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(Held::Waits { running, gate })
}

/// Ends a command that is held by SIGKILL.
pub fn kill(mut running: Running, gate: &Gate) -> Result<()> {
    running.kill()?;
    gate.open();
    let ended = running.finish(LONG)?;
    ensure!(ended.signal.is_some(), "it ended by itself: {ended:?}");
    Ok(())
}
