//! Attacks on the agent channel, against both ends of it: each is tried, and gets nowhere.

#[path = "../seeded_web/mod.rs"]
mod seeded_web;

#[path = "../chaos/dice.rs"]
#[allow(dead_code, reason = "it is thrown in the tests of chaos")]
mod dice;
#[path = "../chaos/printed.rs"]
#[allow(dead_code, reason = "its scripts are for the tests of chaos")]
mod printed;

mod agent_end;
mod attacks;
mod cut_points;
mod fake_master;
mod greetings;
mod house;
mod logs;
mod openings;
mod port;
mod relay;
