//! The master's tower: `domain` decides, the adapters around it talk to the world.

pub mod agents;
pub mod app;
pub mod caller;
pub mod certificates;
pub mod change_source;
pub mod commands;
pub mod config;
mod console_log;
pub mod disk_room;
pub mod domain;
mod event_loop;
pub mod http;
pub mod inbox;
pub mod keys;
pub mod launch_facts;
pub mod listener;
pub mod logs;
pub mod mail;
pub mod notice_index;
pub mod notices;
mod perform;
pub mod pipeline_file;
pub mod provisioner;
pub mod road_files;
pub mod store;
pub mod user_data;
