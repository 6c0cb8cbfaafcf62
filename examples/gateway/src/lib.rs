//! A gateway in front of models: a reverse proxy with tokenweir inside it.
//!
//! - `config`: the one file that says what there is; `reload`: takes it up again when it changes;
//! - `keys`: who calls, by API key; `directory`: what the data path looks up: projects by key, targets by name;
//! - `estate`: brings the console of the gateway to what the file says; `state`: what outlives the process;
//! - `identity`: who calls what, for the layer; `proxy`, `upstream`: what passes on; `card`: an agent's card;
//! - `sample`: a model, a tool and an agent without any upstream;
//! - `admin`, `history`: what an operator sees; `server`: puts it all together;
//! - `quotas`, `region`: where limits are counted, if not in this process's memory alone; `workers`: several processes.

#![forbid(unsafe_code)]

mod admin;
mod card;
mod config;
mod directory;
mod estate;
mod history;
mod identity;
mod keys;
mod on_server;
mod proxy;
mod quotas;
mod region;
mod reload;
mod sample;
mod serve;
mod server;
mod stall;
mod state;
mod upstream;
mod workers;

pub use config::{Config, ConfigError};
pub use keys::{Digest, new_key};
pub use sample::{Sample, serve as serve_sample};
pub use serve::cannot_listen;
pub use server::{Running, StartError, start, start_workers};
pub use workers::{WORKER, work};
