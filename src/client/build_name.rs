//! `PROJECT/N`: what people call a build.

use std::fmt;
use std::str::FromStr;

use crate::model::ids::BuildNumber;
use crate::model::ids::ProjectName;

/// A build, as it is said and typed: `hello/12`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildName {
    /// Whose build.
    pub project: ProjectName,
    /// Which, counted from 1.
    pub number: BuildNumber,
}

impl fmt::Display for BuildName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.project, self.number)
    }
}

impl FromStr for BuildName {
    type Err = String;

    fn from_str(text: &str) -> Result<BuildName, String> {
        let Some((project, number)) = text.rsplit_once('/') else {
            return Err(match text.parse::<u64>() {
                Ok(number) => format!(
                    "a build is named PROJECT/N: put its project in front, such as hello/{number}"
                ),
                Err(_) => format!(
                    "a build is named PROJECT/N, such as {text}/12; `busybee build list {text}` \
                     shows which there are"
                ),
            });
        };
        if project.is_empty() {
            return Err("the project is missing in front of the slash".to_owned());
        }
        match number.parse() {
            Ok(number) if number > 0 => {
                Ok(BuildName { project: ProjectName::from(project), number: BuildNumber(number) })
            }
            _ => Err(format!("\"{number}\" is no build's number: they count from 1")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_is_a_project_and_a_number() {
        let name: BuildName = "hello/12".parse().unwrap();
        assert_eq!((name.project.as_str(), name.number), ("hello", BuildNumber(12)));
        assert_eq!(name.to_string(), "hello/12");
    }

    #[test]
    fn what_is_no_build_says_what_one_looks_like() {
        let check = |text: &str, said: &str| {
            let error = text.parse::<BuildName>().unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        };
        check("hello", "such as hello/12");
        check("12", "such as hello/12");
        check("/12", "project is missing");
        check("hello/0", "count from 1");
        check("hello/-1", "count from 1");
        check("hello/latest", "\"latest\" is no build's number");
        check("hello/99999999999999999999", "no build's number");
    }
}
