use proptest::prelude::*;

use super::*;

fn sampling(change: impl FnOnce(&mut Sampling)) -> Sampling {
    let mut sampling = Sampling::default();
    change(&mut sampling);
    sampling
}

/// How often each token is drawn at `draws` positions.
fn counts(sampling: &Sampling, logits: &[f32], draws: u64) -> Vec<u64> {
    let sampler = Sampler::new(sampling, 7, logits.len());
    let mut counts = vec![0; logits.len()];
    for position in 0..draws {
        counts[sampler.choose(&mut logits.to_vec(), position).unwrap() as usize] += 1;
    }
    counts
}

fn drawn(sampling: &Sampling, logits: &[f32]) -> Vec<usize> {
    let counts = counts(sampling, logits, 4_000);
    (0..logits.len()).filter(|token| counts[*token] > 0).collect()
}

/// The logits of these probabilities.
fn logits(shares: &[f32]) -> Vec<f32> {
    shares.iter().map(|share| share.ln()).collect()
}

#[test]
fn at_temperature_0_the_first_of_the_likeliest_is_taken() {
    let cold = sampling(|s| s.temperature = 0.0);
    assert_eq!(drawn(&cold, &[0.0, 3.0, 3.0, 1.0]), [1]);
    // A temperature close to 0 causes no overflow.
    let cool = sampling(|s| s.temperature = 1e-40);
    assert_eq!(drawn(&cool, &[0.0, 3.0, -1e38, 1.0]), [1]);
}

#[test]
fn tokens_are_drawn_as_often_as_their_probability_says() {
    let shares = [0.5, 0.25, 0.15, 0.1];
    for change in [
        |_: &mut Sampling| {},
        |s: &mut Sampling| s.top_k = 1_000,
        |s: &mut Sampling| s.top_p = 0.999_999,
    ] {
        let draws = 40_000;
        let counts = counts(&sampling(change), &logits(&shares), draws);
        for (count, share) in counts.iter().zip(shares) {
            let (found, expected) = (*count as f64 / draws as f64, f64::from(share));
            // Five standard deviations of this share in this many draws.
            let tolerance = 5.0 * (expected * (1.0 - expected) / draws as f64).sqrt();
            assert!((found - expected).abs() < tolerance, "{found} for {expected}");
        }
    }
}

#[test]
fn each_filter_keeps_what_it_says() {
    let logits = logits(&[0.1, 0.4, 0.05, 0.3, 0.15]);
    assert_eq!(drawn(&sampling(|_| {}), &logits), [0, 1, 2, 3, 4]);
    assert_eq!(drawn(&sampling(|s| s.top_k = 2), &logits), [1, 3]);
    assert_eq!(drawn(&sampling(|s| s.top_k = 1), &logits), [1]);
    assert_eq!(drawn(&sampling(|s| s.top_p = 0.4), &logits), [1]);
    assert_eq!(drawn(&sampling(|s| s.top_p = 0.5), &logits), [1, 3]);
    assert_eq!(drawn(&sampling(|s| s.top_p = 0.8), &logits), [1, 3, 4]);
    assert_eq!(drawn(&sampling(|s| s.min_p = 0.3), &logits), [1, 3, 4]);
    assert_eq!(drawn(&sampling(|s| s.min_p = 1.0), &logits), [1]);
}

#[test]
fn the_filters_come_in_their_order() {
    let shares = logits(&[0.4, 0.3, 0.2, 0.1]);
    // Of the two that top-k leaves, the first has 0.57: top-p applies to the rest, not to all tokens.
    let both = sampling(|s| (s.top_k, s.top_p) = (2, 0.5));
    assert_eq!(drawn(&both, &shares), [0]);
    // Temperature comes before top-p: at 2 the first two have 0.58, at 1 they have 0.7.
    let warm = sampling(|s| (s.temperature, s.top_p) = (2.0, 0.65));
    assert_eq!(drawn(&warm, &shares), [0, 1, 2]);
    // The penalty is applied before temperature 0 chooses.
    let penalty = sampling(|s| (s.temperature, s.repetition_penalty) = (0.0, 2.0));
    let mut sampler = Sampler::new(&penalty, 1, 3);
    sampler.note(&[0, 2]);
    assert_eq!(sampler.choose(&mut [3.0, 2.0, -1.0], 0), Ok(1));
    assert_eq!(sampler.choose(&mut [3.0, -2.0, -1.0], 0), Ok(0));
    assert_eq!(sampler.choose(&mut [-3.0, -1.5, -1.0], 0), Ok(1));
}

#[test]
fn equal_logits_are_filtered_by_the_lower_token() {
    let flat = [1.0; 600];
    assert_eq!(drawn(&sampling(|s| s.top_k = 3), &flat), [0, 1, 2]);
    let half = drawn(&sampling(|s| s.top_p = 0.5), &flat);
    assert!(half.iter().all(|token| *token < 300) && half.len() > 250);
}

#[test]
fn what_is_no_number_is_a_fault_with_the_token_named() {
    let sampler = Sampler::new(&Sampling::default(), 1, 3);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert_eq!(sampler.choose(&mut [0.0, bad, 0.0], 0), Err(NotFinite { token: 1 }));
    }
}

#[test]
fn the_random_numbers_are_those_of_the_published_generator() {
    // The sequence of SplitMix64 from state 1234567, as its authors' reference program prints it.
    let state = 1_234_567_u64;
    let step = |n: u64| mix(state.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    assert_eq!(
        [step(1), step(2), step(3)],
        [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
    );
}

#[test]
fn neighboring_seeds_and_positions_have_nothing_in_common() {
    let mean = |numbers: Vec<f64>| numbers.iter().sum::<f64>() / numbers.len() as f64;
    let key = |seed| Sampler::new(&Sampling::default(), seed, 1).key;
    let by_seed = mean((0..10_000).map(|seed| uniform(key(seed), 0)).collect());
    let by_position = mean((0..10_000).map(|position| uniform(key(1), position)).collect());
    assert!((by_seed - 0.5).abs() < 0.02 && (by_position - 0.5).abs() < 0.02);
    let same = (0..1_000).filter(|n| (uniform(key(1), *n) - uniform(key(2), *n)).abs() < 1e-3);
    assert!(same.count() < 20);
}

proptest! {
    #[test]
    fn the_choice_depends_on_logits_seed_and_position_alone(
        values in proptest::collection::vec(-30.0_f32..30.0, 1..400),
        seed: u64, position: u64,
        temperature in 0.0_f32..2.0, top_p in 0.01_f32..1.0, top_k in 0_u32..20, min_p in 0.0_f32..1.0,
    ) {
        let sampling = Sampling { temperature, top_p, top_k, min_p, ..Sampling::default() };
        let choose = || Sampler::new(&sampling, seed, values.len()).choose(&mut values.clone(), position);
        let token = choose().unwrap();
        prop_assert_eq!(choose().unwrap(), token);
        // Each drawn token passes each filter by itself.
        let likelier = values.iter().filter(|value| **value > values[token as usize]).count();
        prop_assert!(top_k == 0 || likelier < top_k as usize);
    }
}
