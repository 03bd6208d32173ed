//! What the tests need from the system in addition to a toolchain: checked, and installed if possible.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use crate::steps::Failure;

/// The variable that leaves out the tests with third-party programs; the tests read it too.
const SKIP: &str = "RBEE_SKIP_CLIENTS";

/// A program that the tests run.
struct Needed {
    /// Its names, or its path if it is in no directory of `PATH`; any of them is enough.
    names: &'static [&'static str],
    /// The Debian package that contains it.
    package: &'static str,
    why: &'static str,
}

const NEEDED: [Needed; 7] = [
    Needed {
        names: &["chromium", "chromium-browser", "google-chrome"],
        package: "chromium",
        why: "web pages are tested in a real browser",
    },
    Needed {
        names: &["openssl"],
        package: "openssl",
        why: "TLS is tested with the certificates that people make",
    },
    Needed {
        names: &["/usr/sbin/sshd"],
        package: "openssh-server",
        why: "SSH is tested against a real server",
    },
    Needed {
        names: &["/usr/sbin/dropbear"],
        package: "dropbear-bin",
        why: "SSH is tested against another kind of server",
    },
    Needed { names: &["ip"], package: "iproute2", why: "machines are made of network namespaces" },
    Needed { names: &["pkill"], package: "procps", why: "programs on such machines are killed" },
    Needed {
        names: &["strip"],
        package: "binutils",
        why: "programs are copied to such machines without their symbols",
    },
];

/// Installs what is missing. Needs Debian's package manager and root rights; fails without them.
pub(crate) fn check() -> Result<(), Failure> {
    if std::env::var_os(SKIP).is_some_and(|value| value == "1") {
        println!("!!! NOT CHECKED: {SKIP}=1 leaves out the tests with other programs");
        return Ok(());
    }
    for needed in NEEDED {
        if needed.names.iter().any(|name| answers(name)) {
            continue;
        }
        install(&needed)?;
    }
    Ok(())
}

fn answers(program: &str) -> bool {
    // sshd has no option that only prints its version.
    if program.starts_with('/') {
        return Path::new(program).exists();
    }
    // openssl has its version as a command, and ip as a short flag.
    ["--version", "version", "-V"].iter().any(|asked| {
        let mut command = Command::new(program);
        command.arg(asked).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    })
}

fn install(needed: &Needed) -> Result<(), Failure> {
    let Needed { names, package, why } = needed;
    println!("{} is missing ({why}); installing Debian's package {package}", names[0]);
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
        command.stdout(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    let install = ["install", "--yes", "--no-install-recommends", package];
    // The package lists may be old or missing.
    if (apt(&install) || (apt(&["update"]) && apt(&install)))
        && names.iter().any(|name| answers(name))
    {
        return Ok(());
    }
    Err(format!(
        "{} is missing and cannot be installed here; install it (Debian: `apt-get install {package}`), or set {SKIP}=1 \
         to leave out the tests with other programs",
        names[0]
    ))
}
