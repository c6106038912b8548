//! User-data of several parts: ours, and an admin's own behind it, as MIME multipart, which cloud-init
//! takes apart. Pure text: the same parts give the same bytes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// EC2 takes user-data of 16 KiB, before base64 (EC2 user guide, "Run commands at launch").
pub const EC2_BYTES_MAX: usize = 16 * 1024;

/// What stands between the parts, where none of them holds it.
const BOUNDARY: &str = "=busybee-part";

/// A line of base64 (RFC 2045, 6.8).
const CODED_LINE_BYTES: usize = 76;

/// How a part begins, and what cloud-init then takes it for (its documentation, "User-data formats").
const KINDS: &[(&str, &str)] = &[
    ("#!", "text/x-shellscript"),
    ("#cloud-config-archive", "text/cloud-config-archive"),
    ("#cloud-config", "text/cloud-config"),
    ("#cloud-boothook", "text/cloud-boothook"),
    ("#include-once", "text/x-include-once-url"),
    ("#include", "text/x-include-url"),
    ("#part-handler", "text/part-handler"),
    ("## template: jinja", "text/jinja2"),
];

/// Ours is a script.
const OUR_KIND: &str = "text/x-shellscript";

/// Something of the admin's own that an instance is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    name: String,
    kind: &'static str,
    text: String,
}

impl Part {
    /// The text of a file; its first line says what it is.
    ///
    /// # Errors
    /// What is wrong with it, and in a second line what to do.
    pub fn new(name: &str, text: String) -> Result<Part, String> {
        let known = KINDS.iter().find(|(start, _)| text.starts_with(start));
        let Some((_, kind)) = known else {
            let hint = "its first line must say what it is: `#!/bin/sh`, `#cloud-config`, or another that \
                        cloud-init knows";
            return Err(format!("cloud-init would not know what \"{name}\" is\n{hint}"));
        };
        if text.contains('\0') {
            return Err(format!("\"{name}\" holds the character NUL\nput text there"));
        }
        // It stands in a header.
        let fits = |c: &char| c.is_ascii_alphanumeric() || "._-".contains(*c);
        let name = name.chars().map(|c| if fits(&c) { c } else { '_' }).collect();
        Ok(Part { name, kind, text })
    }
}

/// Ours, and these behind it. Without any, ours stands as it is: then an image needs no cloud-init.
pub fn join(ours: &str, parts: &[Part]) -> String {
    if parts.is_empty() {
        return ours.to_owned();
    }
    let boundary = boundary(ours, parts);
    let mut text =
        format!("Content-Type: multipart/mixed; boundary=\"{boundary}\"\nMIME-Version: 1.0\n\n");
    // Ours is ASCII, and stays readable: that its password is filled in later changes nothing else.
    let mut add = |name: &str, kind: &str, encoding: &str, body: &str| {
        text.push_str(&format!(
            "--{boundary}\nContent-Type: {kind}; charset=\"utf-8\"\nMIME-Version: 1.0\n\
             Content-Transfer-Encoding: {encoding}\n\
             Content-Disposition: attachment; filename=\"{name}\"\n\n{body}\n"
        ));
    };
    add("busybee", OUR_KIND, "7bit", ours);
    for part in parts {
        match part.text.is_ascii() && !part.text.contains('\r') {
            true => add(&part.name, part.kind, "7bit", &part.text),
            false => add(&part.name, part.kind, "base64", &coded(&part.text)),
        }
    }
    text.push_str(&format!("--{boundary}--\n"));
    text
}

/// A boundary that no part holds.
fn boundary(ours: &str, parts: &[Part]) -> String {
    let is_free = |candidate: &String| {
        !ours.contains(candidate) && parts.iter().all(|part| !part.text.contains(candidate))
    };
    // Each part can hold only so many of them.
    let candidates = (0u32..).map(|number| format!("{BOUNDARY}-{number}="));
    candidates.take(EC2_BYTES_MAX).find(is_free).unwrap_or_default()
}

fn coded(text: &str) -> String {
    let coded = STANDARD.encode(text);
    let lines = coded.as_bytes().chunks(CODED_LINE_BYTES);
    let lines = lines.map(|line| String::from_utf8_lossy(line).into_owned());
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str, text: &str) -> Part {
        Part::new(name, text.to_owned()).expect("cloud-init knows it")
    }

    #[test]
    fn ours_alone_stays_a_script() {
        assert_eq!(join("#!/bin/sh\ntrue\n", &[]), "#!/bin/sh\ntrue\n");
    }

    #[test]
    fn ours_comes_first_and_each_part_is_what_its_first_line_says() {
        let parts =
            [part("a b.sh", "#!/bin/sh\necho a\n"), part("c.yaml", "#cloud-config\nx: é\n")];
        let text = join("#!/bin/sh\ntrue\n", &parts);
        assert_eq!(
            text,
            "Content-Type: multipart/mixed; boundary=\"=busybee-part-0=\"\n\
             MIME-Version: 1.0\n\
             \n\
             --=busybee-part-0=\n\
             Content-Type: text/x-shellscript; charset=\"utf-8\"\n\
             MIME-Version: 1.0\n\
             Content-Transfer-Encoding: 7bit\n\
             Content-Disposition: attachment; filename=\"busybee\"\n\
             \n\
             #!/bin/sh\ntrue\n\n\
             --=busybee-part-0=\n\
             Content-Type: text/x-shellscript; charset=\"utf-8\"\n\
             MIME-Version: 1.0\n\
             Content-Transfer-Encoding: 7bit\n\
             Content-Disposition: attachment; filename=\"a_b.sh\"\n\
             \n\
             #!/bin/sh\necho a\n\n\
             --=busybee-part-0=\n\
             Content-Type: text/cloud-config; charset=\"utf-8\"\n\
             MIME-Version: 1.0\n\
             Content-Transfer-Encoding: base64\n\
             Content-Disposition: attachment; filename=\"c.yaml\"\n\
             \n\
             I2Nsb3VkLWNvbmZpZwp4OiDDqQo=\n\
             --=busybee-part-0=--\n"
        );
    }

    #[test]
    fn no_part_can_end_another() {
        let nasty = part("x", "#!/bin/sh\n--=busybee-part-0=--\n--=busybee-part-1=\n");
        let text = join("#!/bin/sh\n", std::slice::from_ref(&nasty));
        assert!(text.contains("boundary=\"=busybee-part-2=\""), "{text}");
        let (_, rest) = text.split_once("filename=\"x\"\n\n").expect("its part");
        assert!(rest.starts_with(&nasty.text), "{rest}");
    }

    #[test]
    fn what_cloud_init_would_not_know_is_refused() {
        for text in ["", "echo hello\n", "# a comment\n", "\n#!/bin/sh\n"] {
            let why = Part::new("x", text.to_owned()).expect_err(text);
            assert!(why.contains("would not know") && why.contains('\n'), "{why}");
        }
        assert!(Part::new("x", "#!/bin/sh\n\0".to_owned()).is_err());
    }
}
