//! Patterns, files, and what is left of a report.

use std::path::PathBuf;

use super::{Suppressions, pattern::matches};
use crate::model::{Frame, Source};

#[test]
fn a_pattern_matches_as_leak_sanitizer_has_it() {
    let text = "std::vector<int>::push_back(int const&)";
    for pattern in [
        "vector",
        "*vector*",
        "^std",
        "^std*push_back",
        "const&)$",
        "^std*&)$",
        "",
        "*",
        "^",
        "^*int",
        "std*$",
        "^*$",
        "push_back*",
        "<int>::push*(",
        "const&)$, what follows the dollar sign",
    ] {
        assert!(matches(pattern, text), "{pattern}");
    }
    for pattern in ["vec tor", "^vector", "std$", "std$*", "$", "^$", "push_back*vector", "VECTOR", "int$", "^std$"] {
        assert!(!matches(pattern, text), "{pattern}");
    }
}

#[test]
fn a_part_is_only_looked_for_where_it_is_first() {
    assert!(matches("b$", "ab"));
    assert!(!matches("b$", "bb"));
    assert!(matches("*b*$", "bb"));
    assert!(!matches("", ""));
    assert!(!matches("*", ""));
    assert!(matches("ö*ü", "größe, für"));
}

#[test]
fn a_file_has_a_pattern_a_line() -> Result<(), super::ParseError> {
    let text = "# known\n\nleak:one\n \tleak:two words \t\r\nleak:\n   # leak:three\nleak:#four\n\r\nleak:leak:five";
    let suppressions = Suppressions::parse(text)?;
    assert_eq!(suppressions.patterns(), ["one", "two words", "", "#four", "leak:five"]);
    assert_eq!(Suppressions::parse("# nothing\n")?.patterns(), [""; 0]);
    let both = Suppressions::of_all([Suppressions::parse("leak:b")?, Suppressions::parse("leak:a")?]);
    assert_eq!(both.patterns(), ["b", "a"]);
    Ok(())
}

#[test]
fn what_is_no_suppression_of_a_leak_is_refused_with_its_line() {
    for (text, line) in [("race:one", 1), ("leak:one\n\n# two\nthree", 4), ("{\n  valgrind\n}", 1), ("Leak:one", 1)] {
        let error = Suppressions::parse(text).expect_err(text);
        assert_eq!(error.line, line, "{text}");
    }
    let message = Suppressions::parse("leak:a\nrace:b").expect_err("a race").to_string();
    assert_eq!(
        message,
        "line 2: \"race:b\" is no suppression: it must be leak:PATTERN, a comment that begins with #, or empty"
    );
}

fn frame(module: &str, function: Option<&str>, source: Option<(&str, &str)>) -> Frame {
    let source = source.map(|(directory, file)| Source {
        directory: Some(PathBuf::from(directory)),
        file: file.into(),
        line: Some(1),
    });
    Frame { module: Some(module.into()), function: function.map(str::to_owned), source, ..Frame::default() }
}

#[test]
fn any_frame_counts_by_module_function_or_source() -> Result<(), super::ParseError> {
    let frames = [
        frame("/usr/lib/libpool.so.1", None, None),
        frame("/usr/bin/server", Some("Cache::fill(int)"), Some(("/src/server", "cache/fill.cc"))),
        frame("/usr/bin/server", Some("main"), Some(("/src/server", "/elsewhere/main.cc"))),
        Frame::default(),
    ];
    for pattern in [
        "libpool.so",
        "^/usr/bin/server$",
        "^Cache::fill(int)$",
        "^main$",
        "^/src/server/cache/fill.cc$",
        "^/elsewhere/main.cc$",
        "<unknown module>",
    ] {
        assert_eq!(Suppressions::parse(&format!("leak:{pattern}"))?.of_stack(&frames), Some(pattern));
    }
    for pattern in ["malloc", "^cache/fill.cc", "libpool.so$", "/src/server/elsewhere"] {
        assert_eq!(Suppressions::parse(&format!("leak:{pattern}"))?.of_stack(&frames), None);
    }
    let first = Suppressions::parse("leak:main\nleak:server\nleak:fill\nleak:pool")?;
    assert_eq!(first.of_stack(&frames), Some("pool"), "the innermost frame decides");
    assert_eq!(first.of_stack(&frames[1..]), Some("server"), "then its module");
    assert_eq!(first.of_stack(&[]), None, "a stack that was lost");
    Ok(())
}
