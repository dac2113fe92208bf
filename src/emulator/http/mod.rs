//! The emulator's HTTP server: the API, the emulator's own pages, and its control endpoints.

mod faulty;
mod handlers;
mod list;
mod listener;
mod log_entries;
mod logs;
mod pages;
mod permissions;
mod request;
mod server;

pub(super) use self::server::serve;
