use proptest::prelude::*;

use super::*;

#[test]
fn what_was_put_in_comes_out_and_its_places_are_the_callers() {
    let text = "a <b> \"c\\d\" \u{100000}é";
    let mut stand_ins = StandIns::for_texts([text]);
    let put_in = stand_ins.put_in(text, std::slice::from_ref(&(0..text.len()))).unwrap();
    assert!(!put_in.contains(['a', '<', 'b', '>', 'c', 'd', 'é']), "{put_in:?}");
    assert!(put_in.contains(" \"") && put_in.contains('\\'), "{put_in:?}");
    let out = stand_ins.take_out(&format!("<b>{put_in}!"));
    assert_eq!(out.text, format!("<b>{text}!"));
    assert!(out.is_trusted_at(&(0..3)) && !out.is_trusted_at(&(2..4)));
    assert!(out.is_trusted_at(&(4..5)), "white space is not the caller's");
    assert!(out.is_trusted_at(&(out.text.len() - 1..out.text.len())));
    // The private-use character of the caller is replaced by another stand-in.
    assert!(!put_in.contains('\u{100000}'));
}

#[test]
fn a_text_with_every_private_use_character_is_refused_and_says_so() {
    let text: String = STAND_INS.filter_map(char::from_u32).collect();
    let mut stand_ins = StandIns::for_texts([text.as_str()]);
    let refused = stand_ins.put_in("<", std::slice::from_ref(&(0..1))).unwrap_err();
    let error = Error::from(refused);
    assert_eq!(error.kind(), ErrorKind::InvalidRequest);
    assert!(error.message().contains("U+100000 to U+10FFFD"), "{error}");
}

proptest! {
    #[test]
    fn ranges_are_joined_and_taken_away_as_if_each_byte_was_looked_at(
        a in proptest::collection::vec((0usize..40, 0usize..6), 0..8),
        b in proptest::collection::vec((0usize..40, 0usize..6), 0..8),
    ) {
        let ranges = |list: &[(usize, usize)]| {
            joined(list.iter().map(|(start, len)| *start..start + len).collect())
        };
        let (a, b) = (ranges(&a), ranges(&b));
        let has = |ranges: &[Range<usize>], at| ranges.iter().any(|range| range.contains(&at));
        let left = without(&a, &b);
        for at in 0..50 {
            prop_assert_eq!(has(&left, at), has(&a, at) && !has(&b, at));
        }
        prop_assert!(a.windows(2).all(|pair| pair[0].end < pair[1].start));
    }
}
