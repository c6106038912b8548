//! Attacks on the agent channel, against both ends of it: each is tried, and gets nowhere.

mod greetings;
mod house;
mod logs;
