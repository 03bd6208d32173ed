//! Everything that the exact numbers depend on, as text.

use candle_core::{DType, Device};

use rbee_decoder::backend::CacheType;

/// The candle release of this build. A test compares it with the lock file.
pub(super) const CANDLE_VERSION: &str = "0.11.1";

/// Everything that the numbers of a model that continues text depend on: if two are equal, so are the tokens.
///
/// On the processor the kernels of this crate give the same bits with every instruction set and any number of threads,
/// so only the version of this crate and the architecture count. `gpu` is the device if it is another one: candle's
/// kernels differ between GPU models, and candle does not report the model, so the numbers count as equal only on the
/// same device.
pub(super) fn of_decoder(gpu: Option<&str>, cache: CacheType) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let cache = cache.name();
    match gpu {
        None => format!("rbee/{version} cpu {} kv/{cache}", std::env::consts::ARCH),
        Some(gpu) => format!("rbee/{version} candle/{CANDLE_VERSION} {gpu} kv/{cache}"),
    }
}

/// The same of a model that makes vectors or scores, which candle computes: also the instruction set, data type and batch size.
///
/// The number of threads is not included: the kernels divide rows and columns of a product among threads, never the sum
/// of a single number.
pub(super) fn of_encoder(device: &Device, gpu: &str, dtype: DType, at_once: &str) -> String {
    let place = match device {
        Device::Cpu => format!("cpu {}", instruction_set()),
        Device::Cuda(_) | Device::Metal(_) => gpu.to_owned(),
    };
    let version = env!("CARGO_PKG_VERSION");
    let dtype = dtype.as_str();
    format!("rbee/{version} candle/{CANDLE_VERSION} {place} {dtype} {at_once}")
}

/// The properties by which the processor kernels are selected. Some are selected when the program starts and some when
/// it is compiled; exponentials come from the C library of the system; and long sums are split into parts that fit into
/// the first-level cache.
fn instruction_set() -> String {
    let compiled = [
        (cfg!(target_feature = "avx512f"), "avx512f"),
        (cfg!(target_feature = "avx2"), "avx2"),
        (cfg!(target_feature = "fma"), "fma"),
        (cfg!(target_feature = "neon"), "neon"),
    ];
    let compiled: Vec<&str> =
        compiled.iter().filter(|(is, _)| *is).map(|(_, name)| *name).collect();
    let system = [
        (cfg!(target_env = "gnu"), "gnu"),
        (cfg!(target_env = "musl"), "musl"),
        (cfg!(target_env = "msvc"), "msvc"),
    ];
    let library = system.iter().find(|(is, _)| *is).map_or("system", |(_, name)| *name);
    let (arch, os) = (std::env::consts::ARCH, std::env::consts::OS);
    let compiled = compiled.join(",");
    let [cache, ..] = *gemm_common::cache::CACHE_INFO;
    let (bytes, ways, line) = (cache.cache_bytes, cache.associativity, cache.cache_line_bytes);
    format!("{arch}-{os}-{library} {} [{compiled}] l1/{bytes}/{ways}/{line}", detected())
}

#[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
fn detected() -> String {
    let found = [
        (std::arch::is_x86_feature_detected!("avx2"), "avx2"),
        (std::arch::is_x86_feature_detected!("fma"), "fma"),
        (std::arch::is_x86_feature_detected!("f16c"), "f16c"),
        (std::arch::is_x86_feature_detected!("avx512f"), "avx512f"),
    ];
    let found: Vec<&str> = found.iter().filter(|(is, _)| *is).map(|(_, name)| *name).collect();
    found.join(",")
}

/// Other processors have the instruction set that their architecture requires.
#[cfg(not(any(target_arch = "x86_64", target_arch = "x86")))]
fn detected() -> String {
    "native".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_candle_is_the_one_locked() {
        let lock = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock"));
        let package = format!("name = \"candle-core\"\nversion = \"{CANDLE_VERSION}\"");
        assert!(
            lock.contains(&package),
            "Cargo.lock has another candle-core than {CANDLE_VERSION}"
        );
    }
}
