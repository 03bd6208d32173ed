use super::*;
use crate::{
    cpu::testing::{bits, numbers},
    rng::Rng,
};

fn rope(count: usize, pairs: Pairs) -> Rope {
    let frequency = |i| 1e4_f64.powf(-(i as f64) / count as f64) as f32;
    Rope { inverse_frequencies: (0..count).map(frequency).collect(), magnitude: 1.0, pairs }
}

const HEAD: usize = 40;

fn rotated(isa: Isa, rope: &Rope, x: &[f32], positions: &[u32]) -> Vec<f32> {
    let rotation = Rotation::new(rope, 1_000_000).expect("a rotation");
    let mut out = x.to_vec();
    rotation.rotate(isa, &mut out, 2 * HEAD, HEAD, positions).expect("rows of two heads");
    out
}

#[test]
fn rotations_are_those_of_exact_angles_up_to_a_million() {
    let mut rng = Rng::new(5);
    let positions = [0, 1, 255, 256, 4_097, 131_071, 999_999];
    let x = numbers(&mut rng, 2 * HEAD * positions.len(), 2.0);
    for count in [20, 12, 3] {
        let mut rope = rope(count, Pairs::Halves);
        rope.magnitude = 1.25;
        let found = rotated(Isa::best(), &rope, &x, &positions);
        for (row, position) in positions.iter().enumerate() {
            for head in 0..2 {
                let start = (2 * row + head) * HEAD;
                let (x, found) = (&x[start..start + HEAD], &found[start..start + HEAD]);
                for i in 0..count {
                    let angle = f64::from(*position) * f64::from(rope.inverse_frequencies[i]);
                    let (cos, sin) = (1.25 * libm::cos(angle), 1.25 * libm::sin(angle));
                    let (cos, sin) = (cos as f32, sin as f32);
                    let (a, b) = (x[i], x[i + count]);
                    assert_eq!(found[i], a.mul_add(cos, -(b * sin)), "{position} {i}");
                    assert_eq!(found[i + count], b.mul_add(cos, a * sin), "{position} {i}");
                }
                assert_eq!(found[2 * count..], x[2 * count..]);
            }
        }
    }
}

#[test]
fn neighbors_are_rotated_as_halves_are() {
    let mut rng = Rng::new(6);
    let positions = [3, 77_777];
    for count in [20, 9] {
        let x = numbers(&mut rng, 2 * HEAD * positions.len(), 2.0);
        let mut apart = x.clone();
        for (apart, x) in apart.chunks_mut(HEAD).zip(x.chunks(HEAD)) {
            (0..count).for_each(|i| (apart[i], apart[i + count]) = (x[2 * i], x[2 * i + 1]));
        }
        let halves = rotated(Isa::best(), &rope(count, Pairs::Halves), &apart, &positions);
        let found = rotated(Isa::best(), &rope(count, Pairs::Neighbors), &x, &positions);
        for (found, halves) in found.chunks(HEAD).zip(halves.chunks(HEAD)) {
            for i in 0..count {
                assert_eq!([found[2 * i], found[2 * i + 1]], [halves[i], halves[i + count]]);
            }
            assert_eq!(found[2 * count..], halves[2 * count..]);
        }
    }
}

#[test]
fn rotations_have_the_same_bits_with_every_instruction_set_and_beside_other_rows() {
    let mut rng = Rng::new(7);
    let positions: Vec<u32> = (0..40).map(|_| rng.below(1_000_000) as u32).collect();
    let x = numbers(&mut rng, 2 * HEAD * positions.len(), 2.0);
    for pairs in [Pairs::Halves, Pairs::Neighbors] {
        let rope = rope(20, pairs);
        let expected = rotated(Isa::Portable, &rope, &x, &positions);
        for isa in Isa::available() {
            assert_eq!(bits(&rotated(isa, &rope, &x, &positions)), bits(&expected), "{isa:?}");
        }
        let last = x.len() - 2 * HEAD;
        let alone = rotated(Isa::best(), &rope, &x[last..], &positions[39..]);
        assert_eq!(bits(&alone), bits(&expected[last..]));
    }
}

#[test]
fn what_a_rotation_does_not_cover_is_refused() {
    let rotation = Rotation::new(&rope(20, Pairs::Halves), 300).expect("a rotation");
    let mut x = vec![0.0; 2 * HEAD];
    let mut rotate = |width, head, positions: &[u32]| {
        let rotated = rotation.rotate(Isa::best(), &mut x, width, head, positions);
        rotated.map_err(|fault| fault.to_string().lines().next().unwrap_or_default().to_owned())
    };
    assert_eq!(rotate(2 * HEAD, HEAD, &[299]), Ok(()));
    let beyond = "position 300 of a rotation for 300 positions";
    assert_eq!(rotate(2 * HEAD, HEAD, &[300]), Err(beyond.into()));
    assert!(rotate(2 * HEAD, 32, &[0]).is_err(), "heads are smaller than the rotation");
    assert!(rotate(2 * HEAD, HEAD, &[0, 1]).is_err(), "there is no second row");
    assert!(Rotation::new(&rope(20, Pairs::Halves), usize::MAX).is_err());
}
