//! An answer of the master: typed for people, and as it came for `--json`.
//!
//! A master newer than this client may say more than this client knows; whoever asked for JSON
//! gets all of it.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::client::exit::Exit;
use crate::client::exit::Failure;

/// One JSON document.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    value: Value,
}

impl Document {
    /// Reads one; nothing if it is no JSON.
    pub fn parse(text: &str) -> Option<Document> {
        serde_json::from_str(text).ok().map(|value| Document { value })
    }

    /// What it means.
    ///
    /// # Errors
    /// It lacks what every such answer has: the master is of another age than this client.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        T::deserialize(&self.value).map_err(|error| Failure {
            exit: Exit::Wrong,
            sentence: format!(
                "cannot read the master's answer: {error}; master and client seem to be of \
                 different versions"
            ),
        })
    }

    /// It as text, on one line.
    pub fn text(&self) -> String {
        self.value.to_string()
    }

    /// How many items the list `key` has.
    pub fn items(&self, key: &str) -> usize {
        self.value.get(key).and_then(Value::as_array).map_or(0, Vec::len)
    }

    /// Where the next page begins.
    pub fn next_page(&self) -> Option<u64> {
        self.value.get("next").and_then(Value::as_u64)
    }

    /// Takes the next page's items of the list `key`, and its word on what follows.
    pub fn append(&mut self, key: &str, page: Document) {
        let Value::Object(mut page) = page.value else { return };
        let next = page.remove("next").unwrap_or(Value::Null);
        if let (Some(Value::Array(items)), Some(Value::Array(more))) =
            (self.value.get_mut(key), page.remove(key))
        {
            items.extend(more);
        }
        if let Value::Object(fields) = &mut self.value {
            fields.insert("next".to_owned(), next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_client_does_not_know_is_passed_on() {
        let document = Document::parse(r#"{"done": true, "new": [1]}"#).unwrap();
        assert!(document.read::<crate::api::Done>().unwrap().done);
        assert_eq!(document.text(), r#"{"done":true,"new":[1]}"#);
        assert!(document.read::<crate::api::Error>().is_err());
    }

    #[test]
    fn pages_become_one_document() {
        let mut all = Document::parse(r#"{"rows":[1,2],"next":2}"#).unwrap();
        assert_eq!(all.next_page(), Some(2));
        all.append("rows", Document::parse(r#"{"rows":[3],"next":null}"#).unwrap());
        assert_eq!(
            (all.text().as_str(), all.items("rows")),
            (r#"{"next":null,"rows":[1,2,3]}"#, 3)
        );
        assert_eq!(all.next_page(), None);
    }
}
