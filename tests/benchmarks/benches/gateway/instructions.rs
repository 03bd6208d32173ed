//! The instructions that a gateway executes for a request, counted by callgrind. They do not depend on what else the
//! machine does.

use std::{fs, path::Path, process::Command};

use crate::{
    Plan, Result,
    load::Load,
    middle::{Kind, Middle, Running},
    scenes::Scene,
    upstream,
};

/// Valgrind is about fifty times slower than the processor.
const FEWER: usize = 10;

/// Counts for the gateways of the plan in its cases. The profiles stay in `target/tmp/callgrind`.
pub(crate) fn run(plan: &Plan) -> Result<()> {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("valgrind is not installed: nothing is counted");
        return Ok(());
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("callgrind");
    fs::create_dir_all(&folder)?;
    let workers = Running::upstream(upstream::PACE)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Python's interpreter is not what is measured.
    let is_counted = |kind: &&Kind| !matches!(kind, Kind::NginxAgain | Kind::VllmRouter);
    for kind in plan.kinds.iter().copied().filter(|kind| is_counted(&kind)) {
        for scene in &plan.scenes {
            if !kind.plays(scene) {
                continue;
            }
            let name = format!("{}.{}", kind.name(), scene.name).replace([' ', ',', '/'], "_");
            let file = folder.join(name);
            let Some(count) = runtime.block_on(count(kind, scene, &workers, &file))? else {
                continue;
            };
            let units = if scene.stream { f64::from(scene.tokens) } else { 1.0 };
            println!("{:<16} {:<58} {:>8.1}k", kind.name(), scene.name, count / units / 1e3);
        }
    }
    println!("thousands of instructions for each whole answer, or each token of a stream");
    Ok(())
}

/// The instructions of one answer.
async fn count(kind: Kind, scene: &Scene, workers: &Running, file: &Path) -> Result<Option<f64>> {
    let wrapper = [
        "valgrind".into(),
        "--quiet".into(),
        "--tool=callgrind".into(),
        "--instr-atstart=no".into(),
        format!("--callgrind-out-file={}", file.display()),
    ];
    let Some(middle) = Middle::start(kind, workers, &wrapper)? else { return Ok(None) };
    let load = Load::new(scene, middle.address);
    let answers = (scene.answers / FEWER).max(scene.connections * 2);
    load.run(answers).await?;
    let process = middle.process().0.to_string();
    control(&["-i", "on"], &process)?;
    load.run(answers).await?;
    control(&["-d"], &process)?;
    // The dump has the number of the part in its name.
    let part = file
        .with_file_name(format!("{}.1", file.file_name().unwrap_or_default().to_string_lossy()));
    let text = fs::read_to_string(&part)?;
    let totals = text.lines().find_map(|line| line.strip_prefix("totals: "));
    let instructions: f64 = totals.ok_or("the profile has no total")?.trim().parse()?;
    Ok(Some(instructions / answers as f64))
}

fn control(arguments: &[&str], process: &str) -> Result<()> {
    let output = Command::new("callgrind_control").args(arguments).arg(process).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(())
}
