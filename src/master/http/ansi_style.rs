//! What a terminal's colours become: classes of the stylesheet.

use vte::Params;

/// What `ESC[…m` has set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    foreground: Option<u8>,
    background: Option<u8>,
    bold: bool,
    dim: bool,
    italic: bool,
    underline: bool,
    struck: bool,
    inverse: bool,
}

impl Style {
    /// Nothing set.
    pub const PLAIN: Style = Style {
        foreground: None,
        background: None,
        bold: false,
        dim: false,
        italic: false,
        underline: false,
        struck: false,
        inverse: false,
    };

    /// Its classes, separated by blanks; empty for plain text.
    pub fn classes(self) -> String {
        let mut classes = String::new();
        let (front, back) = if self.inverse {
            // Swapping the defaults needs a class of its own: they differ by colour scheme.
            (self.background, self.foreground)
        } else {
            (self.foreground, self.background)
        };
        let mut add = |class: &str| {
            if !classes.is_empty() {
                classes.push(' ');
            }
            classes.push_str(class);
        };
        if let Some(colour) = front {
            add(&format!("f{colour}"));
        }
        if let Some(colour) = back {
            add(&format!("g{colour}"));
        }
        let flags = [
            (self.bold, "bo"),
            (self.dim, "di"),
            (self.italic, "it"),
            (self.underline, "un"),
            (self.struck, "st"),
            (self.inverse && (front.is_none() || back.is_none()), "iv"),
        ];
        flags.iter().filter(|(set, _)| *set).for_each(|(_, class)| add(class));
        classes
    }

    /// The style as text, for an event stream's id: `f1 g2 bo`, with `_` for a blank.
    pub fn to_code(self) -> String {
        let plain = Style { inverse: false, ..self };
        let mut code = plain.classes().replace(' ', "_");
        if self.inverse {
            code.push_str("_iv");
        }
        code
    }

    /// Reads [`Style::to_code`] back; what it does not know counts as plain.
    pub fn from_code(code: &str) -> Style {
        let mut style = Style::default();
        for word in code.split('_') {
            let colour = || word.get(1..)?.parse::<u8>().ok().filter(|colour| *colour < 16);
            match word {
                "bo" => style.bold = true,
                "di" => style.dim = true,
                "it" => style.italic = true,
                "un" => style.underline = true,
                "st" => style.struck = true,
                "iv" => style.inverse = true,
                _ if word.starts_with('f') => style.foreground = colour(),
                _ if word.starts_with('g') => style.background = colour(),
                _ => {}
            }
        }
        style
    }

    /// Takes the parameters of one `ESC[…m`.
    pub fn apply(&mut self, params: &Params) {
        let mut params = params.iter();
        while let Some(param) = params.next() {
            match param[0] {
                0 => *self = Style::default(),
                1 => self.bold = true,
                2 => self.dim = true,
                3 => self.italic = true,
                4 => self.underline = param.get(1) != Some(&0),
                7 => self.inverse = true,
                9 => self.struck = true,
                22 => (self.bold, self.dim) = (false, false),
                23 => self.italic = false,
                24 => self.underline = false,
                27 => self.inverse = false,
                29 => self.struck = false,
                code @ 30..=37 => self.foreground = Some((code - 30) as u8),
                38 => self.foreground = extended_colour(param, &mut params).or(self.foreground),
                39 => self.foreground = None,
                code @ 40..=47 => self.background = Some((code - 40) as u8),
                48 => self.background = extended_colour(param, &mut params).or(self.background),
                49 => self.background = None,
                code @ 90..=97 => self.foreground = Some((code - 90 + 8) as u8),
                code @ 100..=107 => self.background = Some((code - 100 + 8) as u8),
                _ => {}
            }
        }
    }
}

/// `38;5;N`, `38;2;R;G;B` and their forms with colons, as the nearest of the sixteen colours that
/// the stylesheet can show well in both schemes.
fn extended_colour<'a>(param: &[u16], rest: &mut impl Iterator<Item = &'a [u16]>) -> Option<u8> {
    let mut colon = param[1..].iter().copied();
    let with_colons = param.len() > 1;
    let mut next = || if with_colons { colon.next() } else { rest.next().map(|param| param[0]) };
    match next()? {
        5 => Some(nearest_of_256(u8::try_from(next()?).ok()?)),
        2 => {
            // With colons a colour space may stand before red.
            let has_space = with_colons && param.len() > 5;
            if has_space {
                next()?;
            }
            let mut channel = || Some(u8::try_from(next()?).unwrap_or(u8::MAX));
            Some(nearest_of_rgb(channel()?, channel()?, channel()?))
        }
        _ => None,
    }
}

fn nearest_of_256(colour: u8) -> u8 {
    let channel = |step: u8| if step == 0 { 0 } else { 55 + 40 * step };
    match colour {
        0..16 => colour,
        16..232 => {
            let cube = colour - 16;
            nearest_of_rgb(channel(cube / 36), channel(cube / 6 % 6), channel(cube % 6))
        }
        232.. => {
            let grey = 8 + 10 * (colour - 232);
            nearest_of_rgb(grey, grey, grey)
        }
    }
}

/// Hue decides among the six colours, so that a pale green stays green and does not become grey.
fn nearest_of_rgb(red: u8, green: u8, blue: u8) -> u8 {
    let most = red.max(green).max(blue);
    let least = red.min(green).min(blue);
    if most - least < 40 {
        return match most {
            0..64 => 0,
            64..150 => 8,
            150..220 => 7,
            220.. => 15,
        };
    }
    let threshold = least + (most - least) / 2;
    let bit = |channel: u8, bit: u8| if channel > threshold { bit } else { 0 };
    let hue = bit(red, 1) | bit(green, 2) | bit(blue, 4);
    if most > 170 && least > 60 { hue + 8 } else { hue }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_style_that_nobody_wrote_reads_as_far_as_it_can() {
        assert_eq!(Style::from_code("f99_nonsense__\""), Style::default());
        assert_eq!(Style::from_code("f1_bo").to_code(), "f1_bo");
    }

    #[test]
    fn greys_stay_grey_and_pale_colours_keep_their_hue() {
        assert_eq!(nearest_of_rgb(250, 250, 250), 15);
        assert_eq!(nearest_of_rgb(120, 120, 125), 8);
        assert_eq!(nearest_of_rgb(150, 230, 150), 10);
        assert_eq!(nearest_of_256(21), 4);
        assert_eq!(nearest_of_256(255), 15);
    }
}
