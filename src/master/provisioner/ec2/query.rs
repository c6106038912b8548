//! EC2's Query protocol: a list of named parameters, as a form. Pure.

use serde::Deserialize;
use serde::Serialize;

/// The version of the API, of each request (EC2 has had one since 2016).
const VERSION: &str = "2016-11-15";

/// Parameters of one call, in the order in which they are sent: the same call is the same bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// A call of this action.
    pub(super) fn new(action: &str) -> Query {
        Query::new_of(action, VERSION)
    }

    /// A call of this action of another API that speaks the same way.
    pub(super) fn new_of(action: &str, version: &str) -> Query {
        Query(Vec::new()).with("Action", action).with("Version", version)
    }

    /// With one parameter more.
    #[must_use]
    pub(super) fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Query {
        self.0.push((name.into(), value.into()));
        self
    }

    /// With one parameter more, where there is a value.
    #[must_use]
    pub(super) fn with_opt(self, name: impl Into<String>, value: Option<&str>) -> Query {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// With `NAME.1`, `NAME.2`, …
    #[must_use]
    pub(super) fn with_list<'v>(
        self,
        name: &str,
        values: impl IntoIterator<Item = &'v str>,
    ) -> Query {
        let numbered = values.into_iter().zip(1..);
        numbered.fold(self, |query, (value, index)| query.with(format!("{name}.{index}"), value))
    }

    /// With `Filter.N.Name` and its values; `number` counts from 1.
    #[must_use]
    pub(super) fn with_filter(self, number: u32, name: &str, values: &[&str]) -> Query {
        self.with(format!("Filter.{number}.Name"), name)
            .with_list(&format!("Filter.{number}.Value"), values.iter().copied())
    }

    /// The value of a parameter.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The same, with a parameter's value made of the one before.
    #[must_use]
    pub(super) fn replaced(mut self, name: &str, change: impl FnOnce(&str) -> String) -> Query {
        if let Some((_, value)) = self.0.iter_mut().find(|(known, _)| known == name) {
            *value = change(value);
        }
        self
    }

    /// `application/x-www-form-urlencoded`, with everything but RFC 3986's unreserved characters
    /// escaped: servers sign again what they decoded, and a bare `*` would not match.
    pub(super) fn encode(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.0 {
            if !text.is_empty() {
                text.push('&');
            }
            escape(name, &mut text);
            text.push('=');
            escape(value, &mut text);
        }
        text
    }
}

fn escape(value: &str, into: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                into.push(byte.into());
            }
            b' ' => into.push('+'),
            _ => {
                into.push('%');
                into.push(HEX[usize::from(byte >> 4)].into());
                into.push(HEX[usize::from(byte & 15)].into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_but_the_unreserved_characters_is_escaped() {
        let query = Query::new("DescribeImages")
            .with_filter(1, "name", &["ubuntu*", "a b"])
            .with_opt("NextToken", None)
            .with("Ä", "1+1=2&~");
        assert_eq!(
            query.encode(),
            "Action=DescribeImages&Version=2016-11-15&Filter.1.Name=name&Filter.1.Value.1=ubuntu%2A\
             &Filter.1.Value.2=a+b&%C3%84=1%2B1%3D2%26~"
        );
    }

    #[test]
    fn a_request_survives_being_stored() {
        let query = Query::new("RunInstances").with("ClientToken", "abc");
        let stored = serde_json::to_string(&query).expect("it is text");
        let back: Query = serde_json::from_str(&stored).expect("it was written so");
        assert_eq!(back.encode(), query.encode());
    }
}
