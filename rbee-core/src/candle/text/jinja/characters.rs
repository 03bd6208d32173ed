//! What Python says about characters, and which character a stand-in stands for.

use std::cell::RefCell;

thread_local! {
    /// The characters that stand for others while a template is rendered.
    static ORIGINALS: RefCell<Originals> = const { RefCell::new(Originals { first: 0, characters: Vec::new() }) };
}

/// Characters that stand for others: the character that each of them stands for, from code `first` on.
#[derive(Debug, Default)]
pub(in crate::candle) struct Originals {
    pub(in crate::candle) first: u32,
    pub(in crate::candle) characters: Vec<Option<char>>,
}

impl Originals {
    /// Runs `work` while these characters stand for others: what filters find out about a character is then about the
    /// character that it stands for.
    pub(in crate::candle) fn during<T>(self, work: impl FnOnce() -> T) -> T {
        struct Restore(Option<Originals>);
        impl Drop for Restore {
            fn drop(&mut self) {
                let before = self.0.take().unwrap_or_default();
                ORIGINALS.with(|originals| *originals.borrow_mut() = before);
            }
        }
        let _restore = Restore(Some(ORIGINALS.with(|originals| originals.replace(self))));
        work()
    }
}

/// The character that this one stands for; most stand for themselves.
pub(super) fn original(character: char) -> char {
    ORIGINALS.with(|originals| {
        let originals = originals.borrow();
        let index = u32::from(character).checked_sub(originals.first);
        let found = index.and_then(|index| *originals.characters.get(index as usize)?);
        found.unwrap_or(character)
    })
}

/// `\x07`, `\u200b` or `\U000e0001`.
pub(super) fn push_escape(out: &mut String, character: char) {
    let code = u32::from(character);
    out.push_str(&match code {
        0..=0xff => format!("\\x{code:02x}"),
        0x100..=0xffff => format!("\\u{code:04x}"),
        _ => format!("\\U{code:08x}"),
    });
}

/// `str.isprintable` of one character. Characters that Unicode has not assigned count as printable.
pub(super) fn is_printable(character: char) -> bool {
    let code = u32::from(character);
    character == ' '
        || !(character.is_control()
            || character.is_whitespace()
            || FORMATS.iter().any(|(first, last)| (*first..=*last).contains(&code)))
}

/// `str.isspace` of one character: what `strip` and `split` remove.
pub(super) fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\x1c'..='\x1f').contains(&character)
}

/// The value of a decimal digit of any script.
pub(super) fn decimal(character: char) -> Option<u32> {
    let code = u32::from(character);
    let zero = DECIMAL_ZEROS.iter().rev().find(|zero| **zero <= code)?;
    (code - zero < 10).then_some(code - zero)
}

/// `str.isdigit` of one character.
pub(super) fn is_digit(character: char) -> bool {
    let code = u32::from(character);
    decimal(character).is_some()
        || DIGITS.iter().any(|(first, last)| (*first..=*last).contains(&code))
}

/// The digit zero of each script with decimal digits; the other nine follow it.
const DECIMAL_ZEROS: &[u32] = &[
    0x30, 0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66,
    0xde6, 0xe50, 0xed0, 0xf20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90,
    0x1b50, 0x1bb0, 0x1c40, 0x1c50, 0xa620, 0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10,
    0x104a0, 0x10d30, 0x11066, 0x110f0, 0x11136, 0x111d0, 0x112f0, 0x11450, 0x114d0, 0x11650,
    0x116c0, 0x11730, 0x118e0, 0x11950, 0x11c50, 0x11d50, 0x11da0, 0x16a60, 0x16ac0, 0x16b50,
    0x1d7ce, 0x1d7d8, 0x1d7e2, 0x1d7ec, 0x1d7f6, 0x1e140, 0x1e2f0, 0x1e950, 0x1fbf0,
];

/// Digits that are not decimal, such as superscripts.
const DIGITS: &[(u32, u32)] = &[
    (0xb2, 0xb3),
    (0xb9, 0xb9),
    (0x1369, 0x1371),
    (0x19da, 0x19da),
    (0x2070, 0x2070),
    (0x2074, 0x2079),
    (0x2080, 0x2089),
    (0x2460, 0x2468),
    (0x2474, 0x247c),
    (0x2488, 0x2490),
    (0x24ea, 0x24ea),
    (0x24f5, 0x24fd),
    (0x24ff, 0x24ff),
    (0x2776, 0x277e),
    (0x2780, 0x2788),
    (0x278a, 0x2792),
    (0x10a40, 0x10a43),
    (0x10e60, 0x10e68),
    (0x11052, 0x1105a),
    (0x1f100, 0x1f10a),
];

/// Characters of format and of private use.
const FORMATS: &[(u32, u32)] = &[
    (0xad, 0xad),
    (0x600, 0x605),
    (0x61c, 0x61c),
    (0x6dd, 0x6dd),
    (0x70f, 0x70f),
    (0x890, 0x891),
    (0x8e2, 0x8e2),
    (0x180e, 0x180e),
    (0x200b, 0x200f),
    (0x202a, 0x202e),
    (0x2060, 0x2064),
    (0x2066, 0x206f),
    (0xe000, 0xf8ff),
    (0xfeff, 0xfeff),
    (0xfff9, 0xfffb),
    (0x110bd, 0x110bd),
    (0x110cd, 0x110cd),
    (0x13430, 0x13438),
    (0x1bca0, 0x1bca3),
    (0x1d173, 0x1d17a),
    (0xe0001, 0xe0001),
    (0xe0020, 0xe007f),
    (0xf0000, 0xffffd),
    (0x100000, 0x10fffd),
];
