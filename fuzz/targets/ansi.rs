//! What steps print, as HTML of the log view.
//!
//! Whatever the bytes are, the HTML is escaped text in `<b class="…">` of known classes and nothing
//! else, no longer than a line may be; it does not depend on where the bytes were cut; and the style
//! that goes on to the next line survives its way through an address.

#![no_main]

use busybee::master::http::ansi::Renderer;
use busybee::master::http::ansi_style::Style;
use libfuzzer_sys::fuzz_target;

/// 1,000 cells, each at worst with a style of its own and an escaped character.
const HTML_BYTES_MAX: usize = 1000 * 64;

// The first byte says how the rest is cut.
fuzz_target!(|data: &[u8]| {
    let Some((&piece, log)) = data.split_first() else { return };
    let (whole, style) = render(log, log.len());
    assert_eq!((&whole, style), (&render(log, piece.into()).0, style));
    for line in &whole {
        assert!(line.len() <= HTML_BYTES_MAX);
        check(line);
    }
    assert_eq!(Style::from_code(&style.to_code()), style);
});

fn render(log: &[u8], piece: usize) -> (Vec<String>, Style) {
    let mut renderer = Renderer::new(Style::PLAIN);
    let mut lines = Vec::new();
    for line in log.split(|byte| *byte == b'\n') {
        line.chunks(piece.max(1)).for_each(|bytes| renderer.feed(bytes));
        lines.push(renderer.end_line());
    }
    (lines, renderer.style())
}

/// Nothing but text, entities and `<b>` that are opened and closed in turn.
fn check(html: &str) {
    let mut rest = html;
    let mut open = false;
    while let Some(at) = rest.find(['<', '>', '&', '"', '\'']) {
        rest = &rest[at..];
        let entities = ["&lt;", "&gt;", "&amp;", "&quot;", "&#39;"];
        if let Some(entity) = entities.iter().find(|entity| rest.starts_with(**entity)) {
            rest = &rest[entity.len()..];
        } else if let Some(after) = rest.strip_prefix("</b>").filter(|_| open) {
            (rest, open) = (after, false);
        } else {
            let after = rest.strip_prefix("<b class=\"").filter(|_| !open).expect("a tag of ours");
            let (classes, after) = after.split_once("\">").expect("its end");
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == ' ';
            assert!(!classes.is_empty() && classes.chars().all(plain), "{classes}");
            (rest, open) = (after, true);
        }
    }
    assert!(!open);
}
