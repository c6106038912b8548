//! Attacks on the agent channel, against both ends of it: each is tried, and gets nowhere.

#[path = "../seeded_web/mod.rs"]
mod seeded_web;

mod agent_end;
mod attacks;
#[allow(dead_code, reason = "it does more in the tests of cut_points")]
mod fake_master;
mod greetings;
#[allow(dead_code, reason = "it remembers more for the tests of cut_points")]
mod house;
mod logs;
mod openings;
mod port;
