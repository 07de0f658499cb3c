//! The contract of a JSON report: its fields and their types.

use serde_json::Value;

type Check = fn(&Value) -> bool;

fn count(value: &Value) -> bool {
    value.is_u64()
}

fn seconds(value: &Value) -> bool {
    value.as_f64().is_some_and(|seconds| seconds >= 0.0)
}

fn positive(value: &Value) -> bool {
    value.as_f64().is_some_and(|number| number >= 0.0)
}

fn text(value: &Value) -> bool {
    value.is_string()
}

fn text_or_nothing(value: &Value) -> bool {
    value.is_string() || value.is_null()
}

fn hexadecimal(value: &Value) -> bool {
    let digits = value.as_str().and_then(|text| text.strip_prefix("0x"));
    digits.is_some_and(|digits| u64::from_str_radix(digits, 16).is_ok())
}

fn hexadecimal_or_nothing(value: &Value) -> bool {
    value.is_null() || hexadecimal(value)
}

fn time(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.contains('T') && text.parse::<jiff::Timestamp>().is_ok())
}

fn texts(value: &Value) -> bool {
    value.as_array().is_some_and(|values| values.iter().all(text))
}

const REPORT: &[(&str, Check)] = &[
    ("schema", |value| value == "memprof.report/1"),
    ("time", time),
    ("elapsed_seconds", seconds),
    ("lost", |value| has(value, &[("allocations", count), ("frees", count), ("stacks", count)])),
    ("warnings", texts),
    ("processes", |value| each(value, PROCESS)),
];

const PROCESS: &[(&str, Check)] = &[
    ("pid", |value| value.as_u64().is_some_and(|pid| pid > 0)),
    ("command", text),
    ("user", text_or_nothing),
    ("container", text_or_nothing),
    ("unit", text_or_nothing),
    ("exited", Value::is_boolean),
    ("outstanding", |value| has(value, &[("bytes", count), ("allocations", count)])),
    ("totals", |value| {
        has(value, &[("allocations", count), ("allocated_bytes", count), ("frees", count), ("freed_bytes", count)])
    }),
    ("peak", |value| has(value, &[("bytes", count), ("allocations", count), ("elapsed_seconds", seconds)])),
    ("verdict", |value| has(value, VERDICT)),
    ("memory", |value| value.is_null() || has(value, MEMORY)),
    ("stacks", |value| each(value, STACK)),
];

const VERDICT: &[(&str, Check)] = &[
    ("course", |value| COURSES.iter().any(|course| value == course)),
    ("bytes_per_second", |value| value.is_f64() || value.is_null()),
    ("text", text),
    ("points", count),
    ("span_seconds", seconds),
    ("change_bytes", Value::is_i64),
    ("lowest_bytes", count),
    ("highest_bytes", count),
    ("quiet_seconds", seconds),
];

const COURSES: [&str; 7] = ["grows", "plateaued", "one_off", "churn", "level", "shrinks", "too_short"];

const MEMORY: &[(&str, Check)] = &[
    ("anonymous", count),
    ("file", count),
    ("shared", count),
    ("swapped", count),
    ("since_seconds", seconds),
    ("anonymous_growth", Value::is_i64),
    ("file_growth", Value::is_i64),
    ("shared_growth", Value::is_i64),
    ("tracked_growth", Value::is_i64),
    ("cause", text),
];

const AGES: &[(&str, Check)] =
    &[("youngest_seconds", seconds), ("median_seconds", seconds), ("oldest_seconds", seconds)];

const STACK: &[(&str, Check)] = &[
    ("outstanding_bytes", count),
    ("outstanding_allocations", count),
    ("total_allocations", count),
    ("total_bytes", count),
    ("temporary_allocations", |value| value.is_u64() || value.is_null()),
    ("at_peak", |value| has(value, &[("bytes", count), ("allocations", count)])),
    ("oldest_seconds", seconds),
    ("verdict", |value| has(value, VERDICT)),
    ("ages", |value| has(value, AGES)),
    ("frames", |value| each(value, FRAME)),
];

const STANDARD_ERROR: &[(&str, Check)] = &[("bytes", positive), ("allocations", positive)];

const FRAME: &[(&str, Check)] = &[
    ("function", text_or_nothing),
    ("source", text_or_nothing),
    ("module", text_or_nothing),
    ("build_id", text_or_nothing),
    ("offset", hexadecimal_or_nothing),
    ("address", hexadecimal),
    ("inlined", Value::is_boolean),
];

fn has(value: &Value, fields: &[(&str, Check)]) -> bool {
    fields.iter().all(|(name, check)| {
        let is_right = value.get(name).is_some_and(check);
        if !is_right {
            eprintln!("{name}: {:?}", value.get(name));
        }
        is_right
    })
}

fn each(value: &Value, fields: &[(&str, Check)]) -> bool {
    value.as_array().is_some_and(|elements| elements.iter().all(|element| has(element, fields)))
}

/// Whether all fields of the contract are there with the right types, and whether the sums agree where all stacks are
/// shown. More fields may be there.
pub fn assert_contract(report: &Value) {
    assert!(has(report, REPORT), "{report}");
    for process in report["processes"].as_array().into_iter().flatten() {
        let sum = |field: &str| -> u64 {
            process["stacks"].as_array().into_iter().flatten().filter_map(|stack| stack[field].as_u64()).sum()
        };
        let is_sampled = report.get("sample_bytes").is_some();
        // Estimates are rounded, each by itself.
        let slack = if is_sampled { process["stacks"].as_array().map_or(0, Vec::len) as u64 / 2 + 1 } else { 0 };
        for (whole, part) in [("bytes", "outstanding_bytes"), ("allocations", "outstanding_allocations")] {
            let suppressed = process["suppressed"][whole].as_u64().unwrap_or_default();
            let whole = process["outstanding"][whole].as_u64().unwrap_or_default() - suppressed;
            assert!(whole.abs_diff(sum(part)) <= slack, "{whole} {part}, and {} at the stacks", sum(part));
        }
        let stacks = process["stacks"].as_array().into_iter().flatten();
        for figures in stacks.chain([process]) {
            assert_eq!(figures.get("standard_error").is_some(), is_sampled);
            assert!(!is_sampled || has(figures, &[("standard_error", |value| has(value, STANDARD_ERROR))]));
        }
    }
}
