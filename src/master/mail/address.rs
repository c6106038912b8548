//! Mail addresses, as far as we use them. Stricter than RFC 5321: no quotes, no comments, no names, so
//! an address can stand in a header and in a command as it is.

/// An address, at most (RFC 5321, 4.5.3.1.3, less its brackets).
const ADDRESS_BYTES_MAX: usize = 254;

/// What stands before the `@`, at most (RFC 5321, 4.5.3.1.1).
const LOCAL_BYTES_MAX: usize = 64;

/// A mail address that can stand in a header as it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address(String);

impl Address {
    /// Takes `user@host`.
    ///
    /// # Errors
    /// What is wrong, and in a second line what to write.
    pub fn parse(text: &str) -> Result<Address, String> {
        let hint = "write one such as \"ops@example.com\", without a name and without brackets";
        let wrong = || format!("{text:?} is not a mail address\n{hint}");
        let (local, domain) = text.split_once('@').ok_or_else(wrong)?;
        let is_local = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
        let is_domain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        let fits = !local.is_empty()
            && local.len() <= LOCAL_BYTES_MAX
            && text.len() <= ADDRESS_BYTES_MAX
            && local.chars().all(is_local)
            && domain.chars().all(is_domain)
            && [local, domain].iter().all(|part| part.split('.').all(|label| !label.is_empty()));
        if fits { Ok(Address(text.to_owned())) } else { Err(wrong()) }
    }

    /// It, without brackets.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands behind the `@`.
    pub(super) fn domain(&self) -> &str {
        self.0.split_once('@').map_or("", |(_, domain)| domain)
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_have_is_taken() {
        for text in ["ops@example.com", "first.last+ci@mail.example.co.uk", "root@localhost"] {
            assert_eq!(Address::parse(text).map(|it| it.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn nothing_that_could_be_a_header_or_a_command_is_an_address() {
        let long = format!("{}@example.com", "x".repeat(65));
        for text in [
            "",
            "ops",
            "@example.com",
            "ops@",
            "a@b@c",
            "a b@c",
            "a@b\r\nBcc: c@d",
            "a@b\0",
            "<a@b>",
            "A <a@b>",
            "a@b>",
            "a,b@c",
            "\"a\"@b",
            "a..b@c",
            "a@b..c",
            ".a@b",
            "ä@b",
            "a@[::1]",
            &long,
        ] {
            let why = Address::parse(text).expect_err(text);
            assert!(why.contains('\n') && !why.contains('\r'), "{why:?}");
        }
    }
}
