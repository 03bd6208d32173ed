//! Rotary embeddings in configurations.

use std::ops::RangeInclusive;

use rbee_decoder::architecture::{Architecture, Pairs, Rope};
use serde_json::Value;

use super::source::Source;
use crate::candle::{
    config_fields::ConfigFields,
    decoder::rope::{RopeSpec, Scaling, longrope_magnitude, yarn_magnitude},
    files::{LoadFault, Loaded},
};

/// The base of the frequencies.
pub(super) const BASE: RangeInclusive<f64> = 1.0..=1e12;
const FACTOR: RangeInclusive<f64> = 1.0..=1e6;
/// Factors of single frequencies; those of Phi begin below 1.
const FACTORS: RangeInclusive<f64> = 1e-3..=1e6;
const MAGNITUDE: RangeInclusive<f64> = 1e-3..=1e3;
const TURNS: RangeInclusive<f64> = 1e-3..=1e6;
const POSITIONS: RangeInclusive<u64> = 2..=16_777_216;

/// The rotation of all layers by `config.json`. transformers 5 writes everything into `rope_parameters`; older versions
/// wrote base and partial factor as separate keys, and the scaling in `rope_scaling`.
pub(super) fn of_config(source: &Source<'_>, architecture: &Architecture) -> Loaded<Rope> {
    let fields = &source.fields;
    let nested = match fields.object("rope_parameters")? {
        Some(parameters) => Some(parameters),
        None => fields.object("rope_scaling")?,
    };
    let inner = match &nested {
        Some(parameters) => parameters.number("rope_theta", BASE)?,
        None => None,
    };
    let outer = fields.number("rope_theta", BASE)?;
    if let (Some(inner), Some(outer)) = (inner, outer)
        && inner != outer
    {
        let what =
            format!("rope_theta is {outer} and, in rope_parameters, {inner}; allowed is one value");
        return Err(LoadFault::defect(fields.file, what));
    }
    let theta = inner.or(outer).unwrap_or(10_000.0);
    of_object(source, architecture, nested.as_ref(), theta)
}

/// A rotation of which the scaling is in this object.
pub(super) fn of_object(
    source: &Source<'_>,
    architecture: &Architecture,
    scaling: Option<&ConfigFields<'_>>,
    theta: f64,
) -> Loaded<Rope> {
    let fields = &source.fields;
    let part = match scaling {
        Some(parameters) => parameters.number("partial_rotary_factor", 1e-3..=1.0)?,
        None => None,
    };
    let part = match part {
        Some(part) => part,
        None => fields.number("partial_rotary_factor", 1e-3..=1.0)?.unwrap_or(1.0),
    };
    let dims = (architecture.head_dim as f64 * part) as usize;
    if dims < 2 || !dims.is_multiple_of(2) {
        let what = format!(
            "partial_rotary_factor is {part} for heads of {}; allowed is an even number of them, and at least 2",
            architecture.head_dim
        );
        return Err(LoadFault::defect(fields.file, what));
    }
    let scaling = match scaling {
        None => Scaling::None,
        Some(parameters) => scaling_of(source, architecture, parameters, dims)?,
    };
    Ok(RopeSpec { theta, dims, scaling }.resolve(Pairs::Halves))
}

fn scaling_of(
    source: &Source<'_>,
    architecture: &Architecture,
    f: &ConfigFields<'_>,
    dims: usize,
) -> Loaded<Scaling> {
    const ALLOWED: &str = "\"default\", \"linear\", \"llama3\", \"yarn\" or \"longrope\"";
    let positions = architecture.positions;
    // A key outside of the scaling counts before one in it.
    let original = || -> Loaded<f64> {
        let key = "original_max_position_embeddings";
        let outer = source.fields.count(key, POSITIONS)?;
        let found = if outer.is_some() { outer } else { f.count(key, POSITIONS)? };
        Ok(found.map_or(f64::from(positions), |original| original as f64))
    };
    let key = if f.get("rope_type").is_some() { "rope_type" } else { "type" };
    let Some(kind) = f.get(key) else {
        return Ok(Scaling::None);
    };
    Ok(match kind.as_str() {
        Some("default") => Scaling::None,
        Some("linear") => Scaling::Linear(f.needed_number("factor", FACTOR)?),
        Some("llama3") => {
            let low = f.needed_number("low_freq_factor", TURNS)?;
            let high = f.needed_number("high_freq_factor", TURNS)?;
            if low >= high {
                let allowed = format!("less than high_freq_factor, {high}");
                return Err(f.bad("low_freq_factor", &low.into(), &allowed));
            }
            let factor = f.needed_number("factor", FACTOR)?;
            let original = f.needed("original_max_position_embeddings", POSITIONS)? as f64;
            Scaling::Llama3 { factor, low, high, original }
        }
        // Phi's first files say "su" or "yarn".
        Some("longrope" | "su" | "yarn") if f.get("long_factor").is_some() => {
            let short = f.needed_numbers("short_factor", dims / 2, FACTORS)?;
            let long = f.needed_numbers("long_factor", dims / 2, FACTORS)?;
            let original = original()?;
            let factor = match f.number("factor", 1e-3..=1e6)? {
                Some(factor) => factor,
                None => f64::from(positions) / original,
            };
            let magnitude = f.number("attention_factor", MAGNITUDE)?;
            let is_long = f64::from(source.context(positions)) > original;
            Scaling::Factors {
                factors: if is_long { long } else { short },
                magnitude: magnitude.unwrap_or_else(|| longrope_magnitude(factor, original)),
            }
        }
        Some("longrope") => return Err(f.absent("long_factor", "a list of numbers")),
        Some("yarn") => {
            let factor = f.needed_number("factor", FACTOR)?;
            let weights = (f.number("mscale", 0.0..=1e3)?, f.number("mscale_all_dim", 0.0..=1e3)?);
            let magnitude = match (f.number("attention_factor", MAGNITUDE)?, weights) {
                (Some(magnitude), _) => magnitude,
                (None, (Some(each), Some(all))) if each > 0.0 && all > 0.0 => {
                    yarn_magnitude(factor, each) / yarn_magnitude(factor, all)
                }
                (None, _) => yarn_magnitude(factor, 1.0),
            };
            Scaling::Yarn {
                factor,
                beta_fast: f.number("beta_fast", TURNS)?.unwrap_or(32.0),
                beta_slow: f.number("beta_slow", TURNS)?.unwrap_or(1.0),
                truncate: f.flag("truncate")?.unwrap_or(true),
                original: original()?,
                magnitude,
            }
        }
        _ => return Err(f.bad(key, kind, ALLOWED)),
    })
}

/// The rotation of all layers by a GGUF file.
pub(super) fn of_metadata(
    source: &Source<'_>,
    architecture: &Architecture,
    pairs: Pairs,
) -> Loaded<Rope> {
    let f = &source.fields;
    let head_dim = architecture.head_dim;
    let dims = f.count("rope.dimension_count", 2..=head_dim as u64)?.unwrap_or(head_dim);
    if !dims.is_multiple_of(2) {
        return Err(f.bad("rope.dimension_count", &dims.into(), "an even number"));
    }
    f.only("rope.dimension_count_swa", dims.into())?;
    let theta = f.number("rope.freq_base", BASE)?.unwrap_or(10_000.0);
    Ok(RopeSpec { theta, dims, scaling: metadata_scaling(source, architecture, dims)? }
        .resolve(pairs))
}

/// The tensors with factors of frequencies.
pub(super) const FACTOR_TENSORS: &[&str] =
    &["rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"];

fn metadata_scaling(
    source: &Source<'_>,
    architecture: &Architecture,
    dims: usize,
) -> Loaded<Scaling> {
    let f = &source.fields;
    let positions = architecture.positions;
    let original =
        f.count("rope.scaling.original_context_length", POSITIONS)?.unwrap_or(positions as usize);
    // The format writes 0 for none.
    let factor = match f.number("rope.scaling.factor", 0.0..=1e6)? {
        Some(factor) => factor,
        None => f.number("rope.scale_linear", 0.0..=1e6)?.unwrap_or(0.0),
    };
    let factor = if factor == 0.0 { 1.0 } else { factor };
    let magnitude = f.number("rope.scaling.attn_factor", MAGNITUDE)?;
    let is_long = source.context(positions) as usize > original;
    let long = if is_long { "rope_factors_long.weight" } else { "rope_factors_short.weight" };
    let factors = match source.weights.read_vector(long, dims / 2)? {
        None => source
            .weights
            .read_vector("rope_freqs.weight", dims / 2)?
            .map(|it| ("rope_freqs.weight", it)),
        Some(factors) => Some((long, factors)),
    };
    let kind = f.get("rope.scaling.type");
    let is_yarn = kind.and_then(Value::as_str) == Some("yarn");
    if let Some((name, factors)) = factors {
        let factors: Vec<f64> = factors.into_iter().map(f64::from).collect();
        if let Some(bad) = factors.iter().find(|factor| !FACTORS.contains(factor)) {
            let what = format!(
                "tensor {name} contains {bad}; allowed are {} to {}",
                FACTORS.start(),
                FACTORS.end()
            );
            return Err(LoadFault::defect(source.weights.path(name), what));
        }
        if factor != 1.0 || is_yarn {
            let allowed = format!("1, because of tensor {name}");
            return Err(f.bad("rope.scaling.factor", &factor.into(), &allowed));
        }
        return Ok(Scaling::Factors { factors, magnitude: magnitude.unwrap_or(1.0) });
    }
    if !is_yarn {
        f.number("rope.scaling.attn_factor", 1.0..=1.0)?;
    }
    match kind.map(|kind| (kind, kind.as_str())) {
        Some((_, Some("none"))) => Ok(Scaling::None),
        None | Some((_, Some("linear"))) if factor == 1.0 => Ok(Scaling::None),
        None | Some((_, Some("linear"))) => Ok(Scaling::Linear(factor)),
        Some((_, Some("yarn"))) => {
            f.number("rope.scaling.yarn_ext_factor", 1.0..=1.0)?;
            f.number("rope.scaling.yarn_log_multiplier", 0.0..=0.0)?;
            let more = f.number("rope.scaling.yarn_attn_factor", MAGNITUDE)?.unwrap_or(1.0);
            Ok(Scaling::Yarn {
                factor,
                beta_fast: f.number("rope.scaling.yarn_beta_fast", TURNS)?.unwrap_or(32.0),
                beta_slow: f.number("rope.scaling.yarn_beta_slow", TURNS)?.unwrap_or(1.0),
                truncate: true,
                original: original as f64,
                magnitude: yarn_magnitude(factor, 1.0) * magnitude.unwrap_or(1.0) * more,
            })
        }
        Some((_, Some("longrope"))) => {
            Err(LoadFault::defect(f.file, format!("tensor {long} is missing")))
        }
        Some((kind, _)) => {
            Err(f.bad("rope.scaling.type", kind, "\"none\", \"linear\", \"yarn\" or \"longrope\""))
        }
    }
}

#[cfg(test)]
#[path = "ropes_tests.rs"]
mod tests;
