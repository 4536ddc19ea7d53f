//! Pairs of sessions over small stand-in stores, with virtual time and every order of events.

mod bounds;
mod converge;
mod cost;
mod history;
mod host;
mod hostile;
mod pair;
mod settle;
mod timers;
