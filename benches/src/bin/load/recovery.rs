//! How long a server takes to answer again after it was killed: it replays its log first.

use std::io;
use std::path::Path;
use std::time::Duration;

use crate::Plan;
use crate::client::Load;
use crate::figures::median;
use crate::process::Server;
use crate::request::{Ids, Target, Template};

/// What a start on a log of many small transactions takes.
#[derive(Debug)]
pub(crate) struct Recovery {
    /// How many transactions the log holds.
    pub(crate) transactions: u64,
    /// From starting the process to its first line, the median of several starts.
    pub(crate) millis: f64,
}

/// One durable INSERT each.
const TRANSACTIONS: u64 = 100_000;

const STARTS: usize = 3;
const CONNECTIONS: usize = 256;

/// Writes the log, kills the server, and starts it again a few times.
///
/// # Errors
///
/// When a server does not start, or a request fails.
pub(crate) fn measure(plan: &Plan, driver: &str, data: &Path) -> io::Result<Recovery> {
    let server = Server::start(&plan.bigpeer, data, driver, plan.shards)?;
    let mut template = Template::insert(&server.access, Target::Execute);
    let mut ids = Ids::Fresh { next: 0 };
    while let Ids::Fresh { next: 0..TRANSACTIONS } = ids {
        let load = Load {
            address: server.process.address,
            connections: CONNECTIONS,
            time: Duration::from_millis(100),
            template: &mut template,
            ids: &mut ids,
        };
        load.run(|| Ok(()))?;
    }
    let Ids::Fresh { next: transactions } = ids else { unreachable!("they were made so") };
    drop(server);
    let starts = (0..STARTS).map(|_| Server::reopen(&plan.bigpeer, data, driver, plan.shards));
    let starts = starts.collect::<io::Result<Vec<_>>>()?;
    Ok(Recovery {
        transactions,
        millis: median(starts.iter().map(|time| time.as_secs_f64() * 1e3)),
    })
}
