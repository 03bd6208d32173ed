//! How many tokens of a prompt are reported as cached.

use std::time::Duration;

use super::scripted::{Bench, Reader, Request, prompt};

fn request(seed: u32, length: usize, most: u32) -> Request {
    Request::new(prompt(seed, length), most)
}

/// The cached tokens of the measurements, and those of the end.
fn cached(reader: &Reader) -> (Option<u32>, Option<u32>) {
    (reader.metrics.unwrap().cached_tokens, reader.usage.cached_tokens)
}

#[test]
fn the_blocks_of_an_earlier_prompt_of_the_same_tenant_are_reported_as_cached() {
    let mut bench = Bench::new(64);
    let own = request(1, 100, 3).of("a");
    let mut other_end = own.clone();
    other_end.prompt[70] ^= 1;
    for (request, tokens) in [
        (own.clone(), 0),
        (own.clone(), 96),
        (own.clone().of("b"), 0),
        (request(1, 100, 3), 0),
        (other_end, 64),
        (own, 96),
    ] {
        assert_eq!(cached(&bench.answer(&request)), (Some(tokens), Some(tokens)));
    }
}

#[test]
fn of_equal_prompts_that_arrive_together_one_is_computed() {
    let mut bench = Bench::new(64);
    let same = request(1, 100, 2);
    let mut readers = [(); 3].map(|()| bench.join(&same));
    bench.finish(&mut readers.iter_mut().collect::<Vec<_>>());
    let counts = readers.each_ref().map(|reader| cached(reader).1);
    assert_eq!(counts, [Some(0), Some(96), Some(96)]);
}

#[test]
fn the_tokens_of_a_continued_answer_are_no_part_of_the_prompt() {
    let mut bench = Bench::new(64);
    let whole = request(1, 40, 30);
    bench.answer(&whole);
    let done = whole.expected()[..29].to_vec();
    // 64 of the 69 known tokens are cached; the prompt has 40.
    let rest = bench.answer(&Request { done, ..whole });
    assert_eq!(cached(&rest), (Some(64), Some(40)));
}

#[test]
fn what_is_computed_again_after_the_first_token_changes_no_count() {
    let mut bench = Bench::new(8);
    let requests = [request(1, 6 * 32, 40), request(2, 6 * 32, 20)];
    bench.answer(&requests[0]);
    let [mut slow, mut other] = requests.each_ref().map(|request| bench.join(request));
    // Its reader does not read, so the other one takes its blocks.
    bench.finish(&mut [&mut other]);
    bench.rows();
    bench.finish(&mut [&mut slow]);
    assert!(bench.rows() > 6 * 32, "the prompt was computed again");
    assert_eq!((cached(&slow), cached(&other)), ((Some(160), Some(160)), (Some(0), Some(0))));
    bench.check();
}

#[test]
fn what_a_run_has_computed_itself_is_not_cached() {
    // Enough for both at first, with one block to spare.
    let mut bench = Bench::new(2 + 20 + 1);
    bench.script().row = Duration::from_millis(10);
    let mut first = bench.join(&request(1, 32, 100));
    while first.ids.len() < 30 {
        bench.step();
        first.read_all();
    }
    // 40 steps of 16 tokens, but after 35 the first run needs a second block more.
    let mut second = bench.join(&request(2, 20 * 32, 1));
    while first.end.is_none() {
        bench.step();
        first.read_all();
        second.read_all();
    }
    assert!(second.metrics.is_none(), "it lost its blocks");
    bench.rows();
    bench.finish(&mut [&mut second]);
    assert!(bench.rows() < 20 * 32, "it found some of them again");
    assert_eq!(cached(&second), (Some(0), Some(0)));
    bench.check();
}
