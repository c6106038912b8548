//! The decoder's laws, on small TOML files.

use serde::Deserialize;

use crate::runtime::config_file::decode::Later;
use crate::runtime::config_file::decode::decode;
use crate::runtime::config_file::duration::Span;
use crate::runtime::config_file::placed::At;
use crate::runtime::config_file::placed::Entries;
use crate::runtime::config_file::placed::ScalarText;
use crate::runtime::config_file::problem::Problems;
use crate::runtime::config_file::toml_reader;

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "decoded, and looked at through Debug")]
struct File {
    name: At<String>,
    count: Option<u32>,
    wait: Option<Span>,
    env: Option<Entries<ScalarText>>,
    color: Option<Color>,
    item: Option<Vec<Item>>,
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "decoded, and looked at through Debug")]
struct Item {
    name: String,
    size: u8,
}

#[derive(Deserialize, Debug)]
#[serde(rename_all = "lowercase")]
enum Color {
    Red,
    Green,
}

const LATER: Later = &[("Item", &["matrix"])];

fn check(text: &str) -> (Option<File>, Vec<String>) {
    let mut document = toml_reader::read(text).expect("the tests' TOML is well-formed");
    let file = decode::<File>(&mut document, LATER);
    let problems = Problems::new("f", text, document.into_problems());
    let first_lines = problems.to_string();
    let lines = first_lines.lines().filter(|line| line.starts_with("f:")).map(str::to_owned);
    (file, lines.collect())
}

#[test]
fn a_right_file_is_decoded_in_its_own_order() {
    let (file, problems) = check(
        "name = \"a\"\ncount = 3\nwait = \"1m\"\ncolor = \"green\"\n[env]\nz = 3.10\na = true\n",
    );
    let file = file.unwrap();
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(file.name.value, "a");
    let env: Vec<_> =
        file.env.unwrap().0.into_iter().map(|(key, text)| (key.value, text.0)).collect();
    assert_eq!(env, [("z".into(), "3.10".into()), ("a".into(), "true".into())]);
}

#[test]
fn every_mistake_of_a_file_shows_at_once() {
    let (file, problems) = check(
        "name = 5\ncout = 1\nwait = \"soon\"\ncolor = \"gren\"\n\
         [[item]]\nname = \"x\"\nsize = 300\n[[item]]\nsize = true\nmatrix = 1\n",
    );
    assert!(file.is_none());
    assert_eq!(
        problems,
        [
            "f:1:8: name must be text, not a number; put it in quotes: \"5\"",
            "f:2:1: unknown key \"cout\"; did you mean \"count\"?",
            "f:3:8: \"soon\" is not a duration; write whole numbers with units, as in \"90s\", \
             \"30m\", \"1h30m\" or \"7d\"",
            "f:4:9: color must be one of red, green, not \"gren\"; did you mean \"green\"?",
            "f:7:8: size in item \"x\" must be from 0 to 255, not 300",
            "f:9:8: size in entry 2 of item must be a whole number, not true or false",
            "f:10:1: \"matrix\" in entry 2 of item is not yet supported; this version of Busybee \
             cannot do it; take it out for now",
        ]
    );
}

#[test]
fn a_part_that_is_missing_because_it_was_wrong_is_not_reported_twice() {
    let (_, problems) = check("name = \"n\"\n[[item]]\nname = 1\nsize = 1\n");
    assert_eq!(problems.len(), 1, "{problems:?}");
}

#[test]
fn an_empty_file_says_what_it_lacks() {
    assert_eq!(
        check("name = \"n\"\n[[item]]\nsize = 1\n").1,
        ["f:2:1: entry 1 of item has no \"name\""]
    );
    assert_eq!(check("").1, ["f:1:1: the file has no \"name\""]);
}

#[test]
fn broken_toml_says_where() {
    let problems = toml_reader::read("a = 1\nb = [1,\n\"x").unwrap_err();
    assert!(problems.iter().all(|problem| problem.place.line >= 1));
    assert!(!problems.is_empty());
}
