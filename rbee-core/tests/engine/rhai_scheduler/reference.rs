//! The reference in `docs/scheduler.md` equals the one that the helpers generate.

use std::path::PathBuf;

const BEGIN: &str = "<!-- The reference below is generated: RBEE_WRITE_DOCS=1 cargo test -p rbee-core --features conformance --test engine reference -->\n";

#[test]
fn the_page_has_the_reference_of_this_version() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/scheduler.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, reference) =
        page.split_once(BEGIN).expect("the page says where its reference begins");
    let wanted =
        format!("\n{}", rbee_core::scheduler::scheduler_reference().trim_end().to_owned() + "\n");
    if std::env::var_os("RBEE_WRITE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{wanted}")).unwrap();
    } else {
        assert!(
            reference == wanted,
            "docs/scheduler.md is not what the helpers say; run the command that stands above its reference"
        );
    }
}
