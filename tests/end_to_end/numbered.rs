//! Steps whose output is known to the last byte, and which go on only when the test says so.

use crate::house::House;

/// A job `count` with one step `count`. It prints parts of numbered lines, and waits at a gate behind
/// each.
pub(crate) struct Numbered {
    gates: tempfile::TempDir,
    parts: u32,
    lines: u32,
}

impl Numbered {
    pub(crate) fn new(parts: u32, lines: u32) -> Numbered {
        Numbered { gates: tempfile::tempdir().expect("a directory"), parts, lines }
    }

    /// The pipeline; `keys` are further lines of the job.
    pub(crate) fn pipeline(&self, keys: &str) -> String {
        let parts: Vec<String> = (1..=self.parts).map(|part| part.to_string()).collect();
        format!(
            r#"version: 1
jobs:
  count:
    {keys}
    steps:
      - name: count
        run: |
          for part in {parts}; do
            seq -f "part $part line %.0f of the numbered log" {lines}
            until [ -e "$GATES/$part" ]; do sleep 0.05; done
          done
        env: {{ GATES: "{gates}" }}
"#,
            parts = parts.join(" "),
            lines = self.lines,
            gates = self.gates.path().display(),
        )
    }

    /// Lets the step go on behind this part.
    pub(crate) fn open(&self, part: u32) {
        std::fs::write(self.gates.path().join(part.to_string()), "").expect("write a gate");
    }

    pub(crate) fn open_all(&self) {
        (1..=self.parts).for_each(|part| self.open(part));
    }

    fn line(part: u32, line: u32) -> String {
        format!("part {part} line {line} of the numbered log\n")
    }

    /// What the first parts print.
    pub(crate) fn expected(&self, parts: u32) -> String {
        let lines = |part| (1..=self.lines).map(move |line| Numbered::line(part, line));
        (1..=parts).flat_map(lines).collect()
    }

    /// Waits until the master shows all of a part.
    pub(crate) fn await_part(&self, house: &House, part: u32) {
        let end = Numbered::line(part, self.lines);
        house.eventually(&format!("part {part} is in the log"), |house| {
            let output = house.busybee(&["build", "logs", "hello/1", "--step", "count"]);
            output.stdout.ends_with(end.as_bytes())
        });
    }
}

/// Says where two texts part: a whole log in a message helps nobody.
pub(crate) fn assert_same(found: &[u8], expected: &[u8]) {
    if found == expected {
        return;
    }
    let same = found.iter().zip(expected).take_while(|(one, other)| one == other).count();
    let around = |bytes: &[u8]| {
        let from = same.saturating_sub(80);
        String::from_utf8_lossy(&bytes[from..bytes.len().min(same + 160)]).into_owned()
    };
    panic!(
        "{} bytes of {}; from byte {same} on they differ:\n{:?}\ninstead of\n{:?}",
        found.len(),
        expected.len(),
        around(found),
        around(expected)
    );
}
