//! The forms in which a secret may be printed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::model::secret::MASKED_BYTES_MIN;

/// Bytes of a line, or of a piece in base64, that is hidden by itself: shorter ones, such as `}`, are
/// in every log.
const PART_BYTES_MIN: usize = 8;

/// Where programs break lines of base64: GNU's base64 and MIME, and PEM.
const BASE64_LINES: [usize; 2] = [76, 64];

/// Each text that gives the secret away, as far as it can be told from any other.
pub(super) fn of(secret: &str) -> Vec<String> {
    let secret = secret.trim_end_matches(['\r', '\n']);
    if secret.len() < MASKED_BYTES_MIN {
        return Vec::new();
    }
    let mut forms = vec![secret.to_owned()];
    if secret.contains('\n') {
        let lines = secret.lines().filter(|line| line.len() >= PART_BYTES_MIN);
        forms.extend(lines.map(str::to_owned));
        // As JSON and many tools print it.
        forms.push(secret.replace('\r', "\\r").replace('\n', "\\n"));
    }
    forms.extend(in_urls(secret));
    forms.extend(in_base64(secret));
    forms
}

fn in_urls(secret: &str) -> impl Iterator<Item = String> + use<'_> {
    let escaped = |escape: fn(u8) -> String, plain: &'static [u8]| -> String {
        let one = |byte: u8| match byte {
            byte if byte.is_ascii_alphanumeric() || plain.contains(&byte) => {
                char::from(byte).to_string()
            }
            byte => escape(byte),
        };
        secret.bytes().map(one).collect()
    };
    let upper = |byte| format!("%{byte:02X}");
    let lower = |byte| format!("%{byte:02x}");
    let upper_form = |byte| if byte == b' ' { "+".to_owned() } else { format!("%{byte:02X}") };
    let lower_form = |byte| if byte == b' ' { "+".to_owned() } else { format!("%{byte:02x}") };
    // RFC 3986 leaves the first four alone, HTML's forms `*` instead of `~`, some programs nothing.
    let kept: [&'static [u8]; 4] = [b"-._~", b"-._*", b"-._", b""];
    let all = kept.into_iter().flat_map(move |kept| {
        [upper, lower, upper_form, lower_form].map(|escape: fn(u8) -> String| escaped(escape, kept))
    });
    all.filter(move |form| form != secret)
}

/// Base64 of longer texts that hold the secret: three, as three bytes become four characters.
fn in_base64(secret: &str) -> Vec<String> {
    let mut forms = Vec::new();
    for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
        for before in 0..3 {
            let bytes = [&[0; 2][..before], secret.as_bytes()].concat();
            let encoded = engine.encode(&bytes);
            // Only characters that have none of their six bits from what stands before and behind.
            let (from, to) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
            forms.extend(encoded.get(from..to).map(str::to_owned));
        }
        let encoded = engine.encode(secret);
        for width in BASE64_LINES {
            let mut rest = encoded.as_str();
            while rest.len() > width {
                let (line, after) = rest.split_at(width);
                forms.push(line.to_owned());
                rest = after;
            }
            if rest.len() < encoded.len() {
                forms.push(rest.to_owned());
            }
        }
    }
    forms.retain(|form| form.len() >= PART_BYTES_MIN);
    forms
}
