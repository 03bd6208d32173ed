//! What every message for people must be.
#![allow(unreachable_pub, dead_code, reason = "a module of several test binaries")]

/// The shortest part of a message whose repetition is a fault.
const LONG: usize = 16;

/// Checks that a message has each reason once, and is not written for a debugger.
#[track_caller]
pub fn assert_well_said(message: &str) {
    let lines: Vec<&str> = message.lines().filter(|line| !line.trim().is_empty()).collect();
    for (index, line) in lines.iter().enumerate() {
        // A colon announces the lines below it.
        let is_announcement = index + 1 < lines.len() && line.ends_with(':');
        let line = if is_announcement { line.trim_end_matches(':') } else { line };
        if let Some(fault) = fault(line) {
            panic!("{fault}: {line}");
        }
    }
}

/// What is wrong with one line.
fn fault(line: &str) -> Option<String> {
    // Forms of `Debug`, names of types, and escaped quotes.
    const FORMS: [&str; 17] = [
        "Some(",
        "None,",
        "Ok(",
        "Err(",
        "Error(",
        "Error {",
        "Os {",
        "Custom {",
        "kind: ",
        "\\\"",
        "[\"",
        "(Connect)",
        "(SendRequest)",
        "Arc(",
        "InvalidCertificate",
        "UnknownIssuer",
        "Kind::",
    ];
    const MARKS: [&str; 12] =
        ["..", ";;", "::  ", ": :", ",,", ";.", ":.", ".;", ": ;", ",.", "??", "  ("];
    let form = FORMS.iter().find(|form| line.contains(**form));
    if let Some(form) = form {
        return Some(format!("{form:?} is for a debugger"));
    }
    if line.matches("because").count() > 1 {
        return Some("two reasons".into());
    }
    let marks = line.replace("...", "").replace("../", "");
    if let Some(mark) = MARKS.iter().find(|mark| marks.contains(**mark)) {
        return Some(format!("{mark:?} is no punctuation"));
    }
    if line.trim_end().ends_with([':', ';', ',']) {
        return Some("it ends with punctuation".into());
    }
    let parts: Vec<&str> =
        line.split([':', ';']).map(str::trim).filter(|part| part.len() >= LONG).collect();
    let twice = parts.iter().enumerate().find(|(at, part)| parts[..*at].contains(part));
    twice.map(|(_, part)| format!("{part:?} is said twice"))
}

#[test]
fn a_message_with_a_fault_is_found() {
    for bad in [
        "it failed because the disk is full, and because it is full",
        "cannot listen on the port: in use; cannot listen on the port",
        "the bytes are Os { code: 2 }",
        "the content type is Some(\"x\")",
        "mode is \"a \\\"b\\\"\"",
        "client error (Connect)",
        "it failed:",
        "it failed.. badly",
    ] {
        assert!(fault(bad).is_some(), "{bad}");
    }
    for good in [
        "it is \"x\"; allowed is a, b or c",
        "see ../x and a...",
        "file: No such file (os error 2)",
    ] {
        assert_eq!(fault(good), None);
    }
}
