//! Attacks on the agent channel, against both ends of it: each is tried, and gets nowhere.

#[path = "../seeded_web/mod.rs"]
mod seeded_web;

mod agent_end;
mod attacks;
mod fake_master;
mod greetings;
mod house;
mod logs;
mod openings;
mod port;
